//! The oracle: writes down every callback, knows what may come, and says what came that may not.
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::FailureKind;

/// What a machine that is busy elsewhere may bring about.
const LATE: [FailureKind; 2] = [FailureKind::Deadline, FailureKind::PongTimeout];

/// The time within which a loop that is not busy elsewhere has told of a reset.
const AT_ONCE: Duration = Duration::from_millis(200);

/// The sender of messages: `(side, number)`, the client's number its attempt, the server's its id.
pub(crate) type Who = (char, u64);

#[derive(Default)]
pub(crate) struct Session {
    pub(crate) sent: u32,
    got: u32,
    from: Option<Who>,
    opened: u32,
    ready: bool,
    /// By our own hand, in order, with so many sent.
    pub(crate) asked_to_close: Option<u32>,
    pub(crate) ended_by_us: bool,
    /// When it was asked to close.
    pub(crate) asked_at: Option<Instant>,
    pub(crate) destroyed: bool,
    errors: Vec<FailureKind>,
    farewells: u32,
    pub(crate) closed: u32,
    /// As `close_code()` says in `on_close`.
    code: Option<u16>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) sessions: HashMap<Who, Session>,
    /// What may not be.
    pub(crate) faults: Vec<String>,
    lines: Vec<String>,
    /// Who received the messages of whom.
    heard: HashMap<Who, Who>,
    /// Of which client's attempts bytes may be altered without a trace.
    pub(crate) corrupt: HashMap<u64, bool>,
    /// How often what was met, for the figures.
    pub(crate) met: HashMap<String, u64>,
    /// In which of them only the client's own end may end it.
    pub(crate) calm: HashMap<u64, bool>,
    /// Sides and attempts whose socket the network has reset, and when.
    reset: HashMap<Who, Instant>,
    /// What may not be either, unless the machine was busy elsewhere.
    unless_slow: Vec<String>,
    /// A turn of the loop took so long that deadlines may have come before news.
    pub(crate) slow: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Oracle(Rc<RefCell<State>>);

/// FNV-1a.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What is sent: `side number sequence checksum filler`, printable.
pub(crate) fn message(seed: u64, from: Who, sequence: u32, filler: usize) -> String {
    let mut rest = format!("{} {} {seed} {sequence} ", from.0, from.1);
    rest.extend((0..filler).map(|i| (b'a' + ((i + sequence as usize) % 26) as u8) as char));
    format!("{:016x} {rest}", sum(rest.as_bytes()))
}

/// `None`: altered.
fn read(seed: u64, bytes: &[u8]) -> Option<(Who, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (checksum, rest) = text.split_once(' ')?;
    if checksum != format!("{:016x}", sum(rest.as_bytes())) {
        return None;
    }
    let mut words = rest.split(' ');
    let side = words.next()?.chars().next()?;
    let number = words.next()?.parse().ok()?;
    if words.next()?.parse() != Ok(seed) {
        return None;
    }
    Some(((side, number), words.next()?.parse().ok()?))
}

impl Oracle {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    fn event(&self, who: Who, line: String, f: impl FnOnce(&mut Session, &mut Vec<String>)) {
        self.with(|state| {
            state.lines.push(format!("{}{} {line}", who.0, who.1));
            let session = state.sessions.entry(who).or_default();
            let mut faults = Vec::new();
            if session.closed > 0 {
                faults.push("something came after on_close".to_string());
            }
            f(session, &mut faults);
            let faults = faults.into_iter();
            state
                .faults
                .extend(faults.map(|fault| format!("{}{}: {fault} ({line})", who.0, who.1)));
        });
    }

    pub(crate) fn connect(&self, who: Who) {
        self.event(who, "connect".into(), |session, faults| {
            session.opened += 1;
            if session.opened > 1 {
                faults.push("opened twice".into());
            }
        });
    }

    /// The handshake is complete.
    pub(crate) fn ready(&self, who: Who) {
        self.event(who, "ready".into(), |session, faults| {
            if session.opened == 0 || session.ready {
                faults.push("the handshake is complete at a wrong time".into());
            }
            if session.ended_by_us {
                faults.push("the handshake is complete after our own end".into());
            }
            session.ready = true;
        });
    }

