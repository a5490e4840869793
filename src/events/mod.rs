//! The loop: one thread, one poll, timers, and the one place where user code runs.
//!
//! # THE INVARIANTS
//!
//! 1. **No borrow outlives a line of library code.** Look up, clone the `Rc`, release the slab,
//!    then work. Callbacks are `Rc<RefCell<dyn FnMut>>`, cloned out of their slot before the call.
//! 2. **Callbacks never nest.** What a call causes (`close` → `on_close`, a full buffer) is noted
//!    as flags on its connection, which then stands in `queued`; it is delivered when the running
//!    callback has returned, before anything else. `Loop::call` runs all user code and asserts
//!    this.
//! 3. **Take under the borrow, drop outside it.** A replaced closure, a freed slot, a deleted timer
//!    may own values whose `Drop` calls the library again.
//! 4. **A message borrows the receive buffer and the scratch buffer, never the protocol.** Both
//!    buffers are moved out of the loop while they are parsed, so that `con.send(data)` can encode
//!    with the same protocol.
//!
//! # A turn
//!
//! Flush what was sent outside a turn; poll; read the clock; signals and closures of other threads;
//! timers that are due; sockets, then the ready list of the turn before; flush the connections that
//! others wrote to.
use crate::error::CallbackError;
use crate::{Payload, Sent};
use poller::Poller;
use slab::GenerationalSlab;
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use wheel::{TimerKey, Wheel};

mod buffers;
mod inbox;
mod names;
pub(crate) mod poller;
mod resolver;
pub(crate) mod signal;
pub(crate) mod slab;
mod turn;
mod watch;
pub(crate) mod wheel;

pub(crate) use buffers::{Buffer, Pool};
use inbox::Inbox;
pub use inbox::LoopHandle;
pub(crate) use poller::Readiness;
use resolver::Resolver;
pub(crate) use resolver::{ResolveError, interleave};
pub use signal::on_signal;
pub(crate) use slab::Key;
pub use watch::{Watch, on_readable};

/// What a callback's end says to the loop.
pub(crate) type Settled = std::result::Result<(), CallbackError>;

/// A program's closure, callable again and again; never called inside itself.
pub(crate) type Callback<F> = Rc<RefCell<F>>;

/// Bytes that one receive of the loop can bring.
pub(crate) const RECEIVE_BYTES: usize = 64 << 10;
/// Events that may follow from one another in a turn; the rest comes first in the next.
const DELIVERIES_A_TURN: u32 = 1024;

/// What begins the stop of a run.
pub(crate) type BeginStop = fn(&Rc<Loop>);

/// How everything is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As `close()` of the program.
    Asked,
    /// The worker stops: as `close()`, with the farewell that says so; openings are abandoned.
    Stopping,
    /// As `destroy()`.
    AtOnce,
    /// By itself, after what is on: only connections are asked.
    Last,
}

/// What stands in the slab: a connection, a listener, a foreign descriptor.
pub(crate) trait Endpoint: Any {
    /// The poller saw something, or the ready list asks again.
    fn handle_ready(self: Rc<Self>, lp: &Rc<Loop>, ready: Readiness);
    /// Its one deadline has passed.
    fn handle_alarm(self: Rc<Self>, _lp: &Rc<Loop>) {}
    /// Somebody wrote to it since its own part of the turn.
    fn handle_dirty(self: Rc<Self>, _lp: &Rc<Loop>) {}
    /// It has events queued, and no callback runs.
    fn handle_queued(self: Rc<Self>, _lp: &Rc<Loop>) {}
    /// A name that it asked for.
    fn handle_resolved(
        self: Rc<Self>,
        _lp: &Rc<Loop>,
        _found: Result<Vec<SocketAddr>, ResolveError>,
    ) {
    }
    /// It is to end.
    fn handle_ending(self: Rc<Self>, _lp: &Rc<Loop>, _ending: Ending) {}
    /// A plain message from someone who does not know its protocol.
    fn send_payload(self: Rc<Self>, _lp: &Rc<Loop>, _payload: Payload) -> Sent {
        Sent::Dropped
    }
    /// These very bytes.
    fn send_raw(self: Rc<Self>, _lp: &Rc<Loop>, _bytes: &[u8]) -> Sent {
        Sent::Dropped
    }
    /// What all connections have in common; `None` for everything else.
    fn common(&self) -> Option<&dyn Any> {
        None
    }
    /// The scheme of its protocol.
    fn protocol(&self) -> &'static str {
        ""
    }
}

