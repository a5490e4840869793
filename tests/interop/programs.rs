//! The examples as programs: what they print, and how they end.
use crate::peers::{
    Authority, Folder, Nginx, PATIENCE, Peer, PeerServer, Process, curl, example, free_port,
    http_server, raw_sockets,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
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
fn mute() -> (u16, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let reader = thread::spawn(move || {
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
        thread::sleep(Duration::from_millis(5));
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    stream.write_all(b"GET / HTTP/1.1\r\nUpgrade: webso").expect("it listens");
    thread::sleep(Duration::from_millis(50)); // Half a request is no event to wait for.
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

/// An example that listens on a port of the system's, and its port: its first line says it.
#[track_caller]
fn listening(name: &str, arguments: &[&str]) -> (Process, String) {
    let process = example(name, arguments);
    let line = process.line();
    let address = line.split_whitespace().next().and_then(|url| url.rsplit(':').next());
    let port = address.filter(|port| port.parse::<u16>().is_ok()).map(str::to_owned);
    (process, port.unwrap_or_else(|| panic!("no address in {line:?}")))
}

#[test]
fn text_server_speaks_with_telnet_and_nc() {
    let (mut server, port) = listening("text_server", &["0"]);
    raw_sockets(&["lines", &port]);
    server.signal("-TERM");
    assert_eq!(server.end(Duration::from_secs(4)).code(), Some(0));
}

#[test]
fn custom_protocol_speaks_json_with_itself_and_with_pythons_json() {
    let mut both = example("custom_protocol", &[]);
    assert!(both.line().starts_with("JsonNL://127.0.0.1:"));
    let answer = r#"recv: {"code":0,"got":{"content":"hello","type":"message"},"msg":"ok"}"#;
    assert_eq!(both.line(), answer);
    assert_eq!(both.end(Duration::from_secs(4)).code(), Some(0));
    let (_server, port) = listening("custom_protocol", &["json", "0"]);
    raw_sockets(&["json", &port]);
}

#[test]
fn custom_protocol_keeps_files_and_only_in_its_folder() {
    let (folder, source) = (Folder::new(), Folder::new());
    let kept = folder.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let (server, port) = listening("custom_protocol", &["files", "0", &kept]);
    raw_sockets(&["files", &port, &kept]);
    assert_eq!(server.until(&format!("{kept}/small")).len(), 3);

    let content = pattern(3, 8 << 20);
    std::fs::write(source.path("sent.bin"), &content).expect("our own folder can be written");
    let path = source.path("sent.bin").to_string_lossy().into_owned();
    let mut sender = example("custom_protocol", &["send", &format!("127.0.0.1:{port}"), &path]);
    assert_eq!(sender.line(), format!("kept {kept}/sent.bin"));
    assert_eq!(sender.end(Duration::from_secs(4)).code(), Some(0));
    let came = std::fs::read(folder.path("sent.bin")).expect("it was kept");
    assert!(came == content, "{} bytes came", came.len());
}

// ----------------------------------------------------------------------------------- the proxy

/// Bytes that tell where they belong.
fn pattern(seed: u32, length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// The proxy in both of its ways, leading to this port: the second when the first is done with.
fn proxies(target: u16) -> impl Iterator<Item = (Process, TcpStream)> {
    ["pipe", "by-hand"].into_iter().map(move |way| {
        let target = format!("127.0.0.1:{target}");
        let (process, port) = listening("mysql_proxy", &["127.0.0.1:0", &target, way]);
        (process, connected(&port))
    })
}

fn connected(port: &str) -> TcpStream {
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
    stream.set_write_timeout(Some(PATIENCE)).expect("a length that sockets take");
    stream
}

/// Plays the database for each of the two ways, one after the other.
fn database(mut play: impl FnMut(TcpStream) + Send + 'static) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let playing = thread::spawn(move || {
        for _ in 0..2 {
            let (stream, _) = listener.accept().expect("the proxy comes");
            stream.set_read_timeout(Some(PATIENCE)).expect("a length that sockets take");
            play(stream);
        }
    });
    (port, playing)
}

fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    stream.read_to_end(&mut came).expect("an orderly end");
    came
}

#[test]
fn mysql_proxy_lets_curl_through_to_http_and_to_nginx_with_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    std::fs::write(folder.path("large.bin"), pattern(1, 8 << 20)).expect("our own folder");
    let (_server, http) = http_server(&folder);
    let nginx = Nginx::start(&authority, http, false);
    let (ca, out) = (authority.file("ca.pem"), folder.path("out").to_string_lossy().into_owned());
    for (scheme, target) in [("http", http), ("https", nginx.port)] {
        for way in ["pipe", "by-hand"] {
            let target = format!("127.0.0.1:{target}");
            let (_proxy, port) = listening("mysql_proxy", &["127.0.0.1:0", &target, way]);
            let url = format!("{scheme}://localhost:{port}/large.bin");
            curl(&["-f", "--cacert", &ca, "-o", &out, &url]);
            let came = std::fs::read(&out).expect("curl wrote it");
            assert!(came == pattern(1, 8 << 20), "{url}, {way}: {} bytes", came.len());
            std::fs::remove_file(&out).expect("it is there");
        }
    }
}

#[test]
fn mysql_proxy_carries_8_mib_both_ways_at_once_byte_by_byte_the_same() {
    const LENGTH: usize = 8 << 20;
    let both_ways = |mut stream: TcpStream, says: u32, hears: u32| {
        let mut writing = stream.try_clone().expect("a second handle");
        let writer = thread::spawn(move || {
            writing.write_all(&pattern(says, LENGTH)).expect("it is read");
            writing.shutdown(Shutdown::Write).expect("our end");
        });
        let came = to_end(&mut stream);
        assert!(came == pattern(hears, LENGTH), "{} bytes came", came.len());
        writer.join().expect("it has written all");
    };
    let (port, playing) = database(move |stream| both_ways(stream, 1, 2));
    // What we have written may still be on its way through the proxy.
    let mut proxies_alive = Vec::new();
    for (proxy, stream) in proxies(port) {
        both_ways(stream, 2, 1);
        proxies_alive.push(proxy);
    }
    playing.join().expect("the database heard all");
}

#[test]
fn mysql_proxy_passes_a_half_open_end_on_and_the_answer_still_comes() {
    // `printf x | nc -N`: the client has said all, and the database answers only then.
    let (port, playing) = database(|mut stream| {
        let asked = to_end(&mut stream);
        assert_eq!(asked, b"select 1");
        stream.write_all(b"1 row").expect("the proxy reads");
    });
    for (_proxy, mut stream) in proxies(port) {
        stream.write_all(b"select 1").expect("the proxy reads");
        stream.shutdown(Shutdown::Write).expect("our end");
        assert_eq!(to_end(&mut stream), b"1 row");
    }
    playing.join().expect("it was asked");
}

#[test]
fn mysql_proxy_ends_the_client_when_the_target_has_closed_first() {
    let (port, playing) = database(|mut stream| {
        stream.write_all(b"too many connections").expect("the proxy reads");
    });
    for (_proxy, mut stream) in proxies(port) {
        assert_eq!(to_end(&mut stream), b"too many connections");
        stream.write_all(b"quit").expect("the proxy still reads");
        drop(stream);
    }
    playing.join().expect("it answered");
}

#[test]
fn mysql_proxy_closes_the_client_whose_target_refuses() {
    // The port stays bound, so that nobody else listens there meanwhile.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let closed = closed.expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    closed.bind(&any.into()).expect("a free port");
    let port = closed.local_addr().expect("bound").as_socket().expect("an IP address").port();
    for (proxy, mut stream) in proxies(port) {
        let mut came = Vec::new();
        match stream.read_to_end(&mut came) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(came, b"");
        let line = proxy.line();
        assert!(line.starts_with(&format!("127.0.0.1:{port}: ")), "{line}");
    }
}
