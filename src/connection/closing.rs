//! How a session ends, and what comes after it: another one, or the end of the handle.
use super::Role;
use super::core::{Core, Stage};
use super::failure::write_failed;
use super::flag;
use super::slot::Slot;
use crate::events::Loop;
use crate::protocols::Pad;
use crate::{ErrorCode, Failure, FailureKind, Farewell, Phase, Protocol, Violation};
use std::io;
use std::rc::Rc;
use std::time::Duration;

impl<P: Protocol, R: Role> Slot<P, R> {
    /// `close()`, in whatever stage.
    pub(crate) fn begin_close(self: &Rc<Self>, lp: &Rc<Loop>, farewell: Farewell) {
        let core = &self.core;
        if core.take(flag::AGAIN) {
            self.drop_ahead();
        }
        match core.stage() {
            Stage::Initial | Stage::Waiting => self.end_handle(lp),
            stage if stage.is_opening() => self.end(lp),
            Stage::Open if core.has(flag::HELD) && !R::ACCEPTED => self.end(lp),
            Stage::Open => self.say_farewell(lp, farewell),
            // Inside `on_close`: a reconnect that it has asked for is another stage.
            _ => core.clear(flag::KEEP),
        }
    }

    fn say_farewell(self: &Rc<Self>, lp: &Rc<Loop>, farewell: Farewell) {
        let core = &self.core;
        core.note_program_bytes();
        let mut last = Vec::new();
        let asked = self.ask(farewell, |protocol, cx| protocol.on_closing(&mut last, cx));
        let (waits, mut pad) = asked.unwrap_or_default();
        self.apply_quietly(lp, &pad.take());
        // Half-open, and our direction has ended: no farewell can be said or waited for.
        let mute = core.has(flag::SHUT_DONE);
        if !last.is_empty() && !mute {
            core.with_out(lp, |out| out.bytes.append(&mut last));
        }
        self.enter_closing(lp, if waits && !mute { Stage::Farewell } else { Stage::Flushing });
    }

    /// What is queued leaves, then the socket ends: no farewell of the protocol's.
    pub(crate) fn close_flushing(self: &Rc<Self>, lp: &Rc<Loop>) {
        if self.core.stage() == Stage::Open {
            self.core.note_program_bytes();
            self.enter_closing(lp, Stage::Flushing);
        }
    }

    fn enter_closing(&self, lp: &Loop, stage: Stage) {
        let core = &self.core;
        core.set_stage(stage);
        core.clear(flag::HELD | flag::CHOKED | flag::PAUSED);
        // The callback that closes may have taken long.
        let now = lp.read_clock();
        let left = core.taken();
        core.with_rare(|rare| {
            rare.closing_since = Some(now);
            rare.closing_from = left;
        });
        core.set(flag::REARM);
        core.mark_dirty(lp);
        // Bytes that were not read while it was paused are discarded now; the peer's farewell may
        // be among them.
        core.list_again(lp);
    }

    /// The peer's close frame has come: its answer is queued, or it is the answer to ours.
    pub(crate) fn peer_said_farewell(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        match core.stage() {
            Stage::Open => {
                core.note_program_bytes();
                self.enter_closing(lp, Stage::Farewell);
            }
            Stage::Farewell => {}
            _ => return,
        }
        if R::ACCEPTED {
            // RFC 6455 §7.1.1: the server ends the socket, the client waits for that.
            core.set_stage(Stage::Flushing);
        }
        core.mark_dirty(lp);
    }

