//! Promise: a session belongs to the browser that was given its id, and lasts as long as was said.
mod support;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use support::http::*;
use support::peers::start;
use support::*;
use workerman::prelude::*;
use workerman::{Chunk, FileSessions, SameSite, SessionOptions, SessionStore};

/// A folder for sessions that goes with the test; each test has a thread, and so its own options.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("workerman-http-sessions-{}-{name}", std::process::id());
        Folder(std::env::temp_dir().join(name))
    }

    fn options(&self) -> SessionOptions {
        SessionOptions::new().store(FileSessions::new(&self.0))
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).map_or(0, |files| files.count())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the server says to a browser that sends this cookie: the whole answer, and the id that it
/// was given with it.
#[track_caller]
fn visit(addr: SocketAddr, path: &str, id: Option<&str>) -> (String, Option<String>) {
    let cookie = id.map_or(String::new(), |id| format!("Cookie: a=b; PHPSID={id}\r\n"));
    let answer = talk(addr, get(path, &(cookie + "Connection: close\r\n")));
    let given = answer.lines().find_map(|line| line.strip_prefix("Set-Cookie: PHPSID="));
    let given = given.map(|line| line.split(';').next().unwrap_or("").to_owned());
    (answer, given)
}

/// Every method of a session, by path.
fn serve() -> SocketAddr {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        let session = request.session()?;
        match request.path() {
            "/login" => session.set("uid", 7),
            "/again" => session.regenerate_id(),
            "/logout" => session.flush(),
            "/put" => session.put([("a", "1"), ("b", "2"), ("c", "3")]),
            "/forget" => session.forget(["a", "b"]),
            "/pull" => drop(session.pull("c")),
            "/delete" => session.delete("uid"),
            "/large" => session.set("large", "x".repeat(1 << 20)),
            "/later" => {
                Timer::delay(0.02, move || {
                    session.set("later", "yes");
                    con.send("later");
                });
                return Ok(());
            }
            "/chunked" => {
                session.set("chunked", true);
                con.send(Response::new(200).with_header("Transfer-Encoding", "chunked"));
                con.send(Chunk::end());
                return Ok(());
            }
            _ => {}
        }
        con.send(format!("{:?} {}", session.all(), session.has("uid")));
        Ok(())
    });
    addr
}

#[test]
fn a_session_is_found_again_by_its_cookie() {
    let folder = Folder::new("again");
    folder.options().set_default();
    let addr = serve();
    let (answer, id) = visit(addr, "/login", None);
    let id = id.expect("a cookie");
    assert!(answer.contains("; Path=/; SameSite=Lax; HttpOnly\r\n"), "{answer}");
    assert!(id.len() == 32 && !answer.contains("Secure"), "{answer}");
    let (answer, given) = visit(addr, "/", Some(&id));
    assert!(answer.ends_with("[(\"uid\", \"7\")] true") && given.is_none(), "{answer}");
    for (path, expected) in [
        ("/put", "[(\"uid\", \"7\"), (\"a\", \"1\"), (\"b\", \"2\"), (\"c\", \"3\")] true"),
        ("/forget", "[(\"uid\", \"7\"), (\"c\", \"3\")] true"),
        ("/pull", "[(\"uid\", \"7\")] true"),
        ("/later", "later"),
        ("/delete", "[(\"later\", \"yes\")] false"),
        ("/", "[(\"later\", \"yes\")] false"),
    ] {
        let (answer, given) = visit(addr, path, Some(&id));
        assert!(answer.ends_with(expected) && given.is_none(), "{path}: {answer}");
    }
    assert_eq!(folder.files(), 1);
    visit(addr, "/logout", Some(&id));
    assert_eq!(folder.files(), 0, "an empty one is not kept");
}

