//! Heads that are too long, too many, or carry more than they should; and what a head of ours may
//! not carry.
use crate::support::peers::{Peer, read_to_end, start, ws_client};
use crate::support::*;
use crate::{computing, finish, status, upgrade};
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;
use workerman::Limits;
use workerman::prelude::*;

#[test]
fn rustsec_2023_0065_each_byte_of_a_head_is_looked_at_once() {
    // Also CVE-2023-43669. In small pieces: the last quarter costs no more than the first.
    const PIECES: usize = 4096;
    const PIECE: &[u8] = b"a:\r\nb:\r\nc:\r\nd:\r\n";
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(Limits::new().head_bytes(1 << 20).headers(1 << 20).opening(60));
    let mut peer = raw_connect(addr);
    peer.write_all(b"GET / HTTP/1.1\r\n").expect("the beginning");
    turn_until(|| worker.connections().first().is_some_and(|con| con.bytes_read() == 16));
    let con = worker.connections()[0];
    let mut quarter = || {
        computing(|| {
            for _ in 0..PIECES / 4 {
                let before = con.bytes_read();
                peer.write_all(PIECE).expect("a piece");
                turn_until(|| con.bytes_read() == before + PIECE.len() as u64);
            }
        })
    };
    let quarters = [(); 4].map(|()| quarter());
    let last = quarters[3].min(quarters[2]);
    assert!(last < 3 * quarters[0], "more and more for the same: {quarters:?}");
}

#[test]
fn rustsec_2023_0065_a_head_has_an_end() {
    // 16 KiB by default, then 431: what never ends is not kept.
    let (_worker, addr) = start::<Websocket>();
    let long = upgrade(&format!("X: {}\r\n", "x".repeat(20 << 10)));
    assert_eq!(status(addr, long), 431);
}

#[test]
fn cve_2024_37890_two_thousand_headers_are_a_clean_refusal() {
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(Limits::new().head_bytes(1 << 20));
    let many: String = (0..2000).map(|i| format!("X-{i}: y\r\n")).collect();
    assert_eq!(status(addr, upgrade(&many)), 431);
}

#[test]
fn cve_2021_32640_a_list_of_subprotocols_is_split_in_linear_time() {
    // `b`, many spaces, `x`: the regular expression of others takes the square of their number.
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(Limits::new().head_bytes(1 << 20));
    worker.on_websocket_connect(|con, _| {
        con.set_headers([("Sec-WebSocket-Protocol", "chat")])?;
        Ok(())
    });
    let list = format!("Sec-WebSocket-Protocol: b{}x, chat\r\n", " ".repeat(30_000));
    let request = upgrade(&list);
    let mut peer = raw_connect(addr);
    let passed = computing(|| {
        let sender = std::thread::spawn(move || {
            peer.write_all(request.as_bytes()).expect("it is read");
            read_head(&mut peer)
        });
        let head = finish(sender);
        assert!(head.contains("Sec-WebSocket-Protocol: chat\r\n"), "{head}");
    });
    assert!(passed < Duration::from_secs(1), "{passed:?} for 30 000 spaces");
}

#[test]
fn cve_2026_54466_drafts_are_not_spoken() {
    // Version 13 and nothing else: 426 with the version that is right.
    let (_worker, addr) = start::<Websocket>();
    for version in ["Version: 8", "Version: 7", "Version: 0", "Version: 14", "Version: 13, 8"] {
        assert_eq!(status(addr, upgrade("").replace("Version: 13", version)), 426, "{version}");
    }
    let without = upgrade("").replace("Sec-WebSocket-Version: 13\r\n", "");
    assert_eq!(status(addr, without), 426);
}

