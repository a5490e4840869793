//! The socket of a worker over udp, and the handle of a datagram's sender.
use super::{
    Complaints, DATAGRAMS_A_TURN, MESSAGES, OnDatagram, WAIT_AFTER_ERROR, divide, encode,
    judge_length,
};
use crate::connection::{AnyConnection, Owner, Settings};
use crate::events::wheel::TimerKey;
use crate::events::{Ending, Endpoint, Key, Loop, Readiness, Settled, with_loop};
use crate::protocols::Terms;
use crate::transport::udp::Socket;
use crate::transport::{ListenAddress, Place};
use crate::{Error, Limits, Protocol, Sent, Verdict};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

/// The sender of a datagram, to answer it: `Copy`, `!Send`. It may be kept while the worker
/// listens; afterwards it is quiet: `send` answers [`Sent::Dropped`].
///
/// Two are equal when the same worker has heard the same address, so a map of players is a
/// `HashMap<UdpConnection, Player>`. There is no `close()`: PHP's closes the socket that all
/// senders share, which is the worker's `unlisten()` here. (Manual: UdpConnection.)
///
/// ```
/// use workerman::prelude::*;
///
/// let server = workerman::spawn(|| {
///     let echo = Worker::<Udp>::listen("udp://127.0.0.1:0")?;
///     echo.on_message(|con, data| con.send(data));
///     Ok(())
/// })?;
/// let con = AsyncUdpConnection::<Tcp>::new(&format!("udp://{}", server.addr()))?;
/// con.on_message(|_, data| {
///     assert_eq!(data, "hello");
///     Worker::stop_all();
/// });
/// con.send("hello");
/// Worker::run_all()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct UdpConnection<P = crate::Tcp> {
    key: Key,
    remote: SocketAddr,
    _kind: PhantomData<fn() -> P>,
    _not_send: PhantomData<*const ()>,
}

impl<P> UdpConnection<P> {
    fn of(key: Key, remote: SocketAddr) -> Self {
        UdpConnection { key, remote, _kind: PhantomData, _not_send: PhantomData }
    }

    /// Where the datagram came from. It answers on a stale handle, too.
    ///
    /// A worker on `[::]` sees senders over IPv4 as `::ffff:a.b.c.d`; `remote_ip().to_canonical()`
    /// is the address itself.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The same without the port; `remote_ip().is_ipv4()` is PHP's `isIpV4()`.
    pub fn remote_ip(&self) -> IpAddr {
        self.remote.ip()
    }

    /// The sender's port.
    pub fn remote_port(&self) -> u16 {
        self.remote.port()
    }

    /// `ip:port`, an IPv6 address in brackets: PHP's `getRemoteAddress`.
    pub fn remote_address(&self) -> String {
        self.remote.to_string()
    }
}
impl<P> Clone for UdpConnection<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for UdpConnection<P> {}
impl<P> PartialEq for UdpConnection<P> {
    fn eq(&self, other: &Self) -> bool {
        (self.key, self.remote) == (other.key, other.remote)
    }
}
impl<P> Eq for UdpConnection<P> {}
impl<P> Hash for UdpConnection<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.key, self.remote).hash(state);
    }
}
/// `udp 127.0.0.1:1234`
impl<P> fmt::Debug for UdpConnection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
/// `udp 127.0.0.1:1234`: the sender, as lines of the log have it.
impl<P> fmt::Display for UdpConnection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp {}", self.remote)
    }
}

impl<P: Protocol> UdpConnection<P> {
    fn with_socket<T>(&self, f: impl FnOnce(&Rc<Loop>, &Bound<P>) -> T) -> Option<T> {
        with_loop(|lp| {
            let endpoint: Rc<dyn Any> = lp.find(self.key)?;
            let bound = endpoint.downcast::<Bound<P>>().ok()?;
            Some(f(lp, &bound))
        })
        .flatten()
    }

