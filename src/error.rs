//! Who erred decides where it shows: set-up → [`Error`], network and peer → [`Failure`] in
//! `on_error`, a callback → its [`Outcome`].
use crate::Response;
use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

/// What `?` converts into inside a callback, and what `main` returns.
pub type Result<T = (), E = Box<dyn StdError + Send + Sync>> = std::result::Result<T, E>;

/// A mistake at set-up: an address, a file, a header, a port in use. Names what was tried and how
/// to mend it.
///
/// `Debug` prints what `Display` prints, so that `fn main() -> Result` ends with a readable line.
#[non_exhaustive]
pub enum Error {
    /// An address that cannot be used, and which part of it.
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// A listening socket that could not be had.
    Bind {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A header that HTTP forbids.
    Header {
        /// Its name, as it was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS settings that cannot be used.
    Tls {
        /// What is wrong, with the file's name where it is in a file.
        reason: String,
    },
    /// A call or a command that makes no sense where it was made.
    Command {
        /// What was asked, and why it cannot be.
        reason: String,
    },
    /// The operating system refused.
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn address(address: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Address { address: address.into(), reason: reason.into() }
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Error::Io { doing: doing.into(), source }
    }

    pub(crate) fn command(reason: impl Into<String>) -> Self {
        Error::Command { reason: reason.into() }
    }

    pub(crate) fn tls(reason: impl Into<String>) -> Self {
        Error::Tls { reason: reason.into() }
    }

    pub(crate) fn header(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Header { name: name.into(), reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Address { address, reason } => write!(f, "address {address:?}: {reason}"),
            Error::Bind { address, source } => {
                write!(f, "cannot listen on {address}: {source}")?;
                remedy(address, source.kind()).map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
            }
            Error::Header { name, reason } => write!(f, "header {name:?}: {reason}"),
            Error::Tls { reason } => write!(f, "TLS settings: {reason}"),
            Error::Command { reason } => f.write_str(reason),
            Error::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

/// How to get the listening socket after all, where there is a way that one can name.
fn remedy(address: &str, kind: io::ErrorKind) -> Option<String> {
    use io::ErrorKind as Kind;
    let (scheme, place) = address.split_once("://").unwrap_or(("", address));
    if scheme.eq_ignore_ascii_case("unix") {
        return of_socket_file(kind).map(str::to_owned);
    }
    let port = place.trim_end_matches('/').rsplit(':').next()?.parse::<u16>().ok();
    Some(match (kind, port) {
        (Kind::AddrInUse, _) => {
            let mut ways =
                "another program listens there: stop it, choose another port (0 lets the \
                            system choose)"
                    .to_string();
            if !scheme.eq_ignore_ascii_case("udp") {
                ways += ", or share this one: worker.set_reuse_port(true), in both programs";
            }
            ways
        }
        // capabilities(7), ip(7)
        (Kind::PermissionDenied, Some(port @ 1..1024)) => format!(
            "port {port} is below 1024, and those are for privileged programs: choose a higher one \
             behind a proxy or a port forwarding, or allow this program (Linux: \
             `setcap cap_net_bind_service=+ep PROGRAM`, or AmbientCapabilities in its systemd unit)"
        ),
        (Kind::AddrNotAvailable, _) => "no network interface of this machine has this address: \
                                        0.0.0.0 or [::] stands for all of them"
            .into(),
        _ => return None,
    })
}

fn of_socket_file(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    Some(match kind {
        Kind::AddrInUse => "stop its server, or move the file away, or choose another path",
        Kind::NotFound => "its folder must be there first",
        Kind::PermissionDenied => "this user must be allowed to write into its folder",
        _ => return None,
    })
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Bind { source, .. } | Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Workerman's numbers and one more; the finer kind is [`Failure::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorCode {
    /// The opening failed (`CONNECT_FAIL`).
    ConnectFail = 1,
    /// Bytes or messages were lost (`SEND_FAIL`).
    SendFail = 2,
    /// The peer broke the protocol or fell silent: not in PHP, which says nothing.
    SessionFail = 3,
}

/// The number.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// Third argument of `on_error`. Displays as one line: what was tried, with whom, how long it took,
/// what the system said.
#[derive(Debug)]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) phase: Phase,
    pub(crate) elapsed: Duration,
    pub(crate) peer: String,
    pub(crate) reason: String,
    pub(crate) dropped: u64,
    pub(crate) io: Option<io::Error>,
    pub(crate) response: Option<Box<Response>>,
    /// A page of another host was refused: whoever serves it wants to know, once.
    pub(crate) foreign: bool,
    /// Who was connected to fails, not who connects.
    pub(crate) accepted: bool,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, phase: Phase, reason: impl Into<String>) -> Self {
        Failure {
            kind,
            phase,
            elapsed: Duration::ZERO,
            peer: String::new(),
            reason: reason.into(),
            dropped: 0,
            io: None,
            response: None,
            foreign: false,
            accepted: false,
        }
    }

    pub(crate) fn with_io(self, io: io::Error) -> Self {
        Failure { io: Some(io), ..self }
    }

    pub(crate) fn with_response(self, response: Option<Box<Response>>) -> Self {
        Failure { response, ..self }
    }

    /// What went wrong.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// During what.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Since `connect()` for an opening that failed, since `on_connect` for a session that broke.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The server's refusal (status, headers, up to 64 KiB of body), where it was an HTTP answer.
    pub fn response(&self) -> Option<&Response> {
        self.response.as_deref()
    }

    /// Messages dropped since the last report, for [`ErrorCode::SendFail`]; for an opening that
    /// failed, the messages that were queued for it.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What the operating system said, where it said something.
    pub fn io(&self) -> Option<&io::Error> {
        self.io.as_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, reason) = (&self.peer, &self.reason);
        match (self.kind, self.phase) {
            (FailureKind::BufferFull, _) => {
                write!(f, "send buffer full and drop package ({} to {peer})", self.dropped)
            }
            (FailureKind::ClientClosed, _) => write!(f, "client closed ({peer}): {reason}"),
            (FailureKind::Encode, _) => write!(f, "message to {peer} not sent: {reason}"),
            (_, Phase::Session) => {
                write!(
                    f,
                    "session with {peer} fail after {:.4} seconds: {reason}",
                    self.elapsed.as_secs_f64()
                )
            }
            (_, phase) if self.accepted => write!(
                f,
                "{phase} with {peer} fail after {:.4} seconds: {reason}",
                self.elapsed.as_secs_f64()
            ),
            (_, phase) => write!(
                f,
                "connect {peer} fail after {:.4} seconds ({phase}): {reason}",
                self.elapsed.as_secs_f64()
            ),
        }
    }
}

/// What went wrong, finer than [`ErrorCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The name has no address.
    NameNotFound,
    /// Nobody listens there.
    Refused,
    /// The network has no way there, or the system refused to try.
    Unreachable,
    /// A deadline passed.
    Deadline,
    /// The proxy said no.
    Proxy,
    /// The certificate is not to be trusted for this host.
    Certificate,
    /// TLS failed otherwise.
    Tls,
    /// The handshake was refused or broken.
    Handshake,
    /// The peer broke the protocol.
    Protocol,
    /// Nothing came after a ping.
    PongTimeout,
    /// The peer's end came without TLS's farewell.
    Truncated,
    /// The peer reset the connection while bytes were unsent.
    Reset,
    /// The send buffer was full; messages were dropped.
    BufferFull,
    /// Bytes could not be sent: the peer is gone or takes none.
    ClientClosed,
    /// A message could not be encoded.
    Encode,
}

/// During what it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Looking up the name.
    Resolve,
    /// Connecting.
    Connect,
    /// Talking with the proxy.
    Proxy,
    /// TLS.
    Tls,
    /// The protocol's handshake.
    Handshake,
    /// The session.
    Session,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Proxy => "proxy",
            Phase::Tls => "tls",
            Phase::Handshake => "handshake",
            Phase::Session => "session",
        })
    }
}

