//! The one door to waiting: mio's poll, its waker, and what it says of a socket.
use super::slab::Key;
use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// What ends a wait from another thread.
pub(crate) type Waker = mio::Waker;

/// Beyond every key: a generation never reaches `u32::MAX`.
const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);

/// What the poller saw at an endpoint. Spurious ones happen: a socket that says "would block" is
/// not an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer's end or an error has been seen: read on until the socket itself says so, since no
    /// further edge comes.
    pub(crate) closed: bool,
    /// No event: the ready list asks.
    pub(crate) again: bool,
}

impl Readiness {
    /// Asked again without an event: from the ready list.
    pub(crate) const AGAIN: Readiness =
        Readiness { readable: true, writable: true, closed: true, again: true };
}

/// What one poll brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Endpoint(Key, Readiness),
    Signals,
    /// Another thread called.
    Woken,
}

pub(crate) struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

impl Poller {
    const EVENTS_A_POLL: usize = 1024;

    pub(crate) fn new() -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Poller { poll, events: Events::with_capacity(Self::EVENTS_A_POLL), waker })
    }

    /// What other threads hold to end a wait.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Edges in both directions, once for the whole life of a socket: no system call when its
    /// interest changes.
    pub(crate) fn register(&self, source: &mut impl Source, key: Key) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(source, token(key), both)
    }

    /// The same socket under another key.
    pub(crate) fn reregister(&self, source: &mut impl Source, key: Key) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().reregister(source, token(key), both)
    }

    /// Only the reading side: listeners and foreign descriptors.
    pub(crate) fn register_readable(&self, source: &mut impl Source, key: Key) -> io::Result<()> {
        self.poll.registry().register(source, token(key), Interest::READABLE)
    }

    /// Watches a foreign descriptor.
    pub(crate) fn register_descriptor(&self, descriptor: RawFd, key: Key) -> io::Result<()> {
        self.register_readable(&mut SourceFd(&descriptor), key)
    }

    /// Asks again whether it is readable now: the next poll says so, as a level-triggered one
    /// would.
    pub(crate) fn rearm_descriptor(&self, descriptor: RawFd, key: Key) -> io::Result<()> {
        let source = &mut SourceFd(&descriptor);
        self.poll.registry().reregister(source, token(key), Interest::READABLE)
    }

    pub(crate) fn deregister_descriptor(&self, descriptor: RawFd) -> io::Result<()> {
        self.poll.registry().deregister(&mut SourceFd(&descriptor))
    }

    pub(crate) fn register_signals(&self, source: &mut impl Source) -> io::Result<()> {
        self.poll.registry().register(source, SIGNALS, Interest::READABLE)
    }

    /// Waits; `None`: until something happens. What was seen stays until the next wait. An
    /// interrupted wait is a short one.
    pub(crate) fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, at_most) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn seen(&self) -> impl Iterator<Item = Seen> + '_ {
        self.events.iter().map(|event| match event.token() {
            WAKER => Seen::Woken,
            SIGNALS => Seen::Signals,
            Token(key) => Seen::Endpoint(
                Key::from_u64(key as u64),
                Readiness {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    closed: event.is_read_closed() || event.is_error() || event.is_write_closed(),
                    again: false,
                },
            ),
        })
    }
}

fn token(key: Key) -> Token {
    Token(key.to_u64() as usize)
}
