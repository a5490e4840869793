//! WebSocket (RFC 6455), the client's side.
use super::WebsocketType;
use super::frame::{self, Opcode, Role};
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
        if let Some((response, agreed)) = asking.decode(package, cx)? {
            if let Some(agreed) = agreed {
                self.session.agree(agreed);
            }
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
    of_both_sides!();

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
