//! Sessions: what a server keeps for a browser between its requests, found by a cookie.
//!
//! A request is a view that copies, so it carries a number; the session that it has asked for is
//! kept under that number until its answer is written: then it is saved, and its cookie goes with
//! the answer.
use super::cookie::{Cookie, SameSite};
use super::file_sessions::FileSessions;
use super::is_token;
use crate::Interval;
use crate::protocols::Doors;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Bytes of an id, in hexadecimal: 128 bits that nobody can guess.
const ID_DIGITS: usize = 32;
/// Cookies of the right name that are looked up; a browser may send one for each path.
const COOKIES_TRIED: usize = 4;

thread_local! {
    static OPTIONS: RefCell<Option<Rc<SessionOptions>>> = const { RefCell::new(None) };
    static LIVE: RefCell<HashMap<u64, Session>> = RefCell::new(HashMap::new());
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Where sessions lie: [`FileSessions`], or a store of your own (Redis, a database).
///
/// Its methods are called inside the loop and should not take long. Each id is 32 hexadecimal
/// digits, never what a client wrote.
pub trait SessionStore {
    /// What was written under this id; `None` where there is nothing, or nothing any more.
    ///
    /// # Errors
    /// The store cannot be asked: `request.session()` hands it on.
    fn read(&self, id: &str, now: SystemTime) -> io::Result<Option<Vec<u8>>>;
    /// Keeps this under the id until then, in place of what was there.
    ///
    /// # Errors
    /// It was not kept: the client is answered 500.
    fn write(&self, id: &str, data: &[u8], expires: SystemTime) -> io::Result<()>;
    /// Keeps what is there until then.
    ///
    /// # Errors
    /// As of `write`.
    fn touch(&self, id: &str, expires: SystemTime) -> io::Result<()>;
    /// Forgets it; one that is not there is no error.
    ///
    /// # Errors
    /// As of `write`.
    fn destroy(&self, id: &str) -> io::Result<()>;
    /// Removes some of what has expired: a bounded piece of work, asked for after each save.
    ///
    /// # Errors
    /// They are logged.
    fn gc(&self, _now: SystemTime) -> io::Result<()> {
        Ok(())
    }
}

/// How sessions are kept, for the http workers of this thread: PHP's static properties of
/// `Session`.
///
/// ```
/// use workerman::{FileSessions, SessionOptions};
///
/// SessionOptions::new()
///     .name("SID")
///     .lifetime(3600)
///     .store(FileSessions::new("/var/lib/shop/sessions"))
///     .set_default();
/// ```
#[derive(Clone)]
pub struct SessionOptions {
    name: String,
    lifetime: Duration,
    cookie_lifetime: Option<Duration>,
    path: String,
    domain: Option<String>,
    secure: Option<bool>,
    http_only: bool,
    same_site: SameSite,
    auto_update: bool,
    bytes: usize,
    store: Rc<dyn SessionStore>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            name: "PHPSID".into(),
            lifetime: Duration::from_secs(1440),
            cookie_lifetime: None,
            path: "/".into(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::Lax,
            auto_update: false,
            bytes: 64 << 10,
            store: Rc::new(FileSessions::default()),
        }
    }
}

impl SessionOptions {
    /// The numbers and names beside each method here, and [`FileSessions::default`].
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on sessions of this thread are kept so.
    pub fn set_default(self) {
        let old = OPTIONS.try_with(|options| options.replace(Some(Rc::new(self))));
        drop(old);
    }

    /// The cookie's name (`PHPSID`; `Session::$name`). One that is no token makes
    /// `request.session()` an error.
    pub fn name(self, name: &str) -> Self {
        SessionOptions { name: name.into(), ..self }
    }

    /// A session that was not changed for so long is forgotten (1 440 s; `Session::$lifetime`).
    pub fn lifetime(self, after: impl Into<Interval>) -> Self {
        SessionOptions { lifetime: after.into().duration(), ..self }
    }

    /// The browser forgets the cookie after so long (off: when it is closed;
    /// `Session::$cookieLifetime`).
    pub fn cookie_lifetime(self, after: impl Into<Interval>) -> Self {
        let after = after.into().duration();
        SessionOptions { cookie_lifetime: (!after.is_zero()).then_some(after), ..self }
    }

    /// The cookie is for paths below this one (`/`; `Session::$cookiePath`).
    pub fn cookie_path(self, path: &str) -> Self {
        SessionOptions { path: path.into(), ..self }
    }

