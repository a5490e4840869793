//! Bad input and bad luck of a client's opening: what each gives. `violations.rs` has the session.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::support::peers::identity;
use crate::support::peers::{
    Peer, black_hole, error_line, read_to_end, refusing, start, tcp_client, watch, ws_client,
};
use crate::support::*;
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Connection, Error, FailureKind, Limits, Phase, Role};

#[test]
fn a_malformed_address_is_an_error_of_new_that_names_the_part() {
    // Malformed address, unknown scheme, `websocket://` for a client, port 0 or 70000, space or
    // control byte in path, scheme that is not the type's → `Err` from `new`, naming the part.
    let rows: &[(&str, &str)] = &[
        ("", "empty"),
        ("ws://", "host is missing"),
        ("ws://:80", "host is missing"),
        ("ws:/host", "two slashes"),
        ("://host", "scheme is missing"),
        ("gopher://host:70", "scheme gopher:// is unknown"),
        ("http://host", "ws://host"),
        ("https://host", "wss://host"),
        ("udp://host:1", "AsyncUdpConnection"),
        ("websocket://host:1", "ws://host:1"),
        ("text://host:1", "AsyncTcpConnection::<Text>"),
        ("tcp://host", "port is missing"),
        ("ws://host:0", "port 0"),
        ("ws://host:70000", "port `70000`"),
        ("ws://host:-1", "port `-1`"),
        ("ws://host:+1", "port `+1`"),
        ("ws://host:", "port is missing"),
        ("ws://host:80x", "port `80x`"),
        ("ws://host/a b", "path"),
        ("ws://host/a\r\nX: y", "path"),
        ("ws://host/\0", "path"),
        ("ws://host/\u{e9}", "%C3%A9"),
        ("ws://ho st/", "host"),
        ("ws://ho\r\nst/", "host"),
        ("ws://a..b", "host name"),
        ("ws://[::1", "bracket"),
        ("ws://::1:80", "brackets"),
        ("ws://127.1", "IPv4"),
        ("ws://1.2.3.256", "IPv4"),
        ("ws://u%zz@host", "`@`"),
        ("unix://", "socket file"),
    ];
    for (address, part) in rows {
        let made = AsyncTcpConnection::<Ws>::new(address);
        let error = made.err().unwrap_or_else(|| panic!("{address:?} was taken"));
        assert!(matches!(&error, Error::Address { address: given, .. } if given == address));
        let text = error.to_string();
        assert!(text.contains(part), "{address:?} should name {part:?}: {text}");
    }
    let text = AsyncTcpConnection::<Text>::new("ws://host").err().map(|e| e.to_string());
    assert!(text.is_some_and(|text| text.contains("AsyncTcpConnection::<Ws>")));
    // None of them took an id or a place.
    assert_eq!(AsyncTcpConnection::<Ws>::new("ws://host").map(|con| con.id()).ok(), Some(1));
}

