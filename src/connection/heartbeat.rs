//! A client's pings, and the peer's silence after one (semantics: WebSocket liveness).
use super::core::Core;
use super::flag;
use crate::events::Loop;
use crate::{ErrorCode, Failure, FailureKind, Phase};
use std::time::{Duration, Instant};

pub(crate) const PING_EVERY: Duration = Duration::from_secs(25);
pub(crate) const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// Of one session: it ends with it, and no ping outlives it.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// When the next ping is due; `None`: pings are off.
    pub(crate) next_at: Option<Instant>,
    /// A ping is out: its last byte is at this place of all bytes written.
    mark: Option<u64>,
    /// When that byte reached the kernel.
    left_at: Option<Instant>,
    /// When the latest ping was written, for `latency`.
    sent_at: Option<Instant>,
    pub(crate) latency: Option<Duration>,
    /// The latest ping of the program's own.
    asked: Option<(Instant, Box<[u8]>)>,
}

impl Heartbeat {
    pub(crate) fn new(now: Instant, every: Duration) -> Heartbeat {
        Heartbeat {
            next_at: next(now, every),
            mark: None,
            left_at: None,
            sent_at: None,
            latency: None,
            asked: None,
        }
    }

    pub(crate) fn set_every(&mut self, now: Instant, every: Duration) {
        self.next_at = next(now, every);
    }

    /// When the peer counts as dead.
    pub(crate) fn dead_at(&self, timeout: Duration) -> Option<Instant> {
        match timeout {
            Duration::ZERO => None,
            timeout => self.left_at.and_then(|left| left.checked_add(timeout)),
        }
    }

    /// A byte has come: whatever ping is out, the peer lives.
    fn heard(&mut self) {
        self.mark = None;
        self.left_at = None;
    }

    /// A ping of the program's own.
    pub(crate) fn asked(&mut self, now: Instant, payload: &[u8]) {
        self.asked = Some((now, payload.into()));
    }

    /// A pong. `of_heartbeat`: it answers the latest ping of ours.
    pub(crate) fn answered(&mut self, now: Instant, payload: &[u8], of_heartbeat: bool) {
        let own = self.asked.take_if(|(_, asked)| **asked == *payload).map(|(sent, _)| sent);
        let sent = if of_heartbeat { self.sent_at.take() } else { own };
        if let Some(sent) = sent {
            self.latency = Some(now.saturating_duration_since(sent));
        }
    }
}

fn next(now: Instant, every: Duration) -> Option<Instant> {
    if every.is_zero() { None } else { now.checked_add(every) }
}

impl Core {
    /// A client's handshake is complete.
    pub(crate) fn begin_heartbeat(&self, lp: &Loop) {
        let Some(every) = self.dialer().map(|dialer| dialer.ping_every) else { return };
        let beat = Box::new(Heartbeat::new(lp.now(), every));
        self.with_rare(|rare| rare.heartbeat = Some(beat));
    }

    /// A ping stands at the end of what is queued.
    pub(crate) fn ping_queued(&self, lp: &Loop, every: Duration) {
        let unsent = {
            let state = self.state.borrow();
            state.out.as_ref().map_or(0, |out| out.unsent())
        };
        let mark = self.bytes_written.get() + unsent as u64;
        self.with_heartbeat(|beat| {
            beat.next_at = next(lp.now(), every);
            beat.sent_at.get_or_insert(lp.now());
            // An older one that is still out keeps its deadline.
            if beat.mark.is_none() && beat.left_at.is_none() {
                beat.mark = Some(mark);
            }
        });
        self.set(flag::WATCH_INPUT | flag::REARM);
    }

    /// After a write: the ping's last byte may have reached the kernel.
    pub(crate) fn ping_may_have_left(&self, lp: &Loop) {
        let written = self.taken();
        let left = self.with_heartbeat(|beat| {
            let left = beat.mark.is_some_and(|mark| mark <= written);
            if left {
                beat.mark = None;
                beat.left_at = Some(lp.now());
            }
            left
        });
        if left == Some(true) {
            self.set(flag::REARM);
        }
    }

    /// Bytes have come.
    pub(crate) fn heard(&self, lp: &Loop) {
        let idle = self.with_rare(|rare| {
            rare.last_input = Some(lp.now());
            if let Some(beat) = rare.heartbeat.as_deref_mut() {
                beat.heard();
            }
            rare.heartbeat.is_some()
        });
        self.clear(flag::JUDGE);
        if idle {
            self.set(flag::REARM);
        }
    }

    /// Reading was paused until now: the peer could not be heard, so its time begins anew.
    pub(crate) fn hearing_again(&self, lp: &Loop) {
        self.with_heartbeat(|beat| {
            if beat.left_at.is_some() {
                beat.left_at = Some(lp.now());
            }
        });
        if let Some(rest) = &mut self.state.borrow_mut().rest {
            rest.moved_at = lp.now_ms();
        }
        if self.has(flag::WATCH_INPUT) {
            self.with_rare(|rare| rare.last_input = Some(lp.now()));
        }
    }

    /// The deadline of silence has passed, and a read since has brought nothing.
    pub(crate) fn judge_silence(&self, lp: &Loop) {
        if !self.take(flag::JUDGE) || self.has(flag::PAUSED | flag::CHOKED) {
            return;
        }
        let timeout = self.dialer().map_or(PONG_TIMEOUT, |dialer| dialer.pong_timeout);
        let dead_at = self.with_heartbeat(|beat| beat.dead_at(timeout)).flatten();
        if dead_at.is_some_and(|at| at <= lp.now()) {
            let reason = format!("no byte came in {} s after a ping", timeout.as_secs_f64());
            let failure = Failure::new(FailureKind::PongTimeout, Phase::Session, reason);
            self.fail(lp, ErrorCode::SessionFail, failure);
        }
    }

    pub(crate) fn with_heartbeat<T>(&self, f: impl FnOnce(&mut Heartbeat) -> T) -> Option<T> {
        let mut state = self.state.borrow_mut();
        state.rare.as_deref_mut().and_then(|rare| rare.heartbeat.as_deref_mut()).map(f)
    }
}
