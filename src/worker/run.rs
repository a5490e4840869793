//! Running: start, turn after turn, stop.
use super::in_a_callback;
use super::registry::{self, AnyWorker};
use crate::connection::{Core, Stage};
use crate::events::signal::StopSignal;
use crate::events::{Ending, Loop, panic_text, with_loop};
use crate::{Error, Interval, Limits, Result};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// Connections may take so long to say goodbye: the least of 5 s and the stop timeout (2 s) without
/// its last 0.2 s.
const GOODBYES: Duration = Duration::from_millis(1800);

/// PHP's `Worker::STATUS_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum RunStatus {
    /// No run is on.
    Initial = 0,
    /// Sockets are bound, `on_worker_start` runs.
    Starting = 1,
    /// Turn after turn.
    Running = 2,
    /// From `on_worker_stop` on.
    Shutdown = 4,
    /// A worker is being replaced.
    Reloading = 8,
}

/// The number.
impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// How far the run of this thread is.
struct Run {
    status: Cell<RunStatus>,
    /// Stopping: what is left then is destroyed.
    destroy_at: Cell<Option<Instant>>,
    /// Graceful: connections end by themselves until then.
    graceful_until: Cell<Option<Instant>>,
    destroyed: Cell<bool>,
    /// A part of the run is on the stack: neither callbacks nor destructors may begin another.
    inside: Cell<bool>,
    /// Whose `on_worker_start` has returned.
    started: RefCell<VecDeque<Rc<dyn AnyWorker>>>,
}

thread_local! {
    static RUN: Run = const {
        Run {
            status: Cell::new(RunStatus::Initial),
            destroy_at: Cell::new(None),
            graceful_until: Cell::new(None),
            destroyed: Cell::new(false),
            inside: Cell::new(false),
            started: RefCell::new(VecDeque::new()),
        }
    };
}

pub(super) fn status() -> RunStatus {
    RUN.try_with(|run| run.status.get()).unwrap_or(RunStatus::Initial)
}

/// Workers that are made now have missed the start.
pub(super) fn is_on() -> bool {
    matches!(status(), RunStatus::Starting | RunStatus::Running)
}

fn with_run<T>(f: impl FnOnce(&Rc<Loop>, &Run) -> T) -> Result<T> {
    let lp = with_loop(Rc::clone);
    let Some(lp) = lp else { return Err(Error::command("the thread of this loop ends").into()) };
    RUN.try_with(|run| f(&lp, run))
        .map_err(|_| Error::command("the thread of this loop ends").into())
}

pub(super) fn run_all() -> Result {
    with_run(|lp, run| {
        if lp.calling() || run.inside.get() {
            return Err(in_a_callback("run_all").into());
        }
        if status() != RunStatus::Initial {
            return Err(Error::command("run_all while a run is on: turn() has begun it").into());
        }
        if registry::all().is_empty() && lp.keys().is_empty() && !lp.has_program_timers() {
            return Err(Error::command(
                "run_all has nothing to run: make a worker, a connection or a timer first",
            )
            .into());
        }
        let on_main_thread = log_on_main_thread();
        guarded(lp, || start(lp, run, on_main_thread))?;
        while guarded(lp, || step(lp, run, None))? {}
        Ok(())
    })?
}

pub(super) fn turn(at_most: Interval) -> Result<bool> {
    with_run(|lp, run| {
        if lp.calling() || run.inside.get() {
            return Err(in_a_callback("turn").into());
        }
        if status() == RunStatus::Initial {
            log_on_main_thread();
            guarded(lp, || start(lp, run, false))?;
        }
        let at_most = if at_most.is_never() { None } else { Some(at_most.duration()) };
        guarded(lp, || step(lp, run, at_most))
    })?
}

/// For `spawn`: starts, without signals.
pub(super) fn begin_spawned() -> Result {
    with_run(|lp, run| {
        lp.prepare().map_err(|e| Error::io("making the loop's poll", e))?;
        guarded(lp, || start(lp, run, false))
    })?
}

/// For `spawn`: runs what has been started.
pub(super) fn go_on() -> Result {
    with_run(|lp, run| {
        while guarded(lp, || step(lp, run, None))? {}
        Ok(())
    })?
}

/// For `spawn`: what was made before the start failed ends.
pub(super) fn abandon() {
    let _ = with_run(|lp, _| end(lp));
}

