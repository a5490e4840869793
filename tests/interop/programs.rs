//! The examples as programs: what they print, and how they end.
use crate::peers::{
    Authority, Nginx, PATIENCE, Peer, PeerServer, Process, curl, example, free_port,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

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

/// What stands behind `begin` in a program's next line.
#[track_caller]
fn told(program: &Process, begin: &str) -> String {
    let line = program.line();
    let rest = line.strip_prefix(begin);
    rest.unwrap_or_else(|| panic!("{line:?} does not begin with {begin:?}")).to_owned()
}

#[test]
fn chat_brings_what_one_says_to_all_and_tells_who_comes_and_goes() {
    let mut server = example("chat", &["0"]);
    let page = told(&server, "chat: ");
    let html = curl(&["-i", &page]);
    assert!(html.starts_with("HTTP/1.1 200 "), "{html}");
    for id in ["name", "message", "send", "log"] {
        assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(!html.contains("innerHTML"), "what others say is never markup");
    let url = format!("ws{}ws", page.strip_prefix("http").expect("a web address"));
    let mut anna = Peer::talker(&url);
    anna.tell("anna");
    assert_eq!(anna.line(), r#"recv "=anna""#);
    let mut ben = Peer::talker(&url);
    ben.tell(" ben ");
    assert_eq!(ben.line(), r#"recv "=anna\nben""#);
    assert_eq!(anna.line(), r#"recv "+ben""#);
    ben.tell("<b>grüße</b>");
    for reader in [&anna, &ben] {
        assert_eq!(reader.line(), r#"recv ":ben\n<b>grüße</b>""#);
    }
    // A name that is taken, and one that is none.
    for (name, reason) in [("anna", "!anna is here already"), ("", "!A name has 1 to 24")] {
        let mut other = Peer::talker(&url);
        other.tell(name);
        let line = other.line();
        assert!(line.starts_with(&format!("recv \"{reason}")), "{line}");
        assert_eq!(other.line(), "closed 1000");
    }
    ben.kill();
    assert_eq!(anna.line(), r#"recv "-ben""#);
    server.signal("-TERM");
    assert_eq!(anna.line(), "closed 1001");
    assert_eq!(server.end(Duration::from_secs(4)).code(), Some(0));
}

#[test]
fn multi_pushes_from_its_inner_ports_to_one_user_and_to_all() {
    let server = example("multi", &["0"]);
    let clients = told(&server, "clients: websocket://0.0.0.0:");
    let page = told(&server, "page: ");
    let inner = told(&server, "inner: text://");
    let url = format!("ws://127.0.0.1:{clients}");
    let mut users: Vec<Process> = ["anna", "ben", "anna"]
        .into_iter()
        .map(|uid| {
            let mut user = Peer::talker(&url);
            user.tell(uid);
            assert_eq!(user.line(), r#"recv "welcome""#);
            user
        })
        .collect();
    assert_eq!(curl(&[&page]), "3 clients\n");

    let mut pusher = TcpStream::connect(&*inner).expect("it listens");
    pusher.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    pusher.write_all(b"anna to you\n* to all\nnobody x\n").expect("it reads");
    let mut answers = [0; 15];
    pusher.read_exact(&mut answers).expect("an answer to each line");
    assert_eq!(&answers, b"ok 2\nok 3\nfail\n");
    assert_eq!(users[0].line(), r#"recv "to you""#);
    assert_eq!(users[2].line(), r#"recv "to you""#);
    for user in &users {
        assert_eq!(user.line(), r#"recv "to all""#);
    }

    let push = format!("{page}/push");
    assert_eq!(curl(&["-d", "to=ben", "-d", "text=hello", &push]), "ok 1\n");
    assert_eq!(users[1].line(), r#"recv "hello""#);
    users[1].kill();
    let begin = Instant::now();
    while curl(&[&page]) != "2 clients\n" {
        assert!(begin.elapsed() < PATIENCE, "ben is gone");
    }
    assert_eq!(curl(&["-d", "to=ben", "-d", "text=hello", &push]), "fail\n");
}