#[test]
fn an_id_that_the_client_made_up_is_never_taken_over() {
    let folder = Folder::new("fixation");
    folder.options().set_default();
    let addr = serve();
    for made_up in [&"0".repeat(32), "../../../../../../tmp/session_1", "", "x y"] {
        let (_, given) = visit(addr, "/login", Some(made_up));
        let given = given.expect("one of ours");
        assert!(given != made_up && given.len() == 32, "{made_up:?}: {given}");
    }
    assert_eq!(folder.files(), 4);
}

#[test]
fn a_regenerated_id_takes_the_values_along_and_the_old_one_is_worth_nothing() {
    let folder = Folder::new("regenerated");
    folder.options().set_default();
    let addr = serve();
    let old = visit(addr, "/login", None).1.expect("an id");
    let new = visit(addr, "/again", Some(&old)).1.expect("another id");
    assert_ne!(old, new);
    assert!(visit(addr, "/", Some(&new)).0.ends_with("[(\"uid\", \"7\")] true"));
    assert!(visit(addr, "/", Some(&old)).0.ends_with("[] false"));
    assert_eq!(folder.files(), 1);
}

#[test]
fn who_only_looks_gets_no_cookie_and_leaves_no_file() {
    let folder = Folder::new("looks");
    folder.options().set_default();
    let addr = serve();
    assert_eq!(visit(addr, "/", None).1, None);
    assert_eq!(folder.files(), 0);
    assert!(visit(addr, "/chunked", None).1.is_some(), "the head of pieces carries it, too");
}

#[test]
fn a_session_expires_unless_it_is_used() {
    for auto_update in [false, true] {
        let folder = Folder::new(if auto_update { "lives" } else { "expires" });
        folder.options().lifetime(0.6).auto_update_timestamp(auto_update).set_default();
        let addr = serve();
        let id = visit(addr, "/login", None).1.expect("an id");
        for _ in 0..3 {
            turn_for(Duration::from_millis(300));
            visit(addr, "/", Some(&id));
        }
        let there = visit(addr, "/", Some(&id)).0.ends_with("true");
        assert_eq!(there, auto_update);
    }
}

#[test]
fn what_cannot_be_kept_is_a_500_and_not_a_login() {
    let folder = Folder::new("large");
    folder.options().max_bytes(1000).set_default();
    let addr = serve();
    let (answer, given) = visit(addr, "/large", None);
    assert!(answer.starts_with("HTTP/1.1 500 ") && given.is_none(), "{answer}");
    // A folder that others may enter: no session is written there.
    let open = std::env::temp_dir();
    SessionOptions::new().store(FileSessions::new(open)).set_default();
    let (answer, given) = visit(addr, "/login", None);
    assert!(answer.starts_with("HTTP/1.1 500 ") && given.is_none(), "{answer}");
}

#[test]
fn the_cookies_attributes_are_the_programs() {
    let folder = Folder::new("attributes");
    let options = folder.options().name("SID").cookie_lifetime(60).cookie_path("/shop");
    options.domain("h.test").secure(true).http_only(false).same_site(SameSite::None).set_default();
    let addr = serve();
    let answer = talk(addr, last("/login"));
    let line = answer.lines().find(|line| line.starts_with("Set-Cookie: SID=")).expect("a cookie");
    let attributes = line.split_once(';').map(|(_, attributes)| attributes);
    let expected = " Path=/shop; SameSite=None; Domain=h.test; Max-Age=60; Secure";
    assert_eq!(attributes, Some(expected), "{answer}");
}

/// A store that calls the library back, as one over the network may.
struct Calling(RefCell<Vec<u8>>, Rc<RefCell<Vec<Sent>>>, Rc<RefCell<Option<TcpConnection<Http>>>>);

impl Calling {
    fn call(&self) {
        let con = *self.2.borrow();
        let sent = con.map(|con| con.send("from inside"));
        self.1.borrow_mut().extend(sent);
    }
}

