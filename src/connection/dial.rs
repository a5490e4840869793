//! A client's opening: the name, the addresses in the staggered way of RFC 8305, TLS; one deadline
//! for all of it.
use super::core::{Core, Stage};
use super::failure::connect_failed;
use super::flag;
use super::heartbeat::Pace;
use crate::events::{Loop, ResolveError, interleave};
use crate::protocols::websocket::Opening;
use crate::transport::{ClientAddress, ClientSettings, Stream, tcp, unix};
use crate::{Failure, FailureKind, Phase};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// RFC 8305 §5: the next address is tried when the one before has not answered in this time.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How a client's sessions are made; lives as long as its handle.
pub(crate) struct Dialer {
    pub(crate) address: ClientAddress,
    /// TLS, by the scheme or by `set_transport`.
    pub(crate) secure: bool,
    pub(crate) tls: Option<Arc<ClientSettings>>,
    pub(crate) bind_to: Option<Box<SocketAddr>>,
    pub(crate) opening: Opening,
    pub(crate) pace: Pace,
    pub(crate) attempt: Option<Box<Attempt>>,
}

impl Dialer {
    pub(crate) fn new(address: ClientAddress) -> Dialer {
        Dialer {
            secure: address.secure,
            address,
            tls: None,
            bind_to: None,
            opening: Opening::default(),
            pace: Pace::DEFAULT,
            attempt: None,
        }
    }

    /// `host:port`, or the socket file.
    pub(crate) fn target_text(&self) -> String {
        self.address.peer(self.secure)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port(self.secure)
    }
}

/// One opening.
pub(crate) struct Attempt {
    pub(crate) started: Instant,
    candidates: VecDeque<SocketAddr>,
    /// Under way. They share the connection's key: each event asks all of them.
    inflight: Vec<(SocketAddr, Stream)>,
    next_at: Option<Instant>,
    failed: Option<(SocketAddr, io::Error)>,
}

/// How far an opening came.
pub(crate) enum Step {
    Pending,
    Connected(Stream, Option<SocketAddr>),
    Failed(Failure),
}

impl Core {
    /// Begins an opening.
    pub(crate) fn dial(&self, lp: &Loop) -> Step {
        let attempt = Attempt {
            started: lp.now(),
            candidates: VecDeque::new(),
            inflight: Vec::new(),
            next_at: None,
            failed: None,
        };
        let target = self.with_dialer(|dialer| {
            dialer.attempt = Some(Box::new(attempt));
            (dialer.address.unix.clone(), dialer.address.host.clone(), dialer.port())
        });
        let Some((unix, host, port)) = target else { return Step::Pending };
        self.set(flag::REARM);
        self.set_remote(None);
        if let Some(path) = unix.as_deref() {
            self.set_stage(Stage::Connecting);
            let dialed = unix::dial(path).map(Stream::unix);
            let stream = dialed.and_then(|mut stream| {
                lp.with_poller(|poller| poller.register(&mut stream, self.key))?;
                Ok(stream)
            });
            return match stream {
                Ok(stream) => Step::Connected(stream, None),
                Err(e) => Step::Failed(connect_failed(e)),
            };
        }
        self.set_stage(Stage::Resolving);
        match lp.resolve(&host, port, self.key) {
            Some(found) => self.resolved(lp, found),
            None => Step::Pending,
        }
    }

    /// The name's addresses are here.
    pub(crate) fn resolved(&self, lp: &Loop, found: Result<Vec<SocketAddr>, ResolveError>) -> Step {
        if self.stage() != Stage::Resolving {
            return Step::Pending;
        }
        let addresses = match found {
            Ok(addresses) if !addresses.is_empty() => interleave(&addresses),
            Ok(_) => return Step::Failed(name_not_found("the name has no address".into())),
            Err(e) => return Step::Failed(name_not_found(e.to_string())),
        };
        self.with_attempt(|attempt| attempt.candidates = addresses.into());
        self.set_stage(Stage::Connecting);
        self.dial_next(lp)
    }

