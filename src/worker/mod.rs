//! Workers, and the process they live in.
use crate::connection::{Connection, Server, properties};
use crate::error::Settle;
use crate::events::{Callback, Settled, with_loop};
use crate::{AnyConnection, Error, Interval, Outcome, Protocol, Result, Verdict};
use registry::{AnyWorker, Core};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;

mod listener;
mod listening;
mod registry;
mod run;
mod spawn;
mod topics;
mod udp;

pub use listening::Listen;
pub use run::RunStatus;
pub use spawn::{Running, spawn};

/// A worker's handle: `Copy`, `!Send`. `Worker::new()` is one that listens on nothing: the usual
/// home of timers and clients. Another thread reaches what belongs to it through
/// [`LoopHandle::defer`](crate::LoopHandle::defer).
///
/// ```
/// use workerman::prelude::*;
///
/// let worker = Worker::new();
/// worker.on_worker_start(|_| {
///     println!("started");
///     Worker::stop_all();
/// });
/// Worker::run_all()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Worker<P = ()> {
    number: u32,
    _kind: PhantomData<fn() -> P>,
    _not_send: PhantomData<*const ()>,
}

impl<P> Worker<P> {
    pub(crate) fn of(number: u32) -> Self {
        Worker { number, _kind: PhantomData, _not_send: PhantomData }
    }
}
impl<P> Clone for Worker<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Worker<P> {}
impl<P> PartialEq for Worker<P> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<P> Eq for Worker<P> {}
impl<P> fmt::Debug for Worker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WorkerRef::of(self.number).fmt(f)
    }
}

/// A worker whose protocol does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WorkerRef {
    number: u32,
    _not_send: PhantomData<*const ()>,
}

impl WorkerRef {
    fn of(number: u32) -> Self {
        WorkerRef { number, _not_send: PhantomData }
    }

    /// Its place among the processes of its worker; 0 where there is one process.
    pub fn id(&self) -> usize {
        0
    }

    /// See [`Worker::set_name`].
    pub fn name(&self) -> String {
        registry::find(self.number).map(|worker| worker.name()).unwrap_or_default()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        registry::find(self.number)?.local_addr()
    }

    /// How many processes it has: 1, in place.
    pub fn count(&self) -> usize {
        1
    }

    /// Its connections, upgraded ones too, in the order of their ids.
    pub fn connections(&self) -> Vec<AnyConnection> {
        let worker = registry::find(self.number);
        let keys = worker.map(|worker| worker.connections()).unwrap_or_default();
        keys.into_iter().map(AnyConnection::of).collect()
    }

    /// The one with this id.
    pub fn connection(&self, id: u64) -> Option<AnyConnection> {
        let worker = registry::find(self.number)?;
        with_loop(|lp| worker.connection(lp, id)).flatten().map(AnyConnection::of)
    }
}

impl fmt::Debug for WorkerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match registry::find(self.number) {
            Some(worker) => write!(f, "worker {:?} {}", worker.name(), worker.address()),
            None => f.write_str("(ended worker)"),
        }
    }
}

impl Default for Worker<()> {
    fn default() -> Self {
        Self::new()
    }
}

/// Workers that listen on nothing, and the whole process.
impl Worker<()> {
    /// A worker without a listening address.
    pub fn new() -> Self {
        Worker::of(registry::add(|number| Rc::new(Core::<()>::new(number, None))))
    }

    /// Runs the workers, clients and timers made in this thread until they are stopped. It works in
    /// any thread; in the main one SIGINT, SIGTERM and SIGHUP stop it, SIGQUIT does so gracefully.
    /// (Manual: Worker::runAll.)
    ///
    /// In the main thread it also gives the log to stderr (feature `log-file`), if the program has
    /// installed no logger by then: the first one holds, and a program that installs its own should
    /// do so before. What the library said earlier is lost without one.
    ///
    /// # Errors
    /// A port that cannot be had, the error of an `on_worker_start`, a loop with nothing to run, a
    /// call inside a callback.
    ///
    /// # Panics
    /// With the panic of a callback, after `on_worker_stop` has run and the sockets are closed.
    pub fn run_all() -> Result {
        run::run_all()
    }

