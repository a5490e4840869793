//! What arrives at a session that compresses (RFC 7692).
use super::super::deflate::{Agreement, Compression, Fault};
use super::super::frame::{Head, Opcode, broken};
use super::super::mask;
use super::sending::SENDS_DEFLATED;
use super::{More, Session, State, not_utf8, text, too_big};
use crate::protocols::{Context, Input, Violation};
use crate::{Data, Limits};

impl Session {
    /// The handshake's agreement, before [`opened`](Session::opened).
    pub(in crate::protocols::websocket) fn agree(&mut self, agreed: Agreement) {
        self.more().deflate = Some(Box::new(Compression::new(agreed)));
        self.sends |= SENDS_DEFLATED;
    }

    /// Whether messages may be compressed; the peer's, also when we say no more.
    pub(super) fn deflates(&self) -> bool {
        self.sends & SENDS_DEFLATED != 0
    }

    /// Whether this frame's payload is compressed, and a message's that counts.
    pub(super) fn is_compressed(&self, head: &Head) -> bool {
        self.deflates()
            && match (self.state, head.opcode) {
                (State::Open, _) => head.compressed,
                (State::InText | State::InBinary, Opcode::Continuation) => {
                    let deflate = self.more.as_ref().and_then(|more| more.deflate.as_ref());
                    deflate.is_some_and(|deflate| deflate.in_message)
                }
                _ => false,
            }
    }

    /// Inflates what has arrived of an incomplete frame.
    pub(super) fn inflate_early(
        &mut self,
        head: &Head,
        buffer: &mut [u8],
        total: usize,
        cx: &mut Context,
    ) -> Result<Input, Violation> {
        let arrived = (buffer.len() - head.length).min(u32::MAX as usize);
        let judged = self.judged as usize;
        if arrived > judged {
            let fresh = &mut buffer[head.length + judged..head.length + arrived];
            mask::apply(fresh, head.key, judged);
            self.judged = arrived as u32;
            let is_text = self.is_text(head.opcode);
            let Some(More { deflate: Some(deflate), message, .. }) = self.more.as_deref_mut()
            else {
                return Err(lost());
            };
            let utf8 = is_text.then_some(&mut self.utf8);
            let limits = cx.limits();
            deflate
                .inflate(fresh, message, limits.message_bytes, utf8)
                .map_err(|fault| told(fault, limits))?;
            if deflate.takes_its_share() {
                cx.pad.write().enough = true;
            }
        }
        Ok(Input::PartialOf(total))
    }

    /// A whole frame of a compressed message.
    pub(super) fn take_compressed<'a>(
        &mut self,
        head: &Head,
        payload: &mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        let judged = std::mem::take(&mut self.judged) as usize;
        let is_text = self.is_text(head.opcode);
        let fresh = payload.get_mut(judged..).unwrap_or_default();
        mask::apply(fresh, head.key, judged);
        // One that came whole needs no place of its own.
        let is_alone = head.fin && self.state == State::Open && judged == 0;
        let Some(More { deflate: Some(deflate), message, fragments, .. }) =
            self.more.as_deref_mut()
        else {
            return Err(lost());
        };
        scratch.clear();
        let into = if is_alone { &mut *scratch } else { &mut *message };
        let utf8 = is_text.then_some(&mut self.utf8);
        let limits = cx.limits();
        deflate
            .inflate(fresh, into, limits.message_bytes, utf8)
            .map_err(|fault| told(fault, limits))?;
        if deflate.takes_its_share() {
            cx.pad.write().enough = true;
        }
        if !head.fin {
            deflate.in_message = true;
            *fragments += 1;
            self.state = if is_text { State::InText } else { State::InBinary };
            return Ok(None);
        }
        deflate.finish(into).map_err(|fault| told(fault, cx.limits()))?;
        if !is_alone {
            *scratch = std::mem::take(message);
        }
        *fragments = 0;
        self.state = State::Open;
        if is_text { text(scratch) } else { Ok(Some(Data::Binary(scratch))) }
    }
}

/// A frame of a compressed message may be longer than the message: stored blocks have heads, and
/// some compressors are clumsy. What inflating makes of it is what counts.
pub(super) fn most_compressed(message_bytes: usize) -> usize {
    message_bytes.saturating_add(message_bytes / 4).saturating_add(64)
}

#[cold]
fn told(fault: Fault, limits: &Limits) -> Violation {
    match fault {
        Fault::Corrupt => Violation::new("a compressed message that cannot be inflated").code(1007),
        Fault::NotUtf8 => not_utf8(),
        Fault::TooLong => too_big("message_bytes", limits.message_bytes, "bytes"),
    }
}

#[cold]
fn lost() -> Violation {
    broken("a compressed message where none is agreed")
}
