//! A client over udp in its place: its opening, its socket, and what it is told.
//!
//! ```text
//! Initial ─connect, send→ Resolving ─socket→ Open ─close→ Ended ─on_close→ Gone
//! Resolving ─fails→ Failing ─on_error→ Ended      Resolving ─close→ Flushing ─socket→ Ended
//! ```
use super::client::AsyncUdpConnection;
use super::{Complaints, DATAGRAMS_A_TURN, MESSAGES, OnDatagram, WAIT_AFTER_ERROR};
use super::{divide, encode, judge_length};
use crate::connection::properties::{Holder, Properties};
use crate::connection::{Settings, Stage, Status};
use crate::error::Settle;
use crate::events::wheel::TimerKey;
use crate::events::{
    Callback, Ending, Endpoint, Key, Loop, Readiness, ResolveError, Settled, interleave,
};
use crate::protocols::Terms;
use crate::transport::ClientAddress;
use crate::transport::udp::Socket;
use crate::{ErrorCode, Failure, FailureKind, Limits, Outcome, Phase, Protocol, Sent};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use telling::{Losses, news};

mod telling;

type Plain<P> = Callback<dyn FnMut(AsyncUdpConnection<P>) -> Settled>;
type OnError<P> = Callback<dyn FnMut(AsyncUdpConnection<P>, ErrorCode, &Failure) -> Settled>;
type OnMessage<P> = Rc<dyn OnDatagram<P, AsyncUdpConnection<P>>>;

pub(super) fn plain<P: Protocol, O: Outcome>(
    mut f: impl FnMut(AsyncUdpConnection<P>) -> O + 'static,
) -> Plain<P> {
    Rc::new(RefCell::new(move |con| Settle::settle(f(con))))
}

pub(super) fn error<P: Protocol, O: Outcome>(
    mut f: impl FnMut(AsyncUdpConnection<P>, ErrorCode, &Failure) -> O + 'static,
) -> OnError<P> {
    Rc::new(RefCell::new(move |con, code, failure: &Failure| Settle::settle(f(con, code, failure))))
}

/// What it is to be told when the running callback has returned, in this order.
mod due {
    pub(super) const OPENED: u8 = 1;
    pub(super) const LOST: u8 = 2;
    pub(super) const FAILED: u8 = 4;
    pub(super) const CLOSED: u8 = 8;
}

/// What a datagram costs while it waits, beside its bytes: empty ones are bounded, too.
const COST_OF_WAITING: usize = 8;

/// Datagrams that wait for a name.
#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Ahead {
    fn cost(&self) -> usize {
        self.bytes.len() + COST_OF_WAITING * self.lengths.len()
    }
}

pub(super) struct Dialled<P: Protocol> {
    key: Key,
    pub(super) id: u64,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    make: Box<dyn Fn() -> P>,
    settings: RefCell<Rc<Settings>>,
    stage: Cell<Stage>,
    /// Since when it opens, then since when it is open; in the loop's milliseconds.
    since: Cell<u64>,
    socket: RefCell<Option<Socket>>,
    pub(super) remote: Cell<Option<SocketAddr>>,
    pub(super) local: Cell<Option<SocketAddr>>,
    pub(super) bind_to: Cell<Option<SocketAddr>>,
    ahead: RefCell<Ahead>,
    due: Cell<u8>,
    failed: Cell<Option<Failure>>,
    losses: RefCell<Losses>,
    pub(super) connect: RefCell<Option<Plain<P>>>,
    pub(super) message: RefCell<Option<OnMessage<P>>>,
    pub(super) error: RefCell<Option<OnError<P>>>,
    pub(super) on_close: RefCell<Option<Plain<P>>>,
    data: RefCell<Properties>,
    /// The protocol's methods run.
    busy: RefCell<()>,
    /// The opening's deadline, then when to read again after an error.
    alarm: Cell<TimerKey>,
    /// On the loop's ready list.
    listed: Cell<bool>,
    complaints: Complaints,
}

