//! Sans-IO: bytes and time in, messages, bytes and deadlines out; no socket, no clock, no loop.
//!
//! A [`Protocol`] is one value a session. Its connection calls it in this order:
//! [`on_connect`](Protocol::on_connect) once, then [`input`](Protocol::input) and
//! [`decode`](Protocol::decode) as bytes arrive, [`encode`](Protocol::encode) as the program sends,
//! [`on_closing`](Protocol::on_closing) or [`on_violation`](Protocol::on_violation) at most once at
//! the end.
use crate::{Limits, Payload};
use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::result::Result;
use std::time::{Instant, SystemTime};

mod check;
mod frame;
pub(crate) mod http;
mod prepared;
mod tcp;
mod text;
mod udp;
pub(crate) mod websocket;

pub use check::{Check, Sample, Seen, Sending, Unsound, check};
pub use frame::Frame;
pub use http::{
    Chunk, Cookie, FileSessions, Http, Reply, Request, Response, SameSite, ServerSentEvent,
    Session, SessionOptions, SessionStore, UploadedFile,
};
pub use prepared::{Prepare, Prepared};
pub(crate) use tcp::LENT_FROM;
pub use tcp::Tcp;
pub use text::Text;
pub use udp::Udp;
#[doc(hidden)]
pub use websocket::Admission;
#[cfg(feature = "deflate")]
pub use websocket::Deflate;
pub use websocket::{Websocket, WebsocketSession, WebsocketType, Ws};

/// How the bytes at the front of the buffer divide: PHP's `0` and `n`; its `-1` is
/// `Err(Violation)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Not yet a whole package.
    Partial,
    /// Not yet a whole package; once it is, it will be so many bytes long. `input` is asked again
    /// as bytes arrive.
    PartialOf(usize),
    /// The first package is so many bytes long; they may still be on their way, and `input` is not
    /// asked again before they are here.
    Package(usize),
}

/// Where the payload of a whole package begins, and where the package ends.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    pub(crate) payload_from: usize,
    pub(crate) end: usize,
}

/// The peer broke the protocol: `on_error(SessionFail)` says how, and the connection closes, a
/// WebSocket with `code` in its close frame. From `encode`: the message cannot be sent.
///
/// `?` makes one of every error type; of a text [`Violation::new`] does, as in
/// `.ok_or_else(|| Violation::new("too short"))?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    reason: Cow<'static, str>,
    code: Option<u16>,
}

impl Violation {
    /// What the peer did, for the log and for `on_error`.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Violation { reason: reason.into(), code: None }
    }

    /// The code for a WebSocket's close frame (1002, 1007, 1009), an HTTP status otherwise.
    pub fn code(self, code: u16) -> Self {
        Violation { code: Some(code), ..self }
    }

    pub(crate) fn close_code(&self) -> Option<u16> {
        self.code
    }
}

/// So that `?` works in a protocol's methods.
impl<E: std::error::Error> From<E> for Violation {
    fn from(e: E) -> Self {
        Violation::new(e.to_string())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Why a session says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Farewell {
    /// The program called `close()`.
    #[default]
    Asked,
    /// The worker stops.
    Stopping,
    /// A callback of this connection returned an error.
    CallbackFailed,
}

/// What holds for all of a connection's sessions.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) limits: Rc<Limits>,
    /// Client: the host of its address.
    pub(crate) remote_host: Box<str>,
}

/// What a session can see of the world: all of it comes in here.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) doors: &'static Doors,
    /// Why `on_closing` is called.
    pub(crate) farewell: Farewell,
}

/// The doors behind which time and randomness lie; a test puts its own there.
pub(crate) struct Doors {
    pub(crate) random: fn(&mut [u8]),
    pub(crate) now: fn() -> Instant,
    pub(crate) system_time: fn() -> SystemTime,
}

/// What a built-in protocol has to say beside messages; `connection/slot.rs` turns it into
/// callbacks.
#[derive(Debug)]
pub(crate) enum Event {
    /// Server: an upgrade request is read and may be admitted; [`Protocol::after_event`] answers
    /// it.
    Upgrade(Box<http::RequestHead>),
    /// Server: the 101 is queued; the session is open.
    Upgraded(Box<http::RequestHead>),
    /// Client: the server's 101 is right; the session is open.
    Opened(Box<Response>),
    Ping(Vec<u8>),
    Pong {
        payload: Vec<u8>,
        of_heartbeat: bool,
    },
    /// The peer's close frame. `first`: before ours, which has been queued as the answer.
    Closed {
        code: u16,
        reason: String,
        first: bool,
    },
}