    /// The cookie is for this host and those below it (the request's host alone;
    /// `Session::$domain`).
    pub fn domain(self, domain: &str) -> Self {
        SessionOptions { domain: Some(domain.into()), ..self }
    }

    /// The browser sends the cookie over TLS alone (where the request came over TLS;
    /// `Session::$secure`). Behind a proxy that does TLS say `true`.
    pub fn secure(self, secure: bool) -> Self {
        SessionOptions { secure: Some(secure), ..self }
    }

    /// Scripts do not see the cookie (true; `Session::$httpOnly`).
    pub fn http_only(self, http_only: bool) -> Self {
        SessionOptions { http_only, ..self }
    }

    /// Whether other sites' requests bring the cookie (`Lax`; `Session::$sameSite`).
    pub fn same_site(self, same_site: SameSite) -> Self {
        SessionOptions { same_site, ..self }
    }

    /// Asking for a session lengthens its life, not only changing it (false;
    /// `Session::$autoUpdateTimestamp`).
    pub fn auto_update_timestamp(self, auto_update: bool) -> Self {
        SessionOptions { auto_update, ..self }
    }

    /// A session may hold so many bytes, names included (64 KiB). A larger one is not kept, and
    /// the client is answered 500.
    pub fn max_bytes(self, bytes: usize) -> Self {
        SessionOptions { bytes, ..self }
    }

    /// Where they lie (`Session::handlerClass`).
    pub fn store(self, store: impl SessionStore + 'static) -> Self {
        SessionOptions { store: Rc::new(store), ..self }
    }

    fn shared() -> Rc<SessionOptions> {
        let shared = OPTIONS.try_with(|options| {
            options.borrow_mut().get_or_insert_with(|| Rc::new(Self::default())).clone()
        });
        shared.unwrap_or_else(|_| Rc::new(Self::default()))
    }

    fn cookie(&self, id: &str, over_tls: bool) -> io::Result<String> {
        let mut cookie = Cookie::new(&self.name, id).path(&self.path).same_site(self.same_site);
        if let Some(domain) = &self.domain {
            cookie = cookie.domain(domain);
        }
        if let Some(after) = self.cookie_lifetime {
            cookie = cookie.max_age(after);
        }
        if self.http_only {
            cookie = cookie.http_only();
        }
        if self.secure.unwrap_or(over_tls) {
            cookie = cookie.secure();
        }
        match cookie.into_line() {
            (line, None) => Ok(line),
            (_, Some(fault)) => Err(io::Error::other(fault.to_string())),
        }
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.name, self.lifetime);
        f.debug_tuple("SessionOptions").field(&shown).finish()
    }
}

/// Values that a server keeps for one browser between its requests: text under names.
///
/// From [`Request::session`](crate::Request::session). What was changed is saved when the request
/// is answered, and the cookie goes with that answer. A handle may be kept for an answer that comes
/// later; what it changes behind the answer is saved when the last handle goes. Two requests of one
/// browser at the same time each have their own copy: who is answered last is kept, as in PHP.
#[derive(Clone)]
pub struct Session(Rc<State>);

struct State {
    options: Rc<SessionOptions>,
    doors: &'static Doors,
    over_tls: bool,
    values: RefCell<Values>,
}

#[derive(Default)]
struct Values {
    id: String,
    pairs: Vec<(String, String)>,
    changed: bool,
    /// It lies in the store under its id.
    stored: bool,
    /// Its id is not yet the client's.
    untold: bool,
    /// The answer has been written.
    answered: bool,
    /// Ids that are no more.
    former: Vec<String>,
}

impl Session {
    fn with<T>(&self, f: impl FnOnce(&mut Values) -> T) -> T {
        f(&mut self.0.values.borrow_mut())
    }

    /// Its id: 32 hexadecimal digits. Who knows it is that browser, so it belongs in no log.
    pub fn id(&self) -> String {
        self.with(|values| values.id.clone())
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<String> {
        self.with(|values| values.find(name).map(|at| values.pairs[at].1.clone()))
    }

    /// Keeps a value under this name: text, or whatever prints as such.
    pub fn set(&self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        self.with(|values| values.set(name, value));
    }

    /// Keeps several values.
    pub fn put<N: AsRef<str>, V: fmt::Display>(&self, pairs: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in pairs {
            self.set(name.as_ref(), value);
        }
    }

    /// The value of this name, which is then forgotten.
    pub fn pull(&self, name: &str) -> Option<String> {
        self.with(|values| {
            let at = values.find(name)?;
            values.changed = true;
            Some(values.pairs.remove(at).1)
        })
    }

    /// Forgets the value of this name.
    pub fn delete(&self, name: &str) {
        self.pull(name);
    }

    /// Forgets the values of these names.
    pub fn forget<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) {
        for name in names {
            self.delete(name.as_ref());
        }
    }

