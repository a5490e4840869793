//! The deadlines of a connection. It has one alarm: what is due is worked out from when things last
//! moved.
use super::Role;
use super::core::{Core, Stage};
use super::flag;
use super::heartbeat::Pace;
use super::slot::Slot;
use crate::events::Loop;
use crate::protocols::Pad;
use crate::{ErrorCode, Failure, FailureKind, Farewell, Phase, Protocol};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Closing may take so long in all, however slowly its bytes leave; and a second more for each
/// [`CLOSING_RATE`] that have left.
const CLOSING_IN_ALL: Duration = Duration::from_secs(120);
/// Bytes a second. A long file goes on to its end; a peer that takes a byte now and then does not.
const CLOSING_RATE: u64 = 1 << 10;
/// Input that is discarded at the end of a socket, waiting for the peer's end.
const LINGER: Duration = Duration::from_secs(1);

/// What can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Opening,
    NextAddress,
    Stall,
    Idle,
    Partial,
    Protocol,
    Ping,
    Silence,
    Closing,
    Linger,
}

impl Due {
    /// The peer is late, or silent: its bytes may have come while our own loop was busy, and are
    /// looked for first. (`Silence` has its own way, behind the next poll. A write that is tried
    /// again proves nothing: TLS takes bytes that do not leave.)
    fn judges_the_peer(self) -> bool {
        !matches!(self, Due::NextAddress | Due::Stall | Due::Ping | Due::Silence)
    }
}

impl Core {
    /// Sets the alarm to the earliest deadline.
    pub(crate) fn rearm(&self, lp: &Loop) {
        self.clear(flag::REARM);
        if matches!(self.stage(), Stage::Initial | Stage::Waiting) || self.stage() >= Stage::Failing
        {
            return;
        }
        let earliest = self.earliest(lp).map(|(at, _)| at);
        let armed = lp.alarm_at(&self.alarm);
        // One that rings too early finds nothing due and arms itself anew: cheaper than moving it
        // at every byte.
        let keep = match (armed, earliest) {
            (Some(armed), Some(at)) => armed <= at,
            (None, None) => true,
            // None at all is taken back: a wheel with nothing in it needs no clock.
            _ => false,
        };
        if !keep {
            lp.set_alarm(&self.alarm, self.key, earliest);
        }
    }

    fn earliest(&self, lp: &Loop) -> Option<(Instant, Due)> {
        let mut earliest: Option<(Instant, Due)> = None;
        let mut add = |at: Option<Instant>, due: Due| {
            if let Some(at) = at {
                let candidate = (at, due);
                if earliest.is_none_or(|e| candidate < e) {
                    earliest = Some(candidate);
                }
            }
        };
        let settings = self.settings();
        let limits = settings.limits();
        let opened = lp.at_ms(self.opened.get());
        match self.stage() {
            // It begins in the next turn, and so does its time.
            Stage::Dialing => {}
            stage if stage.is_opening() => {
                add(self.opening_began(lp).checked_add(limits.opening), Due::Opening);
                add(self.dial_next_at(), Due::NextAddress);
            }
            Stage::Open => {
                if self.has(flag::HELD) {
                    add(self.opening_began(lp).checked_add(limits.opening), Due::Opening);
                }
                self.session_deadlines(lp, opened, &mut add);
            }
            Stage::Farewell | Stage::Flushing => {
                let state = self.state.borrow();
                let rare = state.rare.as_deref();
                let since = rare.and_then(|rare| rare.closing_since).unwrap_or(opened);
                let left = rare.and_then(|rare| rare.farewell_left);
                let moved = match (&state.out, left) {
                    (Some(out), _) if self.has(flag::BLOCKED) => lp.at_ms(out.moved_at),
                    (_, Some(left)) => left,
                    _ => since,
                };
                add(moved.max(since).checked_add(limits.closing), Due::Closing);
                let from = rare.map_or(0, |rare| rare.closing_from);
                let in_all = closing_in_all(self.taken().saturating_sub(from));
                add(since.checked_add(in_all), Due::Closing);
            }
            Stage::Lingering => {
                let since = self.peek_rare(|rare| rare.lingering_since).flatten();
                add(since.and_then(|since| since.checked_add(LINGER)), Due::Linger);
            }
            _ => {}
        }
        earliest
    }

