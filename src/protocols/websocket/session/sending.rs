//! What leaves: the type that the program has set, and whether it goes compressed.
use super::super::WebsocketType;
use super::super::frame::{self, Opcode, Role};
use super::Session;
use crate::Payload;
use crate::protocols::{Context, Violation};

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

    /// Appends a message.
    #[inline(always)]
    pub(in crate::protocols::websocket) fn put(
        &mut self,
        role: Role,
        message: Payload,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        let (is_text, payload) = (message.is_text(), message.as_bytes());
        let mut opcode = Opcode::of(is_text);
        if self.sends != 0 {
            match self.put_unusual(role, is_text, payload, out, cx)? {
                Some(chosen) => opcode = chosen,
                None => return Ok(()),
            }
        }
        frame::put(role, opcode, payload, out, cx);
        Ok(())
    }

    /// The opcode of a message, by its own kind or by what the program has set.
    pub(super) fn opcode_of(&self, is_text: bool, payload: &[u8]) -> Result<Opcode, Violation> {
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

    /// Appends a message that goes compressed; otherwise the opcode with which it goes as it is.
    #[cold]
    #[inline(never)]
    fn put_unusual(
        &mut self,
        role: Role,
        is_text: bool,
        payload: &[u8],
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Opcode>, Violation> {
        let opcode = self.opcode_of(is_text, payload)?;
        let put = self.put_deflated(role, opcode, payload, out, cx);
        Ok((!put).then_some(opcode))
    }

    /// Appends the head of a message whose payload is lent; `false`: it went compressed.
    pub(in crate::protocols::websocket) fn put_lent(
        &mut self,
        role: Role,
        message: &Payload,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<bool, Violation> {
        let (is_text, payload) = (message.is_text(), message.as_bytes());
        let Some(opcode) = self.put_unusual(role, is_text, payload, out, cx)? else {
            return Ok(false);
        };
        frame::put_head(role, opcode, payload.len(), out);
        Ok(true)
    }

    /// Appends the message compressed; `false`: it goes as it is.
    pub(super) fn put_deflated(
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