    /// Whether there is a value of this name.
    pub fn has(&self, name: &str) -> bool {
        self.with(|values| values.find(name).is_some())
    }

    /// All names and values, in the order in which they were first set.
    pub fn all(&self) -> Vec<(String, String)> {
        self.with(|values| values.pairs.clone())
    }

    /// Forgets all values. An empty session is removed from the store.
    pub fn flush(&self) {
        self.with(|values| {
            values.changed |= !values.pairs.is_empty();
            values.pairs.clear();
        });
    }

    /// Another id for the same values; the one before is no more. To be called at a login, so that
    /// an id that somebody else came to know is worth nothing.
    pub fn regenerate_id(&self) {
        let fresh = fresh_id(self.0.doors);
        self.with(|values| {
            let former = std::mem::replace(&mut values.id, fresh);
            if std::mem::take(&mut values.stored) {
                values.former.push(former);
            }
            values.changed = true;
            values.untold = true;
        });
    }

    /// Saves it where that is due. True: the client is to be told its id. No value is borrowed
    /// while the store runs: it is the program's.
    fn save(&self) -> io::Result<bool> {
        let State { options, doors, .. } = &*self.0;
        let (id, data, changed, stored, former) = self.with(|values| {
            let changed = std::mem::take(&mut values.changed);
            let former = std::mem::take(&mut values.former);
            (values.id.clone(), encoded(&values.pairs), changed, values.stored, former)
        });
        for former in former {
            options.store.destroy(&former)?;
        }
        let now = (doors.system_time)();
        let expires = now.checked_add(options.lifetime).unwrap_or(now);
        if !changed {
            if stored && options.auto_update {
                options.store.touch(&id, expires)?;
                return Ok(options.cookie_lifetime.is_some());
            }
            return Ok(false);
        }
        if data.is_empty() {
            if stored {
                options.store.destroy(&id)?;
                self.with(|values| values.stored = false);
            }
            return Ok(false);
        }
        if data.len() > options.bytes {
            let (length, limit) = (data.len(), options.bytes);
            return Err(io::Error::other(format!(
                "a session of {length} bytes is above the limit of {limit} \
                 (SessionOptions::max_bytes)"
            )));
        }
        options.store.write(&id, &data, expires)?;
        if let Err(e) = options.store.gc(now) {
            log::warn!("expired sessions cannot be removed: {e}");
        }
        Ok(self.with(|values| {
            values.stored = true;
            std::mem::take(&mut values.untold) || options.cookie_lifetime.is_some()
        }))
    }
}

impl Values {
    fn find(&self, name: &str) -> Option<usize> {
        self.pairs.iter().position(|(key, _)| key == name)
    }

    fn set(&mut self, name: &str, value: String) {
        match self.find(name) {
            Some(at) if self.pairs[at].1 == value => return,
            Some(at) => self.pairs[at].1 = value,
            None => self.pairs.push((name.into(), value)),
        }
        self.changed = true;
    }
}