#[test]
fn a_header_with_cr_lf_or_nul_is_an_error_and_nothing_of_it_is_sent() {
    // Header name or value with CR, LF, NUL → `Err` from `set_headers`; nothing sent.
    let (tell, told) = std::sync::mpsc::channel();
    let peer = Peer::with_one(move |mut stream| {
        tell.send(raw_handshake(&mut stream)).expect("the test waits");
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.set_headers([("X-Good", "1")]).expect("a good header");
    let odd = [
        ("X-Odd", "a\r\nX-More: b"),
        ("X-Odd", "a\rb"),
        ("X-Odd", "a\nb"),
        ("X-Odd", "a\0b"),
        ("X-Odd\r\n", "a"),
        ("X-Odd\n", "a"),
        ("X-Odd\0", "a"),
        ("X Odd", "a"),
        ("X-Odd:", "a"),
        ("", "a"),
        ("Sec-WebSocket-Key", "mine"),
    ];
    for (name, value) in odd {
        let set = con.set_headers([("X-First", "1"), (name, value)]);
        assert!(matches!(set, Err(Error::Header { name: given, .. }) if given == name), "{name:?}");
    }
    assert!(con.set_websocket_origin("https://a\r\nX-More: b").is_err());
    assert!(con.set_websocket_client_protocol("a\r\nX-More: b").is_err());
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    let head = told.recv().expect("the head");
    assert!(head.contains("X-Good: 1\r\n"), "what was good before stays: {head}");
    assert!(
        !head.contains("X-First") && !head.contains("Odd") && !head.contains("X-More"),
        "{head}"
    );
    assert!(!head.contains("Origin") && !head.contains("Protocol"), "{head}");
}

/// What `on_error` was told, beside the transcript.
#[derive(Clone, Debug)]
struct Told {
    kind: FailureKind,
    phase: Phase,
    elapsed: Duration,
    text: String,
    io: Option<ErrorKind>,
    status: Option<u16>,
    body: Vec<u8>,
}

/// Connects and turns until it has ended; a timer goes on ticking meanwhile.
#[track_caller]
fn opening_fails<P: Protocol, R: Role>(
    con: Connection<P, R>,
    connect: impl FnOnce(),
    t: &Transcript,
) -> Told {
    watch(con, t);
    let told: Rc<RefCell<Vec<Told>>> = Rc::default();
    let (tell, at) = (told.clone(), t.clone());
    con.on_error(move |con, code, failure| {
        at.note(error_line(con, code, failure));
        tell.borrow_mut().push(Told {
            kind: failure.kind(),
            phase: failure.phase(),
            elapsed: failure.elapsed(),
            text: failure.to_string(),
            io: failure.io().map(std::io::Error::kind),
            status: failure.response().map(Response::status),
            body: failure.response().map(|r| r.body().to_vec()).unwrap_or_default(),
        });
    });
    let longest = Rc::new(Cell::new(Duration::ZERO));
    let (most, mut last) = (longest.clone(), Instant::now());
    let ticker = Timer::add(0.005, move |_| {
        most.set(most.get().max(last.elapsed()));
        last = Instant::now();
    });
    connect();
    turn_until(|| t.has("close CLOSED"));
    ticker.del();
    // The machine may be busy, but a loop that waits for a name or a peer stands far longer.
    assert!(longest.get() < Duration::from_secs(2), "the loop stood still: {:?}", longest.get());
    assert_eq!(told.borrow().len(), 1, "{:?}", t.lines());
    told.take().remove(0)
}

#[test]
fn refused_says_phase_peer_time_and_the_systems_reason() {
    // Refused: `on_error(ConnectFail)` with phase, peer, elapsed time and the system's reason, then
    // `on_close`.
    let (_held, addr) = refusing();
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("client");
    let told = opening_fails(con, || con.connect(), &t);
    t.assert(&["error 1 Refused Connect CLOSING", "close CLOSED"]);
    assert_eq!(told.io, Some(ErrorKind::ConnectionRefused));
    let begin = format!("connect {addr} fail after 0.");
    assert!(told.text.starts_with(&begin) && told.text.contains("seconds"), "{}", told.text);
    assert!(told.text.contains("refused"), "{}", told.text);
    assert!(told.elapsed < Duration::from_secs(5));
}

#[test]
fn unreachable_says_what_the_system_said() {
    // Unreachable: the system refuses to try from an address that is none of this machine's.
    let (_held, addr) = refusing();
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("client");
    con.bind_to("192.0.2.1:0".parse().expect("an address"));
    let told = opening_fails(con, || con.connect(), &t);
    t.assert(&["error 1 Unreachable Connect CLOSING", "close CLOSED"]);
    assert!(told.io.is_some() && told.text.contains(&addr.to_string()), "{}", told.text);
}

#[test]
fn a_name_that_is_not_found_is_an_error_and_the_loop_goes_on_meanwhile() {
    // Name not found: phase resolve, the name in the text; the loop never blocks meanwhile. Where
    // there is no DNS the deadline may come first, in the same phase.
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new("ws://nobody-here.invalid/").expect("client");
    con.set_limits(Limits::new().opening(5));
    let told = opening_fails(con, || con.connect(), &t);
    assert!(matches!(told.kind, FailureKind::NameNotFound | FailureKind::Deadline), "{told:?}");
    assert_eq!(told.phase, Phase::Resolve);
    assert!(told.text.contains("nobody-here.invalid:80"), "{}", told.text);
    assert_eq!(t.lines()[1..], ["close CLOSED"]);
}

#[test]
fn the_deadline_holds_while_the_name_is_looked_up() {
    // Deadline passed in the phase resolve. The resolver may be as quick as the deadline; then the
    // name is not found.
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new("ws://nobody-here.invalid/").expect("client");
    con.set_limits(Limits::new().opening(0));
    let told = opening_fails(con, || con.connect(), &t);
    assert!(matches!(told.kind, FailureKind::NameNotFound | FailureKind::Deadline), "{told:?}");
    assert_eq!(told.phase, Phase::Resolve);
}

#[test]
fn the_deadline_holds_while_the_socket_connects() {
    // Deadline passed in the phase connect: a peer that answers no SYN.
    let (_held, addr) = black_hole();
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("client");
    con.set_limits(Limits::new().opening(0.1));
    let told = opening_fails(con, || con.connect(), &t);
    t.assert(&["error 1 Deadline Connect CLOSING", "close CLOSED"]);
    assert!(told.elapsed >= Duration::from_millis(100), "{:?}", told.elapsed);
    assert!(told.text.contains(&addr.to_string()) && told.text.contains("0.1 s"), "{}", told.text);
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn the_deadline_holds_while_tls_is_waited_for() {
    // Deadline passed in the phase tls: a port that accepts and says nothing.
    let peer = Peer::with_one(|mut stream| drop(read_to_end(&mut stream)));
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&format!("wss://{}", peer.addr)).expect("client");
    con.set_limits(Limits::new().opening(0.1));
    opening_fails(con, || con.connect(), &t);
    t.assert(&["error 1 Deadline Tls CLOSING", "close CLOSED"]);
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn the_deadline_holds_for_a_handshake_over_tls() {
    // One deadline for the whole opening: TLS stands, and the server says nothing more.
    let (worker, addr) = start::<Tcp>();
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity().path())).expect("an identity");
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&format!("wss://{addr}")).expect("client");
    con.set_tls(Tls::new().danger_accept_invalid_certs()).expect("settings");
    con.set_limits(Limits::new().opening(0.5));
    let told = opening_fails(con, || con.connect(), &t);
    t.assert(&["connect ESTABLISHED", "error 1 Deadline Handshake CLOSING", "close CLOSED"]);
    assert!(told.elapsed >= Duration::from_millis(500), "since the dial: {:?}", told.elapsed);
}

