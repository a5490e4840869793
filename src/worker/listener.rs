//! The listening socket of a worker, and the connections that came through it.
use super::registry::{self, Listens};
use super::topics::Table;
use crate::connection::{Callbacks, Core, Owner, Settings, Shared, Slot, Stage, Stranger, flag};
use crate::error::CallbackError;
use crate::events::wheel::TimerKey;
use crate::events::{Ending, Endpoint, Key, Loop, Readiness};
use crate::protocols::Terms;
use crate::protocols::websocket::Admission;
use crate::transport::{ListenAddress, Listener, Peer, Place, ServerSettings, Stream};
use crate::{AnyConnection, Error, Limits, Serve, Server, Tls, Verdict};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// Newcomers that one listener takes in a turn; the others wait for the next.
const ACCEPTS_A_TURN: u32 = 64;
/// Out of descriptors: tried again after this.
const WAIT_FOR_DESCRIPTORS: Duration = Duration::from_millis(100);
/// What the kernel may keep waiting; it clamps it to its own limit.
const BACKLOG: i32 = 102_400;

/// What a worker of protocol `P` listens with.
pub(crate) struct Listening<P: Serve> {
    number: u32,
    address: ListenAddress,
    make: Box<dyn Fn() -> P>,
    pub(crate) callbacks: Shared<P, Server>,
    settings: RefCell<Rc<Settings>>,
    admission: RefCell<Rc<Admission>>,
    pub(crate) secure: Cell<bool>,
    tls: RefCell<Option<(Tls, Arc<ServerSettings>)>>,
    pub(crate) reuse_port: Cell<bool>,
    pub(crate) backlog: Cell<i32>,
    /// Strangers of whom the log has told already.
    told: Cell<u8>,
    pub(crate) paused: Cell<bool>,
    /// Not accepting, because there are as many connections as there may be.
    crowded: Cell<bool>,
    /// Never to be bound again, or at all.
    unlistened: Cell<bool>,
    bound: RefCell<Option<Rc<Bound<P>>>>,
    connections: RefCell<Connections>,
    topics: Table,
    own: Weak<Listening<P>>,
}

/// Keys in the order of their connections' ids; eight bytes each, since an idle connection pays for
/// it. The first and the last of many are taken out without moving the others.
#[derive(Default)]
struct Connections {
    keys: VecDeque<Key>,
    /// Accepted, and their transport does not stand yet: they have no key here.
    opening: usize,
}

impl Connections {
    /// All that have a socket.
    fn len(&self) -> usize {
        self.keys.len() + self.opening
    }

    fn place(&self, lp: &Loop, id: u64) -> Result<usize, usize> {
        self.keys.binary_search_by_key(&id, |&key| id_of(lp, key))
    }

    fn set(&mut self, lp: &Loop, id: u64, key: Key) {
        match self.place(lp, id) {
            Ok(at) => self.keys[at] = key,
            Err(at) => {
                self.opening -= 1;
                self.keys.insert(at, key);
            }
        }
    }

    fn end(&mut self, lp: &Loop, id: u64) {
        let Ok(at) = self.place(lp, id) else {
            self.opening -= 1;
            return;
        };
        self.keys.remove(at);
        if self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to(2 * self.keys.len());
        }
    }

    fn get(&self, lp: &Loop, id: u64) -> Option<Key> {
        self.keys.get(self.place(lp, id).ok()?).copied()
    }
}

/// Of a connection that stands in the slab, as all of a worker's do.
fn id_of(lp: &Loop, key: Key) -> u64 {
    let endpoint = lp.find(key);
    let common = endpoint.as_ref().and_then(|endpoint| endpoint.common());
    common.and_then(|common| common.downcast_ref::<Core>()).map_or(0, |core| core.id)
}

impl<P: Serve> Listening<P> {
    pub(crate) fn new(number: u32, address: ListenAddress, make: Box<dyn Fn() -> P>) -> Rc<Self> {
        let loopback_listener =
            matches!(&address.place, Place::Ip(address) if address.ip().is_loopback());
        let admission = Admission { loopback_listener, ..Admission::default() };
        Rc::new_cyclic(|own: &Weak<Listening<P>>| {
            let owner: Weak<dyn Owner> = own.clone();
            let terms = Terms { limits: Limits::shared(), remote_host: Box::default() };
            let settings = Settings { terms, owner: Some(owner) };
            Listening {
                number,
                address,
                make,
                callbacks: RefCell::new(Rc::new(Callbacks::default())),
                settings: RefCell::new(Rc::new(settings)),
                admission: RefCell::new(Rc::new(admission)),
                secure: Cell::new(false),
                tls: RefCell::new(None),
                reuse_port: Cell::new(false),
                backlog: Cell::new(BACKLOG),
                told: Cell::new(0),
                paused: Cell::new(false),
                crowded: Cell::new(false),
                unlistened: Cell::new(false),
                bound: RefCell::new(None),
                connections: RefCell::default(),
                topics: Table::default(),
                own: own.clone(),
            }
        })
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        Rc::make_mut(&mut self.settings.borrow_mut()).terms.limits = Rc::new(limits);
    }