impl<P: Protocol> Dialled<P> {
    pub(super) fn new(
        key: Key,
        id: u64,
        address: ClientAddress,
        make: Box<dyn Fn() -> P>,
    ) -> Rc<Self> {
        let port = address.port(false);
        let host = address.host;
        let terms = Terms { limits: Limits::shared(), remote_host: host.clone() };
        Rc::new(Dialled {
            key,
            id,
            host,
            port,
            make,
            settings: RefCell::new(Rc::new(Settings { terms, owner: None })),
            stage: Cell::new(Stage::Initial),
            since: Cell::new(0),
            socket: RefCell::new(None),
            remote: Cell::new(None),
            local: Cell::new(None),
            bind_to: Cell::new(None),
            ahead: RefCell::default(),
            due: Cell::new(0),
            failed: Cell::new(None),
            losses: RefCell::default(),
            connect: RefCell::new(None),
            message: RefCell::new(None),
            error: RefCell::new(None),
            on_close: RefCell::new(None),
            data: RefCell::default(),
            busy: RefCell::new(()),
            alarm: Cell::new(TimerKey::NONE),
            listed: Cell::new(false),
            complaints: Complaints::default(),
        })
    }

    fn handle(&self) -> AsyncUdpConnection<P> {
        AsyncUdpConnection::of(self.key)
    }

    pub(super) fn status(&self) -> Status {
        self.stage.get().status()
    }

