//! A loop in a thread of its own: for tests, and for programs whose main thread is busy.
use super::{registry, run};
use crate::events::{LoopHandle, panic_text};
use crate::{Error, Result};
use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread::{JoinHandle, ThreadId};

/// Runs `setup` and then the loop in a thread of its own, without signals; returns once all its
/// workers listen.
///
/// Handles made in `setup` belong to that loop; what the caller needs of them goes through
/// [`Running::addr`], a channel, or [`LoopHandle::defer`]. `spawn` installs no log: a program all
/// of whose loops are spawned installs one itself to see what the library says.
///
/// # Errors
/// The error of `setup` or of an `on_worker_start`, a port that cannot be had, and a panic before
/// it listens.
///
/// ```
/// use workerman::prelude::*;
///
/// let server = workerman::spawn(|| {
///     let echo = Worker::<Text>::listen("text://127.0.0.1:0")?;
///     echo.on_message(|con, line| con.send(line));
///     Ok(())
/// })?;
/// assert_ne!(server.addr().port(), 0);
/// server.stop()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn spawn(setup: impl FnOnce() -> Result + Send + 'static) -> Result<Running> {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::Builder::new().name("workerman-loop".into()).spawn(move || {
        let begun = catch_unwind(AssertUnwindSafe(|| setup().and_then(|()| run::begin_spawned())));
        match begun {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                run::abandon();
                let _ = tell.send(Err(e));
                return Ok(());
            }
            Err(panic) => {
                run::abandon();
                let text = panic_text(&*panic).to_owned();
                let _ =
                    tell.send(Err(Error::command(format!("spawn: it panicked: {text}")).into()));
                return Ok(());
            }
        }
        let listening = registry::all()
            .iter()
            .filter_map(|worker| Some((worker.name(), worker.local_addr()?)))
            .collect();
        let _ = tell.send(Ok((LoopHandle::current(), listening)));
        drop(tell);
        run::go_on()
    });
    let thread = thread.map_err(|e| Error::io("starting a thread for a loop", e))?;
    match told.recv() {
        Ok(Ok((handle, listening))) => Ok(Running { handle, listening, thread: Some(thread) }),
        Ok(Err(e)) => {
            join(thread).ok();
            Err(e)
        }
        Err(_) => Err(Error::command("spawn: its thread ended before it listened").into()),
    }
}

/// A loop in its thread. Dropping it stops the loop and waits; a panic of that thread goes on in
/// the one that waits.
///
/// While a thread unwinds, dropping it only logs the loop's panic. On the loop's own thread it asks
/// for the stop and does not wait.
pub struct Running {
    handle: LoopHandle,
    listening: Vec<(String, SocketAddr)>,
    thread: Option<JoinHandle<Result>>,
}

impl Running {
    /// Where the first worker listens.
    ///
    /// # Panics
    /// If no worker listens on a socket with such an address.
    pub fn addr(&self) -> SocketAddr {
        match self.listening.first() {
            Some((_, addr)) => *addr,
            None => panic!("no worker of this loop listens on an address"),
        }
    }

    /// Where the worker with this name listens.
    pub fn addr_of(&self, worker: &str) -> Option<SocketAddr> {
        self.listening.iter().find(|(name, _)| name == worker).map(|(_, addr)| *addr)
    }

    /// The loop's door.
    pub fn handle(&self) -> LoopHandle {
        self.handle.clone()
    }

    /// Stops, waits, and hands over what the run returned.
    ///
    /// # Errors
    /// What the run returned; on the loop's own thread, which cannot wait for itself.
    ///
    /// # Panics
    /// With the panic of the loop's thread.
    pub fn stop(mut self) -> Result {
        self.handle.stop();
        match self.thread.take() {
            Some(thread) if is_current(&thread) => Err(Error::command(
                "Running::stop on the loop's own thread would wait for itself: call \
                 Worker::stop_all()",
            )
            .into()),
            Some(thread) => match join(thread) {
                Ok(result) => result,
                Err(panic) => resume_unwind(panic),
            },
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.handle.stop();
        if is_current(&thread) {
            return;
        }
        match join(thread) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => log::error!("a spawned loop ended with an error: {e}"),
            Err(panic) if std::thread::panicking() => {
                log::error!("a spawned loop panicked: {}", panic_text(&*panic));
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("listening", &self.listening).finish_non_exhaustive()
    }
}

fn is_current(thread: &JoinHandle<Result>) -> bool {
    let own: ThreadId = std::thread::current().id();
    thread.thread().id() == own
}

fn join(thread: JoinHandle<Result>) -> Result<Result, Box<dyn Any + Send>> {
    thread.join()
}