/// What a protocol's methods left on the pad for their connection.
#[derive(Default)]
pub(crate) struct Notes {
    /// For the peer, ahead of what the program sends next.
    pub(crate) answers: Vec<u8>,
    /// `answers` is one pong: while the socket is full the next one may take its place.
    pub(crate) answer_is_pong: bool,
    pub(crate) close: bool,
    /// What the program sends waits: the handshake is not complete.
    pub(crate) hold: Option<bool>,
    pub(crate) deadline: Option<Option<Instant>>,
    pub(crate) event: Option<Event>,
    /// What has come waits until the protocol is done with what came before; `false`: it is.
    pub(crate) input_waits: Option<bool>,
    /// The protocol's own deadline judges a package that has begun.
    pub(crate) judges_silence: bool,
    /// A message of several packages has begun or gone on; `false`: it is whole.
    pub(crate) message_waits: Option<bool>,
    /// What has come made so much work that others have their turn first.
    pub(crate) enough: bool,
    /// The answer that refused a client's handshake, beside the `Violation`.
    pub(crate) refusal: Option<Box<Response>>,
}

/// The pad itself: empty after most calls, and then no more than a null pointer.
#[derive(Default)]
pub(crate) struct Pad(Option<Box<Notes>>);

impl Pad {
    /// The notes, begun if there are none yet.
    #[inline]
    pub(crate) fn write(&mut self) -> &mut Notes {
        self.0.get_or_insert_default()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Tears the page off.
    pub(crate) fn take(&mut self) -> Notes {
        self.0.take().map(|notes| *notes).unwrap_or_default()
    }
}

/// A note pad between a protocol and its connection. Nothing here touches a socket.
pub struct Context<'a> {
    pub(crate) pad: &'a mut Pad,
    pub(crate) scene: Scene<'a>,
}

impl Context<'_> {
    /// Bytes for the peer, ahead of whatever the program sends next.
    pub fn reply(&mut self, raw: &[u8]) {
        self.pad.write().answers.extend_from_slice(raw);
    }

    /// Flush what is queued, then close.
    pub fn close(&mut self) {
        self.pad.write().close = true;
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        (self.scene.doors.now)()
    }

    /// The date, for headers and logs; read once a turn at most.
    pub fn system_time(&self) -> SystemTime {
        (self.scene.doors.system_time)()
    }

    /// When to be called next with `on_timer`; one deadline a protocol, `None` takes it back.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.pad.write().deadline = Some(at);
    }

    /// Unpredictable bytes: mask keys, nonces.
    pub fn random(&mut self, out: &mut [u8]) {
        (self.scene.doors.random)(out);
    }

    /// The limits of this connection.
    pub fn limits(&self) -> &Limits {
        &self.scene.terms.limits
    }

    /// Client: the host of the address, as it was written. Server: empty.
    pub fn remote_host(&self) -> &str {
        &self.scene.terms.remote_host
    }

    /// Inside `on_closing`: why.
    pub fn farewell(&self) -> Farewell {
        self.scene.farewell
    }

    /// What the program sends waits from now on: the handshake is not complete.
    pub(crate) fn hold(&mut self) {
        self.pad.write().hold = Some(true);
    }

    /// The handshake is complete: what waited leaves.
    pub(crate) fn release(&mut self) {
        self.pad.write().hold = Some(false);
    }

    /// `input` was asked and wants nothing before [`read_on`](Context::read_on); what waits
    /// meanwhile is nobody's delay.
    pub(crate) fn read_no_further(&mut self) {
        self.pad.write().input_waits = Some(true);
    }

    /// The protocol's own deadline judges a package that has begun, and `limits.partial_package`
    /// does not.
    pub(crate) fn judge_silence(&mut self) {
        self.pad.write().judges_silence = true;
    }

    /// A message of several packages has begun, or more of it has come: its rest is awaited for
    /// `limits.partial_package` from now on, whatever else comes.
    pub(crate) fn message_goes_on(&mut self) {
        self.pad.write().message_waits = Some(true);
    }

    /// And now it is whole.
    pub(crate) fn message_is_whole(&mut self) {
        self.pad.write().message_waits = Some(false);
    }

    /// `input` is asked again for what waits.
    pub(crate) fn read_on(&mut self) {
        self.pad.write().input_waits = Some(false);
    }

    pub(crate) fn note(&mut self, event: Event) {
        self.pad.write().event = Some(event);
    }

    pub(crate) fn refused(&mut self, response: Response) {
        self.pad.write().refusal = Some(Box::new(response));
    }

    /// A pong: ahead of what the program sends next; while the socket is full the next pong may
    /// take its place.
    pub(crate) fn pong(&mut self, frame: &[u8]) {
        self.pad.write().answers.extend_from_slice(frame);
        self.pad.write().answer_is_pong = true;
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("remote_host", &self.scene.terms.remote_host)
            .finish_non_exhaustive()
    }
}