    /// Sends a message to this sender, as one datagram, at once.
    ///
    /// [`Sent::Flushed`]: the kernel has it; whether it arrives nobody learns. Nothing is ever
    /// queued: [`Sent::Dropped`] where the kernel's own buffer is full, on a stale handle, and for
    /// what is longer than `Limits::datagram_bytes`, cannot be encoded, or is refused by the system
    /// (a line of the log says so, once a second at most). (Manual: UdpConnection::send.)
    pub fn send<'m>(&self, message: impl Into<P::Outgoing<'m>>) -> Sent {
        let message = message.into();
        self.with_socket(|lp, bound| bound.send(lp, self.remote, message)).unwrap_or(Sent::Dropped)
    }

    /// Past the protocol: these very bytes are the datagram. (Manual: `send($data, true)`.)
    pub fn send_raw(&self, bytes: &[u8]) -> Sent {
        self.with_socket(|lp, bound| bound.send_bytes(lp, self.remote, bytes))
            .unwrap_or(Sent::Dropped)
    }

    /// Where the worker listens; on all addresses of the machine that is `0.0.0.0` or `[::]`.
    /// `None` on a stale handle.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.with_socket(|_, bound| bound.local_addr()).flatten()
    }

    /// The same without the port.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().map(|addr| addr.ip())
    }

    /// The worker's port; 0 on a stale handle.
    pub fn local_port(&self) -> u16 {
        self.local_addr().map_or(0, |addr| addr.port())
    }

    /// `ip:port`, or empty: PHP's `getLocalAddress`.
    pub fn local_address(&self) -> String {
        self.local_addr().map(|addr| addr.to_string()).unwrap_or_default()
    }
}

type OnMessage<P> = Rc<dyn OnDatagram<P, UdpConnection<P>>>;

/// What a worker of datagrams listens with.
pub(crate) struct DatagramSide<P: Protocol> {
    address: ListenAddress,
    make: Box<dyn Fn() -> P>,
    message: RefCell<Option<OnMessage<P>>>,
    settings: RefCell<Rc<Settings>>,
    paused: Cell<bool>,
    bound: RefCell<Option<Rc<Bound<P>>>>,
    /// Never to be bound again, or at all.
    unlistened: Cell<bool>,
    /// The protocol's methods run.
    busy: RefCell<()>,
    complaints: Complaints,
}

impl<P: Protocol> DatagramSide<P> {
    pub(crate) fn new(
        address: ListenAddress,
        make: Box<dyn Fn() -> P>,
        owner: Weak<dyn Owner>,
    ) -> Rc<Self> {
        let terms = Terms { limits: Limits::shared(), remote_host: Box::default() };
        Rc::new(DatagramSide {
            address,
            make,
            message: RefCell::new(None),
            settings: RefCell::new(Rc::new(Settings { terms, owner: Some(owner) })),
            paused: Cell::new(false),
            bound: RefCell::new(None),
            unlistened: Cell::new(false),
            busy: RefCell::new(()),
            complaints: Complaints::default(),
        })
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        Rc::make_mut(&mut self.settings.borrow_mut()).terms.limits = Rc::new(limits);
    }

    /// Hands out the callback that was there, to be dropped where no borrow is held.
    pub(crate) fn set_message(&self, f: OnMessage<P>) -> Option<OnMessage<P>> {
        self.message.replace(Some(f))
    }

    pub(crate) fn pause(&self) {
        self.paused.set(true);
    }

    pub(crate) fn resume(&self, lp: &Loop) {
        self.paused.set(false);
        if let Some(bound) = &*self.bound.borrow() {
            bound.list_again(lp);
        }
    }

    /// Datagrams wait in the kernel from now on.
    pub(crate) fn bind(self: &Rc<Self>, lp: &Rc<Loop>) -> Result<(), Error> {
        if self.bound.borrow().is_some() || self.unlistened.get() {
            return Ok(());
        }
        let Place::Ip(address) = &self.address.place else { return Ok(()) };
        let socket = Socket::bind(*address)
            .map_err(|source| Error::Bind { address: self.address.text.clone(), source })?;
        let mut made: Option<Rc<Bound<P>>> = None;
        lp.insert_with(|key| {
            let bound = Rc::new(Bound {
                key,
                local: socket.local_addr(),
                socket: RefCell::new(Some(socket)),
                side: self.clone(),
                alarm: Cell::new(TimerKey::NONE),
                listed: Cell::new(false),
            });
            made = Some(bound.clone());
            bound
        });
        *self.bound.borrow_mut() = made;
        Ok(())
    }

