//! Workers that listen.
use super::listener::Listening;
use super::registry::{self, Core, Listens};
use super::{Worker, run};
use crate::connection::{
    Callbacks, TcpConnection, control, error, farewell, message, plain, replace, replace_flow,
    replace_websocket, request,
};
use crate::events::with_loop;
use crate::transport::ListenAddress;
use crate::{
    Error, ErrorCode, Failure, Http, Limits, Outcome, Request, Serve, Tls, Transport, Udp,
    Websocket,
};
use std::any::Any;
use std::net::SocketAddr;
use std::rc::Rc;

/// What a [`Worker`] can listen with: every protocol that [`Serve`]s, and such a one within
/// datagrams as [`Udp`].
#[diagnostic::on_unimplemented(
    message = "no worker can listen with `{Self}`",
    note = "`Ws` is for clients: a WebSocket server is \
            `Worker::<Websocket>::listen(\"websocket://0.0.0.0:8080\")`",
    note = "a protocol of your own needs `impl workerman::Serve`; within `Udp` stands such a one: \
            `Udp`, `Udp<Text>`"
)]
pub trait Listen: sealed::Register {}
impl<P: Serve> Listen for P {}
impl<P: Serve> Listen for Udp<P> {}

mod sealed {
    use crate::{Error, Serve, Udp};

    pub trait Register: Sized + 'static {
        /// The number of a new worker.
        fn register(address: &str, make: impl Fn() -> Self + 'static) -> Result<u32, Error>;
    }
    impl<P: Serve> Register for P {
        fn register(address: &str, make: impl Fn() -> P + 'static) -> Result<u32, Error> {
            super::register(address, make)
        }
    }
    impl<P: Serve> Register for Udp<P> {
        fn register(address: &str, make: impl Fn() -> Self + 'static) -> Result<u32, Error> {
            super::super::udp::register(address, make)
        }
    }
}

// The bounds stand at the functions: so a type that no worker listens with is told what to write.
impl<P: 'static> Worker<P> {
    /// A worker that listens on `scheme://address:port`, the scheme being `P`'s or `tcp`, or on
    /// `unix://path`; one of datagrams ([`Udp`]) on `udp://address:port`. It checks and registers
    /// the address; binding is `run_all`'s, or happens at once where the loop runs already. Port 0
    /// lets the system choose: `local_addr` tells which. (Manual: Worker::__construct,
    /// Worker::listen.)
    ///
    /// # Errors
    /// [`Error::Address`] names the part that is wrong; inside a running loop [`Error::Bind`].
    ///
    /// A unix socket's file is made with the rights that the process' umask leaves, and whoever may
    /// write to it may connect: put it into a folder that only those may enter. A file that
    /// an ended server left is replaced, one whose server lives is refused, and it goes with the
    /// listener.
    ///
    /// A protocol that only clients speak does not compile:
    ///
    /// ```compile_fail
    /// use workerman::prelude::*;
    /// let worker = Worker::<Ws>::listen("ws://127.0.0.1:0");
    /// ```
    pub fn listen(address: &str) -> Result<Self, Error>
    where
        P: Listen + Default,
    {
        Self::listen_with(address, P::default)
    }

    /// For protocols that need settings: `make` is called for each connection; for datagrams, where
    /// it gives `Udp::new(protocol)`, for each one received and each one sent.
    ///
    /// # Errors
    /// As for [`listen`](Self::listen).
    pub fn listen_with(address: &str, make: impl Fn() -> P + 'static) -> Result<Self, Error>
    where
        P: Listen,
    {
        P::register(address, make).map(Worker::of)
    }
}

fn register<P: Serve>(address: &str, make: impl Fn() -> P + 'static) -> Result<u32, Error> {
    let address = ListenAddress::parse(address, P::NAME)?;
    let mut side: Option<Rc<Listening<P>>> = None;
    let number = registry::add(|number| {
        let listening = Listening::new(number, address, Box::new(make));
        side = Some(listening.clone());
        Rc::new(Core::<P>::new(number, Some(listening)))
    });
    if let Some(side) = side {
        begin_now(number, &*side)?;
    }
    Ok(number)
}

