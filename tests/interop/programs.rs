//! The examples as programs: what they print, and how they end.
use crate::peers::{Authority, Nginx, PATIENCE, Peer, PeerServer, Process, example, free_port};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use workerman::prelude::*;

const CLOSED: &str = "connection closed and try to reconnect";

/// From `tcp connected` to the echo of the greeting.
#[track_caller]
fn greeted(client: &Process, first: &str) {
    assert_eq!(client.line(), first);
    let lines = client.until("recv: ");
    assert!(lines[0].starts_with("HTTP/1.1 101 "), "{lines:?}");
    assert!(lines.iter().any(|l| l.to_lowercase().starts_with("sec-websocket-accept: ")));
    assert_eq!(lines[lines.len() - 2].trim(), "", "the head ends with an empty line: {lines:?}");
    assert_eq!(lines[lines.len() - 1], "recv: hello");
}

#[test]
fn ws_client_prints_what_the_manual_says_and_errors_first_while_nobody_listens() {
    let port = free_port();
    let client = example("ws_client", &[&format!("ws://127.0.0.1:{port}")]);
    let error = client.line();
    assert!(error.starts_with("error: ") && error.contains("127.0.0.1"), "{error}");
    assert_eq!(client.line(), CLOSED);
    let server = PeerServer::wake(PeerServer::spare(port));
    loop {
        let line = client.line();
        if line == "tcp connected" {
            break;
        }
        assert!(line.starts_with("error: ") || line == CLOSED, "{line}");
    }
    assert_eq!(client.until("recv: ").last().map(String::as_str), Some("recv: hello"));

    let request = server.request();
    for header in [
        "header Sec-WebSocket-Version: 13",
        "header Cookie: PHPSID=82u98fjhakfusuanfnahfi; token=2hf9a929jhfihaf9i",
        "header OtherKey: values",
    ] {
        assert!(request.iter().any(|line| line == header), "{header} is not in {request:?}");
    }
}

#[test]
fn ws_client_is_back_within_1100_ms_of_a_killed_server_ten_times() {
    let port = free_port();
    let mut server = PeerServer::wake(PeerServer::spare(port));
    let client = example("ws_client", &[&server.url("")]);
    greeted(&client, "tcp connected");
    for round in 1..=10 {
        let spare = PeerServer::spare(port);
        server.process.kill();
        assert_eq!(client.line(), CLOSED, "round {round}");
        let begin = Instant::now();
        server = PeerServer::wake(spare);
        assert_eq!(client.line(), "tcp connected", "round {round}");
        let passed = begin.elapsed();
        assert!(passed < Duration::from_millis(1100), "round {round}: {passed:?}");
        assert!(passed > Duration::from_millis(900), "round {round}: {passed:?} is early");
        assert_eq!(client.until("recv: ").last().map(String::as_str), Some("recv: hello"));
    }
}

#[test]
fn wss_client_works_through_nginx_with_the_authority() {
    let authority = Authority::new();
    let backend = Peer::Python.server(&[]);
    let nginx = Nginx::start(&authority, backend.port, false);
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("wss://{host}:{}/", nginx.port);
        let client = example("wss_client", &[&url, "--ca", &authority.file("ca.pem")]);
        greeted(&client, "tls connected");
    }
    let url = format!("wss://127.0.0.1:{}/", nginx.port);
    let client = example("wss_client", &[&url, "--danger-accept-any-certificate"]);
    greeted(&client, "tls connected");
}

#[test]
fn wss_client_refuses_an_unknown_authority_and_says_why() {
    let authority = Authority::new();
    let backend = Peer::Python.server(&[]);
    let nginx = Nginx::start(&authority, backend.port, false);
    let client = example("wss_client", &[&format!("wss://localhost:{}/", nginx.port)]);
    let error = client.line();
    assert!(error.starts_with("error: "), "{error}");
    for word in ["localhost", "certificate", "ca_file"] {
        assert!(error.contains(word), "{word} is not in {error}");
    }
    assert_eq!(client.line(), CLOSED);
}