    /// The peer broke the protocol: it is told, then the session ends.
    pub(crate) fn violated(self: &Rc<Self>, lp: &Rc<Loop>, violation: Violation, mut pad: Pad) {
        let core = &self.core;
        let notes = pad.take();
        self.apply_quietly(lp, &notes);
        let held = core.has(flag::HELD);
        if core.stage() != Stage::Open {
            // Our own farewell was first: what comes behind it is nobody's loss.
            if core.stage() == Stage::Farewell {
                core.set_stage(Stage::Flushing);
                core.mark_dirty(lp);
            }
            return;
        }
        core.note_program_bytes();
        let mut last = Vec::new();
        let asked = self.ask(Farewell::Asked, |protocol, cx| {
            protocol.on_violation(&violation, &mut last, cx);
        });
        if let Some(((), mut pad)) = asked {
            self.apply_quietly(lp, &pad.take());
        }
        if !last.is_empty() && !core.has(flag::SHUT_DONE) {
            core.with_out(lp, |out| out.bytes.append(&mut last));
        }
        let (kind, phase) = match held {
            true => (FailureKind::Handshake, Phase::Handshake),
            false => (FailureKind::Protocol, Phase::Session),
        };
        let code = match held && !R::ACCEPTED {
            true => ErrorCode::ConnectFail,
            false => ErrorCode::SessionFail,
        };
        let mut failure =
            Failure::new(kind, phase, violation.to_string()).with_response(notes.refusal);
        failure.foreign = held && R::ACCEPTED && violation.close_code() == Some(403);
        failure.dropped = self.drop_ahead();
        self.enter_closing(lp, Stage::Flushing);
        core.queue_failure(lp, code, failure);
    }

    /// Goes on with closing: after a write, after the peer's end.
    pub(crate) fn advance(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        let empty = core.unsent() == 0 && !core.has(flag::BLOCKED);
        let sends = P::PIECES_OUTLAST_CLOSE || core.stage() == Stage::Open;
        if !empty || (sends && core.peek_rare(|rare| rare.pieces_wait) == Some(true)) {
            return;
        }
        match core.stage() {
            Stage::Open if core.has(flag::HELD) => {}
            Stage::Open if core.has(flag::SHUT) => match core.shutdown_write() {
                Ok(true) => {
                    core.clear(flag::SHUT);
                    core.set(flag::SHUT_DONE);
                    self.both_ended(lp);
                }
                Ok(false) => {}
                Err(e) => self.flush_failed(lp, e),
            },
            Stage::Farewell => {
                let first = core.peek_rare(|rare| rare.farewell_left.is_none()) != Some(false);
                if first {
                    let now = lp.read_clock();
                    core.with_rare(|rare| rare.farewell_left = Some(now));
                    core.set(flag::REARM);
                }
            }
            Stage::Flushing => match core.shutdown_write() {
                Ok(true) if core.has(flag::EOF) => self.end(lp),
                Ok(true) => {
                    core.set_stage(Stage::Lingering);
                    let now = lp.read_clock();
                    core.with_rare(|rare| rare.lingering_since = Some(now));
                    core.set(flag::REARM);
                    core.list_again(lp);
                }
                Ok(false) => {}
                Err(_) => self.end(lp),
            },
            _ => {}
        }
    }

    /// Half-open, and both directions have ended: nothing can come or go any more.
    pub(crate) fn both_ended(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if core.stage() == Stage::Open && core.has(flag::EOF) && core.has(flag::SHUT_DONE) {
            self.end(lp);
        }
    }

    /// A write found the peer gone.
    pub(crate) fn flush_failed(self: &Rc<Self>, lp: &Rc<Loop>, e: io::Error) {
        match self.core.stage() {
            Stage::Open => self.core.fail(lp, ErrorCode::SendFail, write_failed(e)),
            stage if stage.is_closing() => self.lost_in_closing(lp, write_failed(e)),
            _ => {}
        }
    }

    /// The socket ends before all has left. Only bytes of the program's own are a loss worth
    /// telling.
    pub(crate) fn lost_in_closing(self: &Rc<Self>, lp: &Rc<Loop>, failure: Failure) {
        let mark = self.core.peek_rare(|rare| rare.program_bytes).unwrap_or(0);
        if mark > self.core.taken() {
            self.core.fail(lp, ErrorCode::SendFail, failure);
        } else {
            self.end(lp);
        }
    }