#[test]
fn the_deadline_is_not_reset_by_bytes_and_half_an_answer_is_late_too() {
    // Deadline passed in the phase handshake: silence, half a head, and a head that comes byte by
    // byte.
    let plays: [fn(&mut TcpStream); 3] = [
        |_| {},
        |stream| stream.write_all(b"HTTP/1.1 101 Switching\r\nUpgr").expect("half a head"),
        |stream| {
            let head =
                b"HTTP/1.1 101 Switching Protocols\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
            for byte in head {
                std::thread::sleep(Duration::from_millis(10));
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        },
    ];
    for play in plays {
        let peer = Peer::with_one(move |mut stream| {
            read_head(&mut stream);
            play(&mut stream);
            read_to_end(&mut stream);
        });
        let t = Transcript::new();
        let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("client");
        con.set_limits(Limits::new().opening(0.15));
        let told = opening_fails(con, || con.connect(), &t);
        t.assert(&["connect ESTABLISHED", "error 1 Deadline Handshake CLOSING", "close CLOSED"]);
        assert!(told.elapsed < Duration::from_secs(3), "{:?}", told.elapsed);
        assert!(told.text.contains("Limits::opening"), "{}", told.text);
    }
}

#[test]
fn the_deadline_is_10_s_by_default() {
    // One opening deadline of 10 s.
    assert!(format!("{:?}", Limits::new()).contains("opening: 10s"));
}

/// A server that answers the handshake with this and ends, or waits.
fn answering(answer: Vec<u8>, waits: bool) -> Peer {
    Peer::with_one(move |mut stream| {
        read_head(&mut stream);
        // One that was refused may be gone before it has read all.
        let _ = stream.write_all(&answer);
        if waits {
            read_to_end(&mut stream);
        }
    })
}

#[test]
fn a_refusal_reaches_on_error_with_status_and_body() {
    // Server answers 200, 301, 401 …: `on_error`, then `on_close`; the answer is
    // `failure.response()`, with its body.
    let rows: [(&str, u16, &[u8]); 6] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        ("HTTP/1.1 301 Moved\r\nLocation: ws://other\r\nContent-Length: 0\r\n\r\n", 301, b""),
        ("HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\nwho dares", 401, b"who dares"),
        (
            "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2\r\n !\r\n0\r\n\r\n",
            401,
            b"who !",
        ),
        ("HTTP/1.1 500 Oops\r\n\r\nuntil the end", 500, b"until the end"),
        ("HTTP/1.1 204 Nothing\r\n\r\n", 204, b""),
    ];
    for (answer, status, body) in rows {
        // One whose body ends with the connection does not wait.
        for waits in [false, true] {
            if waits && body == b"until the end" {
                continue;
            }
            let peer = answering(answer.into(), waits);
            let t = Transcript::new();
            let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("client");
            let told = opening_fails(con, || con.connect(), &t);
            t.assert(&[
                "connect ESTABLISHED",
                "error 1 Handshake Handshake CLOSING",
                "close CLOSED",
            ]);
            assert_eq!((told.status, &told.body[..]), (Some(status), body), "{answer:?}");
            assert!(told.text.contains(&status.to_string()), "{}", told.text);
            assert!(status != 301 || told.text.contains("ws://other"), "{}", told.text);
        }
    }
}

