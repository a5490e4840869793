//! Promise: what a program sets in a session is there in the same browser's next request, and
//! nobody else comes by it.
mod support;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;
use support::log::{keep_log, logged_with};
use support::peers::{read_to_end, start};
use support::*;
use workerman::prelude::*;
use workerman::{Chunk, FileSessions, SameSite, Session, SessionOptions, SessionStore};

/// A folder for sessions that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Folder(std::env::temp_dir().join(format!("workerman-sessions-test-{pid}-{n}")))
    }

    fn options(&self) -> SessionOptions {
        SessionOptions::new().store(FileSessions::new(&self.0))
    }

    /// How many sessions are kept.
    fn count(&self) -> usize {
        std::fs::read_dir(&self.0).map_or(0, Iterator::count)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Does as the path says: `/set/NAME/VALUE`, `/get/NAME`, `/flush`, `/renew`, `/id`.
fn shop(con: TcpConnection<Http>, request: Request) -> Result {
    let session = request.session()?;
    let words: Vec<&str> = request.path().split('/').collect();
    let answer = match words[1..] {
        ["set", name, value] => {
            session.set(name, value);
            "set".into()
        }
        ["get", name] => session.get(name).unwrap_or("nothing".into()),
        ["flush"] => {
            session.flush();
            "flushed".into()
        }
        ["renew"] => {
            session.regenerate_id()?;
            "renewed".into()
        }
        _ => session.id(),
    };
    con.send(answer);
    Ok(())
}

/// One request over a connection of its own: the cookie that was set, and the body.
#[track_caller]
fn visit(addr: SocketAddr, path: &str, cookie: &str) -> (Option<String>, String) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nCookie: a=b; {cookie}\r\n\r\n"
    );
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        stream.write_all(request.as_bytes()).expect("the request");
        String::from_utf8(read_to_end(&mut stream)).expect("text")
    });
    turn_until(|| client.is_finished());
    let answer = client.join().expect("the client's part");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.matches("Set-Cookie: ").count() <= 1, "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: "));
    (cookie.map(Into::into), body.into())
}

/// What a browser sends back of it.
fn pair(cookie: Option<String>) -> String {
    let cookie = cookie.expect("a cookie was set");
    cookie.split(';').next().unwrap_or("").into()
}

#[test]
fn a_value_is_there_in_the_next_request_and_in_no_other_browser() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let (cookie, body) = visit(addr, "/set/uid/7", "");
    assert_eq!(body, "set");
    let cookie = cookie.expect("a cookie");
    let (id, attributes) =
        cookie.strip_prefix("PHPSID=").and_then(|c| c.split_at_checked(32)).expect("an id");
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(attributes, "; Path=/; Max-Age=1440; HttpOnly; SameSite=Lax");
    let mine = format!("PHPSID={id}");
    assert_eq!(visit(addr, "/get/uid", &mine), (None, "7".into()));
    assert_eq!(visit(addr, "/get/uid", "").1, "nothing");
    assert_ne!(pair(visit(addr, "/set/uid/8", "").0), mine);
    assert_eq!(visit(addr, "/get/uid", &mine).1, "7");
}

#[test]
fn who_has_nothing_in_a_session_gets_no_cookie_and_no_file() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    assert_eq!(visit(addr, "/get/uid", ""), (None, "nothing".into()));
    assert_eq!(folder.count(), 0);
    let mine = pair(visit(addr, "/set/uid/7", "").0);
    assert_eq!(folder.count(), 1);
    assert_eq!(visit(addr, "/flush", &mine), (None, "flushed".into()));
    assert_eq!(folder.count(), 0);
    assert_eq!(visit(addr, "/get/uid", &mine).1, "nothing");
}

#[test]
fn an_id_that_a_client_made_up_is_never_taken() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let long = "f".repeat(5000);
    let good = "0123456789abcdef0123456789abcdef";
    for id in [good, "../../../../etc/passwd", "", "x", &long, "\"'%00", "..%2f"] {
        let given = format!("PHPSID={id}");
        let (cookie, _) = visit(addr, "/set/uid/7", &given);
        let got = pair(cookie);
        assert_ne!(got, given, "session fixation");
        assert_eq!(visit(addr, "/get/uid", &given).1, "nothing");
        assert_eq!(visit(addr, "/get/uid", &got).1, "7");
    }
    assert_eq!(folder.count(), 7, "one each, and nothing else in the folder");
}

#[test]
fn a_new_id_keeps_the_values_and_the_old_one_means_nothing() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let old = pair(visit(addr, "/set/uid/7", "").0);
    let new = pair(visit(addr, "/renew", &old).0);
    assert_ne!(old, new);
    assert_eq!(visit(addr, "/get/uid", &new).1, "7");
    assert_eq!(visit(addr, "/get/uid", &old).1, "nothing");
    assert_eq!(folder.count(), 1);
}

