//! Handles: eight bytes, `Copy`, `!Send`, comparable; quiet when the connection is gone.
use crate::events::{Key, Loop, with_loop};
use crate::{ErrorCode, Failure, Limits, Outcome, Protocol, Sent};
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

mod addresses;
mod any;
mod callbacks;
mod client;
mod closing;
mod core;
mod deadlines;
mod dial;
mod failure;
pub(crate) mod flag;
mod heartbeat;
mod peer_end;
mod prepared;
pub(crate) mod properties;
mod rare;
mod sending;
mod serve;
mod slot;
mod udp;
mod upgrade;
mod waiting;
mod websocket;

pub(crate) use self::core::{Core, Owner, Settings, Stage, Stranger};
pub use any::{AnyConnection, Token};
pub(crate) use callbacks::{
    Callbacks, FlowCallbacks, Plain, Shared, WebsocketCallbacks, control, error, farewell, message,
    plain, replace, replace_flow, replace_websocket, request,
};
pub(crate) use slot::Slot;
pub use udp::{AsyncUdpConnection, UdpConnection};
pub(crate) use udp::{DatagramSide, datagram};
pub use websocket::WebsocketSession;

/// The role of a connection that a worker accepted.
#[derive(Debug)]
pub struct Server;

/// The role of a connection that was dialled.
#[derive(Debug)]
pub struct Client;

/// [`Server`] or [`Client`].
pub trait Role: sealed::Sealed + 'static {}
impl Role for Server {}
impl Role for Client {}

mod sealed {
    pub trait Sealed {
        const ACCEPTED: bool;
    }
    impl Sealed for super::Server {
        const ACCEPTED: bool = true;
    }
    impl Sealed for super::Client {
        const ACCEPTED: bool = false;
    }
}

/// A connection's handle: eight bytes, `Copy`, `!Send`. Once the connection has ended it is quiet:
/// `send` answers [`Sent::Dropped`], `status` [`Status::Closed`], getters `None`, 0 or empty. Never
/// a panic, never another connection. Other threads name it by its [`token`](Self::token).
///
/// (Manual: TcpConnection, AsyncTcpConnection.)
pub struct Connection<P, R> {
    key: Key,
    _kind: PhantomData<fn() -> (P, R)>,
    _not_send: PhantomData<*const ()>,
}

/// Accepted by a [`Worker`](crate::Worker).
pub type TcpConnection<P = crate::Tcp> = Connection<P, Server>;

/// A client.
///
/// ```
/// use workerman::prelude::*;
///
/// let server = workerman::spawn(|| {
///     let echo = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
///     echo.on_message(|con, data| con.send(data));
///     Ok(())
/// })?;
/// let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{}", server.addr()))?;
/// con.on_websocket_connect(|con, _| con.send("hello"));
/// con.on_message(|_, data| {
///     assert_eq!(data, "hello");
///     Worker::stop_all();
/// });
/// con.connect();
/// Worker::run_all()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub type AsyncTcpConnection<P = crate::Tcp> = Connection<P, Client>;

impl<P, R> Connection<P, R> {
    pub(crate) fn of(key: Key) -> Self {
        Connection { key, _kind: PhantomData, _not_send: PhantomData }
    }
}
impl<P, R> Clone for Connection<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P, R> Copy for Connection<P, R> {}
impl<P, R> PartialEq for Connection<P, R> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<P, R> Eq for Connection<P, R> {}
impl<P, R> Hash for Connection<P, R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
/// `ws#3 127.0.0.1:1234`
impl<P, R> fmt::Debug for Connection<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
/// `ws#3 127.0.0.1:1234`: protocol, id and peer, as lines of the log have them.
impl<P, R> fmt::Display for Connection<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&AnyConnection::of(self.key), f)
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Status {
    /// Not connected yet, or waiting to reconnect.
    Initial = 0,
    /// The opening is on: name, TCP, TLS.
    Connecting = 1,
    /// The transport stands.
    Established = 2,
    /// What is queued leaves, then it ends.
    Closing = 8,
    /// The socket is gone.
    Closed = 16,
}