#[test]
fn a_refusal_whose_body_never_ends_is_told_at_the_deadline() {
    // A refusal reaches `on_error` with status and body within the deadline, though its body stops
    // in the middle.
    let answer = "HTTP/1.1 401 No\r\nContent-Length: 100\r\n\r\nwho dares";
    let peer = answering(answer.into(), true);
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("client");
    con.set_limits(Limits::new().opening(0.15));
    let told = opening_fails(con, || con.connect(), &t);
    t.assert(&["connect ESTABLISHED", "error 1 Handshake Handshake CLOSING", "close CLOSED"]);
    assert_eq!((told.status, &told.body[..]), (Some(401), &b"who dares"[..]));
}

#[test]
fn a_refusals_body_is_kept_up_to_64_kib() {
    // … with up to 64 KiB of body.
    let mut answer = b"HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\n".to_vec();
    answer.extend_from_slice(&[b'x'; 1_000_000]);
    let peer = answering(answer, false);
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("client");
    let told = opening_fails(con, || con.connect(), &t);
    assert_eq!((told.status, told.body.len()), (Some(503), 64 << 10));
}

#[test]
fn an_answer_that_is_no_right_101_is_an_error_then_a_close() {
    // Wrong Accept, missing headers, an extension nobody asked for, garbage, 1 MiB of header,
    // nothing: `on_error`, then `on_close`, within the limits.
    let right = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let big = format!("HTTP/1.1 101 Yes\r\nX-Big: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 101 Yes\r\n{}\r\n", "X: y\r\n".repeat(200));
    let rows: [(String, &str); 9] = [
        (format!("HTTP/1.1 101 Yes\r\n{right}Sec-WebSocket-Accept: AAAA\r\n\r\n"), "Accept"),
        (format!("HTTP/1.1 101 Yes\r\n{right}\r\n"), "Accept"),
        ("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\n\r\n".into(), "Upgrade"),
        ("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n".into(), "Connection"),
        ("\x16\x03\x01 garbage \0\0\r\n\r\n".into(), "HTTP"),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), "HTTP"),
        (big, "head_bytes"),
        (many, "headers"),
        (String::new(), "closed the connection before"),
    ];
    for (answer, part) in rows {
        let peer = answering(answer.clone().into(), false);
        let t = Transcript::new();
        let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("client");
        let told = opening_fails(con, || con.connect(), &t);
        t.assert(&["connect ESTABLISHED", "error 1 Handshake Handshake CLOSING", "close CLOSED"]);
        let begin = &answer[..answer.len().min(60)];
        assert!(told.text.contains(part), "{begin:?} should name {part:?}: {}", told.text);
    }
}

#[test]
fn a_subprotocol_or_extension_that_was_not_asked_for_is_refused() {
    // A subprotocol and extensions only if asked for.
    for (line, taken) in [
        ("Sec-WebSocket-Protocol: chat\r\n", true),
        ("Sec-WebSocket-Protocol: other\r\n", false),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", false),
    ] {
        let peer = Peer::with_one(move |mut stream| {
            let head = read_head(&mut stream);
            let answer = accept_head(&head).replace("\r\n\r\n", &format!("\r\n{line}\r\n"));
            stream.write_all(answer.as_bytes()).expect("the answer");
        });
        let t = Transcript::new();
        let con = ws_client(&peer.ws(), &t);
        con.set_websocket_client_protocol("chat, talk").expect("subprotocols");
        con.connect();
        turn_until(|| t.has("close CLOSED"));
        let second = if taken { "open 101" } else { "error 1 Handshake Handshake CLOSING" };
        t.assert(&["connect ESTABLISHED", second, "close CLOSED"]);
    }
}

