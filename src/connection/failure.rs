//! From what went wrong to what `on_error` is told.
use super::core::{Core, Stage};
use super::flag;
use crate::events::Loop;
use crate::{ErrorCode, Failure, FailureKind, Phase};
use std::io;
use std::mem;
use std::time::Duration;

/// Messages that were not taken since the last report. A million of them are one `on_error`.
#[derive(Debug)]
pub(crate) struct Drops {
    full: u64,
    unencodable: u64,
    /// What was wrong with the first that could not be encoded.
    reason: String,
    /// The turn of the last report: one a turn.
    reported_in: Option<u32>,
}

impl Drops {
    pub(super) const NONE: Drops =
        Drops { full: 0, unencodable: 0, reason: String::new(), reported_in: None };

    pub(super) fn waiting(&self) -> bool {
        self.full + self.unencodable > 0
    }
}

impl Core {
    /// A message met a full buffer.
    #[cold]
    pub(crate) fn dropped_full(&self, lp: &Loop) {
        self.with_rare(|rare| rare.drops.full += 1);
        self.report_drops(lp);
    }

    /// A message cannot be encoded.
    #[cold]
    pub(crate) fn dropped_unencodable(&self, lp: &Loop, reason: String) {
        self.with_rare(|rare| {
            if rare.drops.unencodable == 0 {
                rare.drops.reason = reason;
            }
            rare.drops.unencodable += 1;
        });
        self.report_drops(lp);
    }

    /// Has the drops reported: after this callback, or in the next turn if this one has had its
    /// report.
    pub(crate) fn report_drops(&self, lp: &Loop) {
        let turn = Some(lp.turn_number());
        let state = self.peek_rare(|rare| (rare.drops.waiting(), rare.drops.reported_in == turn));
        match state {
            Some((true, true)) => self.list_again(lp),
            Some((true, false)) => self.queue(lp, flag::ON_FAILED),
            _ => {}
        }
    }

    /// The report that is due, if there is one.
    pub(super) fn take_drops(&self, lp: &Loop) -> Option<Failure> {
        let turn = Some(lp.turn_number());
        let drops = self.with_rare(|rare| {
            if !rare.drops.waiting() || rare.drops.reported_in == turn {
                return None;
            }
            Some(mem::replace(&mut rare.drops, Drops { reported_in: turn, ..Drops::NONE }))
        })?;
        let mut failure = match drops.unencodable {
            0 => Failure::new(FailureKind::BufferFull, Phase::Session, "send buffer full"),
            _ => Failure::new(FailureKind::Encode, Phase::Session, drops.reason),
        };
        failure.dropped = drops.full + drops.unencodable;
        Some(self.complete(lp, failure))
    }

    /// Adds with whom and since when.
    pub(crate) fn complete(&self, lp: &Loop, mut failure: Failure) -> Failure {
        failure.peer = self.peer_text();
        failure.accepted = self.dialer().is_none();
        failure.elapsed = match failure.phase {
            Phase::Session => Duration::from_millis(lp.now_ms().saturating_sub(self.opened.get())),
            _ => self.opening_elapsed(lp),
        };
        failure
    }

    fn opening_elapsed(&self, lp: &Loop) -> Duration {
        let started =
            self.dialer().and_then(|dialer| dialer.attempt.as_ref().map(|attempt| attempt.started));
        match started {
            Some(at) => lp.now().saturating_duration_since(at),
            None => Duration::from_millis(lp.now_ms().saturating_sub(self.opened.get())),
        }
    }

    /// Has it told to `on_error`; the first that ends something wins.
    pub(crate) fn queue_failure(&self, lp: &Loop, code: ErrorCode, failure: Failure) {
        let failure = self.complete(lp, failure);
        let earlier = self.with_rare(|rare| {
            if rare.failure.is_some() {
                return Some((code, failure));
            }
            rare.failure = Some(Box::new((code, failure)));
            None
        });
        if earlier.is_none() {
            self.queue(lp, flag::ON_FAILED);
        }
    }

    /// One that ends the session waits to be told.
    pub(crate) fn has_failure(&self) -> bool {
        self.peek_rare(|rare| rare.failure.is_some()) == Some(true)
    }

    /// The socket is gone because of this: `on_error`, then `on_close`.
    pub(crate) fn fail(&self, lp: &Loop, code: ErrorCode, mut failure: Failure) {
        if self.stage() >= Stage::Failing {
            return;
        }
        if !self.has(flag::AGAIN) || self.stage().is_opening() {
            failure.dropped += self.drop_ahead();
        }
        self.queue_failure(lp, code, failure);
        self.drop_socket(lp);
        self.set_stage(Stage::Failing);
        self.queue(lp, flag::ON_FAILED);
    }

    /// What was queued for an opening that has failed goes with it.
    pub(crate) fn drop_ahead(&self) -> u64 {
        if !self.has_ahead() {
            return 0;
        }
        let (bytes, messages) = self
            .with_rare(|rare| (mem::take(&mut rare.ahead), mem::take(&mut rare.ahead_messages)));
        drop(bytes);
        messages
    }
}

/// Writing failed: bytes are lost, the peer is gone.
pub(crate) fn write_failed(e: io::Error) -> Failure {
    let kind = match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => FailureKind::Reset,
        _ => FailureKind::ClientClosed,
    };
    let reason = match kind {
        FailureKind::Reset => format!("client closed: {e}; what was unsent is lost"),
        _ => e.to_string(),
    };
    Failure::new(kind, Phase::Session, reason).with_io(e)
}

/// Connecting failed.
pub(crate) fn connect_failed(e: io::Error) -> Failure {
    let kind = match e.kind() {
        io::ErrorKind::ConnectionRefused => FailureKind::Refused,
        io::ErrorKind::TimedOut => FailureKind::Deadline,
        io::ErrorKind::NotFound => FailureKind::Refused,
        _ => FailureKind::Unreachable,
    };
    Failure::new(kind, Phase::Connect, e.to_string()).with_io(e)
}