    /// For messages and for printing.
    pub(super) fn peer_text(&self) -> String {
        match self.remote.get() {
            Some(remote) => remote.to_string(),
            None if self.host.contains(':') => format!("[{}]:{}", self.host, self.port),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        Rc::make_mut(&mut self.settings.borrow_mut()).terms.limits = Rc::new(limits);
    }

    fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    /// Has it told after the running callback.
    fn queue(&self, lp: &Loop, event: u8) {
        let due = self.due.get();
        self.due.set(due | event);
        if due == 0 {
            lp.queue(self.key);
        }
    }

    fn take_due(&self, event: u8) -> bool {
        let due = self.due.get();
        self.due.set(due & !event);
        due & event != 0
    }

    fn list_again(&self, lp: &Loop) {
        if !self.listed.replace(true) {
            lp.again(self.key);
        }
    }

    // ------------------------------------------------------------------ the opening

    pub(super) fn connect(&self, lp: &Rc<Loop>) {
        if self.stage.get() != Stage::Initial || lp.is_stopping() {
            return;
        }
        self.stage.set(Stage::Resolving);
        let now = lp.read_clock();
        self.since.set(lp.now_ms());
        let deadline = now.checked_add(self.settings().limits().opening);
        lp.set_alarm(&self.alarm, self.key, deadline);
        if let Some(found) = lp.resolve(&self.host, self.port, self.key) {
            self.resolved(lp, found);
        }
    }

    fn resolved(&self, lp: &Rc<Loop>, found: Result<Vec<SocketAddr>, ResolveError>) {
        if !matches!(self.stage.get(), Stage::Resolving | Stage::Flushing) {
            return;
        }
        lp.set_alarm(&self.alarm, self.key, None);
        let addresses = match found {
            Ok(addresses) => in_order(&self.host, &addresses),
            Err(e) => return self.fail(lp, name_not_found(e.to_string())),
        };
        let mut failure = name_not_found("the name has no address".into());
        for address in addresses {
            self.remote.set(Some(address));
            match self.open(lp, address) {
                Ok(()) => return,
                Err(e) => {
                    failure = Failure::new(FailureKind::Unreachable, Phase::Connect, e.to_string())
                        .with_io(e);
                }
            }
        }
        lp.forget_name(&self.host);
        self.fail(lp, failure);
    }

    fn open(&self, lp: &Rc<Loop>, address: SocketAddr) -> io::Result<()> {
        let mut socket = Socket::connect(address, self.bind_to.get())?;
        lp.with_poller(|poller| poller.register_readable(&mut socket, self.key))?;
        let closing = match self.stage.get() {
            Stage::Resolving => false,
            Stage::Flushing => true,
            // The poller logs, and a program's logger has ended it.
            _ => return Ok(()),
        };
        self.local.set(socket.local_addr());
        *self.socket.borrow_mut() = Some(socket);
        self.since.set(lp.now_ms());
        let ahead = self.ahead.take();
        let mut from = 0;
        for length in ahead.lengths {
            self.transmit(lp, &ahead.bytes[from..from + length]);
            from += length;
        }
        if closing {
            self.end(lp);
        } else {
            self.stage.set(Stage::Open);
            self.queue(lp, due::OPENED);
        }
        Ok(())
    }

    fn fail(&self, lp: &Loop, mut failure: Failure) {
        failure.dropped = self.ahead.take().lengths.len() as u64;
        self.failed.set(Some(self.complete(lp, failure)));
        self.release(lp);
        self.stage.set(Stage::Failing);
        self.queue(lp, due::FAILED);
    }

    /// Adds with whom and since when.
    fn complete(&self, lp: &Loop, mut failure: Failure) -> Failure {
        failure.peer = self.peer_text();
        failure.elapsed = Duration::from_millis(lp.now_ms().saturating_sub(self.since.get()));
        failure
    }

    // ------------------------------------------------------------------ the end

    pub(super) fn close(&self, lp: &Rc<Loop>) {
        match self.stage.get() {
            Stage::Initial => {
                self.stage.set(Stage::Gone);
                let ended = lp.remove(self.key);
                drop(ended);
            }
            Stage::Resolving if !self.ahead.borrow().lengths.is_empty() => {
                self.stage.set(Stage::Flushing);
            }
            Stage::Resolving | Stage::Open => self.end(lp),
            _ => {}
        }
    }

    fn end(&self, lp: &Loop) {
        self.release(lp);
        self.stage.set(Stage::Ended);
        self.take_due(due::OPENED);
        // There is no next turn in which it could be told.
        let lost = self.losses.borrow().first.is_some();
        self.queue(lp, if lost { due::LOST | due::CLOSED } else { due::CLOSED });
    }

    /// Socket, deadline, name.
    fn release(&self, lp: &Loop) {
        lp.set_alarm(&self.alarm, self.key, None);
        lp.abandon_name(self.key);
        let socket = self.socket.borrow_mut().take();
        drop((socket, self.ahead.take()));
    }

    // ------------------------------------------------------------------ sending

    pub(super) fn send(&self, lp: &Rc<Loop>, message: P::Outgoing<'_>) -> Sent {
        let Ok(busy) = self.busy.try_borrow_mut() else { return Sent::Dropped };
        self.connect(lp);
        if !self.takes() {
            return Sent::Dropped;
        }
        let settings = self.settings();
        let mut protocol = (self.make)();
        let mut out = lp.pool.borrow_mut().take();
        let encoded = encode(&mut protocol, message, &mut out.bytes, &settings);
        drop((protocol, busy));
        let sent = match encoded {
            Ok(()) => self.pass_on(lp, &out.bytes, &settings),
            Err(reason) => self.refused(lp, reason),
        };
        lp.pool.borrow_mut().put(out);
        sent
    }

    pub(super) fn send_raw(&self, lp: &Rc<Loop>, bytes: &[u8]) -> Sent {
        self.connect(lp);
        let settings = self.settings();
        match judge_length(bytes.len(), &settings) {
            _ if !self.takes() => Sent::Dropped,
            Ok(()) => self.pass_on(lp, bytes, &settings),
            Err(reason) => self.refused(lp, reason),
        }
    }

    fn takes(&self) -> bool {
        matches!(self.stage.get(), Stage::Resolving | Stage::Open)
    }

    fn pass_on(&self, lp: &Rc<Loop>, datagram: &[u8], settings: &Settings) -> Sent {
        match self.stage.get() {
            Stage::Open => return self.transmit(lp, datagram),
            Stage::Resolving => {}
            // The program's own protocol has closed it meanwhile.
            _ => return Sent::Dropped,
        }
        let mut ahead = self.ahead.borrow_mut();
        if ahead.cost() >= settings.limits().send_buffer_bytes {
            drop(ahead);
            return self.dropped_full(lp);
        }
        ahead.bytes.extend_from_slice(datagram);
        ahead.lengths.push(datagram.len());
        Sent::Buffered
    }

    fn transmit(&self, lp: &Rc<Loop>, datagram: &[u8]) -> Sent {
        let send = || match &*self.socket.borrow() {
            Some(socket) => socket.send(datagram),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let sent = match send() {
            Err(e) if Socket::is_news(&e) && !Socket::is_too_long(&e) => match send() {
                // The error was that of an earlier datagram; this one is on its way.
                Ok(()) => {
                    self.lost(lp, 0, || news(e));
                    Ok(())
                }
                again => again,
            },
            sent => sent,
        };
        match sent {
            Ok(()) => Sent::Flushed,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.dropped_full(lp),
            Err(e) if Socket::is_too_long(&e) => self.refused(lp, e.to_string()),
            Err(e) => {
                self.lost(lp, 1, || news(e));
                Sent::Dropped
            }
        }
    }

    // ------------------------------------------------------------------ receiving

    /// Reads and delivers, within the budget of a turn.
    fn serve(&self, lp: &Rc<Loop>) {
        let mut buffer = lp.take_receive();
        let (mut budget, mut messages) = (DATAGRAMS_A_TURN, 0);
        while self.stage.get() == Stage::Open {
            if budget == 0 || messages >= MESSAGES {
                self.list_again(lp);
                break;
            }
            budget -= 1;
            let received = match &*self.socket.borrow() {
                Some(socket) => socket.recv(&mut buffer[..]),
                None => break,
            };
            match received {
                Ok(length) => messages += self.received(lp, &mut buffer[..length]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    let goes_on = Socket::is_news(&e);
                    self.lost(lp, 0, || news(e));
                    lp.after_callback();
                    if !goes_on && self.stage.get() == Stage::Open {
                        lp.set_alarm(&self.alarm, self.key, Some(lp.now() + WAIT_AFTER_ERROR));
                        break;
                    }
                }
            }
        }
        lp.put_receive(buffer);
    }

    /// One datagram: its messages. How many there were.
    fn received(&self, lp: &Rc<Loop>, datagram: &mut [u8]) -> u32 {
        let settings = self.settings();
        let length = datagram.len();
        if let Err(reason) = judge_length(length, &settings) {
            self.complaints.warn(lp, || format!("{:?}: dropped: {reason}", self.handle()));
            return 0;
        }
        let mut protocol = (self.make)();
        let deliver = |message: P::Incoming<'_>| {
            let f = self.message.borrow().clone();
            if let Some(f) = f {
                let settled = lp.call(|| f.call(self.handle(), message));
                self.settle(lp, settled);
            }
            lp.after_callback();
            self.stage.get() == Stage::Open
        };
        let reply = |answer: &[u8]| {
            self.send_raw(lp, answer);
        };
        let (messages, divided) =
            divide(lp, &mut protocol, datagram, &settings, &self.busy, deliver, reply);
        if let Err(reason) = divided {
            log::debug!(
                "{:?}: of a datagram of {length} bytes the rest is dropped: {reason}",
                self.handle()
            );
        }
        messages
    }
}

impl<P: Protocol> Endpoint for Dialled<P> {
    fn handle_ready(self: Rc<Self>, lp: &Rc<Loop>, ready: Readiness) {
        if ready.again {
            self.listed.set(false);
            self.report_what_is_left(lp);
        } else if self.listed.get() {
            // The ready list asks it: one budget a turn, not two.
            return;
        }
        if self.stage.get() == Stage::Open && self.alarm.get() == TimerKey::NONE {
            self.serve(lp);
        }
    }