/// The program's own panics pass through here: the run ends, then they go on in whoever runs it.
fn guarded<T>(lp: &Rc<Loop>, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let set_inside = |on| RUN.try_with(|run| run.inside.set(on)).unwrap_or_default();
    set_inside(true);
    let done = catch_unwind(AssertUnwindSafe(f));
    if let Err(panic) = &done {
        end_by_panic(lp, &**panic);
    }
    set_inside(false);
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

fn end_by_panic(lp: &Rc<Loop>, panic: &(dyn Any + Send)) {
    log::error!("the run ends: a callback panicked: {}", panic_text(panic));
    lp.recover_from_panic();
    while let Some(worker) = next_started() {
        match catch_unwind(AssertUnwindSafe(|| worker.call_stop(lp))) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => log::error!("on_worker_stop of {:?} failed: {e}", worker.name()),
            Err(panic) => {
                lp.recover_from_panic();
                let text = panic_text(&*panic);
                log::error!("on_worker_stop of {:?} panicked: {text}", worker.name());
            }
        }
    }
    end(lp);
}

// ---------------------------------------------------------------- start

fn start(lp: &Rc<Loop>, run: &Run, signals: bool) -> Result {
    run.status.set(RunStatus::Starting);
    run.destroy_at.set(None);
    run.graceful_until.set(None);
    run.destroyed.set(false);
    let started = begin(lp, run, signals);
    match started {
        Ok(()) => {
            run.status.set(RunStatus::Running);
            lp.on_stop(Some(stop_now));
            Ok(())
        }
        Err(e) => {
            stop_workers(lp);
            end(lp);
            Err(e)
        }
    }
}

fn begin(lp: &Rc<Loop>, run: &Run, signals: bool) -> Result {
    lp.prepare().map_err(|e| Error::io("making the loop's poll", e))?;
    lp.read_clock();
    if signals {
        lp.signals().install(lp).map_err(|e| Error::io("installing signal handlers", e))?;
    }
    let workers = registry::all();
    for worker in &workers {
        if let Some(side) = worker.listens() {
            side.bind(lp)?;
        }
    }
    for worker in workers {
        if let Err(e) = worker.call_start(lp) {
            return Err(super::start_failed(&*worker, e));
        }
        if let Some(side) = worker.listens() {
            side.accept(lp);
            tell_listening(&*worker);
        }
        run.started.borrow_mut().push_back(worker);
    }
    Ok(())
}

/// With the port that the system chose for 0.
pub(super) fn tell_listening(worker: &dyn AnyWorker) {
    let address = worker.address();
    let place = match (address.split_once("://"), worker.local_addr()) {
        (Some((scheme, _)), Some(bound)) => format!("{scheme}://{bound}"),
        _ => address,
    };
    log::info!("worker {:?} listens on {place}", worker.name());
}

/// Whether this is the main thread. There a log goes to stderr where the program installed none:
/// what the library says would be lost. Other threads are tests' and programs' with a plan.
fn log_on_main_thread() -> bool {
    let on_main_thread = std::thread::current().name() == Some("main");
    #[cfg(feature = "log-file")]
    if on_main_thread {
        let env = env_logger::Env::default().default_filter_or("info");
        // Another logger is there already: then it is the one.
        let _ = env_logger::Builder::from_env(env).try_init();
    }
    on_main_thread
}

// ---------------------------------------------------------------- turn after turn

/// One turn. False: the run has ended.
#[inline]
fn step(lp: &Rc<Loop>, run: &Run, at_most: Option<Duration>) -> Result<bool> {
    if run.status.get() != RunStatus::Running || run.graceful_until.get().is_some() {
        return step_to_the_end(lp, run, at_most);
    }
    let turned = lp.turn(at_most);
    if turned.is_err() || lp.signals().has_stop() {
        return after_turn(lp, run, turned);
    }
    Ok(true)
}

/// One turn of a run that ends.
#[inline(never)]
fn step_to_the_end(lp: &Rc<Loop>, run: &Run, at_most: Option<Duration>) -> Result<bool> {
    let deadline = run.destroy_at.get().or(run.graceful_until.get());
    let wait = match deadline.filter(|_| !run.destroyed.get()) {
        Some(at) => {
            let left = at.saturating_duration_since(lp.read_clock());
            Some(at_most.map_or(left, |most| most.min(left)))
        }
        None => at_most,
    };
    // A stop that was asked for before the first turn may leave nothing to wait for.
    let over = run.destroy_at.get().is_some() && connections_left(lp) == 0;
    let turned = lp.turn(if over { Some(Duration::ZERO) } else { wait });
    after_turn(lp, run, turned)
}