#[test]
fn who_has_logged_out_stays_so_though_another_request_of_the_session_ends_later() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    let held: Rc<RefCell<Option<Session>>> = Rc::default();
    let hold = held.clone();
    worker.on_message(move |con, request| {
        if request.path() == "/slow" {
            let session = request.session()?;
            session.set("late", 1);
            hold.replace(Some(session));
            con.send("slow");
            return Ok(());
        }
        shop(con, request)
    });
    let mine = pair(visit(addr, "/set/uid/7", "").0);
    visit(addr, "/slow", &mine);
    visit(addr, "/flush", &mine);
    held.take();
    assert_eq!(visit(addr, "/get/uid", &mine).1, "nothing");
    assert_eq!(folder.count(), 0);
}

#[test]
fn the_cookie_leaves_with_its_own_answer_however_late_that_is() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    let late: Rc<RefCell<Option<TcpConnection<Http>>>> = Rc::default();
    let kept = late.clone();
    worker.on_message(move |con, request| {
        if request.path() != "/late" {
            return shop(con, request);
        }
        let session = request.session()?;
        session.put([("uid", 7), ("n", 1)]);
        // Twice asked, it is the same one.
        assert_eq!(request.session()?.pull("n").as_deref(), Some("1"));
        kept.replace(Some(con));
        Ok(())
    });
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let request = "GET /late HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("the request");
        String::from_utf8(read_to_end(&mut stream)).expect("text")
    });
    turn_until(|| late.borrow().is_some());
    assert_eq!(visit(addr, "/get/uid", ""), (None, "nothing".into()));
    late.take().expect("it waits").send(Response::new(200).with_header("X", "y").with_body("late"));
    turn_until(|| client.is_finished());
    let answer = client.join().expect("the client's part");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("Set-Cookie: "));
    let mine = pair(cookie.map(Into::into));
    assert_eq!(visit(addr, "/get/uid", &mine).1, "7");
    assert_eq!(visit(addr, "/get/n", &mine).1, "nothing");
}

#[test]
fn a_session_is_kept_for_its_lifetime_and_no_longer() {
    let folder = Folder::new();
    folder.options().lifetime(0).name("SID").cookie_lifetime(0).domain("a.test").set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let (cookie, _) = visit(addr, "/set/uid/7", "");
    let cookie = cookie.expect("a cookie");
    assert!(cookie.ends_with("; Path=/; Domain=a.test; HttpOnly; SameSite=Lax"), "{cookie}");
    let mine = pair(Some(cookie));
    assert!(mine.starts_with("SID="));
    assert_eq!(visit(addr, "/get/uid", &mine).1, "nothing");
    folder.options().name("SID").auto_update_timestamp(true).set_default();
    let mine = pair(visit(addr, "/set/uid/7", "").0);
    let (again, body) = visit(addr, "/get/uid", &mine);
    assert_eq!((pair(again), body), (mine, "7".into()));
}

#[test]
fn the_cookies_attributes_are_the_programs() {
    let folder = Folder::new();
    let options = folder.options().name("SID").cookie_lifetime(60).cookie_path("/shop");
    options.domain("h.test").secure(true).http_only(false).same_site(SameSite::None).set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let cookie = visit(addr, "/set/uid/7", "").0.expect("a cookie");
    let attributes = cookie.split_once(';').map(|(_, attributes)| attributes);
    let expected = " Path=/shop; Max-Age=60; Domain=h.test; Secure; SameSite=None";
    assert_eq!(attributes, Some(expected), "{cookie}");
}

#[test]
fn a_change_behind_the_answer_is_kept_also_where_the_answer_goes_in_pieces() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        if request.path() != "/pieces" {
            return shop(con, request);
        }
        let session = request.session()?;
        session.set("uid", 7);
        con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
        session.set("seen", "yes");
        con.send(Chunk::end());
        Ok(())
    });
    let mine = pair(visit(addr, "/pieces", "").0);
    assert_eq!(visit(addr, "/get/uid", &mine).1, "7");
    assert_eq!(visit(addr, "/get/seen", &mine).1, "yes");
}

/// Its disk is full.
struct Full;

impl SessionStore for Full {
    fn read(&self, _: &str, _: SystemTime) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn write(&self, _: &str, _: &[u8], _: SystemTime) -> io::Result<()> {
        Err(io::Error::other("the disk is full"))
    }

    fn touch(&self, _: &str, _: SystemTime) -> io::Result<()> {
        Ok(())
    }

    fn destroy(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_session_that_cannot_be_saved_is_an_error_in_the_log_or_of_save() {
    keep_log();
    SessionOptions::new().store(Full).set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        if request.path() != "/save" {
            return shop(con, request);
        }
        let session = request.session()?;
        session.set("uid", 7);
        session.save()?;
        con.send("saved");
        Ok(())
    });
    // The answer has left before anybody knows.
    assert_eq!(visit(addr, "/set/uid/7", "").1, "set");
    assert_eq!(logged_with("ERROR", "the disk is full"), 1);
    let (cookie, body) = visit(addr, "/save", "");
    assert!(body.contains("500") && cookie.is_none(), "{cookie:?} {body}");
}

