//! Whose pages may connect: the origin rule over real sockets.
use crate::support::log::{keep_log, logged, logged_with};
use crate::support::{Transcript, raw_connect, turn_until};
use std::io::{Read, Write};
use std::net::SocketAddr;
use workerman::prelude::*;

/// A worker of this thread that notes whom it admits.
fn listening(address: &str) -> (Worker<Websocket>, SocketAddr, Transcript) {
    let worker = Worker::<Websocket>::listen(address).expect("an address");
    assert!(Worker::turn(0).expect("a turn"));
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_websocket_connect(move |_, request| {
        s.note(format!("asked {}", request.header("Origin").unwrap_or("nobody")));
    });
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    let port = worker.local_addr().expect("it listens").port();
    (worker, SocketAddr::from(([127, 0, 0, 1], port)), seen)
}

/// The answer's status and body to a request with these headers.
fn answer(addr: SocketAddr, host: &str, origins: &[&str]) -> (String, String) {
    let lines: String = origins.iter().map(|origin| format!("Origin: {origin}\r\n")).collect();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\n{lines}Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        peer.write_all(request.as_bytes()).expect("the socket takes it");
        peer.shutdown(std::net::Shutdown::Write).expect("our end");
        let mut text = Vec::new();
        peer.read_to_end(&mut text).expect("an orderly end");
        String::from_utf8_lossy(&text).into_owned()
    });
    turn_until(|| peer.is_finished());
    let text = peer.join().expect("its own assertions");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    (status, body.to_owned())
}

#[track_caller]
fn assert_status(addr: SocketAddr, host: &str, origin: &str, status: &str) {
    let (found, body) = answer(addr, host, &[origin]);
    assert_eq!(found, status, "a page of {origin} at {host}: {body}");
}

#[test]
fn a_page_of_the_servers_own_host_passes_whatever_the_ports_and_others_do_not() {
    let (_, addr, _) = listening("websocket://0.0.0.0:0");
    for (host, origin, status) in [
        ("example.com", "https://example.com", "101"),
        ("example.com:9000", "http://EXAMPLE.com:8080", "101"),
        ("127.0.0.1:9000", "http://localhost:3000", "101"),
        ("localhost", "http://[::1]:3000", "101"),
        ("[::1]:9000", "http://127.0.0.1", "101"),
        ("example.com", "https://evil.test", "403"),
        ("example.com", "https://example.com.evil.test", "403"),
        ("example.com", "https://sub.example.com", "403"),
        ("127.0.0.1", "https://evil.test", "403"),
        ("example.com", "http://localhost", "403"),
        ("example.com", "null", "403"),
        ("null", "null", "403"),
        ("example.com", "nonsense", "403"),
    ] {
        assert_status(addr, host, origin, status);
    }
}

#[test]
fn a_request_without_an_origin_passes_and_one_with_two_does_not() {
    let (_, addr, seen) = listening("websocket://127.0.0.1:0");
    assert_eq!(answer(addr, "127.0.0.1", &[]).0, "101");
    // No browser, whatever it says of the host.
    assert_eq!(answer(addr, "evil.test", &[]).0, "101");
    seen.assert(&["asked nobody", "close", "asked nobody", "close"]);
    let two = answer(addr, "127.0.0.1", &["http://127.0.0.1", "http://127.0.0.1"]);
    assert_eq!(two.0, "403");
}

#[test]
fn a_listener_on_a_loopback_address_also_wants_a_loopback_host() {
    let (_, addr, _) = listening("websocket://127.0.0.1:0");
    // DNS rebinding: the page's own name was made to point here.
    assert_status(addr, "evil.test", "http://evil.test", "403");
    assert_status(addr, "127.0.0.1", "http://127.0.0.1:3000", "101");
    assert_status(addr, "localhost:80", "http://localhost", "101");
    // A listener for everybody cannot tell.
    let (_, addr, _) = listening("websocket://0.0.0.0:0");
    assert_status(addr, "evil.test", "http://evil.test", "101");
}

#[test]
fn allow_origin_admits_that_one_and_allow_any_origin_all() {
    let (worker, addr, seen) = listening("websocket://127.0.0.1:0");
    worker.allow_origin("https://Example.com").expect("an origin");
    assert_status(addr, "127.0.0.1", "https://example.com", "101");
    assert_status(addr, "127.0.0.1", "https://example.com:443", "101");
    assert_status(addr, "127.0.0.1", "https://example.com:8443", "403");
    assert_status(addr, "127.0.0.1", "http://example.com", "403");
    assert_status(addr, "127.0.0.1", "https://other.test", "403");
    // Its own pages still pass.
    assert_status(addr, "127.0.0.1", "http://127.0.0.1", "101");
    assert!(worker.allow_origin("example.com/path").is_err());
    worker.allow_any_origin();
    for origin in ["https://other.test", "null", "http://evil.test"] {
        assert_status(addr, "evil.test", origin, "101");
    }
    assert_eq!(seen.count("asked https://other.test"), 1);
}

#[test]
fn a_refused_page_gets_a_short_403_and_the_log_shows_the_call_that_admits_it() {
    keep_log();
    let (worker, addr, seen) = listening("websocket://127.0.0.1:0");
    let (status, body) = answer(addr, "127.0.0.1", &["https://evil.test"]);
    assert_eq!(status, "403");
    assert!(!body.is_empty() && body.len() < 200, "{body}");
    assert!(!body.contains("allow_origin"), "the page's owner is not told how to get in: {body}");
    seen.assert(&["close"]);
    let told = logged_with("", "worker.allow_origin(\"https://evil.test\")");
    assert_eq!(told, 1, "{:#?}", logged());
    // The first of a worker is a warning, others are debug lines.
    assert_eq!(logged_with("WARN", "further ones are debug lines"), 1);
    // A local file or a sandboxed frame has no origin to allow.
    answer(addr, "127.0.0.1", &["null"]);
    assert_eq!(logged_with("DEBUG", "worker.allow_any_origin()"), 1, "{:#?}", logged());
    assert_eq!(logged_with("WARN", ""), 1);
    // Where the program listens for failures, it is told instead.
    let s = seen.clone();
    worker.on_error(move |_, code, failure| {
        s.note(format!("{code:?} {:?}", failure.kind()));
        s.note(failure);
    });
    answer(addr, "127.0.0.1", &["https://evil.test"]);
    assert_eq!(seen.lines()[2], "SessionFail Handshake");
    let line = &seen.lines()[3];
    assert!(line.contains("worker.allow_origin(\"https://evil.test\")"), "{line}");
    // The stranger connected, not we: it is the handshake that failed.
    assert!(
        line.starts_with("handshake with 127.0.0.1:") && line.contains(" fail after "),
        "{line}"
    );
}