impl SessionStore for Calling {
    fn read(&self, _: &str, _: SystemTime) -> io::Result<Option<Vec<u8>>> {
        Ok(Some(self.0.borrow().clone()))
    }
    fn write(&self, _: &str, data: &[u8], _: SystemTime) -> io::Result<()> {
        self.call();
        *self.0.borrow_mut() = data.into();
        Ok(())
    }
    fn touch(&self, _: &str, _: SystemTime) -> io::Result<()> {
        Ok(())
    }
    fn destroy(&self, _: &str) -> io::Result<()> {
        self.call();
        Ok(())
    }
}

#[test]
fn a_store_of_the_programs_own_may_call_the_library() {
    let (sent, con) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(None)));
    let store = Calling(RefCell::default(), sent.clone(), con.clone());
    SessionOptions::new().store(store).set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(move |it, request| {
        *con.borrow_mut() = Some(it);
        request.session()?.set("n", request.path());
        it.send("answered");
        Ok(())
    });
    let answer = talk(addr, last("/1"));
    assert!(answer.ends_with("answered"), "{answer}");
    assert_eq!(*sent.borrow(), [Sent::Dropped], "to its own connection, inside its own encoding");
}

#[test]
fn a_change_behind_the_answer_is_saved_when_the_last_handle_goes() {
    let folder = Folder::new("behind");
    folder.options().set_default();
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        let session = request.session()?;
        if request.path() == "/login" {
            session.set("uid", 7);
        }
        con.send(format!("{:?}", session.get("seen")));
        session.set("seen", "yes");
        Ok(())
    });
    let id = visit(addr, "/login", None).1.expect("an id");
    assert!(visit(addr, "/", Some(&id)).0.ends_with("Some(\"yes\")"));
}

#[test]
fn a_request_knows_where_it_came_from_and_what_came_behind_its_body() {
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        assert_eq!(request.remote_addr(), con.remote_addr());
        assert!(request.remote_ip().is_some_and(|ip| ip.is_loopback()));
        con.send(format!(
            "{:?} {:?} {:?} {}",
            request.trailer("X-DIGEST"),
            request.trailer("x-none"),
            request.header("x-digest"),
            request.raw_body(),
        ))
    });
    let head =
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = talk(addr, format!("{head}3\r\nabc\r\n0\r\nX-Digest: 17\r\nY: z\r\n\r\n"));
    assert!(answer.ends_with("Some(\"17\") None None abc"), "{answer}");
    let many = "A: b\r\n".repeat(101);
    let answer = talk(addr, format!("{head}0\r\n{many}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn a_part_of_a_file_is_what_the_program_has_chosen() {
    let (worker, addr) = start::<Http>();
    let file = Scrap::new("part", 200_000);
    let path = file.0.clone();
    worker.on_message(move |con, request| {
        let response = |status| Response::new(status);
        con.send(match request.path() {
            "/206" => response(206).with_file_range(&path, 1000, 100_000),
            "/rest" => response(200).with_file_range(&path, 199_990, None),
            "/beyond" => response(206).with_file_range(&path, 199_990, 1000),
            _ => response(206).with_file_range(&path, 200_000, 1),
        })
    });
    for (path, range, head) in [
        ("/206", 1000..101_000, "Content-Range: bytes 1000-100999/200000\r\n"),
        ("/rest", 199_990..200_000, "Content-Length: 10\r\n"),
        ("/beyond", 199_990..200_000, "Content-Range: bytes 199990-199999/200000\r\n"),
    ] {
        // The client's own wish is not looked at.
        let answer = finish(client(addr, get(path, "Connection: close\r\nRange: bytes=0-0\r\n")));
        assert_eq!(body_of(&answer), &file.1[range], "{path}");
        assert!(String::from_utf8_lossy(&answer).contains(head), "{path}");
    }
    let answer = talk(addr, last("/behind"));
    assert!(answer.starts_with("HTTP/1.1 416 ") && answer.contains("bytes */200000"), "{answer}");
}