    /// Starts the next candidate.
    fn dial_next(&self, lp: &Loop) -> Step {
        let bind_to = self.dialer().and_then(|dialer| dialer.bind_to.as_deref().copied());
        loop {
            let candidate = self.with_attempt(|attempt| attempt.candidates.pop_front()).flatten();
            let Some(address) = candidate else { return self.none_left(lp) };
            let dialed = tcp::dial(address, bind_to).map(Stream::tcp).and_then(|mut stream| {
                lp.with_poller(|poller| poller.register(&mut stream, self.key))?;
                Ok(stream)
            });
            self.set(flag::REARM);
            match dialed {
                Ok(stream) => {
                    let next_at = lp.now().checked_add(ATTEMPT_DELAY);
                    self.with_attempt(|attempt| {
                        attempt.inflight.push((address, stream));
                        attempt.next_at =
                            if attempt.candidates.is_empty() { None } else { next_at };
                    });
                    return Step::Pending;
                }
                Err(e) => {
                    self.with_attempt(|attempt| attempt.failed = Some((address, e)));
                }
            }
        }
    }

    /// All that could be tried has been; some may still be under way.
    fn none_left(&self, lp: &Loop) -> Step {
        let failed = self.with_attempt(|attempt| {
            attempt.next_at = None;
            if attempt.inflight.is_empty() { attempt.failed.take() } else { None }
        });
        let Some(Some((address, e))) = failed else { return Step::Pending };
        let host = self.dialer().map(|dialer| dialer.address.host.clone());
        if let Some(host) = host {
            lp.forget_name(&host);
        }
        self.set_remote(Some(address));
        Step::Failed(connect_failed(e))
    }

    /// Something happened at one of the sockets that are under way.
    pub(crate) fn dial_ready(&self, lp: &Loop) -> Step {
        let inflight = self.with_attempt(|attempt| std::mem::take(&mut attempt.inflight));
        let mut pending = Vec::new();
        let (mut winner, mut failed) = (None, None);
        for (address, stream) in inflight.into_iter().flatten() {
            if winner.is_some() {
                continue;
            }
            match stream.connected() {
                Ok(true) => winner = Some((address, stream)),
                Ok(false) => pending.push((address, stream)),
                Err(e) => failed = Some((address, e)),
            }
        }
        if let Some((address, stream)) = winner {
            return match stream.finish() {
                Ok(()) => Step::Connected(stream, Some(address)),
                Err(e) => Step::Failed(connect_failed(e)),
            };
        }
        let any_failed = failed.is_some();
        self.with_attempt(|attempt| {
            attempt.inflight = pending;
            attempt.failed = failed.or(attempt.failed.take());
        });
        if any_failed { self.dial_next(lp) } else { Step::Pending }
    }

    /// The staggering delay has passed.
    pub(crate) fn dial_later(&self, lp: &Loop) -> Step {
        let due = self.with_attempt(|attempt| attempt.next_at.is_some_and(|at| at <= lp.now()));
        if due == Some(true) { self.dial_next(lp) } else { Step::Pending }
    }

    pub(crate) fn dial_next_at(&self) -> Option<Instant> {
        self.dialer()?.attempt.as_ref()?.next_at
    }

    /// The opening's one deadline has passed.
    pub(crate) fn opening_late(&self) -> Failure {
        let phase = match self.stage() {
            Stage::Dialing | Stage::Resolving => Phase::Resolve,
            Stage::Connecting => Phase::Connect,
            Stage::Securing => Phase::Tls,
            _ => Phase::Handshake,
        };
        let limit = self.settings().limits().opening;
        let reason =
            format!("the opening's deadline of {} s passed (Limits::opening)", limit.as_secs_f64());
        Failure::new(FailureKind::Deadline, phase, reason)
    }

    fn with_attempt<T>(&self, f: impl FnOnce(&mut Attempt) -> T) -> Option<T> {
        self.with_dialer(|dialer| dialer.attempt.as_deref_mut().map(f)).flatten()
    }
}

fn name_not_found(reason: String) -> Failure {
    Failure::new(FailureKind::NameNotFound, Phase::Resolve, reason)
}
