//! Requests that two readers could divide in two ways: refused, and the connection ends.
use crate::support::endpoint::Ours;
use crate::support::peers::start;
use crate::support::*;
use crate::{farewell_to, finish, status, talk, upgrade};
use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use workerman::prelude::*;

type Seen = Rc<RefCell<Vec<String>>>;

/// A worker that notes each request, with its body, and answers it.
fn serving() -> (Worker<Http>, SocketAddr, Seen) {
    let (worker, addr) = start::<Http>();
    let seen = Seen::default();
    let at = seen.clone();
    worker.on_message(move |con, request| {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        at.borrow_mut().push(format!("{} {} {body:?}", request.method(), request.path()));
        con.send("x")
    });
    (worker, addr, seen)
}

/// `POST /` with these lines and what follows the head; a request that is to be smuggled stands
/// behind it.
fn post(version: &str, lines: &str, rest: &str) -> String {
    format!("POST / HTTP/{version}\r\nHost: h\r\n{lines}\r\n\r\n{rest}{SMUGGLED}")
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// Each is refused with its status, and no request in it reaches the program.
#[track_caller]
fn assert_refused(requests: &[(u16, String)]) {
    for (expected, request) in requests {
        let (worker, addr, seen) = serving();
        assert_eq!(status(addr, request.as_str()), *expected, "{request}");
        assert!(seen.borrow().is_empty(), "{request}: {:?}", seen.borrow());
        worker.unlisten();
    }
}

#[test]
fn cve_2026_1525_content_length_stands_there_once() {
    // Repeated with another value, and with the same: who reads the first and who the last?
    assert_refused(&[
        (400, post("1.1", "Content-Length: 3\r\nContent-Length: 0", "abc")),
        (400, post("1.1", "Content-Length: 3\r\nContent-Length: 3", "abc")),
    ]);
}

#[test]
fn rustsec_2020_0008_a_body_belongs_to_its_request_whatever_the_method() {
    // Also RUSTSEC-2020-0093. A body that nobody asks for is read nevertheless, and is no request.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let (worker, addr, seen) = serving();
        let inside = "GET /inside HTTP/1.1\r\nHost: h\r\n\r\n";
        let head = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: {}", inside.len());
        talk(addr, format!("{head}\r\n\r\n{inside}{SMUGGLED}"));
        let expected = [format!("{method} / {inside:?}"), "GET /smuggled \"\"".into()];
        assert_eq!(*seen.borrow(), expected);
        worker.unlisten();
    }
}

#[test]
fn rustsec_2021_0020_transfer_encoding_stands_there_once() {
    let lines = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    assert_refused(&[(400, post("1.1", lines, "0\r\n\r\n"))]);
}

#[test]
fn rustsec_2021_0078_content_length_consists_of_digits() {
    let bad = ["+5", "-5", "5 5", "5, 5", "0x5", "5.0", "five", ""];
    let bad = bad.map(|length| (400, post("1.1", &format!("Content-Length: {length}"), "abcde")));
    assert_refused(&bad);
}

#[test]
fn rustsec_2021_0079_a_chunk_size_does_not_wrap() {
    // 17 digits, of which the last 16 are a small number.
    let chunked = |rest: &str| post("1.1", "Transfer-Encoding: chunked", rest);
    assert_refused(&[
        (413, chunked("10000000000000000\r\n\r\n")),
        (413, chunked("10000000000000005\r\nabcde\r\n0\r\n\r\n")),
        (413, chunked("ffffffffffffffff\r\nabcde\r\n0\r\n\r\n")),
    ]);
}

#[test]
fn rustsec_2020_0031_transfer_encoding_is_chunked_and_nothing_like_it() {
    let coding = |coding: &str| post("1.1", &format!("Transfer-Encoding: {coding}"), "0\r\n\r\n");
    assert_refused(&[
        (501, coding("xchunked")),
        (501, coding("gzip, chunked")),
        (501, coding("chunked, identity")),
        (501, coding("identity")),
        (400, coding("\"chunked\"")),
        (400, coding("chunked;q=1")),
        (400, coding("")),
    ]);
}