#[test]
fn what_is_too_large_is_not_kept_and_a_folder_that_is_not_safe_is_an_error() {
    let folder = Folder::new();
    folder.options().max_bytes(10).set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let mine = pair(visit(addr, "/set/uid/1234567", "").0);
    assert_eq!(visit(addr, "/set/uid/12345678", &mine).1, "set");
    assert_eq!(visit(addr, "/set/x/1", &mine).1, "set");
    assert_eq!(visit(addr, "/get/uid", &mine).1, "1234567");
    assert_eq!(visit(addr, "/get/x", &mine).1, "nothing");

    let link = Folder::new();
    std::os::unix::fs::symlink(&folder.0, &link.0).expect("a link");
    link.options().set_default();
    assert!(visit(addr, "/get/uid", &mine).1.contains("500"), "the callback has failed");
    std::fs::remove_file(&link.0).expect("it was a link");
    SessionOptions::new().name("a b").store(FileSessions::new(&folder.0)).set_default();
    assert!(visit(addr, "/get/uid", &mine).1.contains("500"), "no name of a cookie");
}

#[test]
fn after_the_answer_no_session_can_begin_and_no_id_can_change() {
    let folder = Folder::new();
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        let session = request.session()?;
        con.send("early");
        let error = session.regenerate_id().expect_err("it is too late").to_string();
        assert!(error.contains("before send"), "{error}");
        Ok(())
    });
    assert_eq!(visit(addr, "/", ""), (None, "early".into()));
}

/// A program's own place for sessions, whose methods call the library.
#[derive(Clone, Default)]
struct Own {
    kept: Rc<RefCell<HashMap<String, Vec<u8>>>>,
    con: Rc<RefCell<Option<TcpConnection<Http>>>>,
    calls: Transcript,
}

impl Own {
    fn call(&self, what: &str) {
        self.calls.note(what);
        let con = *self.con.borrow();
        if let Some(con) = con {
            con.send_raw(&b""[..]);
            con.set(7_u8);
            assert!(!con.worker().connections().is_empty());
            Timer::delay(0, || {});
        }
    }
}

impl SessionStore for Own {
    fn read(&self, id: &str, _: SystemTime) -> io::Result<Option<Vec<u8>>> {
        self.call("read");
        Ok(self.kept.borrow().get(id).cloned())
    }

    fn write(&self, id: &str, data: &[u8], _: SystemTime) -> io::Result<()> {
        self.call("write");
        self.kept.borrow_mut().insert(id.into(), data.into());
        Ok(())
    }

    fn touch(&self, _: &str, _: SystemTime) -> io::Result<()> {
        Ok(())
    }

    fn destroy(&self, id: &str) -> io::Result<()> {
        self.call("destroy");
        self.kept.borrow_mut().remove(id);
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // As set_default replaces it: nothing of the library is borrowed meanwhile.
        let _ = Worker::is_running();
    }
}

#[test]
fn a_store_of_ones_own_may_call_the_library() {
    let own = Own::default();
    SessionOptions::new().store(own.clone()).set_default();
    let (worker, addr) = start::<Http>();
    let con_of = own.con.clone();
    worker.on_message(move |con, request| {
        con_of.replace(Some(con));
        shop(con, request)
    });
    let mine = pair(visit(addr, "/set/uid/7", "").0);
    assert_eq!(visit(addr, "/get/uid", &mine).1, "7");
    let new = pair(visit(addr, "/renew", &mine).0);
    visit(addr, "/flush", &new);
    let expected = ["write", "read", "read", "read", "write", "destroy", "read", "read", "destroy"];
    own.calls.assert(&expected);
    SessionOptions::new().set_default();
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn over_tls_the_cookie_is_secure_and_elsewhere_where_the_program_says_so() {
    let folder = Folder::new();
    folder.options().set_default();
    let identity = support::peers::identity();
    let worker = Worker::<Http>::listen("http://127.0.0.1:0").expect("it listens");
    worker.set_transport(Transport::Ssl);
    let tls = Tls::new().identity_files(identity.path(), identity.path());
    worker.set_tls(tls).expect("certificate and key");
    worker.on_message(shop);
    Worker::turn(0).expect("the first turn");
    let addr = worker.local_addr().expect("it is bound");
    let con = AsyncTcpConnection::<Tcp>::new(&format!("ssl://localhost:{}", addr.port()))
        .expect("an address");
    con.set_tls(Tls::new().ca_file(identity.path())).expect("as a test may");
    let answer = Rc::new(RefCell::new(Vec::new()));
    let got = answer.clone();
    con.on_message(move |_, data| got.borrow_mut().extend_from_slice(data.as_bytes()));
    con.send("GET /set/uid/7 HTTP/1.1\r\nHost: a\r\n\r\n");
    con.connect();
    turn_until(|| answer.borrow().ends_with(b"set"));
    let text = String::from_utf8_lossy(&answer.borrow()).into_owned();
    assert!(text.contains("; Secure; HttpOnly"), "{text}");

    folder.options().secure(true).set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(shop);
    let (cookie, _) = visit(addr, "/set/uid/7", "");
    assert!(cookie.is_some_and(|cookie| cookie.contains("; Secure")));
}