/// What the wheel holds.
pub(crate) enum Alarm {
    /// A timer of the program; `every`: it repeats.
    Program { every: Option<Duration>, call: Callback<dyn FnMut(TimerKey) -> Settled> },
    /// The deadline of an endpoint.
    Endpoint(Key),
}

mod flag {
    pub(super) const CALLING: u8 = 1;
    pub(super) const QUEUED: u8 = 2;
    pub(super) const DELIVERING: u8 = 4;
    pub(super) const CONTAIN_PANICS: u8 = 8;
    pub(super) const PROGRAM_TIMERS_OFF: u8 = 16;
    pub(super) const DIRTY: u8 = 32;
}

static LOOPS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: OnceCell<Rc<Loop>> = const { OnceCell::new() };
}

/// The one door to time.
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// Runs `f` with this thread's loop, which is made if there is none yet. `None`: the thread's
/// locals are being torn down.
#[inline]
pub(crate) fn with_loop<T>(f: impl FnOnce(&Rc<Loop>) -> T) -> Option<T> {
    CURRENT.try_with(|lp| f(lp.get_or_init(|| Rc::new(Loop::new())))).ok()
}

pub(crate) struct Loop {
    /// Unique in the process.
    pub(crate) number: u64,
    start: Instant,
    now: Cell<Option<Instant>>,
    flags: Cell<u8>,
    turn_number: Cell<u32>,
    deliveries: Cell<u32>,
    last_id: Cell<u64>,
    endpoints: RefCell<GenerationalSlab<dyn Endpoint>>,
    wheel: RefCell<Wheel<Alarm>>,
    poller: RefCell<Option<Poller>>,
    /// To be asked again in the next turn, without an event.
    ready: RefCell<Vec<Key>>,
    /// Written to outside their own part of the turn.
    dirty: RefCell<Vec<Key>>,
    /// With events to deliver.
    queued: RefCell<VecDeque<Key>>,
    receive: Cell<Option<Box<[u8; RECEIVE_BYTES]>>>,
    scratch: Cell<Vec<u8>>,
    due: Cell<Vec<TimerKey>>,
    /// The room in which a turn keeps what its poll saw.
    seen: RefCell<Vec<(Key, Readiness)>>,
    pub(crate) pool: RefCell<Pool>,
    resolver: RefCell<Option<Resolver>>,
    signals: signal::Signals,
    inbox: Inbox,
    date: Cell<Option<(u32, SystemTime)>>,
    stop_asked: Cell<bool>,
    begin_stop: Cell<Option<BeginStop>>,
    stopping: Cell<bool>,
}

impl Loop {
    fn new() -> Loop {
        let start = clock();
        Loop {
            number: LOOPS.fetch_add(1, Ordering::Relaxed),
            start,
            now: Cell::new(None),
            flags: Cell::new(0),
            turn_number: Cell::new(0),
            deliveries: Cell::new(0),
            last_id: Cell::new(0),
            endpoints: RefCell::new(GenerationalSlab::new()),
            wheel: RefCell::new(Wheel::new(start)),
            poller: RefCell::new(None),
            ready: RefCell::default(),
            dirty: RefCell::default(),
            queued: RefCell::default(),
            receive: Cell::default(),
            scratch: Cell::default(),
            due: Cell::default(),
            seen: RefCell::default(),
            pool: RefCell::default(),
            resolver: RefCell::new(None),
            signals: signal::Signals::default(),
            inbox: Inbox::default(),
            date: Cell::new(None),
            stop_asked: Cell::new(false),
            begin_stop: Cell::new(None),
            stopping: Cell::new(false),
        }
    }