    fn session_deadlines(
        &self,
        lp: &Loop,
        opened: Instant,
        add: &mut impl FnMut(Option<Instant>, Due),
    ) {
        let state = self.state.borrow();
        let limits = state.settings.limits();
        let reading = !self.has(flag::PAUSED | flag::CHOKED);
        if let (Some(out), true) = (&state.out, self.has(flag::BLOCKED)) {
            add(lp.at_ms(out.moved_at).checked_add(limits.send_stall), Due::Stall);
        }
        let waits =
            state.rare.as_deref().is_some_and(|rare| rare.input_waits || rare.judges_silence);
        if let (Some(rest), true) = (&state.rest, reading && !waits && !self.has(flag::HELD)) {
            add(lp.at_ms(rest.moved_at).checked_add(limits.partial_package), Due::Partial);
        }
        let rare = state.rare.as_deref();
        if limits.idle != Duration::MAX && reading {
            let heard = rare.and_then(|rare| rare.last_input).unwrap_or(opened);
            add(heard.checked_add(limits.idle), Due::Idle);
        }
        let Some(rare) = rare else { return };
        // One that judges the peer rests while the peer is not heard.
        if reading || !rare.judges_silence {
            add(rare.deadline, Due::Protocol);
        }
        if let Some(beat) = &rare.heartbeat {
            add(beat.next_at, Due::Ping);
            if reading && !self.has(flag::JUDGE) {
                let timeout = rare.dialer.as_ref().map_or(Pace::DEFAULT, |d| d.pace).timeout();
                add(beat.dead_at(timeout), Due::Silence);
            }
        }
    }

    /// When the package that has begun last grew.
    fn rest_moved_at(&self) -> Option<u64> {
        self.state.borrow().rest.as_ref().map(|rest| rest.moved_at)
    }

    fn set_rest_moved_at(&self, at: Option<u64>) {
        if let (Some(at), Some(rest)) = (at, &mut self.state.borrow_mut().rest) {
            rest.moved_at = at;
        }
    }

    /// When this opening began: the dial, or the accepted socket.
    fn opening_began(&self, lp: &Loop) -> Instant {
        let started =
            self.dialer().and_then(|dialer| dialer.attempt.as_ref().map(|attempt| attempt.started));
        started.unwrap_or_else(|| lp.at_ms(self.opened.get()))
    }
}

/// How long closing may take where so many bytes have left meanwhile.
fn closing_in_all(left: u64) -> Duration {
    CLOSING_IN_ALL.saturating_add(Duration::from_secs(left / CLOSING_RATE))
}

impl<P: Protocol, R: Role> Slot<P, R> {
    /// The protocol is told that reading was paused until now, once.
    #[inline(never)]
    pub(crate) fn tell_hears_again(self: &Rc<Self>, lp: &Rc<Loop>) {
        if self.core.peek_rare(|rare| rare.hears_again) != Some(true) {
            return;
        }
        self.core.with_rare(|rare| rare.hears_again = false);
        if let Some(((), pad)) = self.ask(Farewell::Asked, |p, cx| p.hears_again(cx)) {
            self.apply(lp, pad);
        }
    }

    /// The alarm rang: does all that is due, then sets it anew.
    pub(crate) fn deadline_passed(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        // It has rung: whatever is next needs it armed anew.
        lp.set_alarm(&core.alarm, core.key, None);
        if core.stage() == Stage::Waiting {
            if !lp.is_stopping() {
                self.redial_soon(lp);
            }
            return;
        }
        // Each kind at most once: what is due again was due in the past, and is found at the next
        // alarm.
        let mut looked = false;
        for _ in 0..5 {
            let Some((at, due)) = core.earliest(lp) else { break };
            if at > lp.now() {
                break;
            }
            if due.judges_the_peer() && !looked {
                looked = true;
                self.look_first(lp);
            } else {
                self.meet(lp, due);
            }
            lp.after_callback();
        }
        self.end_of_part(lp);
        core.rearm(lp);
    }

    /// Our own delay kills nobody: what has come by now is dealt with before anyone is judged.
    fn look_first(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        match core.stage() {
            Stage::Connecting => {
                let step = core.dial_ready(lp);
                self.step(lp, step);
            }
            Stage::Securing => self.secure(lp),
            stage if stage.is_session() => {
                let (read, moved) = (core.bytes_read.get(), core.rest_moved_at());
                self.serve(lp, false);
                if core.bytes_read.get() == read {
                    // Looking alone is no sign of life.
                    core.set_rest_moved_at(moved);
                }
            }
            _ => {}
        }
    }