    fn handle_alarm(self: Rc<Self>, lp: &Rc<Loop>) {
        lp.set_alarm(&self.alarm, self.key, None);
        if matches!(self.stage.get(), Stage::Resolving | Stage::Flushing) {
            let limit = self.settings().limits().opening.as_secs_f64();
            let reason = format!("the opening's deadline of {limit} s passed (Limits::opening)");
            self.fail(lp, Failure::new(FailureKind::Deadline, Phase::Resolve, reason));
        } else {
            self.list_again(lp);
        }
    }

    fn handle_queued(self: Rc<Self>, lp: &Rc<Loop>) {
        loop {
            if self.take_due(due::OPENED) {
                self.tell(lp, &self.connect);
            } else if self.take_due(due::LOST) {
                self.report_losses(lp);
            } else if self.take_due(due::FAILED) {
                if let Some(failure) = self.failed.take() {
                    self.tell_error(lp, ErrorCode::ConnectFail, &failure);
                }
                self.stage.set(Stage::Ended);
                self.due.set(self.due.get() | due::CLOSED);
            } else if self.take_due(due::CLOSED) {
                self.tell(lp, &self.on_close);
                self.stage.set(Stage::Gone);
                let ended = lp.remove(self.key);
                drop(ended);
                return;
            } else {
                return;
            }
        }
    }