    /// They are read from now on.
    pub(crate) fn receive(&self, lp: &Rc<Loop>) {
        let bound = self.bound.borrow().clone();
        let Some(bound) = bound else { return };
        // Under no borrow: the poller logs, and a logger may ask what listens, or end it.
        let socket = bound.socket.borrow_mut().take();
        let Some(mut socket) = socket else { return };
        let registered = lp.with_poller(|poller| poller.register_readable(&mut socket, bound.key));
        if lp.find(bound.key).is_some() {
            *bound.socket.borrow_mut() = Some(socket);
        }
        if let Err(e) = registered {
            log::error!("{}: nothing can be received: {e}", self.address.text);
        }
    }

    pub(crate) fn unlisten(&self, lp: &Rc<Loop>) {
        self.unlistened.set(true);
        let bound = self.bound.borrow_mut().take();
        if let Some(bound) = bound {
            lp.set_alarm(&bound.alarm, bound.key, None);
            let socket = bound.socket.borrow_mut().take();
            let ended = lp.remove(bound.key);
            drop((socket, ended));
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.bound.borrow().as_ref()?.local_addr()
    }

    pub(crate) fn address(&self) -> String {
        self.address.text.clone()
    }
}

/// The socket in its place on the loop.
struct Bound<P: Protocol> {
    key: Key,
    local: Option<SocketAddr>,
    socket: RefCell<Option<Socket>>,
    side: Rc<DatagramSide<P>>,
    alarm: Cell<TimerKey>,
    /// On the loop's ready list.
    listed: Cell<bool>,
}

impl<P: Protocol> Bound<P> {
    fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    fn list_again(&self, lp: &Loop) {
        if !self.listed.replace(true) {
            lp.again(self.key);
        }
    }

    // ------------------------------------------------------------------ sending

    fn send(&self, lp: &Rc<Loop>, to: SocketAddr, message: P::Outgoing<'_>) -> Sent {
        let Ok(busy) = self.side.busy.try_borrow_mut() else { return Sent::Dropped };
        let settings = self.side.settings.borrow().clone();
        let mut protocol = (self.side.make)();
        let mut out = lp.pool.borrow_mut().take();
        let encoded = encode(&mut protocol, message, &mut out.bytes, &settings);
        drop((protocol, busy));
        let sent = match encoded {
            Ok(()) => self.transmit(lp, to, &out.bytes),
            Err(reason) => self.refused(lp, to, reason),
        };
        lp.pool.borrow_mut().put(out);
        sent
    }

    fn send_bytes(&self, lp: &Rc<Loop>, to: SocketAddr, bytes: &[u8]) -> Sent {
        let settings = self.side.settings.borrow().clone();
        match judge_length(bytes.len(), &settings) {
            Ok(()) => self.transmit(lp, to, bytes),
            Err(reason) => self.refused(lp, to, reason),
        }
    }

