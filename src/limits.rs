//! Every limit has a default, a name with its unit, and a setter.
use crate::Interval;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    static DEFAULT: RefCell<Option<Rc<Limits>>> = const { RefCell::new(None) };
}

/// What a connection may use: given to a worker or a connection by `set_limits`;
/// [`Limits::set_default`] changes what later ones start with.
///
/// ```
/// use workerman::Limits;
///
/// let limits = Limits::new().message_bytes(64 * 1024).opening(3);
/// assert!(format!("{limits:?}").contains("message_bytes: 65536"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) message_bytes: usize,
    pub(crate) fragments: usize,
    pub(crate) head_bytes: usize,
    pub(crate) headers: usize,
    pub(crate) send_buffer_bytes: usize,
    pub(crate) datagram_bytes: usize,
    pub(crate) waiting_answers_bytes: usize,
    pub(crate) opening: Duration,
    pub(crate) closing: Duration,
    pub(crate) send_stall: Duration,
    pub(crate) idle: Duration,
    pub(crate) partial_package: Duration,
    pub(crate) connections: usize,
    pub(crate) subscriptions: usize,
    pub(crate) topic_bytes: usize,
    pub(crate) http_idle: Duration,
    pub(crate) body_idle: Duration,
    pub(crate) body_rate: usize,
    pub(crate) answer: Duration,
    pub(crate) upload_memory_bytes: usize,
    pub(crate) graceful: Duration,
}

impl Default for Limits {
    /// What [`Limits::set_default`] gave in this thread, or the numbers beside each method here.
    fn default() -> Self {
        (*Limits::shared()).clone()
    }
}

macro_rules! lengths {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        pub fn $name(self, after: impl Into<Interval>) -> Self {
            Limits { $name: after.into().duration(), ..self }
        }
    )*};
}
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        pub fn $name(self, count: usize) -> Self {
            Limits { $name: count, ..self }
        }
    )*};
}

impl Limits {
    pub(crate) const BUILT_IN: Limits = Limits {
        message_bytes: 10 << 20,
        fragments: 4096,
        head_bytes: 16 << 10,
        headers: 100,
        send_buffer_bytes: 1 << 20,
        datagram_bytes: 65_507,
        waiting_answers_bytes: 64 << 10,
        opening: Duration::from_secs(10),
        closing: Duration::from_secs(5),
        send_stall: Duration::from_secs(120),
        idle: Duration::MAX,
        partial_package: Duration::from_secs(30),
        connections: usize::MAX,
        subscriptions: 1024,
        topic_bytes: 256,
        http_idle: Duration::from_secs(75),
        body_idle: Duration::from_secs(30),
        body_rate: 240,
        answer: Duration::from_secs(60),
        upload_memory_bytes: 256 << 10,
        graceful: Duration::from_secs(30),
    };

    /// The same as `Limits::default()`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The default, once for all who have no limits of their own.
    pub(crate) fn shared() -> Rc<Limits> {
        let shared = DEFAULT.try_with(|default| {
            let mut default = default.borrow_mut();
            default.get_or_insert_with(|| Rc::new(Limits::BUILT_IN)).clone()
        });
        shared.unwrap_or_else(|_| Rc::new(Limits::BUILT_IN))
    }

    /// For connections and workers made after this, in this thread.
    pub fn set_default(limits: Limits) {
        let _ = DEFAULT.try_with(|default| default.replace(Some(Rc::new(limits))));
    }

    /// What [`message_bytes`](Limits::message_bytes) was set to, for a protocol of your own that
    /// counts itself (PHP: `maxPackageSize`).
    ///
    /// ```
    /// assert_eq!(workerman::Limits::new().message_bytes(1000).max_package_size(), 1000);
    /// ```
    pub fn max_package_size(&self) -> usize {
        self.message_bytes
    }

    counts! {
        /// One message, over all its fragments, after inflating (10 MiB). A package of another
        /// protocol is counted with its header.
        message_bytes
        /// Fragments of a message, empty ones counted (4 096).
        fragments
        /// HTTP head or handshake (16 KiB).
        head_bytes
        /// Header fields of a head (100).
        headers
        /// An http form up to here stays in memory; the files of a larger one go to disk (256 KiB).
        upload_memory_bytes
        /// Bytes a second that an http body must come with on the whole, beside one `body_idle` of
        /// grace (240): who trickles is answered 408. 0: no matter how slowly.
        body_rate
        /// Unsent bytes from which on `send` drops (1 MiB).
        send_buffer_bytes
        /// One datagram, received or sent (65 507, the most that UDP carries over IPv4). A longer
        /// one is dropped, never cut.
        datagram_bytes
        /// Answers of the protocol itself that wait before reading stops (64 KiB).
        waiting_answers_bytes
        /// Connections of a worker in one process (off; accepting pauses at the descriptor limit
        /// anyway).
        connections
        /// Topics that one connection may subscribe to (1 024).
        subscriptions
        /// The name of a topic (256 bytes).
        topic_bytes
    }

    lengths! {
        /// A client's whole opening; an accepted connection's TLS and head (10 s, absolute: bytes
        /// do not reset it).
        opening
        /// Wait for the peer's close frame, or for unsent bytes on `close` to move (5 s).
        closing
        /// Unsent bytes and none of them leaving for so long: closed (120 s).
        send_stall
        /// Nothing received for so long: closed (off; http keep-alive 75 s).
        idle
        /// The rest of a package that has begun (30 s without a byte).
        partial_package
        /// An http connection between two requests (75 s).
        http_idle
        /// An http body without a byte (30 s).
        body_idle
        /// An http request that the program has not begun to answer: 503, a warning in the log, and
        /// the connection ends (60 s). A program that lets clients wait for news gives more. An
        /// answer in pieces that has begun may take its time, events too; once the client has ended
        /// its own direction, 60 s at most from one piece to the next.
        answer
        /// A graceful stop or reload (30 s).
        graceful
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_of_this_thread_is_what_later_ones_start_with() {
        std::thread::spawn(|| {
            assert_eq!(Limits::new(), Limits::BUILT_IN);
            Limits::set_default(Limits::new().message_bytes(7).closing(0.25));
            assert_eq!(Limits::new().message_bytes, 7);
            assert_eq!(Limits::new().closing, Duration::from_millis(250));
        })
        .join()
        .expect("the thread's assertions hold");
        assert_eq!(Limits::new().message_bytes, 10 << 20);
    }
}
