//! Handles that do not name their protocol, and names that other threads may hold.
use super::{Connection, Core, Role, Slot, Stage, Status};
use crate::events::{Ending, Endpoint, Key, Loop, with_loop};
use crate::{Payload, Protocol, Sent};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;

/// Any protocol, either role: for maps over several kinds and for tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnyConnection {
    key: Key,
    _not_send: PhantomData<*const ()>,
}

impl AnyConnection {
    pub(crate) fn of(key: Key) -> Self {
        AnyConnection { key, _not_send: PhantomData }
    }

    fn with<T>(&self, f: impl FnOnce(&Rc<Loop>, Rc<dyn Endpoint>) -> T) -> Option<T> {
        with_loop(|lp| {
            let endpoint = lp.find(self.key)?;
            endpoint.common()?;
            Some(f(lp, endpoint))
        })
        .flatten()
    }

    fn with_core<T>(&self, f: impl FnOnce(&Core) -> T) -> Option<T> {
        self.with(|_, endpoint| {
            let core = endpoint.common().and_then(|common| common.downcast_ref::<Core>());
            core.map(f)
        })
        .flatten()
    }

    /// See [`Connection::id`].
    pub fn id(&self) -> u64 {
        self.with_core(|core| core.id).unwrap_or(0)
    }

    /// See [`Connection::status`].
    pub fn status(&self) -> Status {
        self.with_core(Core::stage).unwrap_or(Stage::Gone).status()
    }

    /// The scheme of its protocol, `ws`; empty on a stale handle.
    pub fn protocol(&self) -> &'static str {
        self.with(|_, endpoint| endpoint.protocol()).unwrap_or("")
    }

    /// See [`Connection::remote_addr`].
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.with_core(Core::remote_addr).flatten()
    }

    /// Text or bytes in its own protocol: for a list over workers of several kinds.
    /// [`Sent::Dropped`] where the protocol takes no such thing (`on_error(SendFail)` says so), and
    /// on a stale handle.
    pub fn send<'m>(&self, message: impl Into<Payload<'m>>) -> Sent {
        let payload = message.into();
        self.with(|lp, endpoint| endpoint.send_payload(lp, payload)).unwrap_or(Sent::Dropped)
    }

    /// Past the protocol: these very bytes.
    pub fn send_raw(&self, bytes: &[u8]) -> Sent {
        self.with(|lp, endpoint| endpoint.send_raw(lp, bytes)).unwrap_or(Sent::Dropped)
    }

    /// See [`Connection::close`].
    pub fn close(&self) {
        self.with(|lp, endpoint| endpoint.handle_ending(lp, Ending::Asked));
    }

    /// See [`Connection::destroy`].
    pub fn destroy(&self) {
        self.with(|lp, endpoint| endpoint.handle_ending(lp, Ending::AtOnce));
    }

    /// The typed handle, where protocol and role are these.
    pub fn downcast<P: Protocol, R: Role>(&self) -> Option<Connection<P, R>> {
        let is = self.with(|_, endpoint| {
            let endpoint: Rc<dyn Any> = endpoint;
            endpoint.downcast::<Slot<P, R>>().is_ok()
        });
        (is == Some(true)).then(|| Connection::of(self.key))
    }
}

/// `ws#3 127.0.0.1:1234`
impl fmt::Debug for AnyConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `ws#3 127.0.0.1:1234`: protocol, id and peer, as lines of the log have them.
impl fmt::Display for AnyConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.with_core(|core| (core.id, core.peer_text()));
        match peer {
            Some((id, peer)) => write!(f, "{}#{id} {peer}", self.protocol()),
            None => f.write_str("(ended connection)"),
        }
    }
}

/// A connection's name for other threads: `Send`; of use only on its own loop.
///
/// ```
/// use workerman::prelude::*;
///
/// fn answer_later(con: TcpConnection<Text>) {
///     let (door, token) = (workerman::LoopHandle::current(), con.token());
///     std::thread::spawn(move || door.defer(move || {
///         if let Some(con) = token.get() {
///             con.send("from another thread");
///         }
///     }));
/// }
/// ```
pub struct Token<P, R> {
    loop_number: u64,
    key: Key,
    _kind: PhantomData<fn() -> (P, R)>,
}

impl<P: Protocol, R: Role> Token<P, R> {
    pub(crate) fn of(key: Key) -> Self {
        let loop_number = with_loop(|lp| lp.number).unwrap_or(0);
        Token { loop_number, key, _kind: PhantomData }
    }

    /// `None` once it is gone, and in any other thread.
    pub fn get(self) -> Option<Connection<P, R>> {
        let here = with_loop(|lp| lp.number == self.loop_number) == Some(true);
        if here { AnyConnection::of(self.key).downcast() } else { None }
    }
}

impl<P, R> Clone for Token<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P, R> Copy for Token<P, R> {}
impl<P, R> fmt::Debug for Token<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("loop", &self.loop_number).field("key", &self.key).finish()
    }
}