/// One value per session: state without globals. Every connect and reconnect begins with a fresh
/// one.
///
/// A protocol of your own says where a package ends, what it means, and how one is written; and by
/// [`Serve`] and [`Dial`] who may use it. Its addresses begin with its `NAME`. (Manual: how to
/// customize a protocol.)
///
/// ```
/// use workerman::prelude::*;
/// use workerman::{Context, Dial, Input, Serve, Violation};
///
/// /// A number of one byte, then so many bytes of text.
/// #[derive(Default)]
/// struct Short;
///
/// impl Protocol for Short {
///     const NAME: &'static str = "short";
///     type Incoming<'a> = &'a str;
///     type Outgoing<'a> = &'a str;
///
///     fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
///         Ok(match buffer {
///             [] => Input::Partial,
///             [length, ..] => Input::Package(1 + usize::from(*length)),
///         })
///     }
///
///     fn decode<'a>(
///         &mut self,
///         package: &'a mut [u8],
///         _: &'a mut Vec<u8>,
///         _: &mut Context,
///     ) -> Result<Option<&'a str>, Violation> {
///         Ok(Some(std::str::from_utf8(&package[1..])?))
///     }
///
///     fn encode(
///         &mut self,
///         message: &str,
///         out: &mut Vec<u8>,
///         _: &mut Context,
///     ) -> Result<(), Violation> {
///         let length = u8::try_from(message.len());
///         out.push(length.map_err(|_| Violation::new("more than 255 bytes"))?);
///         out.extend_from_slice(message.as_bytes());
///         Ok(())
///     }
/// }
/// impl Serve for Short {}
/// impl Dial for Short {}
///
/// let server = workerman::spawn(|| {
///     let echo = Worker::<Short>::listen("short://127.0.0.1:0")?;
///     echo.on_message(|con, text| con.send(text));
///     Ok(())
/// })?;
/// let con = AsyncTcpConnection::<Short>::new(&format!("short://{}", server.addr()))?;
/// con.send("hello");
/// con.on_message(|_, text| {
///     assert_eq!(text, "hello");
///     Worker::stop_all();
/// });
/// con.connect();
/// Worker::run_all()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub trait Protocol: 'static {
    /// The scheme of its addresses.
    const NAME: &'static str;
    /// What `on_message` gets; may borrow from the receive buffer.
    type Incoming<'a>;
    /// What `send` takes, through `Into`.
    type Outgoing<'a>;

    /// Where does the first package end? Called again with more bytes as long as it is `Partial`.
    /// The buffer is mutable so that an incomplete frame can be unmasked and judged early; what was
    /// altered stays altered, so remember how far you came.
    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation>;

    /// A whole package. `None`: handled, nothing for the program (a ping, a fragment). What must be
    /// built goes into `scratch`.
    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Self::Incoming<'a>>, Violation>;

    /// Appends the bytes of `message` to `out`. May be called before `on_connect`, for what is sent
    /// ahead of the session. `Err` leaves `out` as it was: the message is `Dropped`, and
    /// `on_error(SendFail)` says why.
    fn encode(
        &mut self,
        message: Self::Outgoing<'_>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation>;

    /// As `encode`, but lends a large payload instead of copying it, so that head and payload leave
    /// in one vectored write.
    #[inline(always)]
    fn encode_split<'m>(
        &mut self,
        message: Self::Outgoing<'m>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Cow<'m, [u8]>>, Violation> {
        self.encode(message, out, cx).map(|()| None)
    }

    /// Text or bytes from someone who does not know the protocol (`AnyConnection::send`).
    fn encode_payload(
        &mut self,
        _payload: Payload,
        _out: &mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<(), Violation> {
        Err(Violation::new("this protocol takes no plain messages"))
    }

    /// The transport stands, TLS included.
    fn on_connect(&mut self, _cx: &mut Context) {}

    /// The deadline has passed.
    fn on_timer(&mut self, _cx: &mut Context) -> Result<(), Violation> {
        Ok(())
    }

    /// All that was queued has left: append the next piece of a long body. Called again until it
    /// appends nothing.
    fn on_writable(&mut self, _out: &mut Vec<u8>, _cx: &mut Context) -> Result<(), Violation> {
        Ok(())
    }

    /// The peer will send no more; `rest` is what never became a package.
    fn on_eof<'a>(
        &mut self,
        _rest: &'a mut [u8],
        _scratch: &'a mut Vec<u8>,
        _cx: &mut Context,
    ) -> Result<Option<Self::Incoming<'a>>, Violation> {
        Ok(None)
    }

    /// The session ends by our own will ([`Context::farewell`] says why): append a farewell
    /// (WebSocket: the close frame). `true`: wait for the peer's answer.
    fn on_closing(&mut self, _out: &mut Vec<u8>, _cx: &mut Context) -> bool {
        false
    }

    /// The peer broke the protocol: append what it is to be told before the connection ends.
    fn on_violation(&mut self, _violation: &Violation, _out: &mut Vec<u8>, _cx: &mut Context) {}

    /// A ping whose answer proves that the peer lives; `false`: this protocol has none.
    #[doc(hidden)]
    fn heartbeat(&mut self, _out: &mut Vec<u8>, _cx: &mut Context) -> bool {
        false
    }

    /// The program, or the library, had paused reading until now: time in which the peer could not
    /// be heard is not the peer's.
    #[doc(hidden)]
    fn hears_again(&mut self, _cx: &mut Context) {}

    /// The worker stops gracefully: what is on is finished, and nothing follows it.
    #[doc(hidden)]
    fn on_last(&mut self, _cx: &mut Context) {}

    /// What the program sent could not be encoded, and it knows: what the peer hears instead.
    #[doc(hidden)]
    fn on_unsent(&mut self, _out: &mut Vec<u8>, _cx: &mut Context) {}

    /// Whether the program has callbacks for pings and for pongs.
    #[doc(hidden)]
    fn wants(&mut self, _pings: bool, _pongs: bool) {}

    /// The callbacks of the event that the last call noted have returned.
    #[doc(hidden)]
    fn after_event(&mut self, _cx: &mut Context) -> Result<(), Violation> {
        Ok(())
    }

    /// `input` for a package that is whole and of the simplest kind; `None` says nothing. What was
    /// seen at this glance is not looked up again by `decode_glanced`.
    #[doc(hidden)]
    #[inline(always)]
    fn glance(&self, _buffer: &[u8], _cx: &Context) -> Option<Glance> {
        None
    }

    /// `decode` for a package that `glance` has seen.
    #[doc(hidden)]
    #[inline(always)]
    fn decode_glanced<'a>(
        &mut self,
        _seen: Glance,
        _package: &'a mut [u8],
    ) -> Result<Option<Self::Incoming<'a>>, Violation> {
        Ok(None)
    }

    /// Whether its methods run nothing of the program's own, so that they may run under a borrow.
    #[doc(hidden)]
    const RUNS_NO_PROGRAM_CODE: bool = false;

    /// Whether `on_writable` ever appends anything.
    #[doc(hidden)]
    const HAS_PIECES: bool = true;

    /// Whether a body that was begun goes on after `close()`: pieces are asked for until there are
    /// none.
    #[doc(hidden)]
    const PIECES_OUTLAST_CLOSE: bool = false;

    /// Whether `limits.message_bytes` is judged by the protocol itself (it counts otherwise than
    /// the package's length).
    #[doc(hidden)]
    const JUDGES_LENGTH: bool = false;
}