#[inline(never)]
fn after_turn(lp: &Rc<Loop>, run: &Run, turned: io::Result<()>) -> Result<bool> {
    if let Err(e) = turned {
        end(lp);
        return Err(Error::io("waiting for events", e).into());
    }
    match lp.signals().take_stop() {
        Some(StopSignal::Stop) => stop_now(lp),
        Some(StopSignal::Graceful) if run.destroy_at.get().is_none() => begin_graceful(lp, run),
        _ => {}
    }
    if let Some(until) = run.graceful_until.get()
        && run.destroy_at.get().is_none()
        && (connections_left(lp) == 0 || lp.now() >= until)
    {
        stop_now(lp);
    }
    let Some(destroy_at) = run.destroy_at.get() else { return Ok(true) };
    if lp.now() >= destroy_at && !run.destroyed.replace(true) {
        for key in lp.keys() {
            if let Some(endpoint) = lp.find(key) {
                endpoint.handle_ending(lp, Ending::AtOnce);
                lp.after_callback();
            }
        }
    }
    if connections_left(lp) > 0 || lp.has_queued() {
        return Ok(true);
    }
    end(lp);
    Ok(false)
}

/// Whose socket or opening has not ended. A client that waits or was never connected has nothing to
/// end: nobody waits for it.
fn connections_left(lp: &Loop) -> usize {
    let is_left = |key| {
        let endpoint = lp.find(key)?;
        let core = endpoint.common()?.downcast_ref::<Core>()?;
        Some(core.stage() > Stage::Waiting)
    };
    lp.keys().into_iter().filter(|&key| is_left(key) == Some(true)).count()
}

// ---------------------------------------------------------------- stop

/// Listeners close; connections go on until they end by themselves (http behind its next answer),
/// 30 s at most.
fn begin_graceful(lp: &Rc<Loop>, run: &Run) {
    let after = Limits::default().graceful;
    run.graceful_until.set(lp.now().checked_add(after));
    unlisten_all(lp);
    lp.set_stopping(true);
    for key in lp.keys() {
        if let Some(endpoint) = lp.find(key).filter(|endpoint| endpoint.common().is_some()) {
            endpoint.handle_ending(lp, Ending::Last);
            lp.after_callback();
        }
    }
}

fn unlisten_all(lp: &Rc<Loop>) {
    for worker in registry::all() {
        if let Some(side) = worker.listens() {
            side.unlisten(lp);
        }
    }
}

/// `on_worker_stop` of each worker, listeners, then every connection.
fn stop_now(lp: &Rc<Loop>) {
    let stopping = RUN.try_with(|run| {
        if run.destroy_at.get().is_some() {
            return true;
        }
        run.status.set(RunStatus::Shutdown);
        run.destroy_at.set(lp.read_clock().checked_add(GOODBYES));
        false
    });
    if stopping != Ok(false) {
        return;
    }
    stop_workers(lp);
    lp.silence_program_timers(true);
    lp.set_stopping(true);
    for key in lp.keys() {
        if let Some(endpoint) = lp.find(key) {
            endpoint.handle_ending(lp, Ending::Stopping);
            lp.after_callback();
        }
    }
}

/// One by one off the list: where one panics, the others are still there to be stopped.
fn stop_workers(lp: &Rc<Loop>) {
    while let Some(worker) = next_started() {
        if let Err(e) = worker.call_stop(lp) {
            log::error!("on_worker_stop of {:?} failed: {e}", worker.name());
        }
    }
}

fn next_started() -> Option<Rc<dyn AnyWorker>> {
    let next = RUN.try_with(|run| run.started.borrow_mut().pop_front());
    next.ok().flatten()
}

/// Everything registered ends, and its handles are stale; what is registered afterwards belongs to
/// the next run.
fn end(lp: &Rc<Loop>) {
    lp.on_stop(None);
    // A listening socket and its worker hold one another: a run that did not stop in order has not
    // parted them.
    unlisten_all(lp);
    lp.clear();
    lp.inbox().close();
    lp.take_stop();
    lp.set_stopping(false);
    let workers = registry::take_all();
    let status = RUN.try_with(|run| {
        run.destroy_at.set(None);
        run.graceful_until.set(None);
        run.status.set(RunStatus::Initial);
        run.started.take()
    });
    drop((workers, status));
}
