//! The peer's end: orderly, behind packages that wait, or by an error of the socket.
use super::Role;
use super::core::{Core, Stage};
use super::flag;
use super::slot::Slot;
use crate::events::Loop;
use crate::protocols::Pad;
use crate::transport::Stream;
use crate::{ErrorCode, Failure, FailureKind, Farewell, Phase, Protocol, Violation};
use std::io;
use std::rc::Rc;

impl<P: Protocol, R: Role> Slot<P, R> {
    /// The peer will send no more.
    pub(crate) fn peer_ended(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        core.set(flag::EOF);
        match core.stage() {
            Stage::Open if core.peek_rare(|rare| rare.input_waits) == Some(true) => {
                core.with_rare(|rare| rare.eof_waits = true);
            }
            Stage::Open => self.eof_in_session(lp),
            Stage::Farewell | Stage::Flushing => {
                core.set_stage(Stage::Flushing);
                self.advance(lp);
            }
            Stage::Lingering => self.end(lp),
            _ => {}
        }
    }

    pub(crate) fn eof_in_session(self: &Rc<Self>, lp: &Rc<Loop>) {
        let core = &self.core;
        let rest = core.state.borrow_mut().rest.take();
        let mut rest = rest.unwrap_or_else(|| lp.pool.borrow_mut().take_empty());
        let filled = rest.filled;
        let mut scratch = lp.take_scratch();
        scratch.clear();
        self.ask_eof(lp, &mut rest.bytes[..filled], &mut scratch);
        lp.put_scratch(scratch);
        lp.pool.borrow_mut().put(rest);
        if core.stage() != Stage::Open {
            return;
        }
        if core.has(flag::HELD) {
            let violation = Violation::new("the peer closed before the handshake was complete");
            self.violated(lp, violation, Pad::default());
        } else if core.has(flag::HALF_OPEN) {
            core.queue(lp, flag::ON_END);
            lp.after_callback();
            self.both_ended(lp);
        } else if core.peek_rare(|rare| rare.input_waits) == Some(true) {
            // The protocol owes an answer: it ends the connection behind that.
            core.with_rare(|rare| rare.eof_waits = true);
        } else {
            self.close_flushing(lp);
        }
    }

    /// The message borrows both buffers, never the protocol; it is delivered where that borrow has
    /// ended.
    fn ask_eof(self: &Rc<Self>, lp: &Rc<Loop>, rest: &mut [u8], scratch: &mut Vec<u8>) {
        let asked = self.ask(Farewell::Asked, |protocol, cx| protocol.on_eof(rest, scratch, cx));
        match asked {
            Some((Ok(message), pad)) => {
                if let (Some(message), Some(f)) = (message, &self.callbacks().message) {
                    let con = self.handle();
                    let settled = lp.call(|| f.call(con, message));
                    self.settle(lp, settled);
                }
                self.apply(lp, pad);
                lp.after_callback();
            }
            Some((Err(violation), pad)) => self.violated(lp, violation, pad),
            None => {}
        }
    }

    /// Half-open, and something happened to the socket behind the peer's end, where a read finds
    /// only that end again.
    pub(crate) fn look_for_reset(self: &Rc<Self>, lp: &Rc<Loop>) {
        if self.core.stage() != Stage::Open {
            return;
        }
        let error = self.core.state.borrow().stream.as_ref().map(Stream::take_error);
        if let Some(Ok(Some(e)) | Err(e)) = error {
            self.receive_failed(lp, e);
        }
    }

    pub(crate) fn receive_failed(self: &Rc<Self>, lp: &Rc<Loop>, e: io::Error) {
        let core = &self.core;
        if core.stage() != Stage::Open {
            match e.kind() {
                // A FIN without TLS's farewell: what the peer had to say has been said, and it may
                // still read.
                io::ErrorKind::UnexpectedEof => self.peer_ended(lp),
                _ => self.lost_in_closing(lp, super::failure::write_failed(e)),
            }
            return;
        }
        if core.has(flag::HELD) {
            let reason = format!("the connection broke inside the handshake: {e}");
            let failure = Failure::new(FailureKind::Handshake, Phase::Handshake, reason);
            let code = if R::ACCEPTED { ErrorCode::SessionFail } else { ErrorCode::ConnectFail };
            core.fail(lp, code, failure.with_io(e));
            return;
        }
        match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let reason = "the peer's end came without TLS's close_notify: it may be cut off";
                let failure = Failure::new(FailureKind::Truncated, Phase::Session, reason);
                core.fail(lp, ErrorCode::SessionFail, failure.with_io(e));
            }
            io::ErrorKind::InvalidData => {
                core.fail(lp, ErrorCode::SessionFail, core.tls_failure(e));
            }
            _ if core.unsent() > 0 => {
                core.fail(lp, ErrorCode::SendFail, super::failure::write_failed(e));
            }
            _ => self.end(lp),
        }
    }
}

impl Core {
    /// What TLS says of an error inside the session.
    fn tls_failure(&self, e: io::Error) -> Failure {
        let state = self.state.borrow();
        let Some(stream) = &state.stream else {
            return Failure::new(FailureKind::Tls, Phase::Session, e.to_string()).with_io(e);
        };
        let tls = stream.failure(e);
        let mut failure = Failure::new(tls.kind, Phase::Session, tls.reason);
        failure.io = tls.io;
        failure
    }
}
