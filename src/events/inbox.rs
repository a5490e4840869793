//! The one door from other threads.
use super::poller::Waker;
use super::{Loop, Settled, with_loop};
use crate::Outcome;
use crate::error::Settle;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() -> Settled + Send>;

#[derive(Default)]
struct Shared {
    /// Something waits, and the loop has been woken for it.
    mail: AtomicBool,
    letters: Mutex<Letters>,
}

#[derive(Default)]
struct Letters {
    jobs: Vec<Job>,
    stop: bool,
    /// The run has ended: nothing is taken any more.
    ended: bool,
    waker: Option<Arc<Waker>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, write: impl FnOnce(&mut Letters)) -> bool {
        let waker = {
            let mut letters = self.lock();
            if letters.ended {
                return false;
            }
            write(&mut letters);
            letters.waker.clone()
        };
        let first = !self.mail.swap(true, Ordering::AcqRel);
        if let (true, Some(waker)) = (first, waker) {
            // It fails only where the loop's own poll would: then the next turn finds the mail.
            let _ = waker.wake();
        }
        true
    }
}

/// The door from other threads into a loop: `Send`, `Sync`, cheap to clone.
///
/// ```
/// use workerman::{LoopHandle, Worker};
///
/// let worker = Worker::new();
/// worker.on_worker_start(|_| {
///     let door = LoopHandle::current();
///     std::thread::spawn(move || door.defer(|| Worker::stop_all()));
/// });
/// Worker::run_all().unwrap();
/// ```
#[derive(Clone)]
pub struct LoopHandle {
    shared: Arc<Shared>,
}

impl LoopHandle {
    /// The door of this thread's loop; the loop is made if there is none yet. It serves the run
    /// that is on or comes next.
    ///
    /// While the thread's locals are torn down it is the door of a loop that has ended.
    pub fn current() -> LoopHandle {
        with_loop(|lp| lp.inbox.handle()).unwrap_or_else(|| {
            let shared = Arc::new(Shared::default());
            shared.lock().ended = true;
            LoopHandle { shared }
        })
    }

    /// Runs `f` on the loop, in the order given; one that is added during a turn runs in the next.
    ///
    /// False: the loop's run has ended, `f` was dropped. An error that `f` returns is logged.
    /// Closures that are left when the run ends are dropped on the loop's thread.
    pub fn defer<O: Outcome>(&self, f: impl FnOnce() -> O + Send + 'static) -> bool {
        let job: Job = Box::new(move || Settle::settle(f()));
        self.shared.post(|letters| letters.jobs.push(job))
    }

    /// As `Worker::stop_all()` on the loop. Nothing happens if its run has ended.
    pub fn stop(&self) {
        self.shared.post(|letters| letters.stop = true);
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.shared.lock();
        f.debug_struct("LoopHandle")
            .field("waiting", &letters.jobs.len())
            .field("ended", &letters.ended)
            .finish()
    }
}

/// The loop's side of its door.
#[derive(Default)]
pub(crate) struct Inbox {
    shared: std::cell::RefCell<Arc<Shared>>,
}

impl Inbox {
    pub(crate) fn handle(&self) -> LoopHandle {
        LoopHandle { shared: self.shared.borrow().clone() }
    }

    pub(super) fn wake_by(&self, waker: Arc<Waker>) {
        let shared = self.shared.borrow();
        shared.lock().waker = Some(waker.clone());
        if shared.mail.load(Ordering::Acquire) {
            // Posted before there was anyone to wake.
            let _ = waker.wake();
        }
    }

    /// For helper threads that only say "look again".
    pub(super) fn notifier(&self) -> Arc<dyn Fn() + Send + Sync> {
        let shared = self.shared.borrow().clone();
        Arc::new(move || {
            shared.post(|_| {});
        })
    }

    /// Runs what waited when it was called.
    pub(super) fn deliver(&self, lp: &Rc<Loop>) {
        let shared = self.shared.borrow().clone();
        shared.mail.store(false, Ordering::Release);
        let (jobs, stop) = {
            let mut letters = shared.lock();
            (mem::take(&mut letters.jobs), mem::take(&mut letters.stop))
        };
        if stop {
            lp.ask_stop();
            lp.after_callback();
        }
        for job in jobs {
            if let Err(e) = lp.call(job) {
                log::error!("a deferred closure failed: {e}");
            }
            lp.after_callback();
        }
    }

    /// The run has ended: its handles answer false for ever, and the next run has a door of its
    /// own.
    pub(crate) fn close(&self) {
        let fresh = Arc::new(Shared::default());
        let (left, waker) = {
            let shared = self.shared.borrow();
            let mut letters = shared.lock();
            letters.ended = true;
            (mem::take(&mut letters.jobs), letters.waker.take())
        };
        fresh.lock().waker = waker;
        let old = self.shared.replace(fresh);
        drop((left, old));
    }
}

/// The loop is gone with its thread, without the end of a run.
impl Drop for Inbox {
    fn drop(&mut self) {
        let left = {
            let mut letters = self.shared.get_mut().lock();
            letters.ended = true;
            letters.waker = None;
            mem::take(&mut letters.jobs)
        };
        drop(left);
    }
}