    /// `destroy()`: at once, unsent bytes and all.
    pub(crate) fn destroy(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if core.take(flag::AGAIN) {
            self.drop_ahead();
        }
        match core.stage() {
            Stage::Initial | Stage::Waiting => self.end_handle(lp),
            stage if stage < Stage::Failing => self.end(lp),
            _ => core.clear(flag::KEEP),
        }
    }

    /// The socket is gone; `on_close` comes when the running callback has returned.
    pub(crate) fn end(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if core.stage() >= Stage::Failing {
            return;
        }
        if R::ACCEPTED && core.stage() == Stage::Securing {
            return self.end_unborn(lp);
        }
        if !core.has(flag::AGAIN) {
            self.drop_ahead();
        }
        core.drop_socket(lp);
        // A violation whose end came with it has not been told yet: `on_error` comes first, and
        // finds a connection that is closing, so that what it asks for follows `on_close`.
        if core.has_failure() {
            core.set_stage(Stage::Failing);
            return;
        }
        core.set_stage(Stage::Ended);
        core.queue(lp, flag::ON_CLOSED);
    }

    /// `close()` outside a session: nothing is delivered.
    fn end_handle(self: &Rc<Self>, lp: &Rc<Loop>) {
        self.core.set_stage(Stage::Gone);
        self.drop_ahead();
        self.free(lp);
    }

    /// What was sent ahead goes, and with it the protocol value that has encoded it. How many
    /// messages that were.
    fn drop_ahead(&self) -> u64 {
        self.drop_next();
        self.core.drop_ahead()
    }

    /// The session that it was made for will not be.
    pub(crate) fn drop_next(&self) {
        // In use: `make` or `encode` of a send ahead has come here, and that send looks again.
        let next =
            self.client.as_ref().and_then(|client| client.next.try_borrow_mut().ok()?.take());
        drop(next);
    }

    // ------------------------------------------------------------------ after on_close

    /// `on_close` has returned: what becomes of the handle.
    pub(crate) fn after_close(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        let old = match core.stage() {
            // A send inside `on_close` after a reconnect went to the next one's value, not to this.
            Stage::Open => None,
            _ => self.protocol.take(),
        };
        drop(old);
        core.forget_session();
        if core.stage() != Stage::Ended {
            core.clear(flag::KEEP | flag::AGAIN);
            return;
        }
        if core.take(flag::AGAIN) && !lp.is_stopping() {
            let after = core.peek_rare(|rare| rare.reconnect_after).unwrap_or_default();
            self.schedule(lp, after);
        } else if core.take(flag::KEEP) && !lp.is_stopping() {
            core.set_stage(Stage::Initial);
        } else {
            self.end_handle(lp);
        }
    }

    /// `reconnect(after)`.
    pub(crate) fn reconnect(self: &Rc<Self>, lp: &Rc<Loop>, after: Duration) {
        let core = &self.core;
        if lp.is_stopping() {
            return;
        }
        core.clear(flag::KEEP);
        if self.client.is_none() {
            self.cannot_dial(lp);
            return;
        }
        match core.stage() {
            Stage::Initial | Stage::Waiting => self.schedule(lp, after),
            Stage::Ended if !core.has(flag::ON_CLOSED) => self.schedule(lp, after),
            Stage::Dialing if core.has(flag::RECALLABLE) => self.schedule(lp, after),
            // The opening failed before `on_connect`: Workerman then has no `on_close`.
            Stage::Failing if !core.has(flag::OPENED) => {
                core.forget_session();
                self.schedule(lp, after);
            }
            stage => {
                if stage.is_opening() {
                    self.end(lp);
                } else if stage == Stage::Open {
                    self.begin_close(lp, Farewell::Asked);
                }
                core.set(flag::AGAIN);
                core.with_rare(|rare| rare.reconnect_after = after);
            }
        }
    }

    /// An upgraded client: there is no recipe for its protocol.
    #[cold]
    fn cannot_dial(self: &Rc<Self>, lp: &Rc<Loop>) {
        log::warn!(
            "{:?}: a client that was upgraded cannot connect again, and its handle ends: make a \
             new one",
            self.handle()
        );
        self.begin_close(lp, Farewell::Asked);
    }