    /// The socket of this side of a client's attempt was reset.
    pub(crate) fn reset(&self, side: char, attempt: u64) {
        self.with(|state| {
            state.lines.push(format!("{side}{attempt}'s side is reset"));
            state.reset.insert((side, attempt), Instant::now());
        });
    }

    pub(crate) fn error(&self, who: Who, kind: FailureKind, text: String) {
        // Also a deadline, though the peer is told of a violation.
        let is_partial = text.contains("Limits::partial_package");
        let kind = if is_partial { FailureKind::Deadline } else { kind };
        self.event(who, format!("error {kind:?} {text}"), |session, faults| {
            session.errors.push(kind);
            if session.destroyed {
                faults.push("an error after destroy()".into());
            }
        });
    }

    pub(crate) fn farewell(&self, who: Who, code: u16) {
        self.event(who, format!("farewell {code}"), |session, faults| {
            session.farewells += 1;
            if session.farewells > 1 {
                faults.push("on_websocket_close came twice".into());
            }
            if session.ended_by_us {
                faults.push("a farewell after our own end".into());
            }
            if !session.ready {
                faults.push("a farewell before the handshake".into());
            }
        });
    }

    pub(crate) fn close(&self, who: Who, code: Option<u16>) {
        self.with(|state| {
            // A reset is an end at once; it is not silence, which a deadline ends.
            let attempt = state.attempt_of(who);
            let at = attempt.and_then(|attempt| state.reset.get(&(who.0, attempt)));
            if let Some(after) = at.map(Instant::elapsed).filter(|after| *after > AT_ONCE) {
                let fault = format!("{}{}: it ended {after:?} after a reset", who.0, who.1);
                state.unless_slow.push(fault);
            }
        });
        self.event(who, format!("close {code:?}"), |session, _| {
            session.closed += 1;
            session.code = code;
        });
    }

    /// Without a farewell only the peer's own end tells that it has read everything. That is waited
    /// for one second; a slower network may lose what is still on its way.
    pub(crate) fn saw_the_end(&self, who: Who) -> bool {
        let asked_at = self.with(|state| state.sessions.get(&who)?.asked_at);
        asked_at.is_some_and(|at| at.elapsed() < Duration::from_millis(900))
    }

    pub(crate) fn note(&self, line: String) {
        self.with(|state| state.lines.push(line));
    }

    /// Who sent it, and how many have come with it; `None`: altered, or not to be.
    pub(crate) fn message(&self, seed: u64, me: Who, bytes: &[u8]) -> Option<(Who, u32)> {
        let read = read(seed, bytes);
        let line = format!("message {read:?} of {} bytes", bytes.len());
        self.event(me, line, |session, faults| {
            if !session.ready {
                faults.push("a message before the handshake".into());
            }
            if session.ended_by_us {
                faults.push("a message after our own end".into());
            }
        });
        self.with(|state| {
            let session = state.sessions.entry(me).or_default();
            let Some((from, sequence)) = read else {
                let line = format!("{}{}: a message was altered", me.0, me.1);
                state.suspect(me, line);
                return None;
            };
            if session.from.is_some_and(|known| known != from) || from.0 == me.0 {
                state.suspect(me, format!("{me:?}: a message of another, {from:?}"));
                return None;
            }
            session.from = Some(from);
            let expected = session.got;
            session.got += 1;
            if *state.heard.entry(from).or_insert(me) != me {
                state.suspect(me, format!("{from:?} was heard by two, {me:?} is one"));
            }
            if sequence != expected {
                let what = format!("{me:?}: message {sequence} of {from:?}, not {expected}");
                state.suspect(me, what);
            }
            if state.sessions.get(&from).is_none_or(|sender| sender.sent <= sequence) {
                state.suspect(me, format!("{me:?}: {from:?} never sent {sequence}"));
            }
            Some((from, expected + 1))
        })
    }