#[test]
fn rustsec_2021_0081_a_body_is_not_both_counted_and_chunked() {
    assert_refused(&[
        (400, post("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        (400, post("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n")),
    ]);
}

#[test]
fn rustsec_2026_0034_http_1_0_knows_no_chunks() {
    assert_refused(&[(400, post("1.0", "Transfer-Encoding: chunked", "0\r\n\r\n"))]);
}

#[test]
fn uws_1497_lines_end_with_cr_and_lf() {
    assert_refused(&[
        (400, SMUGGLED.replace("\r\n", "\n")),
        (400, format!("GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n{SMUGGLED}")),
        (400, format!("GET / HTTP/1.1\r\nHost: h\r\nX: y\n\r\n{SMUGGLED}")),
        (400, format!("GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n{SMUGGLED}")),
    ]);
}

#[test]
fn workerman_554_a_chunk_is_as_long_as_it_says() {
    let chunked = |rest: &str| (400, post("1.1", "Transfer-Encoding: chunked", rest));
    assert_refused(&[
        chunked("3\r\nabcX\n0\r\n\r\n"),
        chunked("3\r\nabcd\r\n0\r\n\r\n"),
        chunked("3\nabc\r\n0\r\n\r\n"),
        chunked("+3\r\nabc\r\n0\r\n\r\n"),
        chunked("3 \r\nabc\r\n0\r\n\r\n"),
    ]);
}

#[test]
fn workerman_554_a_head_is_what_the_grammar_permits() {
    // A space before the colon, a folded line, NUL, bytes that are no ASCII: each is one thing to
    // one reader, and another to the next.
    let head = |lines: &str| (400, format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n"));
    assert_refused(&[
        head("Transfer-Encoding : chunked"),
        head("X: a\r\n Transfer-Encoding: chunked"),
        head("X: a\r\n\tb"),
        head("X: a\0b"),
        head("X\0: a"),
        head("no colon"),
        (400, "GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n".into()),
        (400, "GET  / HTTP/1.1\r\nHost: h\r\n\r\n".into()),
    ]);
}

#[test]
fn cve_2026_50020_nothing_is_skipped_before_a_request() {
    // One empty line, which some clients leave behind a body, and no other byte.
    let mut bad =
        vec![(400, format!("\r\n\r\n{SMUGGLED}")), (400, format!("\r\n\r\n\r\n{SMUGGLED}"))];
    bad.extend((0..=0x20u8).chain([0x7f]).map(|byte| (400, format!("{}{SMUGGLED}", byte as char))));
    assert_refused(&bad);
    let (_worker, addr, seen) = serving();
    talk(addr, format!("\r\n{SMUGGLED}"));
    assert_eq!(seen.borrow().len(), 1);
}

#[test]
fn rustsec_2026_0033_what_follows_an_upgrade_is_upgraded_only_by_our_own_101() {
    // A WebSocket's request with a body: to a proxy that is the body, to us it would be frames.
    let (worker, addr) = start::<Websocket>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_message(move |_, data| at.note(data));
    for lines in ["Content-Length: 8\r\n", "Transfer-Encoding: chunked\r\n"] {
        let frame = client_frame(0x81, b"no");
        let request = [upgrade(lines).as_bytes(), &frame, &farewell_to(Ours::Server)].concat();
        assert_eq!(status(addr, request), 400, "{lines}");
    }
    // Frames behind a request that is refused are nobody's message.
    let refused = upgrade("").replace("Connection: Upgrade", "Connection: close");
    let request = [refused.as_bytes(), &client_frame(0x81, b"neither")].concat();
    assert_eq!(status(addr, request), 400);
    t.assert(&[]);
}

#[test]
fn ghsa_c4j6_fc7j_m34r_an_upgrade_passes_the_same_checks_as_any_request() {
    // A sandboxed page opens no WebSocket through an http worker either.
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| match Websocket::accept(&request) {
        Ok(websocket) => con.upgrade_with(websocket).on_message(|con, data| con.send(data)),
        Err(refusal) => {
            con.send(refusal);
        }
    });
    for (origin, expected) in [("null", "403"), ("http://127.0.0.1:99", "101")] {
        let request = upgrade(&format!("Origin: {origin}\r\n"));
        let peer = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            stream.write_all(request.as_bytes()).expect("a request");
            read_head(&mut stream)
        });
        let head = finish(peer);
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{origin}: {head}");
    }
}