    fn meet(self: &Rc<Self>, lp: &Rc<Loop>, due: Due) {
        let core = &self.core;
        match due {
            Due::Opening => self.opening_is_late(lp),
            Due::NextAddress => {
                let step = core.dial_later(lp);
                self.step(lp, step);
            }
            Due::Stall => {
                let seconds = core.settings().limits().send_stall.as_secs_f64();
                let reason =
                    format!("unsent bytes did not move for {seconds} s (Limits::send_stall)");
                let failure = Failure::new(FailureKind::ClientClosed, Phase::Session, reason);
                core.fail(lp, ErrorCode::SendFail, failure);
            }
            Due::Idle => {
                log::debug!("{:?}: idle for too long (Limits::idle)", self.handle());
                self.begin_close(lp, Farewell::Asked);
            }
            Due::Partial => {
                let seconds = core.settings().limits().partial_package.as_secs_f64();
                let reason = format!(
                    "a package that had begun stopped for {seconds} s (Limits::partial_package)"
                );
                let violation = crate::Violation::new(reason).code(1002);
                self.violated(lp, violation, Pad::default());
            }
            Due::Protocol => {
                core.with_rare(|rare| rare.deadline = None);
                self.tell_hears_again(lp);
                let asked = self.ask(Farewell::Asked, |protocol, cx| protocol.on_timer(cx));
                match asked {
                    Some((Ok(()), pad)) => self.apply(lp, pad),
                    Some((Err(violation), pad)) => self.violated(lp, violation, pad),
                    None => {}
                }
            }
            Due::Ping => self.beat(lp),
            Due::Silence => {
                // Judged only after a poll and a read: our own delay kills nobody.
                core.set(flag::JUDGE);
                core.list_again(lp);
            }
            Due::Closing => {
                let reason = "the peer took no bytes before the closing deadline (Limits::closing)";
                let failure = Failure::new(FailureKind::ClientClosed, Phase::Session, reason);
                self.lost_in_closing(lp, failure);
            }
            Due::Linger => self.end(lp),
        }
    }

    fn opening_is_late(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if core.stage() == Stage::Open && !R::ACCEPTED && self.told_refusal(lp) {
            return;
        }
        if core.stage().is_opening() || core.stage() == Stage::Open {
            let failure = core.opening_late();
            if R::ACCEPTED && core.stage() == Stage::Securing {
                log::debug!("{:?}: {failure}", self.handle());
                self.end_unborn(lp);
                return;
            }
            let code = if R::ACCEPTED { ErrorCode::SessionFail } else { ErrorCode::ConnectFail };
            core.fail(lp, code, failure);
        }
    }

    /// A refusal whose body never ends is still an answer; half a head is none. True: it was told.
    fn told_refusal(self: &Rc<Self>, lp: &Rc<Loop>) -> bool {
        let asked = self.ask(Farewell::Asked, |protocol, cx| {
            protocol.on_eof(&mut [], &mut Vec::new(), cx).err()
        });
        let Some((Some(violation), mut pad)) = asked else { return false };
        let refused = pad.write().refusal.is_some();
        if refused {
            self.violated(lp, violation, pad);
        }
        refused
    }

    fn beat(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        let every = core.dialer().map_or(Duration::ZERO, |dialer| dialer.pace.every());
        if core.has(flag::SHUT_DONE) {
            // Our direction has ended: there is nothing to ask with.
            core.with_heartbeat(|beat| beat.next_at = None);
            return;
        }
        let mut ping = Vec::new();
        let asked = self.ask(Farewell::Asked, |protocol, cx| protocol.heartbeat(&mut ping, cx));
        if !matches!(asked, Some((true, _))) {
            core.with_heartbeat(|beat| beat.next_at = None);
            return;
        }
        core.with_out(lp, |out| out.bytes.append(&mut ping));
        core.ping_queued(lp, every);
        core.mark_dirty(lp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_may_take_its_time_and_a_trickle_may_not() {
        assert_eq!(closing_in_all(0), Duration::from_secs(120));
        // A gigabyte at 100 KiB/s takes three hours: what has left in each of them pays for more.
        let (rate, hour) = (100 << 10, 3600);
        assert!(closing_in_all(rate * hour) > Duration::from_secs(hour));
        // A byte each second is not worth another.
        assert_eq!(closing_in_all(121), Duration::from_secs(120));
    }
}
