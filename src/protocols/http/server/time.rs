//! How long each part of an exchange may take.
use super::super::answer::Stage;
use super::super::framing::Refused;
use super::{Http, Phase};
use crate::Limits;
use crate::protocols::{Context, Violation};
use std::time::{Duration, Instant};

/// An answer is waited for so long at most where the client has ended its own direction: whether it
/// still listens cannot be seen.
const OWED: Duration = Duration::from_secs(60);

impl Http {
    #[inline]
    pub(super) fn enter(&mut self, phase: Phase, cx: &mut Context) {
        self.phase = phase;
        self.since = Some(cx.now());
        let Some(due) = self.due(cx) else { return };
        if self.armed.is_none_or(|armed| due < armed) {
            self.armed = Some(due);
            cx.set_deadline(Some(due));
        }
    }

    /// More of a body has come: so much of it is here.
    pub(super) fn more_body(&mut self, bytes: usize, cx: &Context) {
        let now = cx.now();
        let body = self.body.get_or_insert_with(|| Box::new((now, 0)));
        body.1 = bytes;
        // What came fast earns no time for later: begun as if it had come at the lowest rate.
        if let Some(begun) = earned(bytes, cx.limits()).and_then(|earned| now.checked_sub(earned)) {
            body.0 = body.0.min(begun);
        }
        self.since = Some(now);
    }

    pub(super) fn due(&self, cx: &Context) -> Option<Instant> {
        let limits = cx.limits();
        let after: Duration = match self.phase {
            Phase::Head => limits.opening,
            Phase::Idle => limits.http_idle,
            Phase::Body => return self.body_due(limits),
            Phase::Answering if self.half_closed => limits.answer.min(OWED),
            Phase::Answering if self.exchange.stage != Stage::Awaited => return None,
            Phase::Answering => limits.answer,
        };
        self.since?.checked_add(after)
    }

    /// The earlier of two: no byte for so long, or too few since the body began.
    pub(super) fn body_due(&self, limits: &Limits) -> Option<Instant> {
        let stalled = self.since?.checked_add(limits.body_idle);
        let Some((begun, bytes)) = self.body.as_deref() else { return stalled };
        let Some(earned) = earned(*bytes, limits) else { return stalled };
        let late = begun.checked_add(limits.body_idle.saturating_add(earned));
        stalled.into_iter().chain(late).min()
    }

    /// The program's turn begins.
    #[inline]
    pub(super) fn await_answer(&mut self, cx: &mut Context) {
        if cx.limits().answer != Duration::MAX {
            self.enter(Phase::Answering, cx);
        }
    }

    /// Each piece of an answer gives time for the next one, where that is limited.
    #[inline]
    pub(super) fn piece_sent(&mut self, cx: &Context) {
        if self.half_closed {
            self.since = Some(cx.now());
        }
    }

    /// The client could not be heard until now.
    pub(super) fn forgive_rest(&mut self, now: Instant) {
        let rested = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        if let Some(body) = &mut self.body {
            body.0 += rested;
        }
        self.since = self.since.map(|_| now);
    }

    /// The program has not answered in time.
    #[cold]
    pub(super) fn answer_is_late(&mut self, cx: &mut Context) -> Result<(), Violation> {
        if self.exchange.stage == Stage::File {
            // It is on its way: whether bytes leave is judged elsewhere.
            self.enter(Phase::Answering, cx);
            return Ok(());
        }
        let begun = self.exchange.stage != Stage::Awaited;
        self.exchange.stage = Stage::Idle;
        if begun {
            // A body that breaks off must not look whole.
            return Err(Violation::new("the rest of an answer did not come (Limits::answer)"));
        }
        let limit = cx.limits().answer.as_secs_f64();
        log::warn!(
            "http: a request was not answered within {limit} s, and its client got a 503: answer \
             each one, or give more time by Limits::answer"
        );
        Err(self.refuse(Refused::new(503, "the server did not answer (Limits::answer)"), cx))
    }
}

/// How long so much of a body may take; `None`: as long as it likes.
fn earned(bytes: usize, limits: &Limits) -> Option<Duration> {
    let rate = limits.body_rate;
    (rate > 0).then(|| Duration::from_secs_f64(bytes as f64 / rate as f64))
}
