//! The one door to signals: signal-hook, delivered on the loop.
use super::{Callback, Loop, Settled, clock, with_loop};
use crate::error::Settle;
use crate::{Error, Outcome};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook_mio::v1_0::Signals as Source;
use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// One key press reaches a process twice where its group gets it too: closer ones are the same.
const SAME_KEY_PRESS: Duration = Duration::from_millis(500);
const EXIT_BY_SIGINT: i32 = 130;

/// What the process was asked for by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopSignal {
    Stop,
    Graceful,
}

type OnSignal = Callback<dyn FnMut(i32) -> Settled>;

#[derive(Default)]
pub(crate) struct Signals {
    source: RefCell<Option<Source>>,
    handlers: RefCell<Vec<(i32, OnSignal)>>,
    /// The library's own meanings are in force: a loop on the main thread runs.
    installed: Cell<bool>,
    asked: Cell<Option<StopSignal>>,
    second_interrupt: RefCell<Option<signal_hook::iterator::Handle>>,
}

impl Signals {
    /// SIGINT, SIGTERM, SIGHUP: stop; SIGQUIT: graceful. Only a loop on the main thread asks for
    /// it.
    pub(crate) fn install(&self, lp: &Loop) -> io::Result<()> {
        let defaults = defaults()?;
        let hang_up = !ignored_at_start(SIGHUP);
        for signal in [SIGINT, SIGTERM, SIGQUIT].into_iter().chain(hang_up.then_some(SIGHUP)) {
            self.watch(lp, signal)?;
        }
        self.installed.set(true);
        defaults.store(false, Ordering::SeqCst);
        // At a terminal from the start, since the callback that the keys are meant for may hang.
        // Elsewhere from the first one on: a second thread makes each system call a little dearer.
        if std::io::stdin().is_terminal() {
            *self.second_interrupt.borrow_mut() = Some(exit_by_second_interrupt(None)?);
        }
        Ok(())
    }

    /// The run has ended: signals do again what they do in a process that never asked.
    pub(super) fn clear(&self) {
        if self.installed.take() {
            if let Ok(defaults) = defaults() {
                defaults.store(true, Ordering::SeqCst);
            }
            if let Some(watcher) = self.second_interrupt.take() {
                watcher.close();
            }
        }
        self.asked.set(None);
        let source = self.source.take();
        let handlers = self.handlers.take();
        drop((source, handlers));
    }

    /// The process was asked to stop, and nobody has acted on it yet.
    #[inline]
    pub(crate) fn has_stop(&self) -> bool {
        self.asked.get().is_some()
    }

    pub(crate) fn take_stop(&self) -> Option<StopSignal> {
        self.asked.take()
    }

    fn watch(&self, lp: &Loop, signal: i32) -> io::Result<()> {
        let mut source = self.source.borrow_mut();
        match &*source {
            Some(source) => source.add_signal(signal),
            None => {
                let mut made = Source::new([signal])?;
                lp.with_poller(|poller| poller.register_signals(&mut made))?;
                *source = Some(made);
                Ok(())
            }
        }
    }

    pub(super) fn deliver(&self, lp: &Rc<Loop>) {
        let pending: Vec<i32> = match &mut *self.source.borrow_mut() {
            Some(source) => source.pending().collect(),
            None => return,
        };
        for signal in pending {
            let theirs: Vec<_> = {
                let handlers = self.handlers.borrow();
                handlers.iter().filter(|(s, _)| *s == signal).map(|(_, f)| f.clone()).collect()
            };
            if theirs.is_empty() {
                self.ask(signal);
            }
            for call in theirs {
                if let Err(e) = lp.call(|| (call.borrow_mut())(signal)) {
                    log::error!("the callback of signal {signal} failed: {e}");
                }
                lp.after_callback();
            }
        }
    }

    fn ask(&self, signal: i32) {
        if !self.installed.get() {
            return;
        }
        let asked = if signal == SIGQUIT { StopSignal::Graceful } else { StopSignal::Stop };
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        let how = if signal == SIGQUIT { " when the connections have ended" } else { "" };
        log::info!("received {name}, stopping{how}");
        if self.asked.get() != Some(StopSignal::Stop) {
            self.asked.set(Some(asked));
        }
        if signal == SIGINT && self.second_interrupt.borrow().is_none() {
            match exit_by_second_interrupt(Some(clock())) {
                Ok(watcher) => *self.second_interrupt.borrow_mut() = Some(watcher),
                Err(e) => log::warn!("a second SIGINT will not end the process at once: {e}"),
            }
        }
    }
}

/// Calls `f` on the loop when the process gets `signal`: PHP's `Worker::$globalEvent->onSignal`.
///
/// It takes the signal over: one that the library acts on itself (SIGINT, SIGTERM, SIGQUIT, SIGHUP)
/// then only calls `f`. It ends with the run. An error that `f` returns is logged.
///
/// # Errors
/// [`Error::Io`] for a signal that cannot be caught, and where the system has no descriptors left.
///
/// ```no_run
/// workerman::on_signal(10, |signal| println!("got {signal}"))?;
/// # Ok::<(), workerman::Error>(())
/// ```
pub fn on_signal<O: Outcome>(
    signal: i32,
    mut f: impl FnMut(i32) -> O + 'static,
) -> Result<(), Error> {
    let doing = || format!("catching signal {signal}");
    if signal_hook::consts::FORBIDDEN.contains(&signal) {
        return Err(Error::io(doing(), io::Error::other("the system lets nobody catch it")));
    }
    let call: OnSignal = Rc::new(RefCell::new(move |signal| Settle::settle(f(signal))));
    let watched = with_loop(|lp| {
        lp.signals().watch(lp, signal)?;
        lp.signals().handlers.borrow_mut().push((signal, call));
        Ok(())
    });
    watched.unwrap_or(Ok(())).map_err(|e| Error::io(doing(), e))
}

/// True: a signal of ours does what it would do by default. Registered before every other handler,
/// so it decides first.
fn defaults() -> io::Result<&'static Arc<AtomicBool>> {
    static DEFAULTS: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(defaults) = DEFAULTS.get() {
        return Ok(defaults);
    }
    let defaults = Arc::new(AtomicBool::new(false));
    let hang_up = !ignored_at_start(SIGHUP);
    for signal in [SIGINT, SIGTERM, SIGQUIT].into_iter().chain(hang_up.then_some(SIGHUP)) {
        signal_hook::flag::register_conditional_default(signal, defaults.clone())?;
    }
    Ok(DEFAULTS.get_or_init(|| defaults))
}

/// A thread of its own, since the loop may hang in the very callback that the second Ctrl-C is
/// meant for. `first`: when the first one came, if it has.
fn exit_by_second_interrupt(
    mut first: Option<Instant>,
) -> io::Result<signal_hook::iterator::Handle> {
    let mut interrupts = signal_hook::iterator::Signals::new([SIGINT])?;
    let handle = interrupts.handle();
    std::thread::Builder::new().name("workerman-sigint".into()).stack_size(64 << 10).spawn(
        move || {
            for _ in interrupts.forever() {
                match first {
                    Some(at) if clock().saturating_duration_since(at) >= SAME_KEY_PRESS => {
                        signal_hook::low_level::exit(EXIT_BY_SIGINT)
                    }
                    Some(_) => {}
                    None => first = Some(clock()),
                }
            }
        },
    )?;
    Ok(handle)
}

/// nohup and shells' background jobs start a program with signals ignored; it then stays so.
fn ignored_at_start(signal: i32) -> bool {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    let ignored = *IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    });
    ignored >> (signal - 1) & 1 == 1
}