/// PHP's `getStatus(false)`: `ESTABLISHED`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Initial => "INITIAL",
            Status::Connecting => "CONNECTING",
            Status::Established => "ESTABLISHED",
            Status::Closing => "CLOSING",
            Status::Closed => "CLOSED",
        })
    }
}

impl<P: Protocol, R: Role> Connection<P, R> {
    /// Runs `f` with the connection's place on the loop; `None` on a stale handle.
    #[inline]
    pub(crate) fn with_slot<T>(
        &self,
        f: impl FnOnce(&Rc<Loop>, &Rc<Slot<P, R>>) -> T,
    ) -> Option<T> {
        with_loop(|lp| {
            let endpoint: Rc<dyn Any> = lp.find(self.key)?;
            let slot = endpoint.downcast::<Slot<P, R>>().ok()?;
            Some(f(lp, &slot))
        })
        .flatten()
    }

    fn with_core<T>(&self, f: impl FnOnce(&Rc<Loop>, &Core) -> T) -> Option<T> {
        self.with_slot(|lp, slot| f(lp, &slot.core))
    }

    // ------------------------------------------------------------------ sending

    /// Sends a message. It leaves at the end of this connection's part of the turn at the latest,
    /// at once when 64 KiB wait.
    ///
    /// Before the session is open it waits for it ([`Sent::Buffered`]). It is taken whole, or not
    /// at all: when the unsent bytes have reached `Limits::send_buffer_bytes`, and when it cannot
    /// be encoded, it is [`Sent::Dropped`] and `on_error(SendFail)` tells so after the running
    /// callback. (Manual: TcpConnection::send.)
    #[inline]
    pub fn send<'m>(&self, message: impl Into<P::Outgoing<'m>>) -> Sent {
        let message = message.into();
        self.with_slot(|lp, slot| slot.send(lp, message)).unwrap_or(Sent::Dropped)
    }

    /// Past the protocol: these very bytes, in order with what `send` queues and with its answers.
    /// (Manual: `send($data, true)`.)
    pub fn send_raw(&self, bytes: &[u8]) -> Sent {
        self.with_slot(|lp, slot| {
            slot.send_by(lp, |_, out, _| {
                out.extend_from_slice(bytes);
                Ok(())
            })
        })
        .unwrap_or(Sent::Dropped)
    }

    /// Writes now what this turn has queued: before a long computation, or outside of a turn.
    pub fn flush(&self) {
        self.with_slot(|lp, slot| {
            if slot.core.stage().is_session() && !slot.core.has(flag::BLOCKED) {
                slot.flush(lp);
            }
        });
    }

    /// Flushes, says goodbye as the protocol does, closes. From the call on nothing is delivered
    /// but `on_error` for lost bytes, and `on_close` when the socket has ended: once the peer has
    /// answered, at the latest after `Limits::closing`. It cancels a reconnect; twice, it does
    /// nothing. (Manual: TcpConnection::close; RFC 6455 §7.1.1 for a WebSocket.)
    ///
    /// When the kernel has all bytes the peer may send on for a second. What comes later is
    /// answered with a reset, which can take what is still on a slow way: where a protocol has no
    /// farewell of its own ([`Text`](crate::Text)), let the peer say that it has all, or end first.
    ///
    /// On a client before its handshake is complete it is [`destroy`](Self::destroy); outside a
    /// session it ends the handle.
    pub fn close(&self) {
        self.with_slot(|lp, slot| slot.begin_close(lp, crate::Farewell::Asked));
    }

    /// `send`, then `close`. An http answer says that the connection ends behind it.
    pub fn close_with<'m>(&self, last: impl Into<P::Outgoing<'m>>) {
        self.with_slot(|lp, slot| slot.nothing_follows(lp));
        self.send(last);
        self.close();
    }

    /// The same as `close`, which flushes and lingers: PHP's `end`.
    pub fn end(&self) {
        self.close();
    }

    /// `send`, then `end`.
    pub fn end_with<'m>(&self, last: impl Into<P::Outgoing<'m>>) {
        self.close_with(last);
    }

    /// At once, unsent bytes and all; `on_close` follows when the running callback has returned,
    /// `on_error` does not. (Manual: TcpConnection::destroy.)
    pub fn destroy(&self) {
        self.with_slot(|lp, slot| slot.destroy(lp));
    }

    /// Not served while its own send buffer is full: on for accepted connections, off for clients.
    pub fn set_backpressure(&self, on: bool) {
        self.with_core(|lp, core| {
            if on {
                core.set(flag::BACKPRESSURE);
            } else {
                core.clear(flag::BACKPRESSURE);
                if core.take(flag::CHOKED) {
                    core.hearing_again(lp);
                    core.set(flag::REARM);
                    core.list_again(lp);
                }
            }
        });
    }

    /// The peer's end closes only its direction and calls `on_end`; the program closes ours (off:
    /// what is queued leaves, then the connection closes).
    pub fn set_half_open(&self, on: bool) {
        self.with_core(
            |_, core| if on { core.set(flag::HALF_OPEN) } else { core.clear(flag::HALF_OPEN) },
        );
    }

    /// Ends our direction behind what is queued; receiving goes on. What is sent after it is
    /// [`Sent::Dropped`].
    pub fn shutdown_write(&self) {
        self.with_core(|lp, core| {
            let opening = core.is_client() && core.stage() < Stage::Open;
            if (opening || core.stage() == Stage::Open) && !core.has(flag::SHUT_DONE) {
                core.set(flag::SHUT);
                core.mark_dirty(lp);
            }
        });
    }

    // ------------------------------------------------------------------ receiving

    /// Stops reading and delivering; packages that are already read wait, and the peer's end is not
    /// noticed. Deadlines that judge the peer's silence rest meanwhile. (Manual:
    /// TcpConnection::pauseRecv.)
    pub fn pause_recv(&self) {
        self.with_core(|_, core| {
            if core.stage() == Stage::Open {
                core.set(flag::PAUSED);
            }
        });
    }

    /// Delivers what waited and reads on, from the next turn on, in order. (Manual:
    /// TcpConnection::resumeRecv.)
    pub fn resume_recv(&self) {
        self.with_core(|lp, core| {
            if core.take(flag::PAUSED) {
                core.hearing_again(lp);
                core.set(flag::REARM);
                core.list_again(lp);
            }
        });
    }

    // ------------------------------------------------------------------ what it is

    /// 1, 2, 3 … in the order of making, clients and accepted ones together, never twice the same
    /// in one loop; 0 on a stale handle.
    pub fn id(&self) -> u64 {
        self.any().id()
    }

    /// Where it stands; [`Status::Closed`] on a stale handle.
    pub fn status(&self) -> Status {
        self.any().status()
    }

    /// The peer's address; the one that was tried last while it is being dialled. Still there in
    /// `on_close`.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.any().remote_addr()
    }

    /// The peer's address without its port.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.remote_addr().map(|addr| addr.ip())
    }

    /// The peer's port; for a client that has not connected yet the one of its address; 0 where
    /// there is none.
    pub fn remote_port(&self) -> u16 {
        self.with_core(|_, core| {
            let of_address = || core.dialer().map_or(0, |dialer| dialer.port());
            core.remote_addr().map_or_else(of_address, |addr| addr.port())
        })
        .unwrap_or(0)
    }

    /// Our own address. Still there in `on_close`.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.with_core(|lp, core| core.local_addr(lp)).flatten()
    }

    /// Our own address without its port.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().map(|addr| addr.ip())
    }

    /// Our own port, or 0.
    pub fn local_port(&self) -> u16 {
        self.local_addr().map_or(0, |addr| addr.port())
    }

    /// `ip:port`, a unix socket's path, or empty: for printing, as PHP's `getRemoteAddress`.
    /// Clients of a unix socket have no names: of an accepted connection it is the path that it
    /// came by.
    pub fn remote_address(&self) -> String {
        self.with_core(|_, core| core.remote_text()).unwrap_or_default()
    }

    /// `ip:port`, a unix socket's path where it has one, or empty.
    pub fn local_address(&self) -> String {
        let path = self.with_core(|_, core| {
            let state = core.state.borrow();
            state.stream.as_ref().and_then(|stream| stream.local_path())
        });
        let addr = || self.local_addr().map(|addr| addr.to_string());
        path.flatten().or_else(addr).unwrap_or_default()
    }

    /// Bytes received, over all sessions of the handle.
    pub fn bytes_read(&self) -> u64 {
        self.with_core(|_, core| core.bytes_read.get()).unwrap_or(0)
    }

    /// Bytes that the kernel has taken, over all sessions of the handle.
    pub fn bytes_written(&self) -> u64 {
        self.with_core(|_, core| core.bytes_written.get()).unwrap_or(0)
    }

    /// Every byte that the kernel has not taken, also those that leave with this turn.
    pub fn send_buffer_len(&self) -> usize {
        self.with_core(|_, core| core.send_buffer_len()).unwrap_or(0)
    }

    /// Bytes received and not yet delivered; inside `on_message` without those of the batch that is
    /// on.
    pub fn recv_buffer_len(&self) -> usize {
        self.with_core(|_, core| core.recv_buffer_len()).unwrap_or(0)
    }

    // ------------------------------------------------------------------ limits

    /// Replaces all limits of this connection.
    pub fn set_limits(&self, limits: Limits) {
        self.change_limits(|own| *own = limits);
    }

    /// Unsent bytes from which on `send` drops: `Limits::send_buffer_bytes`.
    pub fn set_max_send_buffer_size(&self, bytes: usize) {
        self.change_limits(|own| own.send_buffer_bytes = bytes);
    }

    /// `Limits::message_bytes`: a package counted with its header, a WebSocket message without.
    pub fn set_max_package_size(&self, bytes: usize) {
        self.change_limits(|own| own.message_bytes = bytes);
    }

    /// See [`set_max_send_buffer_size`](Self::set_max_send_buffer_size).
    pub fn max_send_buffer_size(&self) -> usize {
        self.with_core(|_, core| core.settings().limits().send_buffer_bytes).unwrap_or(0)
    }

    /// See [`set_max_package_size`](Self::set_max_package_size).
    pub fn max_package_size(&self) -> usize {
        self.with_core(|_, core| core.settings().limits().message_bytes).unwrap_or(0)
    }

    fn change_limits(&self, change: impl FnOnce(&mut Limits)) {
        self.with_core(|lp, core| {
            let settings: &mut Rc<Settings> = &mut core.state.borrow_mut().settings;
            change(Rc::make_mut(&mut Rc::make_mut(settings).terms.limits));
            if settings.limits().idle != std::time::Duration::MAX {
                core.set(flag::WATCH_INPUT);
            }
            core.set(flag::REARM);
            core.mark_dirty(lp);
        });
    }

    // ------------------------------------------------------------------ other kinds of handle

    /// This connection, whatever its protocol and role.
    pub fn any(&self) -> AnyConnection {
        AnyConnection::of(self.key)
    }

    /// For another thread to name this connection in
    /// [`LoopHandle::defer`](crate::LoopHandle::defer): handles stay on their loop's thread.
    pub fn token(&self) -> Token<P, R> {
        Token::of(self.key)
    }

    /// What arrives here is sent there; this side pauses while `to` is full, its end closes `to`. A
    /// proxy pipes both ways.
    ///
    /// Takes this side's `on_message`, `on_close` and `on_end` and that side's `on_buffer_full` and
    /// `on_buffer_drain`, as in PHP. Where both sides are half-open an end is passed on as
    /// `shutdown_write`, so that no answer is lost. Without, what a peer sends and ends before `to`
    /// is open goes down with it, as in PHP. (Manual: TcpConnection::pipe.)
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// let proxy = Worker::<Tcp>::listen("tcp://127.0.0.1:0")?;
    /// proxy.on_connect(|con| {
    ///     let to = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:3306")?;
    ///     con.set_half_open(true);
    ///     to.set_half_open(true);
    ///     con.pipe(to);
    ///     to.pipe(con);
    ///     to.connect();
    ///     Ok(())
    /// });
    /// # Ok::<(), workerman::Error>(())
    /// ```
    pub fn pipe<Q, S>(&self, to: Connection<Q, S>)
    where
        Q: Protocol,
        S: Role,
        for<'a> Q::Outgoing<'a>: From<P::Incoming<'a>>,
    {
        let from = *self;
        self.on_message(move |_, data| to.send(data));
        self.on_close(move |_| to.close());
        self.on_end(move |_| {
            let half_open = to.with_core(|_, core| core.has(flag::HALF_OPEN)).unwrap_or(false);
            if half_open { to.shutdown_write() } else { to.close() }
        });
        to.on_buffer_full(move |_| from.pause_recv());
        to.on_buffer_drain(move |_| from.resume_recv());
    }

    // ------------------------------------------------------------------ callbacks

    fn set_callback<C>(&self, place: impl FnOnce(&mut Callbacks<P, R>) -> &mut Option<C>, new: C) {
        let old = self.with_slot(|_, slot| {
            slot.core.set(flag::RELOAD);
            replace(&slot.callbacks, place, Some(new))
        });
        drop(old);
    }

    fn set_flow_callback(
        &self,
        place: impl FnOnce(&mut FlowCallbacks<P, R>) -> &mut Option<Plain<P, R>>,
        new: Plain<P, R>,
    ) {
        let old = self.with_slot(|_, slot| {
            slot.core.set(flag::RELOAD);
            replace_flow(&slot.callbacks, place, new)
        });
        drop(old);
    }

    /// The transport stands, TLS included; a WebSocket's handshake follows. Once a session.
    /// (Manual: onConnect.)
    pub fn on_connect<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        self.set_callback(|callbacks| &mut callbacks.connect, plain(f));
    }

    /// A whole message has arrived. It borrows the receive buffer and ends with the callback:
    /// `to_string()` or `to_vec()` keeps it. Without this callback messages are dropped. (Manual:
    /// onMessage.)
    pub fn on_message<O: Outcome + 'static>(
        &self,
        f: impl for<'a> FnMut(Self, P::Incoming<'a>) -> O + 'static,
    ) {
        self.set_callback(|callbacks| &mut callbacks.message, message(f));
    }

    /// The socket has ended, whoever ended it: once for every `on_connect`, and once for every
    /// attempt that failed. A client may reconnect here; otherwise its handle ends when this
    /// returns. (Manual: onClose.)
    pub fn on_close<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        self.set_callback(|callbacks| &mut callbacks.close, plain(f));
    }

    /// An opening failed, messages were lost, or the peer broke the protocol. Where that ends the
    /// session `on_close` follows. Without this callback a client's failure is a warning in the
    /// log, that of an accepted connection a debug line. (Manual: onError.)
    pub fn on_error<O: Outcome>(&self, f: impl FnMut(Self, ErrorCode, &Failure) -> O + 'static) {
        self.set_callback(|callbacks| &mut callbacks.error, error(f));
    }

    /// The peer will send no more; only after `set_half_open(true)`.
    pub fn on_end<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        self.set_flow_callback(|flow| &mut flow.end, plain(f));
    }

    /// The unsent bytes have reached their limit (`Limits::send_buffer_bytes`): once, until they
    /// have all left. (Manual: onBufferFull.)
    pub fn on_buffer_full<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        self.set_flow_callback(|flow| &mut flow.full, plain(f));
    }

    /// All unsent bytes have left, after `on_buffer_full`. (Manual: onBufferDrain.)
    pub fn on_buffer_drain<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        self.set_flow_callback(|flow| &mut flow.drain, plain(f));
    }
}

/// A stale client handle was asked to connect.
#[cold]
fn warn_stale(what: &str) {
    log::warn!(
        "{what} on a handle that has ended does nothing: call reconnect(5) inside on_close; a \
         timer that reconnects later holds a handle that has ended"
    );
}
