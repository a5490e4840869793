//! The workers of this thread.
use super::Worker;
use super::topics::Table;
use crate::connection::properties::{Holder, Properties};
use crate::error::CallbackError;
use crate::events::{Callback, Key, Loop, Settled};
use crate::{AnyConnection, Verdict};
use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

pub(crate) type ErrorHandler =
    Callback<dyn FnMut(AnyConnection, &(dyn std::error::Error + 'static)) -> Verdict>;

/// The side of a worker that listens, whatever its protocol.
pub(crate) trait Listens: Any {
    /// Binds; nothing is accepted yet.
    fn bind(&self, lp: &Rc<Loop>) -> Result<(), crate::Error>;
    /// Accepts from now on.
    fn accept(&self, lp: &Rc<Loop>);
    /// Closes the listening socket; connections are left alone.
    fn unlisten(&self, lp: &Rc<Loop>);
    fn local_addr(&self) -> Option<SocketAddr>;
    fn address(&self) -> String;
    fn connections(&self) -> Vec<Key>;
    fn connection(&self, lp: &Loop, id: u64) -> Option<Key>;
    fn topics(&self) -> &Table;
}

/// A worker, whatever its protocol.
pub(crate) trait AnyWorker: Any {
    fn number(&self) -> u32;
    fn name(&self) -> String;
    fn call_start(&self, lp: &Rc<Loop>) -> Settled;
    fn call_stop(&self, lp: &Rc<Loop>) -> Settled;
    fn listens(&self) -> Option<&Rc<dyn Listens>>;
    fn judge(&self, lp: &Rc<Loop>, con: AnyConnection, e: &CallbackError) -> Option<Verdict>;

    fn local_addr(&self) -> Option<SocketAddr> {
        self.listens()?.local_addr()
    }
    /// `none` for a worker that listens on nothing, as in PHP.
    fn address(&self) -> String {
        self.listens().map_or_else(|| "none".into(), |side| side.address())
    }
    fn connections(&self) -> Vec<Key> {
        self.listens().map(|side| side.connections()).unwrap_or_default()
    }
    fn connection(&self, lp: &Loop, id: u64) -> Option<Key> {
        self.listens()?.connection(lp, id)
    }
}

type OnWorker<P> = Callback<dyn FnMut(Worker<P>) -> Settled>;

pub(crate) struct Core<P: 'static> {
    number: u32,
    pub(crate) name: RefCell<String>,
    pub(crate) data: RefCell<Properties>,
    pub(crate) on_start: RefCell<Option<OnWorker<P>>>,
    pub(crate) on_stop: RefCell<Option<OnWorker<P>>>,
    pub(crate) error_handler: RefCell<Option<ErrorHandler>>,
    listens: Option<Rc<dyn Listens>>,
}

impl<P: 'static> Core<P> {
    pub(crate) fn new(number: u32, listens: Option<Rc<dyn Listens>>) -> Self {
        Core {
            number,
            name: RefCell::new("none".into()),
            data: RefCell::default(),
            on_start: RefCell::new(None),
            on_stop: RefCell::new(None),
            error_handler: RefCell::new(None),
            listens,
        }
    }

    fn call(&self, lp: &Rc<Loop>, which: &RefCell<Option<OnWorker<P>>>) -> Settled {
        let f = which.borrow().clone();
        let Some(f) = f else { return Ok(()) };
        let settled = lp.call(|| (f.borrow_mut())(Worker::of(self.number)));
        lp.after_callback();
        settled
    }
}

impl<P: 'static> Holder for Core<P> {
    fn properties<T>(&self, f: impl FnOnce(&mut Properties) -> T) -> T {
        f(&mut self.data.borrow_mut())
    }
}

impl<P: 'static> AnyWorker for Core<P> {
    fn number(&self) -> u32 {
        self.number
    }

    fn name(&self) -> String {
        self.name.borrow().clone()
    }

    fn call_start(&self, lp: &Rc<Loop>) -> Settled {
        self.call(lp, &self.on_start)
    }

    fn call_stop(&self, lp: &Rc<Loop>) -> Settled {
        self.call(lp, &self.on_stop)
    }

    fn listens(&self) -> Option<&Rc<dyn Listens>> {
        self.listens.as_ref()
    }

    fn judge(&self, lp: &Rc<Loop>, con: AnyConnection, e: &CallbackError) -> Option<Verdict> {
        let handler = self.error_handler.borrow().clone()?;
        let mut verdict = None;
        let settled = lp.call(|| {
            verdict = Some((handler.borrow_mut())(con, &**e));
            Ok(())
        });
        if let Err(e) = settled {
            log::error!("the error handler of worker {:?} failed: {e}", self.name());
        }
        verdict
    }
}

thread_local! {
    static WORKERS: RefCell<Vec<Rc<dyn AnyWorker>>> = const { RefCell::new(Vec::new()) };
    static NUMBERS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Registers a worker. While the thread's locals are torn down its handle is stale.
pub(crate) fn add(make: impl FnOnce(u32) -> Rc<dyn AnyWorker>) -> u32 {
    let Ok(number) = NUMBERS.try_with(|last| {
        last.set(last.get() + 1);
        last.get()
    }) else {
        return u32::MAX;
    };
    let worker = make(number);
    let _ = WORKERS.try_with(|workers| workers.borrow_mut().push(worker));
    number
}

pub(crate) fn find(number: u32) -> Option<Rc<dyn AnyWorker>> {
    let found = WORKERS.try_with(|workers| {
        let workers = workers.borrow();
        workers.iter().find(|worker| worker.number() == number).cloned()
    });
    found.ok().flatten()
}

/// In the order in which they were made.
pub(crate) fn all() -> Vec<Rc<dyn AnyWorker>> {
    WORKERS.try_with(|workers| workers.borrow().clone()).unwrap_or_default()
}

/// The run has ended: their handles go stale. They are dropped by the caller, outside every borrow.
pub(crate) fn take_all() -> Vec<Rc<dyn AnyWorker>> {
    WORKERS.try_with(|workers| std::mem::take(&mut *workers.borrow_mut())).unwrap_or_default()
}

/// One that could not begin.
pub(crate) fn remove(number: u32) -> Option<Rc<dyn AnyWorker>> {
    let removed = WORKERS.try_with(|workers| {
        let mut workers = workers.borrow_mut();
        let at = workers.iter().position(|worker| worker.number() == number)?;
        Some(workers.remove(at))
    });
    removed.ok().flatten()
}