/// Usable by a `Worker`: `impl Serve for MyProtocol {}` says so of a protocol of your own.
#[diagnostic::on_unimplemented(
    message = "no worker can listen with `{Self}`",
    note = "`Ws` is for clients: a WebSocket server is \
            `Worker::<Websocket>::listen(\"websocket://0.0.0.0:8080\")`",
    note = "a protocol of your own needs `impl workerman::Serve for {Self} {{}}`"
)]
pub trait Serve: Protocol {
    /// Whose pages may connect, as the worker says.
    #[doc(hidden)]
    fn accepted_by(&mut self, _admission: &Rc<websocket::Admission>) {}

    /// Where the client is; `None`: on a unix socket.
    #[doc(hidden)]
    fn accepted_from(&mut self, _remote: Option<SocketAddr>) {}
}

/// Usable by an `AsyncTcpConnection`: `impl Dial for MyProtocol {}` says so of a protocol of your
/// own.
#[diagnostic::on_unimplemented(
    message = "no client can speak `{Self}`",
    note = "`Websocket` is for servers: a WebSocket client is \
            `AsyncTcpConnection::<Ws>::new(\"ws://127.0.0.1:8080\")`",
    note = "a protocol of your own needs `impl workerman::Dial for {Self} {{}}`"
)]
pub trait Dial: Protocol {
    /// Further schemes whose addresses a client of this protocol takes, each meaning the same over
    /// TLS (`wss` for `Ws`).
    #[doc(hidden)]
    const SECURE: Option<&'static str> = None;

    /// What the address says beside host and port, before each session.
    #[doc(hidden)]
    fn address(&mut self, _target: &Target<'_>) {}
}

/// The parts of a client's address that a protocol may need.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// As it belongs into an HTTP `Host` header: the port where it is not the scheme's own.
    pub host: &'a str,
    /// Path and query, `/` at least.
    pub path: &'a str,
    /// `user:password`, percent-decoded.
    pub userinfo: Option<&'a str>,
    pub(crate) opening: &'a websocket::Opening,
}

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
pub(crate) mod testing;
