//! WebSocket (RFC 6455), the client's side.
use super::WebsocketType;
use super::frame::{self, Role};
use super::handshake::Pending;
use super::handshake::client::Asking;
use super::sealed::Side;
use super::session::Session;
use crate::protocols::{Context, Dial, Event, Glance, Input, Protocol, Target, Violation};
use crate::{Data, Payload};

/// A WebSocket client's side of a connection: `ws://`, and `wss://` over TLS.
///
/// ```
/// use workerman::{Protocol, Ws};
///
/// assert_eq!(Ws::NAME, "ws");
/// ```
#[derive(Debug)]
pub struct Ws {
    session: Session,
}

const ROLE: Role = Role::Client;

impl Ws {
    /// Text messages.
    pub const BINARY_TYPE_BLOB: WebsocketType = WebsocketType::Blob;
    /// Binary messages.
    pub const BINARY_TYPE_ARRAYBUFFER: WebsocketType = WebsocketType::ArrayBuffer;

    /// The handshake, as long as it is not complete.
    fn asking(&mut self) -> Option<&mut Asking> {
        if !self.session.is_opening() {
            return None;
        }
        self.session.pending().as_mut().and_then(Pending::client)
    }

    #[cold]
    #[inline(never)]
    fn handshake_input(&mut self, buffer: &[u8], cx: &mut Context) -> Result<Input, Violation> {
        self.asking().map_or(Ok(Input::Partial), |asking| asking.input(buffer, cx))
    }

    #[cold]
    #[inline(never)]
    fn handshake_decode(&mut self, package: &[u8], cx: &mut Context) -> Result<(), Violation> {
        let Some(asking) = self.asking() else { return Ok(()) };
        if let Some(response) = asking.decode(package, cx)? {
            self.session.opened();
            cx.release();
            cx.note(Event::Opened(response));
        }
        Ok(())
    }
}

impl Default for Ws {
    fn default() -> Self {
        Ws { session: Session::new() }
    }
}

impl Protocol for Ws {
    const NAME: &'static str = "ws";
    const HAS_PIECES: bool = false;
    const RUNS_NO_PROGRAM_CODE: bool = true;
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    /// The limit counts a message's payload over all its fragments.
    const JUDGES_LENGTH: bool = true;

    #[inline(always)]
    fn glance(&self, buffer: &[u8], cx: &Context) -> Option<Glance> {
        self.session.glance(ROLE, buffer, cx)
    }

    #[inline(always)]
    fn decode_glanced<'a>(
        &mut self,
        seen: Glance,
        package: &'a mut [u8],
    ) -> Result<Option<Data<'a>>, Violation> {
        self.session.decode_glanced(ROLE, seen, package)
    }

    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        if self.session.is_opening() {
            return self.handshake_input(buffer, cx);
        }
        self.session.input(ROLE, buffer, cx)
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        if self.session.is_opening() {
            return self.handshake_decode(package, cx).map(|()| None);
        }
        self.session.decode(ROLE, package, scratch, cx)
    }

    #[inline(always)]
    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        let opcode = self.session.opcode_of(&message)?;
        frame::put(ROLE, opcode, message.as_bytes(), out, cx);
        Ok(())
    }

    fn encode_payload(
        &mut self,
        payload: Payload,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        self.encode(payload, out, cx)
    }

    fn on_connect(&mut self, cx: &mut Context) {
        cx.hold();
        if let Some(asking) = self.asking() {
            asking.start(cx);
        }
    }

    /// An end without a close frame is 1006, and no violation; before the handshake is complete it
    /// is a failed opening.
    fn on_eof<'a>(
        &mut self,
        _rest: &'a mut [u8],
        _scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        match self.asking() {
            Some(asking) => Err(asking.eof(cx)),
            None => Ok(None),
        }
    }

    fn on_closing(&mut self, out: &mut Vec<u8>, cx: &mut Context) -> bool {
        self.session.closing(ROLE, out, cx)
    }

    fn on_violation(&mut self, violation: &Violation, out: &mut Vec<u8>, cx: &mut Context) {
        self.session.violated(ROLE, violation, out, cx);
    }

    fn wants(&mut self, pings: bool, pongs: bool) {
        self.session.set_wants_pings(pings);
        self.session.set_wants_pongs(pongs);
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>, cx: &mut Context) -> bool {
        self.session.heartbeat(ROLE, out, cx)
    }
}

impl Dial for Ws {
    const SECURE: Option<&'static str> = Some("wss");

    fn address(&mut self, target: &Target<'_>) {
        self.session.set_kind(target.opening.kind());
        if self.session.is_opening() {
            *self.session.pending() = Some(Pending::Client(Box::new(Asking::new(target))));
        }
    }
}

impl Side for Ws {
    const ROLE: Role = Role::Client;

    fn session(&self) -> &Session {
        &self.session
    }

    fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}