#[test]
fn cve_2026_1527_what_a_program_puts_into_its_handshake_is_refused_where_it_injects() {
    // CR, LF and NUL in names and values: an error, and nothing is sent in a shorter form.
    let con = AsyncTcpConnection::<Ws>::new("ws://127.0.0.1:1").expect("an address");
    for (name, value) in [
        ("X", "a\r\nY: b"),
        ("X", "a\nY: b"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X\r\nY", "b"),
        ("X: y", "b"),
        ("Cookie", "a\r\n\r\nGET / HTTP/1.1"),
    ] {
        assert!(con.set_headers([(name, value)]).is_err(), "{name:?}: {value:?}");
    }
}

#[test]
fn cve_2026_1527_an_address_puts_nothing_into_the_head() {
    for address in [
        "ws://127.0.0.1:1/\r\nX: y",
        "ws://127.0.0.1:1/a b",
        "ws://127.0.0.1:1/?a\nb",
        "ws://127.0.0.1:1/\0",
    ] {
        assert!(AsyncTcpConnection::<Ws>::new(address).is_err(), "{address:?}");
    }
}

#[test]
fn rustsec_2017_0002_an_answer_with_an_injected_header_is_not_sent() {
    // Also amphp/http and Workerman: what a stranger wrote and a program copied begins no header.
    let (worker, addr) = start::<Http>();
    worker.on_message(|con, request| {
        let wanted = request.get("to").map(|to| to.into_owned()).unwrap_or_default();
        let sent = con.send(Response::new(302).with_header("Location", wanted));
        if sent == Sent::Dropped {
            con.send(Response::new(400));
        }
    });
    for (injected, expected) in [("%0d%0aSet-Cookie:+a=b", 400), ("%0aX:+y", 400), ("/x", 302)] {
        let request =
            format!("GET /?to={injected} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        assert_eq!(status(addr, request), expected, "{injected}");
    }
}

#[test]
fn ws_8_6_a_redirect_is_a_refused_opening() {
    // None is followed, so no credential reaches another server; and a 302 opens nothing, even
    // where the rest of it looks like a 101.
    let (elsewhere, other) = raw_listener();
    elsewhere.set_nonblocking(true).expect("an option");
    let (tell, told) = mpsc::channel();
    let peer = Peer::with_one(move |mut stream| {
        let head = read_head(&mut stream);
        let answer = accept_head(&head).replace("101 Switching Protocols", "302 Found");
        let place = format!("\r\nLocation: ws://{other}/\r\nContent-Length: 0\r\n\r\n");
        let answer = answer.replace("\r\n\r\n", &place);
        stream.write_all(answer.as_bytes()).expect("a redirect");
        tell.send(head).expect("the test waits");
    });
    let t = Transcript::new();
    let address = peer.ws().replace("ws://", "ws://user:secret@");
    let con = ws_client(&address, &t);
    con.set_headers([("Cookie", "a=b")]).expect("a header");
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    t.assert(&["connect ESTABLISHED", "error 1 Handshake Handshake CLOSING", "close CLOSED"]);
    assert!(told.recv().expect("the head").contains("Authorization: Basic "));
    turn_for(Duration::from_millis(50));
    assert!(elsewhere.accept().is_err(), "somebody went to the other address");
}

#[test]
fn ws_3_3_1_an_extension_that_nobody_asked_for_is_refused() {
    // Whatever its name: there is no table of names in which `constructor` would be found.
    for name in ["constructor", "__proto__", "toString", "permessage-bzip2"] {
        let peer = Peer::with_one(move |mut stream| {
            let head = read_head(&mut stream);
            let line = format!("\r\nSec-WebSocket-Extensions: {name}\r\n\r\n");
            let answer = accept_head(&head).replace("\r\n\r\n", &line);
            stream.write_all(answer.as_bytes()).expect("the 101");
            read_to_end(&mut stream);
        });
        let t = Transcript::new();
        let con = ws_client(&peer.ws(), &t);
        let at = t.clone();
        con.on_websocket_connect(move |con, _| {
            at.note("opened");
            con.destroy();
        });
        con.connect();
        turn_until(|| con.status() == Status::Closed);
        assert!(!t.has("opened"), "{name}: {:?}", t.lines());
    }
}
