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

/// Closing may take so long in all, however slowly its bytes leave.
const CLOSING_IN_ALL: Duration = Duration::from_secs(120);
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
                add(since.checked_add(CLOSING_IN_ALL), Due::Closing);
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
        if let (Some(moved), true) = (rare.message_moved, reading) {
            add(moved.checked_add(limits.partial_package), Due::Partial);
        }
        add(rare.deadline, Due::Protocol);
        if let Some(beat) = &rare.heartbeat {
            add(beat.next_at, Due::Ping);
            if reading && !self.has(flag::JUDGE) {
                let timeout = rare.dialer.as_ref().map_or(Pace::DEFAULT, |d| d.pace).timeout();
                add(beat.dead_at(timeout), Due::Silence);
            }
        }
    }

    /// The rest of a message is awaited from now on, or no longer. While it goes on the alarm may
    /// ring too early, and is set anew then.
    pub(crate) fn message_waits(&self, lp: &Loop, waits: bool) {
        let moved = waits.then(|| lp.now());
        let before = self.with_rare(|rare| std::mem::replace(&mut rare.message_moved, moved));
        if before.is_some() != waits {
            self.set(flag::REARM);
        }
    }

    /// When this opening began: the dial, or the accepted socket.
    fn opening_began(&self, lp: &Loop) -> Instant {
        let started =
            self.dialer().and_then(|dialer| dialer.attempt.as_ref().map(|attempt| attempt.started));
        started.unwrap_or_else(|| lp.at_ms(self.opened.get()))
    }
}

impl<P: Protocol, R: Role> Slot<P, R> {
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
        for _ in 0..4 {
            let Some((at, due)) = core.earliest(lp) else { break };
            if at > lp.now() {
                break;
            }
            self.meet(lp, due);
            lp.after_callback();
        }
        self.end_of_part(lp);
        core.rearm(lp);
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
                    "a message that had begun stopped for {seconds} s (Limits::partial_package)"
                );
                let violation = crate::Violation::new(reason).code(1002);
                self.violated(lp, violation, Pad::default());
            }
            Due::Protocol => {
                core.with_rare(|rare| rare.deadline = None);
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