/// What becomes of a connection whose callback returned `Err` (`Worker::set_error_handler`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on as if nothing had happened.
    Keep,
    /// It closes, as it does where nobody is asked.
    Close,
    /// The worker stops, as by `Worker::stop_all()`.
    StopWorker,
}

/// The fate of one `send`: PHP's `true`, `null`, `false`. Not `#[must_use]`: a drop is also
/// reported to `on_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Taken; no earlier write has met a full socket. It leaves at the end of this turn at the
    /// latest.
    Flushed,
    /// Taken; it waits behind bytes that the socket refused, or for the opening.
    Buffered,
    /// Not taken: buffer full, or the connection is closing or gone.
    Dropped,
}

/// What a callback may return: nothing, the result of `send`, an `Option` of these (what
/// `token.get().map(..)` and `con.with(..)` give; `None` is nothing), or a [`Result`].
///
/// What becomes of an `Err`:
///
/// - a callback of a connection: it is logged and the connection closes (a WebSocket with 1011),
///   unless `Worker::set_error_handler` says otherwise; after `on_close` it is only logged;
/// - a timer, `defer`, `on_signal`, `on_readable`: it is logged; a repeating timer goes on;
/// - `on_worker_start`: the run ends, and `run_all` returns it;
/// - `on_worker_stop`: it is logged, and stopping goes on.
///
/// (RFC 6455 §7.4.1 for 1011.)
///
/// ```
/// use workerman::prelude::*;
///
/// #[derive(Default)]
/// struct Sum(u64);
///
/// fn add(con: TcpConnection<Text>, data: Data) -> Result {
///     let n: u64 = data.as_str().ok_or("text only")?.parse()?;
///     con.with(|sum: &mut Sum| sum.0 += n);
///     Ok(())
/// }
/// # fn f(worker: Worker<Text>) {
/// worker.on_message(add);
/// worker.on_message(|con, _| con.with(|sum: &mut Sum| con.send(sum.0)));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a callback returns nothing, the result of `send`, or `workerman::Result`",
    label = "this callback returns `{Self}`",
    note = "end the callback with `;`, or with `Ok(())` where it uses `?`"
)]
pub trait Outcome: sealed::Sealed {}

