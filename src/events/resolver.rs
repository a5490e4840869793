//! Names become addresses in threads of their own: `getaddrinfo` may take half a minute, the loop
//! has no such time. It is asked for everything that is no literal, so that `/etc/hosts`,
//! `nsswitch.conf` and a VPN's rules hold.
//!
//! At most one look-up a name is under way; whoever else asks waits for it. What was found holds
//! for ten seconds, unless [`Resolver::forget`] says that it led nowhere; failures are not kept.
//! The caller has a deadline of its own and need not tell when it gives up: an answer that nobody
//! waits for is dropped.
use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, mem};

/// Names that are looked up at the same time; more of them wait.
const THREADS: usize = 16;
/// A thread without work ends.
const IDLE: Duration = Duration::from_secs(10);
/// What was found holds so long.
const FRESH: Duration = Duration::from_secs(10);
/// Names kept; beyond that the stale ones go.
const KEPT: usize = 1024;

/// Looks names up; belongs to one loop.
pub(crate) struct Resolver {
    pool: Arc<Pool>,
    /// By name in lower case: who waits for the look-up that is under way.
    flights: HashMap<Box<str>, Vec<Waiting>>,
    found: HashMap<Box<str>, Found>,
}

struct Waiting {
    ticket: u64,
    port: u16,
}

/// Addresses with port 0: the port is the asker's.
struct Found {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

/// Why a name has no address, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolveError {
    pub(crate) reason: String,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What an asker gets: addresses with its port, in the order in which to try them.
pub(crate) type Resolved = Result<Vec<SocketAddr>, ResolveError>;

/// The system's look-up, or a test's.
pub(crate) type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    /// `notify` is called in a thread of the pool when [`take_ready`](Resolver::take_ready) has
    /// something.
    pub(crate) fn new(notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self::with_lookup(notify, Arc::new(system_lookup))
    }

    /// With something else than the system's look-up.
    pub(crate) fn with_lookup(notify: Arc<dyn Fn() + Send + Sync>, lookup: Arc<Lookup>) -> Self {
        Self::with_idle(notify, lookup, IDLE)
    }

    fn with_idle(notify: Arc<dyn Fn() + Send + Sync>, lookup: Arc<Lookup>, idle: Duration) -> Self {
        let state = Mutex::default();
        let pool = Arc::new(Pool { state, work: Condvar::new(), notify, lookup, idle });
        Resolver { pool, flights: HashMap::new(), found: HashMap::new() }
    }

    /// At once for a literal and for what is known; otherwise
    /// [`take_ready`](Resolver::take_ready) answers with this ticket. `now` is the loop's.
    pub(crate) fn resolve(
        &mut self,
        host: &str,
        port: u16,
        ticket: u64,
        now: Instant,
    ) -> Option<Resolved> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Ok(vec![SocketAddr::new(ip, port)]));
        }
        let name: Box<str> = host.to_ascii_lowercase().into();
        if let Some(found) = self.found.get(&name).filter(|found| now < found.until) {
            return Some(Ok(with_port(&found.addresses, port)));
        }
        let waiting = Waiting { ticket, port };
        if let Some(flight) = self.flights.get_mut(&name) {
            flight.push(waiting);
            return None;
        }
        if let Err(e) = self.pool.add(name.clone()) {
            let reason = format!("the name {host} cannot be looked up: no thread for it: {e}");
            return Some(Err(ResolveError { reason }));
        }
        self.flights.insert(name, vec![waiting]);
        None
    }

    /// The answers that have come: tickets, in the order in which they asked for each name.
    pub(crate) fn take_ready(&mut self, now: Instant) -> Vec<(u64, Resolved)> {
        let mut ready = Vec::new();
        let answers = mem::take(&mut self.pool.lock().answers);
        for (name, answer) in answers {
            let waiting = self.flights.remove(&name).unwrap_or_default();
            for Waiting { ticket, port } in waiting {
                ready.push((ticket, answer.clone().map(|found| with_port(&found, port))));
            }
            if let Ok(addresses) = answer {
                self.keep(name, Found { addresses, until: now + FRESH }, now);
            }
        }
        ready
    }

    /// What is known of this name led nowhere: the next one who asks gets a fresh answer.
    pub(crate) fn forget(&mut self, host: &str) {
        self.found.remove(&*host.to_ascii_lowercase());
    }

    /// Nobody waits for this ticket any more. Not needed, but a name that nobody else waits for
    /// and whose turn has not come is then not looked up at all.
    pub(crate) fn abandon(&mut self, ticket: u64) {
        let mut alone = None;
        for (name, waiting) in &mut self.flights {
            let before = waiting.len();
            waiting.retain(|one| one.ticket != ticket);
            if waiting.len() < before && waiting.is_empty() {
                alone = Some(name.clone());
            }
        }
        if let Some(name) = alone
            && self.pool.withdraw(&name)
        {
            self.flights.remove(&name);
        }
    }

    fn keep(&mut self, name: Box<str>, found: Found, now: Instant) {
        if self.found.len() >= KEPT {
            self.found.retain(|_, found| now < found.until);
        }
        if self.found.len() < KEPT {
            self.found.insert(name, found);
        }
    }
}