#[test]
fn wss_client_shows_its_own_certificate_where_nginx_wants_one() {
    let authority = Authority::new();
    let backend = Peer::Python.server(&[]);
    let nginx = Nginx::start(&authority, backend.port, true);
    let url = format!("wss://localhost:{}/", nginx.port);
    let ca = authority.file("ca.pem");
    let (certificate, key) = (authority.file("client.pem"), authority.file("client.key"));
    let identity = ["--cert", &certificate, "--key", &key];
    let client = example("wss_client", &[&[&*url, "--ca", &ca], &identity[..]].concat());
    greeted(&client, "tls connected");

    let client = example("wss_client", &[&url, "--ca", &ca]);
    let lines = client.until("error: ");
    assert!(lines.last().is_some_and(|line| line.contains("400")), "{lines:?}");
}

/// Takes one connection, reads what comes, and never answers.
fn mute() -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen); // A reset ends it as well.
        seen
    });
    (port, reader)
}

#[test]
fn a_client_ends_well_by_sigterm_in_the_middle_of_a_websocket_handshake() {
    let (port, reader) = mute();
    let mut client = example("ws_client", &[&format!("ws://127.0.0.1:{port}")]);
    assert_eq!(client.line(), "tcp connected");
    client.signal("-TERM");
    assert_eq!(client.line(), CLOSED, "the opening was abandoned, with its on_close");
    assert_eq!(client.next(), None);
    assert_eq!(client.end(Duration::from_secs(3)).code(), Some(0));
    assert!(reader.join().expect("it only reads").starts_with(b"GET / HTTP/1.1\r\n"));
}

#[test]
fn a_client_ends_well_by_sigterm_in_the_middle_of_a_tls_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let mut client = example("wss_client", &[&format!("wss://127.0.0.1:{port}/")]);
    let (mut stream, _) = listener.accept().expect("the client comes");
    stream.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    let mut first = [0];
    stream.read_exact(&mut first).expect("its ClientHello");
    assert_eq!(first, [22], "a handshake record");
    client.signal("-TERM");
    assert_eq!(client.end(Duration::from_secs(3)).code(), Some(0));
}

#[test]
fn a_server_ends_well_by_sigterm_in_the_middle_of_a_handshake() {
    let port = free_port();
    let mut server = example("echo_server", &[&port.to_string()]);
    let begin = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(e) => assert!(begin.elapsed() < PATIENCE, "it does not listen: {e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    stream.write_all(b"GET / HTTP/1.1\r\nUpgrade: webso").expect("it listens");
    std::thread::sleep(Duration::from_millis(50)); // Half a request is no event to wait for.
    server.signal("-TERM");
    assert_eq!(server.end(Duration::from_secs(4)).code(), Some(0));
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"", "half a request has no answer");
}

fn udp_server() -> (Process, u16) {
    let server = example("udp_server", &["0"]);
    let line = server.line();
    let port = line.strip_prefix("udp://0.0.0.0:").and_then(|port| port.parse().ok());
    (server, port.unwrap_or_else(|| panic!("no address of a server: {line}")))
}

#[test]
fn udp_server_prints_its_address_echoes_and_ends_well_by_sigterm() {
    let (mut server, port) = udp_server();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    peer.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    peer.connect((Ipv4Addr::LOCALHOST, port)).expect("an address of loopback");
    let mut buffer = vec![0; 64 << 10];
    for message in [&b"hello"[..], b"", &[7; 65_507]] {
        peer.send(message).expect("the kernel takes it");
        let length = peer.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..length], message);
    }
    server.signal("-TERM");
    assert_eq!(server.end(Duration::from_secs(3)).code(), Some(0));
}

#[test]
fn udp_server_echoes_what_several_python_sockets_send() {
    let (_server, port) = udp_server();
    let mut driver = Peer::Python.run("datagrams", &["drive", &port.to_string()]);
    assert_eq!(driver.next().as_deref(), Some("ok"), "{}", driver.errors());
    assert_eq!(driver.end(PATIENCE).code(), Some(0));
}

#[test]
fn a_udp_client_hears_a_python_server() {
    let server = Peer::Python.run("datagrams", &["serve"]);
    let con = AsyncUdpConnection::<Text>::new(&format!("text://localhost:{}", server.line()))
        .expect("an address");
    let heard = std::rc::Rc::new(std::cell::Cell::new(0));
    let theirs = heard.clone();
    con.on_message(move |_, line| {
        assert_eq!(line, ["one", "two"][theirs.get()]);
        theirs.set(theirs.get() + 1);
    });
    con.send("one");
    con.send_raw(b"two\ntail");
    crate::turn_until("both lines come back", || heard.get() == 2);
}