pub(crate) use sealed::{CallbackError, Sealed as Settle};

mod sealed {
    /// The error that a callback returned.
    pub(crate) type CallbackError = Box<dyn std::error::Error + Send + Sync>;

    pub trait Sealed {
        /// The error, if there is one.
        fn settle(self) -> std::result::Result<(), CallbackError>;
    }
    pub trait Returns {
        type Output;
    }
    impl<T> Returns for fn() -> T {
        type Output = T;
    }
    pub(crate) type Never = <fn() -> ! as Returns>::Output;

    impl Sealed for Never {
        fn settle(self) -> std::result::Result<(), CallbackError> {
            self
        }
    }
    impl Sealed for crate::Result<()> {
        #[inline]
        fn settle(self) -> std::result::Result<(), CallbackError> {
            self
        }
    }
    impl Sealed for crate::Result<crate::Sent> {
        #[inline]
        fn settle(self) -> std::result::Result<(), CallbackError> {
            self.map(drop)
        }
    }
    impl<T: Sealed> Sealed for Option<T> {
        #[inline]
        fn settle(self) -> std::result::Result<(), CallbackError> {
            self.map_or(Ok(()), T::settle)
        }
    }
    macro_rules! nothing {
        ($($ty:ty),*) => {$(
            impl Sealed for $ty {
                #[inline]
                fn settle(self) -> std::result::Result<(), CallbackError> {
                    Ok(())
                }
            }
        )*};
    }
    nothing!((), bool, usize, crate::Timer, crate::Sent);
}
impl Outcome for () {}
impl Outcome for bool {}
impl Outcome for usize {}
impl Outcome for crate::Timer {}
#[diagnostic::do_not_recommend]
impl Outcome for sealed::Never {}
impl Outcome for Sent {}
impl<T: Outcome> Outcome for Option<T> {}
impl Outcome for Result<()> {}
impl Outcome for Result<Sent> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_readable_line() {
        let e = Error::address("ws://", "the host is missing");
        assert_eq!(format!("{e:?}"), "address \"ws://\": the host is missing");
    }

    #[test]
    fn a_port_in_use_says_what_to_do() {
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let line = Error::Bind { address: "tcp://127.0.0.1:80".into(), source }.to_string();
        assert!(
            line.contains("tcp://127.0.0.1:80") && line.contains("choose another port"),
            "{line}"
        );
    }

    #[test]
    fn what_cannot_be_bound_says_how_to_mend_it() {
        use io::ErrorKind as Kind;
        let line = |address: &str, kind: Kind| {
            let address = address.to_string();
            Error::Bind { address, source: kind.into() }.to_string()
        };
        let low = line("http://0.0.0.0:80/", Kind::PermissionDenied);
        for part in ["port 80 ", "cap_net_bind_service", "1024", "proxy"] {
            assert!(low.contains(part), "{part}: {low}");
        }
        let high = line("http://0.0.0.0:8080", Kind::PermissionDenied);
        assert!(!high.contains("1024"), "no low port, another reason: {high}");
        let foreign = line("tcp://192.0.2.1:1", Kind::AddrNotAvailable);
        assert!(foreign.contains("0.0.0.0 or [::]"), "{foreign}");
        let datagrams = line("udp://127.0.0.1:1", Kind::AddrInUse);
        assert!(!datagrams.contains("set_reuse_port"), "{datagrams}");
        for (kind, part) in [
            (Kind::AddrInUse, "choose another path"),
            (Kind::NotFound, "its folder"),
            (Kind::PermissionDenied, "its folder"),
        ] {
            let line = line("Unix:///run/80", kind);
            assert!(line.contains(part) && !line.contains("port"), "{line}");
        }
    }

    #[test]
    fn a_failure_of_an_accepted_connection_does_not_speak_of_connecting() {
        let failure = |accepted| {
            let failure = Failure::new(FailureKind::Handshake, Phase::Handshake, "no");
            Failure { peer: "1.2.3.4:5".into(), accepted, ..failure }.to_string()
        };
        assert_eq!(failure(true), "handshake with 1.2.3.4:5 fail after 0.0000 seconds: no");
        assert_eq!(failure(false), "connect 1.2.3.4:5 fail after 0.0000 seconds (handshake): no");
    }

    #[test]
    fn an_option_is_settled_as_what_is_in_it() {
        assert!(Settle::settle(None::<Sent>).is_ok());
        assert!(Settle::settle(Some(Sent::Dropped)).is_ok());
        let failed: Result = Err("no".into());
        assert_eq!(Settle::settle(Some(failed)).map_err(|e| e.to_string()), Err("no".into()));
    }

    #[test]
    fn error_types_stay_small() {
        assert!(size_of::<Error>() <= 56, "{}", size_of::<Error>());
        assert!(size_of::<std::result::Result<(), sealed::CallbackError>>() <= 16);
    }
}