    pub(crate) fn change_admission(&self, change: impl FnOnce(&mut Admission)) {
        change(Rc::make_mut(&mut self.admission.borrow_mut()));
    }

    pub(crate) fn resume(&self, lp: &Loop) {
        self.paused.set(false);
        self.look_again(lp);
    }

    fn look_again(&self, lp: &Loop) {
        if let Some(bound) = &*self.bound.borrow() {
            bound.list_again(lp);
        }
    }

    fn cannot_bind(&self, source: io::Error) -> Error {
        Error::Bind { address: self.address.text.clone(), source }
    }

    fn is_full(&self) -> bool {
        let most = self.settings.borrow().limits().connections;
        let full = self.connections.borrow().len() >= most;
        self.crowded.set(full);
        full
    }

    /// A certificate alone does not turn TLS on; TLS without one does not bind.
    fn warn_of_half_tls(&self) {
        if self.tls.borrow().is_some() && !self.secure.get() {
            log::warn!(
                "{}: set_tls alone does not turn TLS on: call set_transport(Transport::Ssl)",
                self.address.text
            );
        }
    }

    /// For connections accepted later.
    pub(crate) fn set_tls(&self, tls: Tls) -> Result<(), Error> {
        let server = tls.server()?;
        let old = self.tls.replace(Some((tls, server)));
        drop(old);
        Ok(())
    }

    /// Reads the files again; where one of them is wrong, all stays as it was.
    pub(crate) fn reload_tls(&self) -> Result<(), Error> {
        let given = self.tls.borrow().as_ref().map(|(tls, _)| tls.clone());
        match given {
            Some(tls) => self.set_tls(tls),
            None => Err(Error::tls(format!(
                "{}: reload_tls reads the files of set_tls again, and there are none: call set_tls",
                self.address.text
            ))),
        }
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.bound.borrow().is_some()
    }

    /// Under TLS where this worker speaks it. `None`: turned away, and said.
    fn secured(&self, stream: Stream) -> Option<Stream> {
        if !self.secure.get() {
            return Some(stream);
        }
        let address = &self.address.text;
        let tls = self.tls.borrow().as_ref().map(|(_, settings)| settings.clone());
        let Some(tls) = tls else {
            let text = "no certificate: a connection is turned away; call set_tls";
            match self.is_first(Stranger::WithoutCertificate) {
                true => log::error!("{address}: {text} (further ones are debug lines)"),
                false => log::debug!("{address}: {text}"),
            }
            return None;
        };
        match stream.over_tls_server(&tls) {
            Ok(stream) => Some(stream),
            Err(e) => {
                log::error!("{address}: a connection is turned away: {}", e.reason);
                None
            }
        }
    }

    /// Somebody has connected.
    fn accepted(&self, lp: &Rc<Loop>, stream: Stream, peer: Peer) {
        let Some(mut stream) = self.secured(stream) else { return };
        let mut protocol = (self.make)();
        protocol.accepted_by(&self.admission.borrow().clone());
        let remote = if let Peer::Ip(remote) = &peer { Some(*remote) } else { None };
        protocol.accepted_from(remote);
        let settings = self.settings.borrow().clone();
        let callbacks = self.callbacks.borrow().clone();
        let mut flags = flag::BACKPRESSURE;
        if settings.limits().idle != Duration::MAX {
            flags |= flag::WATCH_INPUT;
        }
        let id = lp.next_id();
        let mut made: Option<Rc<Slot<P, Server>>> = None;
        let key = lp.insert_with(|key| {
            let core = Core::new(key, id, flags, Stage::Securing, settings);
            let slot = Rc::new(Slot::new(core, Some(protocol), callbacks, None));
            made = Some(slot.clone());
            slot
        });
        let Some(slot) = made else { return };
        if let Err(e) = lp.with_poller(|poller| poller.register(&mut stream, key)) {
            log::error!("{}: a connection cannot be watched: {e}", self.address.text);
            let unborn = lp.remove(key);
            drop((unborn, slot));
            return;
        }
        match peer {
            Peer::Ip(remote) => slot.core.set_remote(Some(remote)),
            Peer::Unix => {
                if let Place::Unix(path) = &self.address.place {
                    let path = path.display().to_string();
                    slot.core.with_rare(|rare| rare.unix_path = Some(path));
                }
            }
        }
        let is_tls = stream.is_tls();
        self.connections.borrow_mut().opening += 1;
        slot.core.opened.set(lp.now_ms());
        slot.core.put_stream(stream);
        if is_tls {
            slot.secure(lp);
            slot.core.rearm(lp);
        } else {
            slot.stands(lp);
        }
        lp.after_callback();
    }
}