impl Drop for Resolver {
    /// Does not wait: a thread within `getaddrinfo` ends when that returns.
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.closed = true;
        state.queue.clear();
        state.answers.clear();
        drop(state);
        self.pool.work.notify_all();
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("under_way", &self.flights.len())
            .field("known", &self.found.len())
            .finish_non_exhaustive()
    }
}

/// IPv6 and IPv4 in turns, IPv6 first, each in its own order (RFC 8305 §4), none twice: so that a
/// broken family costs one attempt, not a whole list of them.
pub(crate) fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut v6 = addresses.iter().filter(|address| address.is_ipv6());
    let mut v4 = addresses.iter().filter(|address| address.is_ipv4());
    let mut turns: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    loop {
        let (six, four) = (v6.next(), v4.next());
        if six.is_none() && four.is_none() {
            return turns;
        }
        for address in [six, four].into_iter().flatten() {
            if !turns.contains(address) {
                turns.push(*address);
            }
        }
    }
}

fn with_port(addresses: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    let mut addresses = interleave(addresses);
    addresses.iter_mut().for_each(|address| address.set_port(port));
    addresses
}

fn system_lookup(host: &str) -> io::Result<Vec<SocketAddr>> {
    (host, 0).to_socket_addrs().map(Iterator::collect)
}

/// Shared with the threads, which may outlive the resolver.
struct Pool {
    state: Mutex<State>,
    work: Condvar,
    notify: Arc<dyn Fn() + Send + Sync>,
    lookup: Arc<Lookup>,
    idle: Duration,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Box<str>>,
    answers: Vec<(Box<str>, Resolved)>,
    threads: usize,
    /// Of these, how many wait for work.
    idle: usize,
    closed: bool,
}

impl Pool {
    /// No user code runs under the lock, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, name: Box<str>) -> io::Result<()> {
        let mut state = self.lock();
        state.queue.push_back(name);
        if state.queue.len() > state.idle && state.threads < THREADS {
            let pool = self.clone();
            let spawned = thread::Builder::new()
                .name("workerman-resolver".to_string())
                .spawn(move || pool.work());
            match spawned {
                Ok(_) => state.threads += 1,
                // The others will come to it.
                Err(_) if state.threads > 0 => {}
                Err(e) => {
                    state.queue.pop_back();
                    return Err(e);
                }
            }
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Takes a name back, if no thread has it yet.
    fn withdraw(&self, name: &str) -> bool {
        let mut state = self.lock();
        let before = state.queue.len();
        state.queue.retain(|queued| **queued != *name);
        state.queue.len() < before
    }

    /// What each thread does.
    fn work(&self) {
        while let Some(name) = self.next() {
            let answer = self.look_up(&name);
            let mut state = self.lock();
            if state.closed {
                state.threads -= 1;
                return;
            }
            state.answers.push((name, answer));
            drop(state);
            (self.notify)();
        }
    }

    /// The next name; `None`: this thread ends.
    fn next(&self) -> Option<Box<str>> {
        let mut state = self.lock();
        loop {
            if let Some(name) = state.queue.pop_front() {
                return Some(name);
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (woken, waited) =
                self.work.wait_timeout(state, self.idle).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        None
    }

    fn look_up(&self, name: &str) -> Resolved {
        // A look-up of the program's own may panic; its askers must hear of it none the less.
        let answer = panic::catch_unwind(AssertUnwindSafe(|| (self.lookup)(name)));
        let reason = match answer {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => format!("the name {name} has no address"),
            Ok(Err(e)) => format!("the name {name} has no address: {e}"),
            Err(_) => format!("the look-up of the name {name} panicked"),
        };
        Err(ResolveError { reason })
    }
}

#[cfg(test)]
mod tests;