/// Changes behind the answer, or of a request that was never answered.
impl Drop for State {
    fn drop(&mut self) {
        let values = std::mem::take(self.values.get_mut());
        if !values.changed {
            return;
        }
        if values.untold {
            let when = if values.answered { "behind" } else { "without" };
            log::warn!("a new session was changed {when} its answer: the client has no cookie");
            return;
        }
        let options = self.options.clone();
        let (doors, over_tls) = (self.doors, self.over_tls);
        let last = Session(Rc::new(State { options, doors, over_tls, values: values.into() }));
        if let Err(e) = last.save() {
            log::error!("a session cannot be saved: {e}");
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither its id nor its values: what is printed ends in logs.
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

// ------------------------------------------------------------------ requests and answers

/// The number of a request that waits for its answer.
#[derive(Debug)]
pub(super) struct Ticket(u64);

impl Ticket {
    pub(super) fn new() -> Self {
        let next = LAST.try_with(|last| {
            last.set(last.get() + 1);
            last.get()
        });
        Ticket(next.unwrap_or(0))
    }

    pub(super) fn number(&self) -> u64 {
        self.0
    }

    /// Saves the session that the request has asked for. Its `Set-Cookie` line, where the client
    /// needs one.
    pub(super) fn save(&self) -> io::Result<Option<String>> {
        let Some(session) = self.take() else { return Ok(None) };
        let tell = session.save();
        session.with(|values| values.answered = true);
        match tell? {
            true => session.0.options.cookie(&session.id(), session.0.over_tls).map(Some),
            false => Ok(None),
        }
    }

    /// Another request begins: what the last one asked for behind its answer goes.
    #[inline]
    pub(super) fn forget(&self) {
        drop(self.take());
    }

    #[inline]
    fn take(&self) -> Option<Session> {
        LIVE.try_with(|live| {
            let mut live = live.borrow_mut();
            if live.is_empty() { None } else { live.remove(&self.0) }
        })
        .ok()?
    }
}

impl Default for Ticket {
    fn default() -> Self {
        Ticket::new()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The session of the request of this number, which sent these cookies.
pub(super) fn session<'a>(
    number: u64,
    doors: &'static Doors,
    over_tls: bool,
    cookies: impl Iterator<Item = (&'a str, &'a str)>,
) -> io::Result<Session> {
    let there = LIVE.try_with(|live| live.borrow().get(&number).cloned());
    if let Ok(Some(session)) = there {
        return Ok(session);
    }
    let options = SessionOptions::shared();
    if !is_token(&options.name) {
        return Err(io::Error::other(format!("{:?} is no name of a cookie", options.name)));
    }
    let now = (doors.system_time)();
    let mut values = Values { untold: true, ..Values::default() };
    // An id that a client made up is never taken over: somebody else may know it.
    let ids = cookies.filter(|(name, id)| *name == options.name && is_id(id));
    for (_, id) in ids.take(COOKIES_TRIED) {
        let Some(data) = options.store.read(id, now)? else { continue };
        let Some(pairs) = decoded(&data) else {
            log::warn!("a session that cannot be read begins anew");
            continue;
        };
        values = Values { id: id.into(), pairs, stored: true, ..Values::default() };
        break;
    }
    if !values.stored {
        values.id = fresh_id(doors);
    }
    let session = Session(Rc::new(State { options, doors, over_tls, values: values.into() }));
    let kept = session.clone();
    let replaced = LIVE.try_with(move |live| live.borrow_mut().insert(number, kept));
    drop(replaced);
    Ok(session)
}

fn is_id(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_DIGITS && text.bytes().all(digit)
}

fn fresh_id(doors: &Doors) -> String {
    let mut random = [0; ID_DIGITS / 2];
    (doors.random)(&mut random);
    format!("{:032x}", u128::from_ne_bytes(random))
}

/// Names and values in turn, each behind its length and a colon: nothing needs an escape.
fn encoded(pairs: &[(String, String)]) -> Vec<u8> {
    let texts = pairs.iter().flat_map(|(name, value)| [name, value]);
    texts.flat_map(|text| format!("{}:{text}", text.len()).into_bytes()).collect()
}

fn decoded(mut data: &[u8]) -> Option<Vec<(String, String)>> {
    let mut text = || {
        let colon = data.iter().take(20).position(|&byte| byte == b':')?;
        let length: usize = std::str::from_utf8(&data[..colon]).ok()?.parse().ok()?;
        let (text, rest) = data[colon + 1..].split_at_checked(length)?;
        data = rest;
        Some((String::from_utf8(text.into()).ok()?, rest.is_empty()))
    };
    let mut pairs = Vec::new();
    loop {
        let (name, _) = text()?;
        let (value, is_last) = text()?;
        pairs.push((name, value));
        if is_last {
            return Some(pairs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_and_what_breaks_off_is_not() {
        let pairs = vec![("a:1".to_owned(), "5:\n\0é".to_owned()), (String::new(), String::new())];
        let data = encoded(&pairs);
        assert_eq!(decoded(&data), Some(pairs));
        for end in 0..data.len() {
            assert_ne!(decoded(&data[..end]).map(|pairs| pairs.len()), Some(2), "{end}");
        }
        assert_eq!(decoded(b"99999999999999999999:x"), None);
    }

    #[test]
    fn an_id_is_32_digits_and_nothing_that_touches_a_path() {
        assert!(is_id(&fresh_id(&crate::protocols::testing::DOORS)));
        for id in ["", "../../../../etc/passwd/aaaaaaaaaa", &"A".repeat(32), &"a".repeat(33)] {
            assert!(!is_id(id), "{id}");
        }
    }
}
