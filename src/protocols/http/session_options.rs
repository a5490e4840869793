//! How sessions are kept, by whom, and what their cookies say.
use super::{Cookie, FileSessions, SameSite};
use crate::{Error, Interval};
use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

thread_local! {
    static DEFAULT: RefCell<Option<Rc<SessionOptions>>> = const { RefCell::new(None) };
}

/// Where sessions are kept. Ids are 32 hexadecimal digits, made here. The calls block the loop, so
/// they must be short. [`FileSessions`] is one.
pub trait SessionStore {
    /// What was written last under this id, unless it has expired at `now`.
    fn read(&self, id: &str, now: SystemTime) -> io::Result<Option<Vec<u8>>>;

    /// Keeps `data` under this id, in place of what was there, until `expires`. Whole or not at
    /// all.
    fn write(&self, id: &str, data: &[u8], expires: SystemTime) -> io::Result<()>;

    /// Keeps what is there until `expires`.
    fn touch(&self, id: &str, expires: SystemTime) -> io::Result<()>;

    /// Forgets it; nothing, where there is none.
    fn destroy(&self, id: &str) -> io::Result<()>;

    /// Called once for each session that is opened: a little of what has expired may go. Never all
    /// at once, since requests wait meanwhile.
    fn collect(&self, _now: SystemTime) {}
}

/// How sessions are kept, and their cookies: PHP's `Session::$name` and its kin.
///
/// ```
/// use workerman::{FileSessions, SessionOptions};
///
/// SessionOptions::new()
///     .name("SHOP")
///     .lifetime(3600)
///     .cookie_lifetime(3600)
///     .store(FileSessions::new("/var/lib/shop/sessions"))
///     .set_default();
/// ```
pub struct SessionOptions {
    pub(super) name: String,
    pub(super) lifetime: Duration,
    cookie_lifetime: Duration,
    path: String,
    domain: String,
    secure: Option<bool>,
    http_only: bool,
    same_site: Option<SameSite>,
    pub(super) auto_update: bool,
    pub(super) max_bytes: usize,
    store: OnceCell<Rc<dyn SessionStore>>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            name: "PHPSID".into(),
            lifetime: Duration::from_secs(1440),
            cookie_lifetime: Duration::from_secs(1440),
            path: "/".into(),
            domain: String::new(),
            secure: None,
            http_only: true,
            same_site: Some(SameSite::Lax),
            auto_update: false,
            max_bytes: 64 << 10,
            store: OnceCell::new(),
        }
    }
}

impl SessionOptions {
    /// The numbers beside each method here, and [`FileSessions::default`].
    pub fn new() -> Self {
        SessionOptions::default()
    }

    /// For every session that is opened from now on in this thread.
    pub fn set_default(self) {
        let old = DEFAULT.try_with(|default| default.replace(Some(Rc::new(self))));
        // What a program gave may do anything as it goes: not under the borrow.
        drop(old);
    }

    /// The cookie's name (`PHPSID`). A browser takes `__Host-PHPSID` over TLS alone, and from no
    /// other host of your domain.
    pub fn name(self, name: &str) -> Self {
        SessionOptions { name: name.into(), ..self }
    }

    /// How long a session is kept after it was last changed (1 440 s).
    pub fn lifetime(self, after: impl Into<Interval>) -> Self {
        SessionOptions { lifetime: after.into().duration(), ..self }
    }

    /// How long a browser keeps the cookie after it was last set (1 440 s); 0: until it is closed.
    pub fn cookie_lifetime(self, after: impl Into<Interval>) -> Self {
        SessionOptions { cookie_lifetime: after.into().duration(), ..self }
    }

    /// For requests below this path (`/`).
    pub fn cookie_path(self, path: &str) -> Self {
        SessionOptions { path: path.into(), ..self }
    }

    /// For this host and those below it (this host alone).
    pub fn domain(self, domain: &str) -> Self {
        SessionOptions { domain: domain.into(), ..self }
    }

    /// Over TLS only (where the request came over TLS). Behind a proxy that speaks TLS: `true`.
    pub fn secure(self, secure: bool) -> Self {
        SessionOptions { secure: Some(secure), ..self }
    }

    /// Out of reach of scripts (yes).
    pub fn http_only(self, http_only: bool) -> Self {
        SessionOptions { http_only, ..self }
    }

    /// Whether other sites' requests bring the cookie ([`SameSite::Lax`]).
    pub fn same_site(self, same_site: SameSite) -> Self {
        SessionOptions { same_site: Some(same_site), ..self }
    }

    /// Each request that opens a session makes it and its cookie last longer, also where nothing is
    /// changed (no).
    pub fn auto_update_timestamp(self, auto_update: bool) -> Self {
        SessionOptions { auto_update, ..self }
    }

    /// What a session may take, names and values (64 KiB). What would be more is not kept, and the
    /// log says so.
    pub fn max_bytes(self, bytes: usize) -> Self {
        SessionOptions { max_bytes: bytes, ..self }
    }

    /// Where they are kept ([`FileSessions::default`]).
    pub fn store(self, store: impl SessionStore + 'static) -> Self {
        SessionOptions { store: OnceCell::from(Rc::new(store) as Rc<dyn SessionStore>), ..self }
    }

    pub(super) fn current() -> Rc<Self> {
        let current = DEFAULT.try_with(|default| {
            default.borrow_mut().get_or_insert_with(|| Rc::new(SessionOptions::new())).clone()
        });
        current.unwrap_or_default()
    }

    /// Its store; made when it is first asked for.
    pub(super) fn kept(&self) -> Rc<dyn SessionStore> {
        self.store.get_or_init(|| Rc::new(FileSessions::default())).clone()
    }

    /// The value of a `Set-Cookie`, or what keeps it from being one.
    pub(super) fn cookie(&self, id: &str, over_tls: bool) -> (String, Option<Error>) {
        let mut cookie = Cookie::new(&self.name, id).path(&self.path);
        if !self.cookie_lifetime.is_zero() {
            cookie = cookie.max_age(self.cookie_lifetime);
        }
        if !self.domain.is_empty() {
            cookie = cookie.domain(&self.domain);
        }
        if self.secure.unwrap_or(over_tls) {
            cookie = cookie.secure();
        }
        if self.http_only {
            cookie = cookie.http_only();
        }
        if let Some(same_site) = self.same_site {
            cookie = cookie.same_site(same_site);
        }
        cookie.into_line()
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOptions")
            .field("name", &self.name)
            .field("lifetime", &self.lifetime)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
