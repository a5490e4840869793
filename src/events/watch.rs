//! Foreign descriptors on the loop.
use super::{Callback, Ending, Endpoint, Key, Loop, Readiness, Settled, with_loop};
use crate::error::Settle;
use crate::{Error, Outcome};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

/// Calls `f` whenever `source` can be read: PHP's `onReadable`. Ends when the [`Watch`] is dropped,
/// or with the run.
///
/// Level-triggered: `f` need not read everything, it is called again in the next turn while
/// something is left. That holds at the source's end, too, where reading gives 0 bytes at once:
/// drop the `Watch` there (PHP's `offReadable`), or the loop spins. A source that blocks the reader
/// blocks the loop. An error that `f` returns is logged.
///
/// # Errors
/// [`Error::Io`] for a descriptor that the system cannot wait for, such as a regular file.
///
/// ```
/// use std::cell::Cell;
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use std::rc::Rc;
/// use workerman::prelude::*;
///
/// let (mut far, near) = UnixStream::pair()?;
/// near.set_nonblocking(true)?;
/// let watch = Rc::new(Cell::new(None));
/// let own = watch.clone();
/// watch.set(Some(workerman::on_readable(near, move |mut near| {
///     let mut buffer = [0; 512];
///     match near.read(&mut buffer)? {
///         0 => {
///             own.take(); // the end: watched no longer
///             Worker::stop_all();
///         }
///         length => println!("{length} bytes"),
///     }
///     Ok(())
/// })?));
/// far.write_all(b"hello")?;
/// drop(far);
/// Worker::new();
/// Worker::run_all()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn on_readable<S: AsFd + 'static, O: Outcome>(
    source: S,
    mut f: impl FnMut(&S) -> O + 'static,
) -> Result<Watch<S>, Error> {
    let source = Rc::new(source);
    let descriptor = source.as_fd().as_raw_fd();
    let theirs = source.clone();
    let call: Callback<dyn FnMut() -> Settled> =
        Rc::new(RefCell::new(move || Settle::settle(f(&theirs))));
    let watched = with_loop(|lp| {
        let registered = Cell::new(false);
        let mut made = None;
        let key = lp.insert_with(|key| {
            let watched = Rc::new(Watched { key, descriptor, registered, call });
            made = Some(watched.clone());
            watched
        });
        let registered = lp.with_poller(|poller| poller.register_descriptor(descriptor, key));
        match (&registered, made) {
            (Ok(()), Some(watched)) => watched.registered.set(true),
            _ => drop(lp.remove(key)),
        }
        registered.map(|()| key)
    });
    match watched {
        Some(Ok(key)) => Ok(Watch { key: Some(key), source, _not_send: PhantomData }),
        Some(Err(e)) => Err(Error::io(format!("watching descriptor {descriptor}"), e)),
        None => Ok(Watch { key: None, source, _not_send: PhantomData }),
    }
}

/// Keeps a foreign descriptor watched.
#[must_use = "dropping it ends the watching"]
pub struct Watch<S> {
    key: Option<Key>,
    source: Rc<S>,
    _not_send: PhantomData<*const ()>,
}

impl<S> Watch<S> {
    /// What is watched.
    pub fn source(&self) -> &S {
        &self.source
    }
}

impl<S> Drop for Watch<S> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            with_loop(|lp| {
                if let Some(watched) = lp.find(key) {
                    watched.handle_ending(lp, Ending::AtOnce);
                }
            });
        }
    }
}

impl<S: AsFd> fmt::Debug for Watch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("descriptor", &self.source.as_fd()).finish()
    }
}

struct Watched {
    key: Key,
    descriptor: i32,
    /// By this one: another may watch the same descriptor.
    registered: Cell<bool>,
    /// Holds the source too, so that the descriptor stays open while its callback runs.
    call: Callback<dyn FnMut() -> Settled>,
}

impl Endpoint for Watched {
    fn handle_ready(self: Rc<Self>, lp: &Rc<Loop>, _: Readiness) {
        if let Err(e) = lp.call(|| (self.call.borrow_mut())()) {
            log::error!("the callback of descriptor {} failed: {e}", self.descriptor);
        }
        lp.after_callback();
        if lp.find(self.key).is_some() {
            let rearmed =
                lp.with_poller(|poller| poller.rearm_descriptor(self.descriptor, self.key));
            if let Err(e) = rearmed {
                log::error!("descriptor {} is watched no longer: {e}", self.descriptor);
                drop(lp.remove(self.key));
            }
        }
    }

    fn handle_ending(self: Rc<Self>, lp: &Rc<Loop>, _: Ending) {
        let ended = lp.remove(self.key);
        // Now, not when its running callback has returned: that one may watch it again.
        self.deregister();
        drop(ended);
    }
}

impl Watched {
    fn deregister(&self) {
        if !self.registered.take() {
            return;
        }
        let gone =
            with_loop(|lp| lp.with_poller(|poller| poller.deregister_descriptor(self.descriptor)));
        match gone {
            Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => {
                log::debug!("descriptor {}: {e}", self.descriptor);
            }
            _ => {}
        }
    }
}

/// However it ends, also with a run that panicked: the descriptor may live on and be watched again.
impl Drop for Watched {
    fn drop(&mut self) {
        self.deregister();
    }
}
