//! The handle of a client over udp.
use super::datagram;
use super::dialled::{Dialled, error, plain};
use crate::connection::{Status, properties};
use crate::events::{Key, Loop, with_loop};
use crate::transport::ClientAddress;
use crate::{Dial, Error, ErrorCode, Failure, Limits, Outcome, Protocol, Sent};
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// A client over udp: eight bytes, `Copy`, `!Send`. It hears the one address that it sends to; once
/// it has ended it is quiet, as every handle is.
///
/// It has no end but the program's: `close()`, the error of a callback, or the end of the run. It
/// does not reconnect, since there is nothing to lose; after `close()` make a new one. (Manual:
/// AsyncUdpConnection.)
///
/// ```
/// use workerman::prelude::*;
///
/// let server = workerman::spawn(|| {
///     let echo = Worker::<Udp<Text>>::listen("udp://127.0.0.1:0")?;
///     echo.on_message(|con, line| con.send(line));
///     Ok(())
/// })?;
/// let con = AsyncUdpConnection::<Text>::new(&format!("udp://{}", server.addr()))?;
/// con.on_connect(|con| con.send("hello"));
/// con.on_message(|con, line| {
///     assert_eq!(line, "hello");
///     con.close();
/// });
/// con.on_close(|_| Worker::stop_all());
/// con.connect();
/// Worker::run_all()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct AsyncUdpConnection<P = crate::Tcp> {
    key: Key,
    _kind: PhantomData<fn() -> P>,
    _not_send: PhantomData<*const ()>,
}

impl<P> AsyncUdpConnection<P> {
    pub(super) fn of(key: Key) -> Self {
        AsyncUdpConnection { key, _kind: PhantomData, _not_send: PhantomData }
    }
}
impl<P> Clone for AsyncUdpConnection<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for AsyncUdpConnection<P> {}
impl<P> PartialEq for AsyncUdpConnection<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<P> Eq for AsyncUdpConnection<P> {}
impl<P> Hash for AsyncUdpConnection<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
/// `udp#3 127.0.0.1:1234`
impl<P: Protocol> fmt::Debug for AsyncUdpConnection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
/// `udp#3 127.0.0.1:1234`: id and peer, as lines of the log have them.
impl<P: Protocol> fmt::Display for AsyncUdpConnection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.with_slot(|_, slot| (slot.id, slot.peer_text())) {
            Some((id, peer)) => write!(f, "udp#{id} {peer}"),
            None => f.write_str("(ended connection)"),
        }
    }
}

// The bounds stand at the function: so a type that is no client's is told what to write.
impl<P: Protocol> AsyncUdpConnection<P> {
    /// A client for `udp://host:port`; the protocol's own scheme (`text://host:port`) means the
    /// same. Nothing happens before [`connect`](Self::connect) or the first
    /// [`send`](Self::send). (Manual: AsyncUdpConnection::__construct.)
    ///
    /// # Errors
    /// [`Error::Address`] names the part that is wrong, and what to write instead.
    pub fn new(address: &str) -> Result<Self, Error>
    where
        P: Dial + Default,
    {
        Self::new_with(address, P::default)
    }

    /// For protocols that need settings: `make` is called for each datagram received and for each
    /// one sent.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn new_with(address: &str, make: impl Fn() -> P + 'static) -> Result<Self, Error>
    where
        P: Dial,
    {
        let address = ClientAddress::parse_udp(address, P::NAME)?;
        let key = with_loop(|lp| {
            let id = lp.next_id();
            lp.insert_with(|key| Dialled::new(key, id, address, Box::new(make)))
        });
        match key {
            Some(key) => Ok(Self::of(key)),
            None => Err(Error::command("a connection cannot be made while its thread ends")),
        }
    }

    pub(super) fn with_slot<T>(
        &self,
        f: impl FnOnce(&Rc<Loop>, &Rc<Dialled<P>>) -> T,
    ) -> Option<T> {
        with_loop(|lp| {
            let endpoint: Rc<dyn Any> = lp.find(self.key)?;
            let slot = endpoint.downcast::<Dialled<P>>().ok()?;
            Some(f(lp, &slot))
        })
        .flatten()
    }

    /// Opens the socket. `on_connect` follows when the running callback has returned; for a name,
    /// when it has been looked up, within `Limits::opening`. Nothing goes to the peer by this, so
    /// nobody learns whether it is there. Of a name's addresses the first is taken that this
    /// machine has a way to, `127.0.0.1` for `localhost`. Called again, and while the worker stops,
    /// it does nothing. (Manual: AsyncUdpConnection::connect.)
    pub fn connect(&self) {
        if self.with_slot(|lp, slot| slot.connect(lp)).is_none() {
            log::warn!(
                "connect on an AsyncUdpConnection that has ended does nothing: make a new one"
            );
        }
    }