    fn transmit(&self, lp: &Rc<Loop>, to: SocketAddr, bytes: &[u8]) -> Sent {
        let send = || match &*self.socket.borrow() {
            Some(socket) => socket.send_to(bytes, to),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let sent = match send() {
            // That was of an earlier one; it has been told, and stands in the way no longer.
            Err(e) if Socket::is_news(&e) => send(),
            sent => sent,
        };
        match sent {
            Ok(()) => Sent::Flushed,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Sent::Dropped,
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Sent::Dropped,
            Err(e) => self.refused(lp, to, e.to_string()),
        }
    }

    #[cold]
    fn refused(&self, lp: &Rc<Loop>, to: SocketAddr, reason: String) -> Sent {
        let address = &self.side.address.text;
        self.side.complaints.warn(lp, || format!("{address}: not sent to {to}: {reason}"));
        Sent::Dropped
    }

    // ------------------------------------------------------------------ receiving

    /// Reads and delivers, within the budget of a turn.
    fn serve(&self, lp: &Rc<Loop>) {
        let mut buffer = lp.take_receive();
        let (mut budget, mut messages) = (DATAGRAMS_A_TURN, 0);
        while !self.side.paused.get() {
            if budget == 0 || messages >= MESSAGES {
                self.list_again(lp);
                break;
            }
            budget -= 1;
            let received = match &*self.socket.borrow() {
                Some(socket) => socket.recv_from(&mut buffer[..]),
                None => break,
            };
            match received {
                Ok((length, from)) => {
                    messages += self.received(lp, &mut buffer[..length], from);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if Socket::is_news(&e) => {}
                Err(e) => {
                    let address = &self.side.address.text;
                    log::error!("{address}: receiving pauses for {WAIT_AFTER_ERROR:?}: {e}");
                    lp.set_alarm(&self.alarm, self.key, Some(lp.now() + WAIT_AFTER_ERROR));
                    break;
                }
            }
        }
        lp.put_receive(buffer);
    }

    /// One datagram: its messages, each with its sender. How many there were.
    fn received(&self, lp: &Rc<Loop>, datagram: &mut [u8], from: SocketAddr) -> u32 {
        let side = &self.side;
        let settings = side.settings.borrow().clone();
        let length = datagram.len();
        if let Err(reason) = judge_length(length, &settings) {
            let address = &side.address.text;
            side.complaints.warn(lp, || format!("{address}: dropped, from {from}: {reason}"));
            return 0;
        }
        let con = UdpConnection::of(self.key, from);
        let mut protocol = (side.make)();
        let deliver = |message: P::Incoming<'_>| {
            let f = side.message.borrow().clone();
            if let Some(f) = f {
                let settled = lp.call(|| f.call(con, message));
                self.settle(lp, con, settled);
            }
            lp.after_callback();
            lp.find(self.key).is_some()
        };
        let reply = |answer: &[u8]| {
            self.send_bytes(lp, from, answer);
        };
        let (messages, divided) =
            divide(lp, &mut protocol, datagram, &settings, &side.busy, deliver, reply);
        if let Err(reason) = divided {
            let address = &side.address.text;
            log::debug!(
                "{address}: of a datagram of {length} bytes from {from} the rest is dropped: \
                 {reason}"
            );
        }
        messages
    }

    /// The callback of a datagram has returned: there is no connection that could close.
    fn settle(&self, lp: &Rc<Loop>, con: UdpConnection<P>, settled: Settled) {
        let Err(e) = settled else { return };
        let owner = self.side.settings.borrow().owner();
        let nobody = AnyConnection::of(Key::NOBODY);
        let verdict = owner.as_ref().and_then(|owner| owner.judge(lp, nobody, &e));
        match verdict {
            None => {
                let name = owner.map(|owner| owner.name()).unwrap_or_default();
                log::error!("a callback of {con:?} of worker {name:?} failed: {e}");
            }
            Some(Verdict::Keep | Verdict::Close) => {}
            Some(Verdict::StopWorker) => lp.ask_stop(),
        }
    }
}

impl<P: Protocol> Endpoint for Bound<P> {
    fn handle_ready(self: Rc<Self>, lp: &Rc<Loop>, ready: Readiness) {
        if ready.again {
            self.listed.set(false);
        } else if self.listed.get() {
            // The ready list asks it: one budget a turn, not two.
            return;
        }
        if self.alarm.get() == TimerKey::NONE {
            self.serve(lp);
        }
    }

    fn handle_alarm(self: Rc<Self>, lp: &Rc<Loop>) {
        lp.set_alarm(&self.alarm, self.key, None);
        self.list_again(lp);
    }

    fn handle_ending(self: Rc<Self>, lp: &Rc<Loop>, _: Ending) {
        self.side.unlisten(lp);
    }
}