#[test]
fn what_was_queued_for_an_opening_that_failed_is_counted() {
    // What was queued for an opening that failed is dropped with it; `failure.dropped()` counts it.
    let (_held, addr) = refusing();
    let refusing_ws = format!("ws://{addr}");
    let late = answering(Vec::new(), true);
    let no = answering(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec(), true);
    for address in [refusing_ws, late.ws(), no.ws()] {
        let t = Transcript::new();
        let con = ws_client(&address, &t);
        con.set_limits(Limits::new().opening(0.1));
        let at = t.clone();
        con.on_error(move |_, _, failure| at.note(format!("dropped {}", failure.dropped())));
        con.send("a");
        con.send("b");
        con.connect();
        con.send("c");
        turn_until(|| t.has("close CLOSED"));
        assert_eq!(t.count("dropped 3"), 1, "{:?}", t.lines());
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn a_tls_failure_names_the_host_the_reason_and_the_option() {
    // TLS failure: `on_error(ConnectFail)` in the phase tls; a certificate error names the host,
    // the reason and the option that would accept it. No `on_connect`: the transport never stood.
    let (worker, addr) = start::<Websocket>();
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity().path())).expect("an identity");
    let address = format!("wss://localhost:{}", addr.port());
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&address).expect("client");
    let told = opening_fails(con, || con.connect(), &t);
    t.assert(&["error 1 Certificate Tls CLOSING", "close CLOSED"]);
    assert!(told.text.contains("localhost"), "{}", told.text);
    assert!(told.text.contains("ca_file") || told.text.contains("danger_"), "{}", told.text);
    assert!(worker.connections().is_empty());
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn a_plain_server_at_a_tls_address_is_a_tls_failure() {
    // TLS failure: a port that speaks no TLS, and one that closes at once.
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let peer = Peer::with_one(move |mut stream| {
            let head = read_bytes(&mut stream, 5);
            read_bytes(&mut stream, usize::from(u16::from_be_bytes([head[3], head[4]])));
            stream.write_all(answer).expect("an answer");
        });
        let t = Transcript::new();
        let con = AsyncTcpConnection::<Tcp>::new(&format!("ssl://{}", peer.addr)).expect("client");
        opening_fails(con, || con.connect(), &t);
        t.assert(&["error 1 Tls Tls CLOSING", "close CLOSED"]);
    }
}

#[test]
fn localhost_is_reached_where_only_ipv4_listens() {
    // Names: IPv6 and IPv4 both tried in the RFC 8305 manner; one of them is enough, and the
    // other's refusal is not told.
    let (worker, addr) = start::<Text>();
    let t = Transcript::new();
    let con = tcp_client(&format!("tcp://localhost:{}", addr.port()), &t);
    con.connect();
    turn_until(|| t.has("connect ESTABLISHED") && worker.connections().len() == 1);
    assert_eq!(con.remote_addr(), Some(addr));
    assert_eq!(con.remote_host(), "localhost");
    t.assert(&["connect ESTABLISHED"]);
}

#[test]
fn localhost_where_nobody_listens_is_one_error() {
    // Names: when all addresses have failed there is one `on_error`.
    let (_held, addr) = refusing();
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://localhost:{}", addr.port()))
        .expect("client");
    opening_fails(con, || con.connect(), &t);
    t.assert(&["error 1 Refused Connect CLOSING", "close CLOSED"]);
}

#[test]
fn a_port_where_nobody_listens_is_refused_also_where_the_socket_would_find_itself() {
    // A client that dials for ever to a port of the system's own range gets that very port as its
    // own one day, and TCP connects the socket with itself.
    let (listener, addr) = raw_listener();
    drop(listener);
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("a client");
    con.bind_to(addr);
    let seen = Transcript::new();
    let s = seen.clone();
    con.on_connect(move |_| s.note("connect"));
    let s = seen.clone();
    con.on_error(move |_, code, failure| s.note(format_args!("{code:?} {:?}", failure.kind())));
    con.connect();
    turn_until(|| !seen.lines().is_empty());
    seen.assert(&["ConnectFail Refused"]);
}