    // ------------------------------------------------------------------ user code

    /// Runs user code: the only place that does.
    ///
    /// # Panics
    /// With the program's own panic, unless panics are contained: then it counts as the callback's
    /// error.
    #[inline]
    pub(crate) fn call(&self, f: impl FnOnce() -> Settled) -> Settled {
        let flags = self.flags.get();
        debug_assert_eq!(flags & flag::CALLING, 0, "a callback inside a callback");
        self.flags.set(flags | flag::CALLING);
        let settled = if flags & flag::CONTAIN_PANICS == 0 { f() } else { contained(f) };
        self.flags.set(self.flags.get() & !flag::CALLING);
        settled
    }

    /// Whether a callback of this loop runs right now.
    pub(crate) fn calling(&self) -> bool {
        self.flags.get() & flag::CALLING != 0
    }

    pub(crate) fn contain_panics(&self, on: bool) {
        self.set_flag(flag::CONTAIN_PANICS, on);
    }

    /// A panic has left the callback that ran: whoever caught it goes on with the loop.
    pub(crate) fn recover_from_panic(&self) {
        self.set_flag(flag::CALLING | flag::DELIVERING, false);
    }

    /// The program's timers no longer fire: the workers have stopped.
    pub(crate) fn silence_program_timers(&self, off: bool) {
        self.set_flag(flag::PROGRAM_TIMERS_OFF, off);
    }

    fn set_flag(&self, bits: u8, on: bool) {
        let flags = self.flags.get();
        self.flags.set(if on { flags | bits } else { flags & !bits });
    }

    // ------------------------------------------------------------------ queued events

    /// Whether events wait for the running callback to return.
    #[inline(always)]
    pub(crate) fn has_queued(&self) -> bool {
        self.flags.get() & flag::QUEUED != 0
    }

    /// `key` has events to deliver.
    pub(crate) fn queue(&self, key: Key) {
        self.queued.borrow_mut().push_back(key);
        self.set_flag(flag::QUEUED, true);
    }

    /// After every callback: delivers what it caused, before anything else.
    #[inline(always)]
    pub(crate) fn after_callback(self: &Rc<Self>) {
        if self.has_queued() {
            self.deliver_queued();
        }
    }

    fn deliver_queued(self: &Rc<Self>) {
        // The outermost one goes on until nothing is left; a callback in between needs no loop of
        // its own.
        if self.flags.get() & (flag::DELIVERING | flag::CALLING) != 0 {
            return;
        }
        self.set_flag(flag::DELIVERING, true);
        while self.deliveries.get() < DELIVERIES_A_TURN {
            if self.stop_asked.get() {
                self.begin_stop();
            }
            let next = self.queued.borrow_mut().pop_front();
            let Some(key) = next else {
                self.set_flag(flag::QUEUED, false);
                break;
            };
            self.deliveries.set(self.deliveries.get() + 1);
            if let Some(endpoint) = self.find(key) {
                endpoint.handle_queued(self);
            }
        }
        self.set_flag(flag::DELIVERING, false);
    }

    // ------------------------------------------------------------------ endpoints

    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<Rc<dyn Endpoint>> {
        self.endpoints.borrow().find(key).cloned()
    }

    pub(crate) fn insert_with(&self, make: impl FnOnce(Key) -> Rc<dyn Endpoint>) -> Key {
        self.endpoints.borrow_mut().insert_with(make)
    }

    /// Frees the place; what stood there is dropped by the caller, outside every borrow.
    #[must_use = "drop it where no borrow is held"]
    pub(crate) fn remove(&self, key: Key) -> Option<Rc<dyn Endpoint>> {
        self.endpoints.borrow_mut().remove(key)
    }

