//! What a client over udp is told: its events, and what was lost, once a turn.
use super::{Dialled, Plain, due};
use crate::events::{Loop, Settled};
use crate::{ErrorCode, Failure, FailureKind, Phase, Protocol, Sent};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// What was lost since the last report. A million of them are one `on_error`.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) first: Option<Failure>,
    dropped: u64,
    /// The turn of the last report: one a turn.
    reported_in: Option<u32>,
}

impl<P: Protocol> Dialled<P> {
    #[cold]
    pub(super) fn dropped_full(&self, lp: &Loop) -> Sent {
        self.lost(lp, 1, || {
            Failure::new(FailureKind::BufferFull, Phase::Session, "send buffer full")
        });
        Sent::Dropped
    }

    #[cold]
    pub(super) fn refused(&self, lp: &Loop, reason: String) -> Sent {
        self.lost(lp, 1, || Failure::new(FailureKind::Encode, Phase::Session, reason));
        Sent::Dropped
    }

    /// Has it reported: after this callback, or in the next turn if this one has had its report.
    #[cold]
    pub(super) fn lost(&self, lp: &Loop, dropped: u64, why: impl FnOnce() -> Failure) {
        let mut losses = self.losses.borrow_mut();
        losses.dropped += dropped;
        if losses.first.is_none() {
            losses.first = Some(self.complete(lp, why()));
        }
        if losses.reported_in == Some(lp.turn_number()) {
            self.list_again(lp);
        } else {
            self.queue(lp, due::LOST);
        }
    }

    /// What had no report in its own turn.
    pub(super) fn report_what_is_left(&self, lp: &Rc<Loop>) {
        let left = {
            let losses = self.losses.borrow();
            losses.first.as_ref().map(|_| losses.reported_in == Some(lp.turn_number()))
        };
        match left {
            Some(true) => self.list_again(lp),
            Some(false) => {
                self.queue(lp, due::LOST);
                lp.after_callback();
            }
            None => {}
        }
    }

    /// A callback has returned; one that failed closes it.
    pub(super) fn settle(&self, lp: &Rc<Loop>, settled: Settled) {
        if let Err(e) = settled {
            log::error!("a callback of {:?} failed: {e}", self.handle());
            self.close(lp);
        }
    }

    pub(super) fn tell(&self, lp: &Rc<Loop>, which: &RefCell<Option<Plain<P>>>) {
        let f = which.borrow().clone();
        if let Some(f) = f {
            let settled = lp.call(|| (f.borrow_mut())(self.handle()));
            self.settle(lp, settled);
        }
    }

    pub(super) fn tell_error(&self, lp: &Rc<Loop>, code: ErrorCode, failure: &Failure) {
        let f = self.error.borrow().clone();
        match f {
            Some(f) => {
                let settled = lp.call(|| (f.borrow_mut())(self.handle(), code, failure));
                self.settle(lp, settled);
            }
            None => self.complaints.warn(lp, || format!("{:?}: {failure}", self.handle())),
        }
    }

    pub(super) fn report_losses(&self, lp: &Rc<Loop>) {
        let failure = {
            let mut losses = self.losses.borrow_mut();
            losses.reported_in = Some(lp.turn_number());
            let dropped = std::mem::take(&mut losses.dropped);
            losses.first.take().map(|first| Failure { dropped, ..first })
        };
        if let Some(failure) = failure {
            self.tell_error(lp, ErrorCode::SendFail, &failure);
        }
    }
}

/// The network has said what became of a datagram.
pub(super) fn news(e: io::Error) -> Failure {
    let (kind, told) = match e.kind() {
        io::ErrorKind::ConnectionRefused => (
            FailureKind::Refused,
            format!("{e}: nobody listens there, a datagram is lost; the connection goes on"),
        ),
        _ => (FailureKind::Unreachable, format!("{e}: a datagram is lost; the connection goes on")),
    };
    Failure::new(kind, Phase::Session, told).with_io(e)
}