    fn schedule(&self, lp: &Loop, after: Duration) {
        let core = &self.core;
        core.clear(flag::AGAIN | flag::KEEP);
        if after.is_zero() {
            self.redial_soon(lp);
            return;
        }
        core.set_stage(Stage::Waiting);
        // Measured from now: the callback that asks may have taken long.
        let at = lp.read_clock().checked_add(after);
        lp.set_alarm(&core.alarm, core.key, at);
    }

    /// The reconnect is due.
    pub(crate) fn redial_soon(&self, lp: &Loop) {
        self.dial_soon(lp);
        self.core.set(flag::RECALLABLE);
    }

    /// Dials in the next turn, never in this one.
    fn dial_soon(&self, lp: &Loop) {
        lp.set_alarm(&self.core.alarm, self.core.key, None);
        self.core.clear(flag::AGAIN | flag::KEEP | flag::RECALLABLE);
        self.core.set_stage(Stage::Dialing);
        self.core.with_rare(|rare| rare.dial_asked_in = lp.turn_number());
        self.core.list_again(lp);
    }

    /// `connect()`.
    pub(crate) fn connect(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        if lp.is_stopping() {
            return;
        }
        match core.stage() {
            Stage::Open => {}
            _ if self.client.is_none() => self.cannot_dial(lp),
            Stage::Initial | Stage::Waiting => self.dial_soon(lp),
            Stage::Ended if !core.has(flag::ON_CLOSED) => self.dial_soon(lp),
            Stage::Failing if !core.has(flag::OPENED) => {
                core.forget_session();
                self.dial_soon(lp);
            }
            // Also where `on_close` is still on its way: it comes first.
            stage if stage.is_closing() || matches!(stage, Stage::Failing | Stage::Ended) => {
                core.set(flag::AGAIN);
                core.with_rare(|rare| rare.reconnect_after = Duration::ZERO);
            }
            _ => {}
        }
    }

    /// `cancel_reconnect()`.
    pub(crate) fn cancel_reconnect(&self, lp: &Loop) {
        let core = &self.core;
        match core.stage() {
            Stage::Waiting => {
                lp.set_alarm(&core.alarm, core.key, None);
                core.set_stage(Stage::Initial);
            }
            Stage::Dialing if core.has(flag::RECALLABLE) => core.set_stage(Stage::Initial),
            _ if core.take(flag::AGAIN) => core.set(flag::KEEP),
            _ => {}
        }
    }
}

impl Core {
    /// Up to here the queue holds what the program sent; behind it comes a farewell.
    fn note_program_bytes(&self) {
        let mark = self.taken() + self.unsent() as u64;
        self.with_rare(|rare| {
            rare.program_bytes = rare.program_bytes.max(mark);
        });
    }

    /// Ends our direction. False: TLS's own farewell has not left yet.
    fn shutdown_write(&self) -> io::Result<bool> {
        let Some(mut stream) = self.take_stream() else { return Ok(true) };
        let shut = stream.shutdown_write();
        self.put_stream(stream);
        shut
    }

    /// Fresh state for what comes next; settings, counters and user data stay.
    fn forget_session(&self) {
        self.clear(flag::OPENED | flag::EOF | flag::WATCH_INPUT | flag::PAUSED);
        self.watch_idle();
        let mut state = self.state.borrow_mut();
        // Bytes of a message whose own encoding ended the session were put back behind its end.
        state.out = None;
        if let Some(rare) = state.rare.as_deref_mut() {
            rare.forget_session();
        }
    }

    /// An idle limit is judged by when the last byte came.
    pub(crate) fn watch_idle(&self) {
        if self.watches_idle() {
            self.set(flag::WATCH_INPUT);
        }
    }

    pub(crate) fn watches_idle(&self) -> bool {
        self.settings().limits().idle != Duration::MAX
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.state.borrow().stream.as_ref().is_some_and(|stream| stream.is_tls())
    }
}
