//! Sessions: what a browser's requests have in common, kept under an id in a cookie.
//!
//! [`Request::session`](super::Request::session) opens one and notes a [`Ticket`] under the number
//! of its request; the answer's head asks the ticket for the cookie. The values are saved when the
//! program's last handle goes: there, unlike while an answer is encoded, a program's own
//! [`SessionStore`] may do anything.
use super::is_token;
use super::session_options::{SessionOptions, SessionStore};
use crate::Error;
use crate::protocols::Doors;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

/// 128 bits of an unpredictable number, in hexadecimal.
const ID_DIGITS: usize = 32;

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
    /// How many tickets there are: most programs have none, and look no further.
    static TICKETS: Cell<usize> = const { Cell::new(0) };
    static OPEN: RefCell<BTreeMap<u64, Rc<Ticket>>> = const { RefCell::new(BTreeMap::new()) };
}

// ---------------------------------------------------------------------------------- the answer's

/// What a request's answer must know of its session.
struct Ticket {
    options: Rc<SessionOptions>,
    over_tls: bool,
    id: RefCell<String>,
    /// The answer sets the cookie.
    wanted: Cell<bool>,
    /// The client has this id, or will have it with the answer.
    known_there: Cell<bool>,
    answered: Cell<bool>,
    /// While the program holds it.
    session: RefCell<Weak<State>>,
}

/// Which request of this thread it is; ends with the exchange. 0: none.
#[derive(Debug, Default)]
pub(super) struct Number(u64);

impl Number {
    pub(super) fn next() -> Self {
        let number = LAST.get() + 1;
        LAST.set(number);
        Number(number)
    }

    pub(super) fn get(&self) -> u64 {
        self.0
    }

    /// The cookie that belongs into the head of its answer. Asked again if that answer could not be
    /// sent.
    #[inline]
    pub(super) fn cookie(&self) -> Option<String> {
        if TICKETS.get() == 0 { None } else { self.cookie_of_ticket() }
    }

    #[cold]
    fn cookie_of_ticket(&self) -> Option<String> {
        let ticket = OPEN.try_with(|open| open.borrow().get(&self.0).cloned()).ok()??;
        ticket.answered.set(true);
        if !ticket.wanted.get() {
            return None;
        }
        ticket.known_there.set(true);
        let (line, fault) = ticket.options.cookie(&ticket.id.borrow(), ticket.over_tls);
        fault.is_none().then_some(line)
    }
}

impl Drop for Number {
    #[inline]
    fn drop(&mut self) {
        if TICKETS.get() != 0 {
            let ticket = OPEN.try_with(|open| open.borrow_mut().remove(&self.0));
            if matches!(ticket, Ok(Some(_))) {
                TICKETS.set(TICKETS.get() - 1);
            }
        }
    }
}

/// Where a request stands, for its session.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    pub(super) number: u64,
    pub(super) over_tls: bool,
    pub(super) doors: &'static Doors,
}

/// The session of this request; `cookies` finds the value of the cookie of a name.
pub(super) fn open<'a>(
    seat: Seat,
    cookie: impl FnOnce(&str) -> Option<&'a str>,
) -> io::Result<Session> {
    let (known, options) = match OPEN.try_with(|open| open.borrow().get(&seat.number).cloned()) {
        Ok(Some(ticket)) => {
            if let Some(state) = ticket.session.borrow().upgrade() {
                return Ok(Session(state));
            }
            let options = ticket.options.clone();
            (Some(ticket), options)
        }
        _ => (None, SessionOptions::current()),
    };
    if !is_token(&options.name) {
        return Err(io::Error::other(format!(
            "a session's cookie cannot have the name {:?}: \
                                             see SessionOptions::name",
            options.name
        )));
    }
    let store = options.kept();
    let now = (seat.doors.system_time)();
    store.collect(now);
    // An id that we did not make never becomes one: whoever gave it to a victim would have the
    // victim's session.
    let claimed = match &known {
        Some(ticket) => Some(ticket.id.borrow().clone()),
        None => cookie(&options.name).filter(|id| is_id(id)).map(str::to_owned),
    };
    let data = match &claimed {
        Some(id) => store.read(id, now)?,
        None => None,
    };
    let values = data.as_deref().map(read).unwrap_or_default();
    let found = data.is_some();
    let ticket = match known {
        Some(ticket) => ticket,
        None => {
            let id = claimed.filter(|_| found).unwrap_or_else(|| fresh_id(seat.doors));
            let ticket = Ticket {
                over_tls: seat.over_tls,
                id: id.into(),
                wanted: Cell::new(found && options.auto_update),
                known_there: Cell::new(found),
                answered: Cell::new(false),
                session: RefCell::default(),
                options,
            };
            issue(seat.number, ticket)?
        }
    };
    let state = State {
        store,
        doors: seat.doors,
        values: values.into(),
        saved: RefCell::new(found.then(|| ticket.id.borrow().clone())),
        dirty: Cell::new(false),
        ticket,
    };
    let state = Rc::new(state);
    state.ticket.session.replace(Rc::downgrade(&state));
    Ok(Session(state))
}

