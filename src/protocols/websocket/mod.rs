//! WebSocket (RFC 6455), the server's side; [`Ws`] is the client's.
//!
//! [`session`] is the state machine of both, [`frame`] the wire format, [`handshake`] what precedes
//! them.

/// What both sides do alike as a `Protocol`; each has its `ROLE`, its `session` and its handshake.
macro_rules! of_both_sides {
    () => {
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
            if self.session.sends_unusually() {
                return self.session.put_unusual((ROLE, usize::MAX), message, out, cx).map(|_| ());
            }
            frame::put(ROLE, Opcode::of(message.is_text()), message.as_bytes(), out, cx);
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

        fn on_violation(&mut self, violation: &Violation, out: &mut Vec<u8>, cx: &mut Context) {
            self.session.violated(ROLE, violation, out, cx);
        }

        fn wants(&mut self, pings: bool, pongs: bool) {
            self.session.set_wants_pings(pings);
            self.session.set_wants_pongs(pongs);
        }
    };
}

#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "no_deflate.rs"]
mod deflate;
mod frame;
mod handshake;
mod mask;
pub(crate) mod session;
mod utf8;
mod ws;

#[cfg(feature = "deflate")]
pub use deflate::Deflate;
pub(crate) use handshake::client::Opening;
#[doc(hidden)]
pub use handshake::origin::Admission;
pub(crate) use handshake::origin::Origin;
pub use ws::Ws;

use super::tcp::LENT_FROM;
use super::{Context, Glance, Input, Prepare, Protocol, Serve, Violation};
use crate::{Data, Error, Farewell, Payload, Request, Response};
use frame::{Opcode, Role};
use handshake::Pending;
use handshake::server::{Answering, Verdict};
use session::Session;
use std::borrow::Cow;
use std::rc::Rc;

/// The opcode of outgoing messages, by Workerman's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebsocketType {
    /// Text messages.
    Blob,
    /// Binary messages.
    ArrayBuffer,
}

/// A WebSocket server's side of a connection: `websocket://`.
///
/// ```
/// use workerman::{Protocol, Websocket};
///
/// assert_eq!(Websocket::NAME, "websocket");
/// ```
#[derive(Debug)]
pub struct Websocket {
    session: Session,
}

const ROLE: Role = Role::Server;

impl Websocket {
    /// Text messages.
    pub const BINARY_TYPE_BLOB: WebsocketType = WebsocketType::Blob;
    /// Binary messages.
    pub const BINARY_TYPE_ARRAYBUFFER: WebsocketType = WebsocketType::ArrayBuffer;

    /// Answers an upgrade request that an `Http` worker received: `con.upgrade_with` goes on with
    /// it.
    ///
    /// # Errors
    /// The refusal to send, such as 400, 403 or 426.
    ///
    /// ```
    /// use workerman::{Http, Websocket, Worker};
    ///
    /// # fn main() -> workerman::Result {
    /// let worker = Worker::<Http>::listen("http://127.0.0.1:0")?;
    /// worker.on_message(|con, request| match Websocket::accept(&request) {
    ///     Ok(websocket) => con.upgrade_with(websocket).on_message(|con, data| con.send(data)),
    ///     Err(refusal) => {
    ///         con.send(refusal);
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn accept(request: &Request) -> Result<Websocket, Response> {
        let answering = Answering::accepted(request)?;
        let mut websocket = Websocket::default();
        *websocket.session.pending() = Some(Pending::Server(Box::new(answering)));
        Ok(websocket)
    }

    /// Compresses messages if the client of [`accept`](Websocket::accept) offers it; an `Http`
    /// worker has no setting for it.
    ///
    /// ```
    /// use workerman::{Deflate, Request, Response, Websocket};
    ///
    /// fn accept(request: &Request) -> Result<Websocket, Response> {
    ///     Ok(Websocket::accept(request)?.with_deflate(Deflate::default()))
    /// }
    /// ```
    #[cfg(feature = "deflate")]
    pub fn with_deflate(mut self, deflate: Deflate) -> Self {
        if let Some(answering) = self.answering() {
            answering.deflate_by(deflate);
        }
        self
    }

    /// Whose pages may connect; without it, those of the server's own host.
    pub(crate) fn admit_by(&mut self, admission: Rc<Admission>) {
        if let Some(answering) = self.answering() {
            answering.admit_by(admission);
        }
    }

    /// Further lines of the 101, in place of those set before.
    pub(crate) fn set_headers<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Result<(), Error> {
        match self.answering() {
            Some(answering) => answering.set_headers(headers),
            None => Err(Error::command(
                "the handshake is answered already: set its headers inside on_websocket_connect",
            )),
        }
    }

    /// Inside `on_websocket_connect`: this answer instead of the 101. `Err`: it cannot be sent (403
    /// is), or it is too late.
    pub(crate) fn refuse(&mut self, response: Response) -> Result<(), Error> {
        match self.answering().filter(|answering| answering.is_asked()) {
            Some(answering) => answering.refuse(response),
            None => Err(Error::command("a handshake is refused inside on_websocket_connect")),
        }
    }