    /// Sends a message as one datagram, at once; before `connect` it connects, as in PHP.
    ///
    /// [`Sent::Flushed`]: the kernel has it; whether it arrives nobody learns.
    /// [`Sent::Buffered`]: the name is being looked up, and it waits for that.
    /// [`Sent::Dropped`]: the kernel's own buffer is full, since nothing else is ever queued; what
    /// waits for the name has reached `Limits::send_buffer_bytes`; it is longer than
    /// `Limits::datagram_bytes` or cannot be encoded. `on_error(SendFail)` tells of these after the
    /// running callback, once a turn. After `close` it is `Dropped`, and nothing is told. (Manual:
    /// AsyncUdpConnection::send.)
    pub fn send<'m>(&self, message: impl Into<P::Outgoing<'m>>) -> Sent {
        let message = message.into();
        self.with_slot(|lp, slot| slot.send(lp, message)).unwrap_or(Sent::Dropped)
    }

    /// Past the protocol: these very bytes are the datagram.
    pub fn send_raw(&self, bytes: &[u8]) -> Sent {
        self.with_slot(|lp, slot| slot.send_raw(lp, bytes)).unwrap_or(Sent::Dropped)
    }

    /// Closes the socket; what waits for a name leaves first. From the call on no message is
    /// delivered, and `on_close` comes when the running callback has returned. One that was never
    /// connected just ends. Twice, it does nothing. (Manual: AsyncUdpConnection::close.)
    pub fn close(&self) {
        self.with_slot(|lp, slot| slot.close(lp));
    }

    /// `send`, then `close`.
    pub fn close_with<'m>(&self, last: impl Into<P::Outgoing<'m>>) {
        self.send(last);
        self.close();
    }

    // ------------------------------------------------------------------ what it is

    /// 1, 2, 3 … in the order of making, together with all other connections of the loop; 0 on a
    /// stale handle.
    pub fn id(&self) -> u64 {
        self.with_slot(|_, slot| slot.id).unwrap_or(0)
    }

    /// `Established` once its socket is open; [`Status::Closed`] on a stale handle.
    pub fn status(&self) -> Status {
        self.with_slot(|_, slot| slot.status()).unwrap_or(Status::Closed)
    }

    /// Where it sends to; `None` before the name is looked up. Still there in `on_close`.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.with_slot(|_, slot| slot.remote.get()).flatten()
    }

    /// The same without the port.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.remote_addr().map(|addr| addr.ip())
    }

    /// The port of its address; 0 on a stale handle.
    pub fn remote_port(&self) -> u16 {
        self.with_slot(|_, slot| slot.port).unwrap_or(0)
    }

    /// `ip:port`, before it is connected as it was written: PHP's `getRemoteAddress`.
    pub fn remote_address(&self) -> String {
        self.with_slot(|_, slot| slot.peer_text()).unwrap_or_default()
    }

    /// The host of its address, as it was written; empty on a stale handle.
    pub fn remote_host(&self) -> String {
        self.with_slot(|_, slot| slot.host.to_string()).unwrap_or_default()
    }

    /// Our own address, once the socket is open. Still there in `on_close`.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.with_slot(|_, slot| slot.local.get()).flatten()
    }

    /// The same without the port.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().map(|addr| addr.ip())
    }

    /// Our own port, or 0.
    pub fn local_port(&self) -> u16 {
        self.local_addr().map_or(0, |addr| addr.port())
    }

    /// `ip:port`, or empty: PHP's `getLocalAddress`.
    pub fn local_address(&self) -> String {
        self.local_addr().map(|addr| addr.to_string()).unwrap_or_default()
    }

    // ------------------------------------------------------------------ settings

    /// Replaces all limits of this client: `datagram_bytes`, `send_buffer_bytes` for what waits for
    /// a name, `opening`, `message_bytes` for a package within a datagram.
    pub fn set_limits(&self, limits: Limits) {
        self.with_slot(|_, slot| slot.set_limits(limits));
    }

    /// The local address to send from (`socket.bindto`). Before `connect`.
    pub fn bind_to(&self, local: SocketAddr) {
        self.with_slot(|_, slot| slot.bind_to.set(Some(local)));
    }

    /// State of your own, by type; see [`Connection::with`](crate::Connection::with).
    pub fn with<T: Default + Any, U>(&self, f: impl FnOnce(&mut T) -> U) -> Option<U> {
        let slot = self.with_slot(|_, slot| slot.clone())?;
        properties::with(&*slot, f)
    }

    /// A property: PHP's `$connection->uid = …`. What was there before is dropped.
    pub fn set<T: Any>(&self, value: T) {
        if let Some(slot) = self.with_slot(|_, slot| slot.clone()) {
            properties::set(&*slot, value);
        }
    }

    /// A copy of it; `None` where it was never set, and on a stale handle.
    pub fn get<T: Any + Clone>(&self) -> Option<T> {
        let slot = self.with_slot(|_, slot| slot.clone())?;
        properties::get(&*slot)
    }

    // ------------------------------------------------------------------ callbacks

    /// The socket is open. It says nothing of the peer. (Manual: onConnect.)
    pub fn on_connect<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        let old = self.with_slot(|_, slot| slot.connect.replace(Some(plain(f))));
        drop(old);
    }

    /// A message from the peer; what others send to this socket is not delivered. It borrows the
    /// receive buffer and ends with the callback: `to_string()` or `to_vec()` keeps it. Without
    /// this callback messages are dropped. (Manual: onMessage.)
    pub fn on_message<O: Outcome + 'static>(
        &self,
        f: impl for<'a> FnMut(Self, P::Incoming<'a>) -> O + 'static,
    ) {
        let old = self.with_slot(|_, slot| slot.message.replace(Some(datagram(f))));
        drop(old);
    }

    /// It has ended: after `close()`, after an opening that failed, and when the worker stops.
    /// Afterwards the handle is stale. (Manual: onClose.)
    pub fn on_close<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        let old = self.with_slot(|_, slot| slot.on_close.replace(Some(plain(f))));
        drop(old);
    }

    /// `ConnectFail`: the name has no address, or there is no way to it; `on_close` follows.
    /// `SendFail`: messages were dropped, or the network has said that one did not arrive (nobody
    /// listens there, no way there); the connection goes on. At most once a turn. Without this
    /// callback it is a warning in the log, once a second at most. PHP has nothing like it.
    pub fn on_error<O: Outcome>(&self, f: impl FnMut(Self, ErrorCode, &Failure) -> O + 'static) {
        let old = self.with_slot(|_, slot| slot.error.replace(Some(error(f))));
        drop(old);
    }
}