/// Where the answer finds it.
fn issue(number: u64, ticket: Ticket) -> io::Result<Rc<Ticket>> {
    // What cannot be a cookie is said now, to the program.
    if let Some(fault) = ticket.options.cookie("", false).1 {
        return Err(io::Error::other(fault.to_string()));
    }
    let ticket = Rc::new(ticket);
    let issued = OPEN.try_with(|open| open.borrow_mut().insert(number, ticket.clone()));
    if matches!(issued, Ok(None)) {
        TICKETS.set(TICKETS.get() + 1);
    }
    Ok(ticket)
}

fn fresh_id(doors: &Doors) -> String {
    let mut random = [0; ID_DIGITS / 2];
    (doors.random)(&mut random);
    let mut id = String::with_capacity(ID_DIGITS);
    for byte in random {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// Before it becomes part of a path.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

// --------------------------------------------------------------------------------- the program's

/// A browser's session: names and values that are texts. A handle; the changes are kept when the
/// last one goes, at the end of the callback as a rule, or by [`save`](Session::save).
///
/// Its cookie leaves with the answer, so what begins a session is set before `send`. Two requests
/// of one session at the same time: the later save wins, whole.
#[derive(Clone)]
pub struct Session(Rc<State>);

struct State {
    ticket: Rc<Ticket>,
    store: Rc<dyn SessionStore>,
    doors: &'static Doors,
    values: RefCell<BTreeMap<String, String>>,
    /// Under which id the store has it.
    saved: RefCell<Option<String>>,
    dirty: Cell<bool>,
}

impl Session {
    /// 32 hexadecimal digits. Whoever knows them has the session: never log them.
    pub fn id(&self) -> String {
        self.0.ticket.id.borrow().clone()
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.values.borrow().get(name).cloned()
    }

    /// Whether there is a value of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.values.borrow().contains_key(name)
    }

    /// All names and values, by name.
    pub fn all(&self) -> Vec<(String, String)> {
        self.0.values.borrow().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// This value, in place of the one before. What is no text is written as one: by a crate for
    /// JSON, for example. More than [`SessionOptions::max_bytes`] in all is not kept; the log says
    /// so.
    pub fn set(&self, name: &str, value: impl fmt::Display) {
        // The program's own code: not under the borrow.
        let value = value.to_string();
        let state = &*self.0;
        let most = state.ticket.options.max_bytes;
        let others: usize = {
            let values = state.values.borrow();
            let others = values.iter().filter(|(other, _)| *other != name);
            others.map(|(name, value)| name.len() + value.len()).sum()
        };
        if others + name.len() + value.len() > most {
            log::error!(
                "a session's value {name:?} of {} bytes is not kept: the session would have more \
                 than {most} bytes; SessionOptions::max_bytes allows more",
                value.len()
            );
            return;
        }
        if state.ticket.answered.get() && !state.ticket.known_there.get() {
            log::warn!(
                "a session's value {name:?} is lost: the answer has left without the cookie; call \
                 request.session() and set it before send"
            );
        }
        state.values.borrow_mut().insert(name.into(), value);
        state.ticket.wanted.set(true);
        state.dirty.set(true);
    }

    /// Several values.
    pub fn put<N: AsRef<str>, V: fmt::Display>(&self, pairs: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in pairs {
            self.set(name.as_ref(), value);
        }
    }

    /// A value, which is forgotten.
    pub fn pull(&self, name: &str) -> Option<String> {
        let value = self.0.values.borrow_mut().remove(name);
        if value.is_some() {
            self.0.dirty.set(true);
        }
        value
    }

    /// Forgets a value.
    pub fn delete(&self, name: &str) {
        self.pull(name);
    }

    /// Forgets several values.
    pub fn forget<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) {
        for name in names {
            self.delete(name.as_ref());
        }
    }

    /// Forgets everything, as when someone logs out. An empty session is not kept.
    pub fn flush(&self) {
        let old = std::mem::take(&mut *self.0.values.borrow_mut());
        self.0.dirty.set(self.0.dirty.get() || !old.is_empty());
        self.0.ticket.wanted.set(false);
    }

    /// A new id for the same values; the old one means nothing any more. To be called when someone
    /// logs in: whoever has seen the id before has nothing by it.
    ///
    /// # Errors
    /// The answer has left: the client would go on with the old id.
    pub fn regenerate_id(&self) -> Result<(), Error> {
        let ticket = &self.0.ticket;
        if ticket.answered.get() {
            let reason = "the request is answered, and its client would not hear of the new id: \
                          call regenerate_id before send";
            return Err(Error::header("Set-Cookie", reason));
        }
        ticket.id.replace(fresh_id(self.0.doors));
        ticket.known_there.set(false);
        ticket.wanted.set(!self.0.values.borrow().is_empty());
        self.0.dirty.set(true);
        Ok(())
    }

    /// Keeps the changes now; the last handle does so as it goes, and logs what is an error here.
    ///
    /// # Errors
    /// What the store says; the changes are lost.
    pub fn save(&self) -> Result<(), Error> {
        self.0.save()
    }
}

impl State {
    fn save(&self) -> Result<(), Error> {
        let ticket = &self.ticket;
        let expires = (self.doors.system_time)().checked_add(ticket.options.lifetime);
        let expires =
            expires.unwrap_or_else(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 37));
        let lost = |e| Error::io("to keep a session", e);
        let saved = self.saved.borrow().clone();
        if !self.dirty.replace(false) {
            return match saved {
                Some(id) if ticket.options.auto_update => {
                    self.store.touch(&id, expires).map_err(lost)
                }
                _ => Ok(()),
            };
        }
        let id = ticket.id.borrow().clone();
        let data = (!self.values.borrow().is_empty()).then(|| written(&self.values.borrow()));
        if let Some(old) = &saved
            && self.store.read(old, (self.doors.system_time)()).map_err(lost)?.is_none()
        {
            // Another request has ended it meanwhile: who has logged out stays so.
            log::debug!("a session ended while a request of it was answered: its changes are lost");
            return Ok(());
        }
        if let Some(data) = &data {
            self.store.write(&id, data, expires).map_err(lost)?;
        }
        let kept = data.map(|_| id);
        if let Some(old) = saved.filter(|old| Some(old) != kept.as_ref()) {
            self.store.destroy(&old).map_err(lost)?;
        }
        self.saved.replace(kept);
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            log::error!("{error}");
        }
    }
}