    /// All is over.
    pub(crate) fn judge(&self) {
        self.with(|state| {
            let (mut found, mut orderly) = (Vec::new(), 0);
            for (&who, session) in &state.sessions {
                if session.closed != 1 {
                    found.push(format!("{who:?}: on_close came {} times", session.closed));
                }
                let (judged, lost) = state.lost(who, session);
                orderly += u64::from(judged);
                found.extend(lost);
                if who.0 == 'c' && state.calm.get(&who.1) == Some(&true) {
                    let late = |kind: &FailureKind| LATE.contains(kind);
                    // Whose server gave up in such a way may learn it by an error of another kind.
                    let mut servers = state.sessions.values().filter(|s| s.from == Some(who));
                    let gave_up = servers.any(|server| server.errors.iter().any(late));
                    if !gave_up && !state.slow && !session.errors.iter().all(late) {
                        found.push(format!("{who:?}: {:?} though nothing befell", session.errors));
                    }
                }
            }
            state.faults.extend(found);
            if !state.slow {
                let found = std::mem::take(&mut state.unless_slow);
                state.faults.extend(found);
            }
            state.met.insert("orderly closes".into(), orderly);
            state.met.insert("slow runs".into(), u64::from(state.slow));
        });
    }

    /// Empty, if all is well.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.with(|state| state.faults.clone())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.with(|state| state.lines.clone())
    }

    /// Which things happened at all, for the figures.
    pub(crate) fn count(&self, into: &mut HashMap<String, u64>) {
        self.with(|state| {
            for (what, times) in &state.met {
                *into.entry(what.clone()).or_default() += times;
            }
            for session in state.sessions.values() {
                *into.entry("sessions".into()).or_default() += u64::from(session.opened > 0);
                *into.entry("messages".into()).or_default() += u64::from(session.got);
                for kind in &session.errors {
                    *into.entry(format!("{kind:?}")).or_default() += 1;
                }
            }
        });
    }
}

impl State {
    /// Of the client; a server's session is known by what it has heard.
    fn attempt_of(&self, who: Who) -> Option<u64> {
        match who.0 {
            'c' => Some(who.1),
            _ => self.sessions.get(&who).and_then(|session| session.from).map(|from| from.1),
        }
    }

    /// A link that alters bytes may have done it.
    pub(crate) fn suspect(&mut self, me: Who, fault: String) {
        let attempt = self.attempt_of(me);
        // A server's session that knows nobody yet may be anyone's.
        let excused = match attempt {
            Some(attempt) => self.corrupt.get(&attempt).copied().unwrap_or(false),
            None => self.corrupt.values().any(|corrupt| *corrupt),
        };
        if !excused {
            self.faults.push(fault);
        }
    }

    /// What was reported as sent before an orderly close has arrived, where the close was orderly:
    /// a WebSocket's was answered; a stream without farewells had nothing befall it.
    fn lost(&self, who: Who, session: &Session) -> (bool, Option<String>) {
        let Some((sent, got)) = self.sent_and_got(who, session) else { return (false, None) };
        let lost = format!("{who:?}: closed in order, {got} of {sent} messages arrived");
        (sent > 0, (got < sent).then_some(lost))
    }

    /// `None`: what is sent may be lost.
    fn sent_and_got(&self, who: Who, session: &Session) -> Option<(u32, u32)> {
        let sent = session.asked_to_close?;
        let listener = self.heard.get(&who).copied();
        let heard = listener.and_then(|listener| self.sessions.get(&listener));
        let attempt = if who.0 == 'c' { Some(who.1) } else { session.from.map(|from| from.1) };
        if attempt.is_none_or(|attempt| self.corrupt.get(&attempt) != Some(&false)) {
            return None;
        }
        if !session.errors.is_empty() || !session.answered() {
            return None;
        }
        // One that had ended its side itself, or had failed, need not listen any more.
        let deaf = |other: &Session| other.ended_by_us || !other.errors.is_empty();
        match heard {
            Some(other) if deaf(other) => None,
            Some(other) => Some((sent, other.got)),
            // Whoever heard nothing is not known by name.
            None if self.sessions.iter().any(|(w, s)| w.0 != who.0 && deaf(s)) => None,
            None => Some((sent, 0)),
        }
    }
}

impl Session {
    fn answered(&self) -> bool {
        self.code.is_some_and(|code| (1000..1005).contains(&code) || code == 4000)
    }
}