    /// All that stand there now.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.endpoints.borrow().keys().collect()
    }

    /// 1, 2, 3 … in the order of making.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }

    /// Asks the endpoint again in the next turn.
    pub(crate) fn again(&self, key: Key) {
        self.ready.borrow_mut().push(key);
    }

    /// Has it flushed before the next poll.
    #[inline]
    pub(crate) fn mark_dirty(&self, key: Key) {
        self.dirty.borrow_mut().push(key);
        self.set_flag(flag::DIRTY, true);
    }

    /// The poller, made when it is first needed.
    pub(crate) fn with_poller<T>(&self, f: impl FnOnce(&Poller) -> io::Result<T>) -> io::Result<T> {
        self.prepare()?;
        match &*self.poller.borrow() {
            Some(poller) => f(poller),
            None => Err(io::Error::other("the poll is in use")),
        }
    }

    /// Makes what a turn needs of the system. `Err`: no descriptors are left.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        if self.poller.borrow().is_some() {
            return Ok(());
        }
        let poller = Poller::new()?;
        self.inbox.wake_by(poller.waker());
        *self.poller.borrow_mut() = Some(poller);
        Ok(())
    }

    // ------------------------------------------------------------------ time

    /// The time of this turn: read when it is first asked for, after the poll, and then the same
    /// for all of the turn.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self.now.get() {
            Some(now) => now,
            None => self.read_clock(),
        }
    }

    /// Milliseconds from the loop's beginning to this turn.
    pub(crate) fn now_ms(&self) -> u64 {
        self.ms(self.now())
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_millis() as u64
    }

    /// Where the millisecond of `now_ms() == ms` ends: what is counted from there is never early.
    pub(crate) fn at_ms(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms + 1)
    }

    /// A callback may have taken long, and outside the loop's own turns the clock has stood still.
    pub(crate) fn read_clock(&self) -> Instant {
        let now = clock();
        self.now.set(Some(now));
        now
    }

    /// The date; read once a turn.
    pub(crate) fn system_time(&self) -> SystemTime {
        let turn = self.turn_number.get();
        match self.date.get() {
            Some((read_in, date)) if read_in == turn => date,
            _ => {
                let date = SystemTime::now();
                self.date.set(Some((turn, date)));
                date
            }
        }
    }

    pub(crate) fn turn_number(&self) -> u32 {
        self.turn_number.get()
    }

    /// Arms, moves or takes back (`None`) the deadline of an endpoint.
    pub(crate) fn set_alarm(&self, alarm: &Cell<TimerKey>, key: Key, at: Option<Instant>) {
        let mut wheel = self.wheel.borrow_mut();
        match at {
            Some(at) if !wheel.rearm(alarm.get(), Some(at)) => {
                alarm.set(wheel.insert(Some(at), Alarm::Endpoint(key)));
            }
            Some(_) => {}
            None => {
                wheel.remove(alarm.get());
                alarm.set(TimerKey::NONE);
            }
        }
    }

    /// When the alarm would ring.
    pub(crate) fn alarm_at(&self, alarm: &Cell<TimerKey>) -> Option<Instant> {
        self.wheel.borrow().deadline(alarm.get())
    }

    /// A timer of the program. It reads the clock itself: the callback that makes it may have taken
    /// long.
    pub(crate) fn add_timer(
        &self,
        after: Duration,
        repeats: bool,
        call: Callback<dyn FnMut(TimerKey) -> Settled>,
    ) -> TimerKey {
        let at = clock().checked_add(after);
        let alarm = Alarm::Program { every: repeats.then_some(after), call };
        self.wheel.borrow_mut().insert(at, alarm)
    }

    pub(crate) fn delete_timer(&self, key: TimerKey) -> bool {
        let deleted = {
            let mut wheel = self.wheel.borrow_mut();
            match wheel.value(key) {
                Some(Alarm::Program { .. }) => wheel.remove(key),
                _ => None,
            }
        };
        deleted.is_some()
    }

    /// All timers of the program; the library's own deadlines stay.
    pub(crate) fn delete_program_timers(&self) {
        let chosen = |alarm: &Alarm| matches!(alarm, Alarm::Program { .. });
        let ended = self.wheel.borrow_mut().drain_if(chosen);
        drop(ended);
    }

    pub(crate) fn has_program_timers(&self) -> bool {
        let wheel = self.wheel.borrow();
        wheel.iter().any(|(_, alarm)| matches!(alarm, Alarm::Program { .. }))
    }

    // ------------------------------------------------------------------ buffers

    /// The receive buffer, moved out while it is parsed.
    #[inline]
    pub(crate) fn take_receive(&self) -> Box<[u8; RECEIVE_BYTES]> {
        self.receive.take().unwrap_or_else(fresh_receive)
    }

    #[inline]
    pub(crate) fn put_receive(&self, buffer: Box<[u8; RECEIVE_BYTES]>) {
        self.receive.set(Some(buffer));
    }

    /// The scratch buffer, moved out while messages are decoded; empty.
    #[inline]
    pub(crate) fn take_scratch(&self) -> Vec<u8> {
        self.scratch.take()
    }

    /// Keeps it for the next batch unless a large message has swollen it.
    #[inline]
    pub(crate) fn put_scratch(&self, mut scratch: Vec<u8>) {
        if scratch.capacity() <= RECEIVE_BYTES {
            scratch.clear();
            self.scratch.set(scratch);
        }
    }

    // ------------------------------------------------------------------ stopping

    /// As `Worker::stop_all()`: begins when the running callback has returned. Before the start it
    /// is remembered.
    pub(crate) fn ask_stop(&self) {
        self.stop_asked.set(true);
        self.set_flag(flag::QUEUED, true);
    }

    /// What begins the stop: whoever runs the loop says so.
    pub(crate) fn on_stop(&self, begin: Option<BeginStop>) {
        self.begin_stop.set(begin);
        if self.stop_asked.get() {
            self.set_flag(flag::QUEUED, true);
        }
    }

    /// A stop that nobody has begun is forgotten.
    pub(crate) fn take_stop(&self) -> bool {
        self.stop_asked.take()
    }

    fn begin_stop(self: &Rc<Self>) {
        if let Some(begin) = self.begin_stop.get()
            && self.stop_asked.take()
        {
            begin(self);
        }
    }

    /// The worker stops: nobody dials any more.
    pub(crate) fn set_stopping(&self, on: bool) {
        self.stopping.set(on);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    // ------------------------------------------------------------------ the end of a run

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(crate) fn signals(&self) -> &signal::Signals {
        &self.signals
    }

    /// Everything that is registered ends: handles go stale, closures are dropped, outside every
    /// borrow.
    pub(crate) fn clear(self: &Rc<Self>) {
        let mut dropped: Vec<Rc<dyn Endpoint>> = Vec::new();
        for key in self.keys() {
            dropped.extend(self.remove(key));
        }
        let alarms: Vec<Alarm> = self.wheel.borrow_mut().drain_all();
        self.ready.borrow_mut().clear();
        self.dirty.borrow_mut().clear();
        self.set_flag(flag::DIRTY, false);
        self.queued.borrow_mut().clear();
        self.set_flag(flag::QUEUED | flag::PROGRAM_TIMERS_OFF, false);
        self.resolver.take();
        self.signals.clear();
        drop((dropped, alarms));
    }
}

#[cold]
fn fresh_receive() -> Box<[u8; RECEIVE_BYTES]> {
    match vec![0; RECEIVE_BYTES].try_into() {
        Ok(buffer) => buffer,
        Err(_) => unreachable!("a vector of that very length"),
    }
}

#[cold]
fn contained(f: impl FnOnce() -> Settled) -> Settled {
    match std::panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(settled) => settled,
        Err(panic) => Err(format!("panicked: {}", panic_text(&*panic)).into()),
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)")
}