impl<P: Serve> Listens for Listening<P> {
    fn bind(&self, lp: &Rc<Loop>) -> Result<(), Error> {
        if self.bound.borrow().is_some() || self.unlistened.get() {
            return Ok(());
        }
        if self.secure.get() && self.tls.borrow().is_none() {
            return Err(Error::tls(format!(
                "{}: set_transport(Transport::Ssl) without a certificate would turn everyone \
                 away: call set_tls",
                self.address.text
            )));
        }
        let (backlog, reuse) = (self.backlog.get(), self.reuse_port.get());
        let socket = Listener::bind(&self.address.place, backlog, reuse, None)
            .map_err(|e| self.cannot_bind(e))?;
        let Some(side) = self.own.upgrade() else { return Ok(()) };
        let socket = RefCell::new(Some(socket));
        let mut made: Option<Rc<Bound<P>>> = None;
        lp.insert_with(|key| {
            let alarm = Cell::new(TimerKey::NONE);
            let bound = Rc::new(Bound { key, socket, side, alarm, listed: Cell::new(false) });
            made = Some(bound.clone());
            bound
        });
        *self.bound.borrow_mut() = made;
        Ok(())
    }

    fn accept(&self, lp: &Rc<Loop>) {
        self.warn_of_half_tls();
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
            log::error!("{}: nobody can be accepted: {e}", self.address.text);
        }
    }

    fn unlisten(&self, lp: &Rc<Loop>) {
        self.unlistened.set(true);
        let bound = self.bound.borrow_mut().take();
        if let Some(bound) = bound {
            lp.set_alarm(&bound.alarm, bound.key, None);
            let socket = bound.socket.borrow_mut().take();
            let ended = lp.remove(bound.key);
            drop((socket, ended));
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        let bound = self.bound.borrow();
        let socket = bound.as_ref()?.socket.borrow();
        socket.as_ref()?.local_addr()
    }

    fn address(&self) -> String {
        self.address.text.clone()
    }

    fn connections(&self) -> Vec<Key> {
        self.connections.borrow().keys.iter().copied().collect()
    }

    fn connection(&self, lp: &Loop, id: u64) -> Option<Key> {
        self.connections.borrow().get(lp, id)
    }

    fn topics(&self) -> &Table {
        &self.topics
    }
}

impl<P: Serve> Owner for Listening<P> {
    fn number(&self) -> u32 {
        self.number
    }

    fn name(&self) -> String {
        registry::find(self.number).map(|worker| worker.name()).unwrap_or_default()
    }

    fn began(&self, lp: &Loop, id: u64, key: Key) {
        self.connections.borrow_mut().set(lp, id, key);
        // One that goes on in another protocol subscribes anew.
        self.topics.end(id);
    }

    fn ended(&self, lp: &Loop, id: u64) {
        self.connections.borrow_mut().end(lp, id);
        self.topics.end(id);
        if self.crowded.get() && !self.is_full() {
            self.look_again(lp);
        }
    }

    fn is_first(&self, what: Stranger) -> bool {
        let told = self.told.get();
        self.told.set(told | what as u8);
        told & what as u8 == 0
    }

    fn judge(&self, lp: &Rc<Loop>, con: AnyConnection, e: &CallbackError) -> Option<Verdict> {
        registry::find(self.number)?.judge(lp, con, e)
    }
}

/// The socket in its place on the loop.
struct Bound<P: Serve> {
    key: Key,
    socket: RefCell<Option<Listener>>,
    side: Rc<Listening<P>>,
    alarm: Cell<TimerKey>,
    /// On the loop's ready list.
    listed: Cell<bool>,
}

impl<P: Serve> Bound<P> {
    fn list_again(&self, lp: &Loop) {
        if !self.listed.replace(true) {
            lp.again(self.key);
        }
    }
}

impl<P: Serve> Endpoint for Bound<P> {
    fn handle_ready(self: Rc<Self>, lp: &Rc<Loop>, ready: Readiness) {
        if ready.again {
            self.listed.set(false);
        } else if self.listed.get() {
            // The ready list asks it: one budget a turn, not two.
            return;
        }
        if self.alarm.get() != TimerKey::NONE {
            // Out of descriptors: the alarm asks again.
            return;
        }
        for _ in 0..ACCEPTS_A_TURN {
            if self.side.paused.get() || self.side.is_full() {
                return;
            }
            let accepted = match &*self.socket.borrow() {
                Some(socket) => socket.accept(),
                None => return,
            };
            match accepted {
                Ok((stream, peer)) => self.side.accepted(lp, stream, peer),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if Listener::is_lost_newcomer(&e) => {}
                Err(e) => {
                    let address = &self.side.address.text;
                    let remedy = match Listener::is_out_of_descriptors(&e) {
                        true => "; raise the limit (ulimit -n), or set Limits::connections",
                        false => "",
                    };
                    let pause = WAIT_FOR_DESCRIPTORS;
                    log::error!("{address}: accepting pauses for {pause:?}: {e}{remedy}");
                    let at = lp.now() + WAIT_FOR_DESCRIPTORS;
                    lp.set_alarm(&self.alarm, self.key, Some(at));
                    return;
                }
            }
        }
        self.list_again(lp);
    }

    fn handle_alarm(self: Rc<Self>, lp: &Rc<Loop>) {
        lp.set_alarm(&self.alarm, self.key, None);
        self.list_again(lp);
    }

    fn handle_ending(self: Rc<Self>, lp: &Rc<Loop>, _: Ending) {
        self.side.unlisten(lp);
    }
}