    fn handle_resolved(
        self: Rc<Self>,
        lp: &Rc<Loop>,
        found: Result<Vec<SocketAddr>, ResolveError>,
    ) {
        self.resolved(lp, found);
    }

    fn handle_ending(self: Rc<Self>, lp: &Rc<Loop>, _: Ending) {
        if matches!(self.stage.get(), Stage::Resolving | Stage::Flushing | Stage::Open) {
            self.end(lp);
        }
    }
}

impl<P: Protocol> Holder for Dialled<P> {
    fn properties<T>(&self, f: impl FnOnce(&mut Properties) -> T) -> T {
        f(&mut self.data.borrow_mut())
    }
}

fn name_not_found(reason: String) -> Failure {
    Failure::new(FailureKind::NameNotFound, Phase::Resolve, reason)
}

/// In which order the addresses of a host are tried.
fn in_order(host: &str, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses = interleave(addresses);
    if host.eq_ignore_ascii_case("localhost") {
        // As for workers: nobody would say that nothing listens on the other one.
        addresses.sort_by_key(SocketAddr::is_ipv6);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::with_loop;
    use crate::{Status, Tcp};

    #[test]
    fn localhost_is_ipv4_first_and_every_other_name_ipv6() {
        let found: Vec<SocketAddr> =
            ["[::1]:7", "127.0.0.1:7"].map(|text| text.parse().expect("an address")).into();
        assert!(in_order("LocalHost", &found)[0].is_ipv4());
        assert!(in_order("example.com", &found)[0].is_ipv6());
    }

    #[test]
    fn a_look_up_has_the_openings_deadline_and_an_open_socket_none() {
        let alarm = |con: AsyncUdpConnection<Tcp>| {
            let slot = con.with_slot(|_, slot| slot.clone()).expect("it lives");
            with_loop(|lp| lp.alarm_at(&slot.alarm)).flatten()
        };
        let named = AsyncUdpConnection::<Tcp>::new("udp://nobody.invalid:9").expect("a name");
        named.set_limits(Limits::new().opening(4));
        let before = crate::events::clock();
        named.connect();
        let left = alarm(named).expect("a deadline") - before;
        assert!(left >= Duration::from_secs(4) && left < Duration::from_secs(14), "{left:?}");
        let slot = named.with_slot(|_, slot| slot.clone()).expect("it lives");
        with_loop(|lp| slot.clone().handle_alarm(lp));
        assert_eq!(named.status(), Status::Closing);
        let failure = slot.failed.take().expect("a failure");
        assert_eq!(failure.kind(), FailureKind::Deadline);
        assert!(failure.to_string().contains("4 s passed (Limits::opening)"), "{failure}");

        let literal = AsyncUdpConnection::<Tcp>::new("udp://127.0.0.1:9").expect("an address");
        literal.connect();
        assert_eq!((literal.status(), alarm(literal)), (Status::Established, None));
    }
}
