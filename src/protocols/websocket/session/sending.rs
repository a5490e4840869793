//! What leaves: the type that the program has set, and whether it goes compressed.
use super::super::WebsocketType;
use super::super::frame::{self, Opcode, Role};
use super::Session;
use crate::Payload;
use crate::protocols::{Context, Violation};
use std::borrow::Cow;

const SENDS_BLOB: u8 = 1;
const SENDS_ARRAY_BUFFER: u8 = 2;
pub(super) const SENDS_DEFLATED: u8 = 4;

impl Session {
    pub(crate) fn set_kind(&mut self, kind: Option<WebsocketType>) {
        let kind = match kind {
            None => 0,
            Some(WebsocketType::Blob) => SENDS_BLOB,
            Some(WebsocketType::ArrayBuffer) => SENDS_ARRAY_BUFFER,
        };
        self.sends = self.sends & SENDS_DEFLATED | kind;
    }

    pub(crate) fn kind(&self) -> Option<WebsocketType> {
        match self.sends & !SENDS_DEFLATED {
            SENDS_BLOB => Some(WebsocketType::Blob),
            SENDS_ARRAY_BUFFER => Some(WebsocketType::ArrayBuffer),
            _ => None,
        }
    }

    /// Whether a message needs [`put_unusual`](Session::put_unusual).
    #[inline(always)]
    pub(in crate::protocols::websocket) fn sends_unusually(&self) -> bool {
        self.sends != 0
    }

    /// Appends a message whose type the program has set, or that may go compressed; or its head,
    /// and lends the payload from `lent_from` bytes on.
    #[cold]
    #[inline(never)]
    pub(in crate::protocols::websocket) fn put_unusual<'m>(
        &mut self,
        (role, lent_from): (Role, usize),
        message: Payload<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Cow<'m, [u8]>>, Violation> {
        let payload = message.as_bytes();
        let opcode = self.opcode_of(message.is_text(), payload)?;
        if self.put_deflated(role, opcode, payload, out, cx) {
            return Ok(None);
        }
        if payload.len() < lent_from {
            frame::put(role, opcode, payload, out, cx);
            return Ok(None);
        }
        frame::put_head(role, opcode, payload.len(), out);
        Ok(Some(message.into_bytes()))
    }

    /// The opcode of a message, by its own kind or by what the program has set.
    fn opcode_of(&self, is_text: bool, payload: &[u8]) -> Result<Opcode, Violation> {
        match self.kind() {
            None => Ok(Opcode::of(is_text)),
            Some(WebsocketType::ArrayBuffer) => Ok(Opcode::Binary),
            Some(WebsocketType::Blob) => {
                // RFC 6455 §5.6: a text frame holds UTF-8; the peer would have to end the session.
                if is_text || simdutf8::basic::from_utf8(payload).is_ok() {
                    return Ok(Opcode::Text);
                }
                Err(Violation::new(
                    "BINARY_TYPE_BLOB sends text, and these bytes are not UTF-8: \
                     set BINARY_TYPE_ARRAYBUFFER",
                ))
            }
        }
    }

    /// Appends the message compressed; `false`: it goes as it is.
    fn put_deflated(
        &mut self,
        role: Role,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> bool {
        let deflate = self.more.as_mut().and_then(|more| more.deflate.as_deref_mut());
        deflate.is_some_and(|deflate| {
            deflate.deflate(payload, |packed| frame::put_packed(role, opcode, packed, out, cx))
        })
    }
}