impl<P: Serve> Worker<P> {
    fn with_side<T>(&self, f: impl FnOnce(&Listening<P>) -> T) -> Option<T> {
        let side: Rc<dyn Any> = registry::find(self.number)?.listens()?.clone();
        side.downcast::<Listening<P>>().ok().map(|side| f(&side))
    }

    /// Once it listens: with the port that the system chose for `:0`. `None` for a unix socket, and
    /// before.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.any().local_addr()
    }

    /// Closes the listening socket and leaves connections alone; before the start: it is never
    /// opened. (Manual: Worker::unlisten.)
    pub fn unlisten(&self) {
        let worker = registry::find(self.number);
        with_loop(|lp| {
            if let Some(side) = worker.as_ref().and_then(|worker| worker.listens()) {
                side.unlisten(lp);
            }
        });
    }

    /// Leaves newcomers in the kernel's queue. (Manual: Worker::pauseAccept.)
    pub fn pause_accept(&self) {
        self.with_side(|side| side.paused.set(true));
    }

    /// Accepts again, in the next turn. (Manual: Worker::resumeAccept.)
    pub fn resume_accept(&self) {
        with_loop(|lp| self.with_side(|side| side.resume(lp)));
    }

    /// [`Transport::Ssl`]: its connections speak TLS; [`set_tls`](Self::set_tls) gives the
    /// certificate. For connections accepted later. (Manual: Worker::$transport.)
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// fn secure(worker: Worker<Websocket>) -> Result {
    ///     worker.set_transport(Transport::Ssl);
    ///     worker.set_tls(Tls::new().identity_files("fullchain.pem", "privkey.pem"))?;
    ///     Ok(())
    /// }
    /// ```
    pub fn set_transport(&self, transport: Transport) {
        let secure = transport == Transport::Ssl;
        self.with_side(|side| {
            side.secure.set(secure);
            side.change_admission(|admission| admission.over_tls = secure);
        });
    }

    /// Certificate and key; they are read at once. They do not turn TLS on:
    /// [`set_transport`](Self::set_transport) does. For connections accepted later, also while it
    /// listens.
    ///
    /// # Errors
    /// [`Error::Tls`]: a file that cannot be read or used, by its name; a key that does not belong
    /// to its certificate. What was set before stays.
    pub fn set_tls(&self, tls: Tls) -> Result<(), Error> {
        self.with_side(|side| side.set_tls(tls)).unwrap_or(Ok(()))
    }

    /// Reads the files of [`set_tls`](Self::set_tls) again: the certificate has been renewed.
    /// Connections that are open go on; later ones get what is read now.
    ///
    /// ```no_run
    /// use workerman::prelude::*;
    ///
    /// fn renew_daily(worker: Worker<Websocket>) {
    ///     Timer::add(24 * 3600, move |_| {
    ///         if let Err(e) = worker.reload_tls() {
    ///             Worker::log(format_args!("the certificate stays the old one: {e}"));
    ///         }
    ///     });
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Tls`] names the file that is wrong, and everything stays as it was; so it does
    /// where `set_tls` was not called.
    pub fn reload_tls(&self) -> Result<(), Error> {
        self.with_side(Listening::reload_tls).unwrap_or(Ok(()))
    }

    /// Several sockets may listen on this port: SO_REUSEPORT. The kernel deals newcomers out among
    /// them by a hash of both addresses and ports; one that closes its socket resets those that
    /// wait in its queue. All of them must ask for it, and belong to the same user. So two programs
    /// can share a port, or a new one take it over from the old; mind that a second program started
    /// by mistake is no longer refused, and gets its share of the connections.
    ///
    /// Before it listens: `listen` inside a running loop has bound already, and then this is an
    /// error line of the log that changes nothing. Unix sockets have no such thing. (Manual:
    /// Worker::$reusePort.)
    pub fn set_reuse_port(&self, on: bool) {
        self.before_it_listens("set_reuse_port", |side| side.reuse_port.set(on));
    }

    /// How many connections the kernel may keep that nobody has accepted yet (102 400); Linux
    /// clamps it to `net.core.somaxconn`, 4 096 by default. Before it listens, as
    /// [`set_reuse_port`](Self::set_reuse_port). (Manual: the context option `socket.backlog`.)
    pub fn set_backlog(&self, connections: u32) {
        let most = i32::try_from(connections).unwrap_or(i32::MAX);
        self.before_it_listens("set_backlog", |side| side.backlog.set(most));
    }

    fn before_it_listens(&self, what: &str, set: impl FnOnce(&Listening<P>)) {
        let late = self.with_side(|side| {
            let late = side.is_bound();
            if !late {
                set(side);
            }
            late
        });
        if late == Some(true) {
            log::error!("{self:?}: {what} changes nothing: it listens already");
        }
    }

    /// Limits of connections accepted later.
    pub fn set_limits(&self, limits: Limits) {
        self.with_side(|side| side.set_limits(limits));
    }

    /// Its connections, in the order of their ids: those whose `on_connect` has begun and whose
    /// `on_close` has not returned. Without upgraded ones:
    /// [`WorkerRef::connections`](super::WorkerRef::connections) has those too.
    pub fn connections(&self) -> Vec<TcpConnection<P>> {
        let all = self.any().connections();
        all.into_iter().filter_map(|con| con.downcast()).collect()
    }

    /// The one with this id: PHP's `$worker->connections[$id]`.
    pub fn connection(&self, id: u64) -> Option<TcpConnection<P>> {
        self.any().connection(id)?.downcast()
    }

    fn set_callback<C>(
        &self,
        place: impl FnOnce(&mut Callbacks<P, crate::Server>) -> &mut Option<C>,
        new: C,
    ) {
        let old = self.with_side(|side| replace(&side.callbacks, place, Some(new)));
        drop(old);
    }

    /// See `Connection::on_connect`. Callbacks are copied (by reference) when a connection is
    /// accepted: replacing one later concerns later connections.
    pub fn on_connect<O: Outcome>(&self, f: impl FnMut(TcpConnection<P>) -> O + 'static) {
        self.set_callback(|callbacks| &mut callbacks.connect, plain(f));
    }

    /// See `Connection::on_message`.
    pub fn on_message<O: Outcome + 'static>(
        &self,
        f: impl for<'a> FnMut(TcpConnection<P>, P::Incoming<'a>) -> O + 'static,
    ) {
        self.set_callback(|callbacks| &mut callbacks.message, message(f));
    }

    /// See `Connection::on_close`.
    pub fn on_close<O: Outcome>(&self, f: impl FnMut(TcpConnection<P>) -> O + 'static) {
        self.set_callback(|callbacks| &mut callbacks.close, plain(f));
    }

    /// See `Connection::on_error`.
    pub fn on_error<O: Outcome>(
        &self,
        f: impl FnMut(TcpConnection<P>, ErrorCode, &Failure) -> O + 'static,
    ) {
        self.set_callback(|callbacks| &mut callbacks.error, error(f));
    }

    /// See `Connection::on_buffer_full`.
    pub fn on_buffer_full<O: Outcome>(&self, f: impl FnMut(TcpConnection<P>) -> O + 'static) {
        let f = plain(f);
        let old = self.with_side(|side| replace_flow(&side.callbacks, |flow| &mut flow.full, f));
        drop(old);
    }

    /// See `Connection::on_buffer_drain`.
    pub fn on_buffer_drain<O: Outcome>(&self, f: impl FnMut(TcpConnection<P>) -> O + 'static) {
        let f = plain(f);
        let old = self.with_side(|side| replace_flow(&side.callbacks, |flow| &mut flow.drain, f));
        drop(old);
    }
}

/// A worker that is made while the loop runs has missed the start: it listens at once.
pub(super) fn begin_now(number: u32, side: &dyn Listens) -> Result<(), Error> {
    if !run::is_on() {
        return Ok(());
    }
    let bound = with_loop(|lp| {
        side.bind(lp)?;
        side.accept(lp);
        Ok(())
    });
    if let Some(Err(e)) = bound {
        drop(registry::remove(number));
        return Err(e);
    }
    if let Some(worker) = registry::find(number) {
        run::tell_listening(&*worker);
    }
    Ok(())
}

impl Worker<Http> {
    /// Pages from other hosts that [`Websocket::accept`] admits, beside the server's own:
    /// `"https://example.com"`. For connections accepted later. (RFC 6455 §10.2.)
    ///
    /// # Errors
    /// [`Error::Address`] for what is no origin.
    pub fn allow_origin(&self, origin: &str) -> Result<(), Error> {
        let origin = crate::protocols::websocket::Origin::parse(origin)?;
        self.with_side(|side| side.change_admission(|admission| admission.allowed.push(origin)));
        Ok(())
    }

    /// Every page may open a WebSocket, with the cookies that its visitor has here.
    pub fn allow_any_origin(&self) {
        self.with_side(|side| side.change_admission(|admission| admission.any = true));
    }
}

impl Worker<Websocket> {
    fn set_websocket_callback<C>(
        &self,
        place: impl FnOnce(
            &mut crate::connection::WebsocketCallbacks<Websocket, crate::Server>,
        ) -> &mut Option<C>,
        new: C,
    ) {
        let old = self.with_side(|side| replace_websocket(&side.callbacks, place, Some(new)));
        drop(old);
    }

    /// Pages from other hosts that may connect, beside the server's own: `"https://example.com"`.
    /// Others get a 403, and `on_error` (or a debug line of the log) shows the call that would
    /// admit them. For connections accepted later. (RFC 6455 §10.2.)
    ///
    /// # Errors
    /// [`Error::Address`] for what is no origin.
    pub fn allow_origin(&self, origin: &str) -> Result<(), Error> {
        let origin = crate::protocols::websocket::Origin::parse(origin)?;
        self.with_side(|side| side.change_admission(|admission| admission.allowed.push(origin)));
        Ok(())
    }

    /// Every page may connect, with the cookies that its visitor has here.
    pub fn allow_any_origin(&self) {
        self.with_side(|side| side.change_admission(|admission| admission.any = true));
    }

    /// Compresses messages (permessage-deflate, RFC 7692) with every client that offers it. For
    /// connections accepted later.
    ///
    /// ```
    /// use workerman::Deflate;
    /// use workerman::prelude::*;
    ///
    /// # fn main() -> Result {
    /// let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
    /// worker.set_websocket_deflate(Deflate::default());
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "deflate")]
    pub fn set_websocket_deflate(&self, deflate: crate::Deflate) {
        self.with_side(|side| side.change_admission(|a| a.deflate = Some(deflate)));
    }

    /// See `Connection::<Websocket, Server>::on_websocket_connect`.
    pub fn on_websocket_connect<O: Outcome>(
        &self,
        f: impl FnMut(TcpConnection<Websocket>, &Request) -> O + 'static,
    ) {
        self.set_websocket_callback(|callbacks| &mut callbacks.upgrade, request(f));
    }

    /// The 101 is queued.
    pub fn on_websocket_connected<O: Outcome>(
        &self,
        f: impl FnMut(TcpConnection<Websocket>, &Request) -> O + 'static,
    ) {
        self.set_websocket_callback(|callbacks| &mut callbacks.upgraded, request(f));
    }

    /// See `Connection::on_websocket_ping`.
    pub fn on_websocket_ping<O: Outcome>(
        &self,
        f: impl FnMut(TcpConnection<Websocket>, &[u8]) -> O + 'static,
    ) {
        self.set_websocket_callback(|callbacks| &mut callbacks.ping, control(f));
    }

    /// See `Connection::on_websocket_pong`.
    pub fn on_websocket_pong<O: Outcome>(
        &self,
        f: impl FnMut(TcpConnection<Websocket>, &[u8]) -> O + 'static,
    ) {
        self.set_websocket_callback(|callbacks| &mut callbacks.pong, control(f));
    }

    /// See `Connection::on_websocket_close`.
    pub fn on_websocket_close<O: Outcome>(
        &self,
        f: impl FnMut(TcpConnection<Websocket>, u16, &str) -> O + 'static,
    ) {
        self.set_websocket_callback(|callbacks| &mut callbacks.farewell, farewell(f));
    }
}
