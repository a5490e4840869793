//! What was encoded once is sent to this connection too.
use super::slot::Slot;
use super::{Connection, Role, flag};
use crate::events::Loop;
use crate::protocols::{Context, LENT_FROM, Prepare, Prepared};
use crate::{Sent, Violation};
use std::rc::Rc;

impl<P: Prepare, R: Role> Connection<P, R> {
    /// `send` for a message that was encoded once for many: the same answers, limits and order with
    /// what `send` queues, and none of the encoding.
    ///
    /// A WebSocket whose `set_websocket_type` asks for the other kind encodes the message for
    /// itself.
    #[inline]
    pub fn send_prepared(&self, message: &Prepared<P>) -> Sent {
        self.with_slot(|lp, slot| slot.send_prepared(lp, message)).unwrap_or(Sent::Dropped)
    }
}

/// Shorter ones are copied: that costs less than to count who holds them.
const SHARED_FROM: usize = 256;

impl<P: Prepare, R: Role> Slot<P, R> {
    pub(crate) fn send_prepared(self: &Rc<Self>, lp: &Rc<Loop>, message: &Prepared<P>) -> Sent {
        if self.is_elsewhere() || message.wrong().is_some() {
            return self.send_by(lp, |protocol, out, cx| put(protocol, message, out, cx));
        }
        let as_prepared = match self.protocol.try_borrow_mut() {
            Ok(guard) => guard.as_ref().map(|p| p.sends_as_prepared(message.is_text())),
            Err(_) => None,
        };
        match as_prepared {
            None => return Sent::Dropped,
            Some(true) => {}
            Some(false) => {
                return self.send_by(lp, |protocol, out, cx| put(protocol, message, out, cx));
            }
        }
        let bytes = message.as_bytes();
        let (unsent, limit) = {
            let state = &mut *self.core.state.borrow_mut();
            let out = state.out.get_or_insert_with(|| lp.pool.borrow_mut().take());
            let limit = state.settings.limits().send_buffer_bytes;
            if out.unsent() == 0 && bytes.len() >= SHARED_FROM && !self.core.has(flag::BLOCKED) {
                // Alone in its turn, as news to many mostly are: it leaves from where it stands.
                out.bytes.clear();
                out.start = 0;
                out.shared = Some(message.shared());
                (bytes.len(), limit)
            } else if out.unsent() < limit && bytes.len() < LENT_FROM {
                out.own();
                out.bytes.extend_from_slice(bytes);
                (out.unsent(), limit)
            } else {
                (usize::MAX, limit)
            }
        };
        if unsent == usize::MAX {
            return self.send_prepared_rarely(lp, bytes, limit);
        }
        self.appended(lp, unsent, limit)
    }

    /// One that is lent to the socket, or a full buffer.
    #[inline(never)]
    fn send_prepared_rarely(self: &Rc<Self>, lp: &Rc<Loop>, bytes: &[u8], limit: usize) -> Sent {
        // Answers of the protocol's own may fill the buffer: they do not count.
        if self.core.unsent() >= limit && !self.make_room(lp, limit) {
            return Sent::Dropped;
        }
        if bytes.len() < LENT_FROM {
            self.core.with_out(lp, |out| out.bytes.extend_from_slice(bytes));
        } else {
            let written = self.core.write_lent(lp, bytes);
            self.judge_write(lp, written);
        }
        let unsent = self.core.unsent();
        self.appended(lp, unsent, limit)
    }
}

/// As a protocol encodes a message, for a session that is yet to come or that sends it otherwise.
fn put<P: Prepare>(
    protocol: &mut P,
    message: &Prepared<P>,
    out: &mut Vec<u8>,
    cx: &mut Context,
) -> Result<(), Violation> {
    if let Some(wrong) = message.wrong() {
        return Err(wrong.clone());
    }
    if protocol.sends_as_prepared(message.is_text()) {
        out.extend_from_slice(message.as_bytes());
        return Ok(());
    }
    protocol.encode_payload(message.payload(), out, cx)
}