/// Without its values: they may be secrets.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.0.values.borrow();
        f.debug_struct("Session").field("names", &values.keys()).finish_non_exhaustive()
    }
}

// -------------------------------------------------------------------------------- as it is kept

/// Each name and each value behind its length.
fn written(values: &BTreeMap<String, String>) -> Vec<u8> {
    let mut data = Vec::new();
    for text in values.iter().flat_map(|(name, value)| [name, value]) {
        data.extend_from_slice(&(text.len() as u64).to_le_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    data
}

/// What is no session reads as an empty one.
fn read(data: &[u8]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut rest = data;
    while let Some((name, after)) = read_text(rest) {
        let Some((value, after)) = read_text(after) else { break };
        values.insert(name, value);
        rest = after;
    }
    if rest.is_empty() { values } else { BTreeMap::new() }
}

fn read_text(data: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = data.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?.into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_was_cut_is_an_empty_session() {
        let values = [("a", ""), ("", "b"), ("name", "grüße\0\n")];
        let values: BTreeMap<String, String> =
            values.map(|(name, value)| (name.into(), value.into())).into();
        let data = written(&values);
        assert_eq!(read(&data), values);
        for cut in 1..data.len() {
            assert!(read(&data[..cut]).len() < values.len(), "{cut}");
        }
        let mut long = data.clone();
        long[..8].fill(0xff);
        assert!(read(&long).is_empty());
    }

    #[test]
    fn an_id_is_32_digits_and_never_a_path() {
        let id = fresh_id(&crate::protocols::testing::DOORS);
        assert!(is_id(&id), "{id}");
        let up = format!("{}{}", "../", "a".repeat(29));
        let upper = id.to_uppercase();
        for wrong in ["", "a", &id[1..], &format!("{id}0"), &up, &upper, &"/".repeat(32)] {
            assert!(!is_id(wrong), "{wrong}");
        }
    }
}
