//! A client's pings, and the peer's silence after one (semantics: WebSocket liveness).
use super::core::Core;
use super::flag;
use crate::events::Loop;
use crate::{ErrorCode, Failure, FailureKind, Phase};
use std::time::{Duration, Instant};

/// How often a client pings, and how long the peer may be silent then; in milliseconds, since every
/// client keeps them. What is too large is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    every: u32,
    timeout: u32,
}

impl Pace {
    pub(crate) const DEFAULT: Pace = Pace { every: 25_000, timeout: 20_000 };

    pub(crate) fn set_every(&mut self, every: Duration) {
        self.every = milliseconds(every);
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = milliseconds(timeout);
    }

    pub(crate) fn every(self) -> Duration {
        length(self.every)
    }

    pub(crate) fn timeout(self) -> Duration {
        length(self.timeout)
    }
}

/// Rounded up: a very short time is not none at all.
fn milliseconds(length: Duration) -> u32 {
    u32::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

fn length(milliseconds: u32) -> Duration {
    match milliseconds {
        u32::MAX => Duration::MAX,
        some => Duration::from_millis(some.into()),
    }
}

/// Of one session: it ends with it, and no ping outlives it.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// When the next ping is due; `None`: pings are off.
    pub(crate) next_at: Option<Instant>,
    out: Out,
    /// When the latest ping was written, for `latency`.
    sent_at: Option<Instant>,
    pub(crate) latency: Option<Duration>,
    /// The latest ping of the program's own.
    asked: Option<Box<(Instant, Box<[u8]>)>>,
}

/// A ping whose answer, or any byte, is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Nothing,
    /// Its last byte is at this place of all bytes written.
    Queued(u64),
    /// That byte reached the kernel then.
    Left(Instant),
}

impl Heartbeat {
    pub(crate) fn new(now: Instant, every: Duration) -> Heartbeat {
        Heartbeat {
            next_at: next(now, every),
            out: Out::Nothing,
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
        match self.out {
            Out::Left(at) if !timeout.is_zero() => at.checked_add(timeout),
            _ => None,
        }
    }

    /// A byte has come: whatever ping is out, the peer lives.
    fn heard(&mut self) {
        self.out = Out::Nothing;
    }

    /// A ping of the program's own.
    pub(crate) fn asked(&mut self, now: Instant, payload: &[u8]) {
        self.asked = Some(Box::new((now, payload.into())));
    }

    /// A pong. `of_heartbeat`: it answers the latest ping of ours.
    pub(crate) fn answered(&mut self, now: Instant, payload: &[u8], of_heartbeat: bool) {
        let own = self.asked.take_if(|asked| *asked.1 == *payload).map(|asked| asked.0);
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
        let Some(every) = self.dialer().map(|dialer| dialer.pace.every()) else { return };
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
            beat.sent_at = Some(lp.now());
            // An older one that is still out keeps its deadline.
            if beat.out == Out::Nothing {
                beat.out = Out::Queued(mark);
            }
        });
        self.set(flag::WATCH_INPUT | flag::REARM);
    }

    /// After a write: the ping's last byte may have reached the kernel.
    pub(crate) fn ping_may_have_left(&self, lp: &Loop) {
        let taken = self.taken();
        let left = self.with_heartbeat(|beat| {
            let left = matches!(beat.out, Out::Queued(mark) if mark <= taken);
            if left {
                beat.out = Out::Left(lp.now());
            }
            left
        });
        if left == Some(true) {
            self.set(flag::REARM);
        }
    }

    /// Bytes have come, and somebody wants to know.
    pub(crate) fn heard(&self, lp: &Loop) {
        let idle = self.watches_idle();
        if idle {
            self.with_rare(|rare| rare.last_input = Some(lp.now()));
        }
        self.with_heartbeat(Heartbeat::heard);
        self.clear(flag::JUDGE);
        self.set(flag::REARM);
        if !idle {
            // Until the next ping it makes no difference when bytes come.
            self.clear(flag::WATCH_INPUT);
        }
    }

    /// Reading was paused until now: the peer could not be heard, so its time begins anew.
    pub(crate) fn hearing_again(&self, lp: &Loop) {
        self.with_heartbeat(|beat| {
            if let Out::Left(at) = &mut beat.out {
                *at = lp.now();
            }
        });
        if self.peek_rare(|rare| rare.judges_silence) == Some(true) {
            self.with_rare(|rare| rare.hears_again = true);
        }
        if let Some(rest) = &mut self.state.borrow_mut().rest {
            rest.moved_at = lp.now_ms();
        }
        if self.watches_idle() {
            self.with_rare(|rare| rare.last_input = Some(lp.now()));
        }
    }

    /// The deadline of silence has passed, and a read since has brought nothing.
    pub(crate) fn judge_silence(&self, lp: &Loop) {
        if !self.take(flag::JUDGE) || self.has(flag::PAUSED | flag::CHOKED) {
            return;
        }
        let timeout = self.dialer().map_or(Pace::DEFAULT, |dialer| dialer.pace).timeout();
        let dead_at = self.with_heartbeat(|beat| beat.dead_at(timeout)).flatten();
        if dead_at.is_some_and(|at| at <= lp.now()) {
            let reason = format!(
                "no byte came in {} s after a ping (set_websocket_pong_timeout)",
                timeout.as_secs_f64()
            );
            let failure = Failure::new(FailureKind::PongTimeout, Phase::Session, reason);
            self.fail(lp, ErrorCode::SessionFail, failure);
        }
    }

    pub(crate) fn with_heartbeat<T>(&self, f: impl FnOnce(&mut Heartbeat) -> T) -> Option<T> {
        let mut state = self.state.borrow_mut();
        state.rare.as_deref_mut().and_then(|rare| rare.heartbeat.as_deref_mut()).map(f)
    }
}