    /// One turn, for programs with a loop of their own: waits at most so long for events (seconds
    /// or a `Duration`; 0 does not wait), delivers them, returns. It returns as soon as something
    /// was delivered: a program that draws 60 frames a second keeps its own clock.
    ///
    /// The first call starts what [`run_all`](Self::run_all) would start; no signal handlers are
    /// installed. False: stopped, and all is closed. Until then a program that ends should call
    /// `stop_all` and go on turning, or its connections get no `on_close`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use workerman::prelude::*;
    ///
    /// const FRAME: Duration = Duration::from_millis(16);
    /// Timer::delay(0.05, || Worker::stop_all());
    /// let mut next = Instant::now();
    /// loop {
    ///     next += FRAME;
    ///     // draw(); then whatever the network has, until the next frame is due
    ///     let left = || next.saturating_duration_since(Instant::now());
    ///     while !left().is_zero() {
    ///         if !Worker::turn(left())? {
    ///             return Ok(());
    ///         }
    ///     }
    /// }
    /// # #[allow(unreachable_code)]
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`run_all`](Self::run_all); with nothing registered it waits.
    ///
    /// # Panics
    /// As [`run_all`](Self::run_all).
    pub fn turn(at_most: impl Into<Interval>) -> Result<bool> {
        run::turn(at_most.into())
    }

    /// Places and timers that this thread's loop holds: for tests of what is left behind.
    #[doc(hidden)]
    pub fn held() -> (usize, usize) {
        with_loop(|lp| lp.held()).unwrap_or_default()
    }

    /// Stops what this thread runs: `on_worker_stop` once the running callback has returned, then
    /// all connections close, then `run_all` returns. Before the start it is remembered. (Manual:
    /// Worker::stopAll.)
    pub fn stop_all() {
        with_loop(|lp| lp.ask_stop());
    }

    /// A line of the program's own in the log, at the level `info` and with the target
    /// `workerman`. Before `run_all` or `turn` it is lost, unless the program has installed a
    /// logger: these give it one. (Manual: Worker::log.)
    ///
    /// ```
    /// use workerman::Worker;
    ///
    /// Worker::log(format_args!("{} users", 3));
    /// ```
    pub fn log(line: impl fmt::Display) {
        log::info!(target: "workerman", "{line}");
    }

    /// Whether a run is on in this thread.
    pub fn is_running() -> bool {
        run::status() != RunStatus::Initial
    }

    /// Where the run of this thread stands: PHP's `Worker::getStatus`.
    pub fn status() -> RunStatus {
        run::status()
    }

    /// A panic in a callback counts as its `Err` (off: it ends the run, as an exception does in
    /// PHP).
    pub fn contain_panics(on: bool) {
        with_loop(|lp| lp.contain_panics(on));
    }
}

/// What every worker has.
impl<P: 'static> Worker<P> {
    pub(crate) fn with_core<T>(&self, f: impl FnOnce(&Rc<Core<P>>) -> T) -> Option<T> {
        let worker: Rc<dyn Any> = registry::find(self.number)?;
        worker.downcast::<Core<P>>().ok().map(|core| f(&core))
    }

    /// Its place among the processes of its worker; 0 where there is one process.
    pub fn id(&self) -> usize {
        0
    }

    /// This worker, whatever its protocol.
    pub fn any(&self) -> WorkerRef {
        WorkerRef::of(self.number)
    }

    /// For log lines and `Running::addr_of`.
    pub fn set_name(&self, name: &str) {
        self.with_core(|core| *core.name.borrow_mut() = name.to_owned());
    }

    /// `none` until it is set, as in PHP.
    pub fn name(&self) -> String {
        self.any().name()
    }

    /// A property of your own: PHP's `$worker->…`. What was there before is dropped.
    pub fn set<T: Any>(&self, value: T) {
        if let Some(core) = self.with_core(Rc::clone) {
            properties::set(&*core, value);
        }
    }

    /// A copy of it; `None` where it was never set, and on a stale handle.
    pub fn get<T: Any + Clone>(&self) -> Option<T> {
        properties::get(&*self.with_core(Rc::clone)?)
    }

    /// State of your own, by type; see `Connection::with`.
    pub fn with<T: Default + Any, U>(&self, f: impl FnOnce(&mut T) -> U) -> Option<U> {
        properties::with(&*self.with_core(Rc::clone)?, f)
    }

    /// What becomes of the connection whose callback returned `Err`; without one it is logged and
    /// closes.
    pub fn set_error_handler(
        &self,
        f: impl FnMut(AnyConnection, &(dyn std::error::Error + 'static)) -> Verdict + 'static,
    ) {
        let handler: registry::ErrorHandler = Rc::new(RefCell::new(f));
        let old = self.with_core(|core| core.error_handler.replace(Some(handler)));
        drop(old);
    }

    /// The run begins: before connections are accepted. An error ends the run, and `run_all`
    /// returns it.
    pub fn on_worker_start<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        let old = self.with_core(|core| core.on_start.replace(Some(of_worker(f))));
        drop(old);
    }

    /// The run ends: connections are still open. An error is logged.
    pub fn on_worker_stop<O: Outcome>(&self, f: impl FnMut(Self) -> O + 'static) {
        let old = self.with_core(|core| core.on_stop.replace(Some(of_worker(f))));
        drop(old);
    }
}

fn of_worker<P: 'static, O: Outcome>(
    mut f: impl FnMut(Worker<P>) -> O + 'static,
) -> Callback<dyn FnMut(Worker<P>) -> Settled> {
    Rc::new(RefCell::new(move |worker| Settle::settle(f(worker))))
}

impl<P: Protocol> Connection<P, Server> {
    /// The worker that accepted it. Untyped, since an upgrade may have changed the protocol.
    /// (Manual: `$connection->worker`.)
    pub fn worker(&self) -> WorkerRef {
        let number = self.with_slot(|_, slot| {
            let owner = slot.core.settings().owner()?;
            Some(owner.number())
        });
        WorkerRef::of(number.flatten().unwrap_or(u32::MAX))
    }
}

/// Whoever called `run_all` gets the error and prints it: here it is said for those who look for
/// the worker.
pub(crate) fn start_failed(
    worker: &dyn AnyWorker,
    e: crate::error::CallbackError,
) -> crate::error::CallbackError {
    log::debug!("on_worker_start of {:?} failed: {e}", worker.name());
    e
}

pub(crate) fn in_a_callback(what: &str) -> Error {
    Error::command(format!("{what} inside a callback: the loop that called it is running already"))
}