    /// `close()` inside `on_websocket_connect`: 403; its `Err`: 500. `false`: the program is not
    /// being asked, close as ever.
    pub(crate) fn deny(&mut self, why: Farewell) -> bool {
        let asked = self.answering().filter(|answering| answering.is_asked());
        asked.map(|answering| answering.deny(why)).is_some()
    }

    /// The handshake, as long as it is not answered.
    fn answering(&mut self) -> Option<&mut Answering> {
        if !self.session.is_opening() {
            return None;
        }
        let pending = self.session.pending();
        pending.get_or_insert_with(|| Pending::Server(Box::default())).server()
    }

    #[cold]
    #[inline(never)]
    fn handshake_input(&mut self, buffer: &[u8], cx: &mut Context) -> Result<Input, Violation> {
        self.answering().map_or(Ok(Input::Partial), |answering| answering.input(buffer, cx))
    }

    #[cold]
    #[inline(never)]
    fn handshake_decode(&mut self, head: &[u8], cx: &mut Context) -> Result<(), Violation> {
        self.answering().map_or(Ok(()), |answering| answering.decode(head, cx))
    }

    fn answer(&mut self, cx: &mut Context) {
        use crate::protocols::Event;
        match self.answering().and_then(|answering| answering.answer(cx)) {
            None => {}
            Some(Verdict::Refused) => {
                self.session.refused();
                cx.close();
            }
            Some(Verdict::Admitted(request, agreed)) => {
                if let Some(agreed) = agreed {
                    self.session.agree(agreed);
                }
                self.session.opened();
                cx.release();
                cx.note(Event::Upgraded(request));
            }
        }
    }
}

impl Default for Websocket {
    fn default() -> Self {
        Websocket { session: Session::new() }
    }
}

impl Protocol for Websocket {
    const NAME: &'static str = "websocket";
    of_both_sides!();

    #[inline(always)]
    fn encode_split<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Cow<'m, [u8]>>, Violation> {
        if self.session.sends_unusually() {
            return self.session.put_unusual((ROLE, LENT_FROM), message, out, cx);
        }
        let (opcode, payload) = (Opcode::of(message.is_text()), message.as_bytes());
        if payload.len() < LENT_FROM {
            frame::put(ROLE, opcode, payload, out, cx);
            return Ok(None);
        }
        frame::put_head(ROLE, opcode, payload.len(), out);
        Ok(Some(message.into_bytes()))
    }

    fn on_connect(&mut self, cx: &mut Context) {
        if self.answering().is_some_and(|answering| answering.is_asked()) {
            // An HTTP server has read the request, and its program has agreed.
            return self.answer(cx);
        }
        cx.hold();
    }

    fn on_closing(&mut self, out: &mut Vec<u8>, cx: &mut Context) -> bool {
        if self.deny(cx.farewell()) {
            // `close()` or an error inside `on_websocket_connect`: the answer is a 403 or a 500.
            self.answer(cx);
            return false;
        }
        self.session.closing(ROLE, out, cx)
    }

    fn after_event(&mut self, cx: &mut Context) -> Result<(), Violation> {
        self.answer(cx);
        Ok(())
    }
}

impl Prepare for Websocket {
    fn encode_for_all(message: &Payload, out: &mut Vec<u8>) -> Result<usize, Violation> {
        let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
        frame::put_head(ROLE, opcode, message.as_bytes().len(), out);
        let head = out.len();
        out.extend_from_slice(message.as_bytes());
        Ok(head)
    }

    #[inline]
    fn sends_as_prepared(&self, text: bool) -> bool {
        match self.session.kind() {
            None => true,
            Some(WebsocketType::Blob) => text,
            Some(WebsocketType::ArrayBuffer) => !text,
        }
    }
}

impl Serve for Websocket {
    fn accepted_by(&mut self, admission: &Rc<Admission>) {
        self.admit_by(admission.clone());
    }
}

/// Both sides of a WebSocket.
pub trait WebsocketSession: Protocol + sealed::Side {}
impl WebsocketSession for Websocket {}
impl WebsocketSession for Ws {}

#[cfg(test)]
pub(crate) use sealed::Side;

mod sealed {
    use super::*;

    /// What the connection's handle needs of either side.
    pub trait Side {
        /// Who we are.
        const ROLE: Role;

        fn session(&self) -> &Session;
        fn session_mut(&mut self) -> &mut Session;

        /// Appends a ping of the program's own.
        fn put_ping(
            &mut self,
            payload: &[u8],
            out: &mut Vec<u8>,
            cx: &mut Context,
        ) -> Result<(), Violation> {
            Session::put_control(Self::ROLE, Opcode::Ping, payload, out, cx)
        }

        /// Appends a pong that nobody asked for.
        fn put_pong(
            &mut self,
            payload: &[u8],
            out: &mut Vec<u8>,
            cx: &mut Context,
        ) -> Result<(), Violation> {
            Session::put_control(Self::ROLE, Opcode::Pong, payload, out, cx)
        }
    }

    impl Side for Websocket {
        const ROLE: Role = Role::Server;

        fn session(&self) -> &Session {
            &self.session
        }

        fn session_mut(&mut self) -> &mut Session {
            &mut self.session
        }
    }
}

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
mod testing;
#[cfg(test)]
mod tests;
