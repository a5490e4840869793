//! Our client against their servers.
use crate::peers::{Authority, Peer, PeerServer};
use crate::turn_until;
use std::cell::RefCell;
use std::rc::Rc;
use workerman::prelude::*;
use workerman::{FailureKind, Phase};

pub(crate) type Log = Rc<RefCell<Vec<String>>>;

/// A client that writes down what happens to it; messages are shortened.
fn client(url: &str, authority: Option<&Authority>) -> (AsyncTcpConnection<Ws>, Log) {
    let con = AsyncTcpConnection::<Ws>::new(url).expect("a good address");
    if let Some(authority) = authority {
        con.set_tls(Tls::new().ca_file(authority.file("ca.pem"))).expect("a good CA file");
    }
    let log = Log::default();
    let note = |event: &str| {
        let (log, event) = (log.clone(), event.to_owned());
        move |rest: String| log.borrow_mut().push(format!("{event}{rest}"))
    };
    let n = note("connected");
    con.on_connect(move |_| n(String::new()));
    let n = note("open ");
    con.on_websocket_connect(move |_, response| n(response.status().to_string()));
    let n = note("message ");
    con.on_message(move |_, data| n(described(data)));
    let n = note("ping ");
    con.on_websocket_ping(move |_, payload| n(String::from_utf8_lossy(payload).into()));
    let n = note("pong ");
    con.on_websocket_pong(move |_, payload| n(String::from_utf8_lossy(payload).into()));
    let n = note("farewell ");
    con.on_websocket_close(move |_, code, reason| n(format!("{code} {reason}")));
    let n = note("error ");
    con.on_error(move |_, code, failure| n(format!("{code} {failure}")));
    let n = note("closed ");
    con.on_close(move |con| n(format!("{:?}", con.close_code())));
    (con, log)
}

/// Kind, length, and a sum that every byte and its place goes into.
fn described(data: Data) -> String {
    let kind = if data.is_text() { "text" } else { "binary" };
    let sum = data.iter().fold(0u64, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
    format!("{kind} {} {sum:x}", data.len())
}

#[track_caller]
fn until_closed(log: &Log) -> Vec<String> {
    turn_until("the connection's end", || {
        log.borrow().last().is_some_and(|line| line.starts_with("closed"))
    });
    log.borrow().clone()
}

fn messages() -> Vec<(bool, Vec<u8>)> {
    let text = |text: &str| (true, text.as_bytes().to_vec());
    vec![
        text("hello"),
        text(""),
        (false, Vec::new()),
        (false, (0..=255).collect()),
        text("grüße, 世界"),
        text(&"ä".repeat(1 << 19)),
        (false, (0..1 << 20).map(|i| (i * 7 % 251) as u8).collect()),
    ]
}

fn data((is_text, bytes): &(bool, Vec<u8>)) -> Data<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) if *is_text => Data::Text(text),
        _ => Data::Binary(bytes),
    }
}

/// Everything that may be said in one session, echoed in order, and our farewell.
fn conversation(peer: Peer, path: &str, authority: Option<&Authority>) {
    conversation_with(peer, path, authority, |_, _| {});
}

/// The same by a client that `prepare` has set up.
pub(crate) fn conversation_with(
    peer: Peer,
    path: &str,
    authority: Option<&Authority>,
    prepare: impl FnOnce(AsyncTcpConnection<Ws>, &Log),
) {
    let arguments = authority.map(Authority::server_arguments);
    let arguments: Vec<&str> = arguments.iter().flatten().map(String::as_str).collect();
    let server = peer.server(&arguments);
    let scheme = if authority.is_some() { "wss" } else { "ws" };
    let (con, log) = client(&format!("{scheme}://localhost:{}{path}", server.port), authority);
    prepare(con, &log);
    con.connect();
    turn_until("the handshake", || log.borrow().iter().any(|line| line == "open 101"));
    let mut expected = vec!["connected".to_owned(), "open 101".into()];
    for message in &messages() {
        con.send(data(message));
        let answer = format!("message {}", described(data(message)));
        // One at a time: more than the send buffer takes would be dropped.
        turn_until("the echo", || log.borrow().last() == Some(&answer));
        expected.push(answer);
    }
    con.ping(b"are you there");
    turn_until("the pong", || log.borrow().last().is_some_and(|line| line.starts_with("pong")));
    expected.push("pong are you there".into());
    assert!(con.latency().is_some_and(|latency| latency.as_secs() < 10));
    con.close_websocket(4000, "enough");
    expected.push("closed Some(4000)".into());
    assert_eq!(until_closed(&log), expected);
    assert_eq!(
        server.process.until("closed").last().map(String::as_str),
        Some("closed 4000 enough")
    );
}

#[test]
fn python_echoes_over_ws() {
    conversation(Peer::Python, "/", None);
}

#[test]
fn python_echoes_over_wss() {
    conversation(Peer::Python, "/", Some(&Authority::new()));
}

#[test]
fn python_echoes_in_fragments_over_ws_and_wss() {
    conversation(Peer::Python, "/fragments", None);
    conversation(Peer::Python, "/fragments", Some(&Authority::new()));
}

#[test]
fn node_echoes_over_ws() {
    conversation(Peer::Node, "/", None);
}

#[test]
fn node_echoes_over_wss() {
    conversation(Peer::Node, "/", Some(&Authority::new()));
}

#[test]
fn node_echoes_in_fragments_over_ws_and_wss() {
    conversation(Peer::Node, "/fragments", None);
    conversation(Peer::Node, "/fragments", Some(&Authority::new()));
}

fn for_both(test: impl Fn(&PeerServer)) {
    for peer in [Peer::Python, Peer::Node] {
        test(&peer.server(&[]));
    }
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    for_both(|server| {
        let (con, log) = client(&server.url("/first"), None);
        con.connect();
        turn_until("the first message", || log.borrow().len() == 3);
        let first = format!("message {}", described(Data::Text("first")));
        assert_eq!(*log.borrow(), ["connected", "open 101", &first]);
    });
}

#[test]
fn a_servers_ping_is_answered_and_shown() {
    for_both(|server| {
        let (con, log) = client(&server.url("/ping"), None);
        con.connect();
        turn_until("what follows the pong", || log.borrow().len() == 4);
        let came = format!("message {}", described(Data::Text("pong came")));
        assert_eq!(log.borrow()[2..], ["ping from the server", &came]);
    });
}

#[test]
fn a_servers_close_code_and_reason_arrive() {
    for_both(|server| {
        let (con, log) = client(&server.url("/close"), None);
        con.connect();
        con.send("close, please");
        let expected = ["connected", "open 101", "farewell 4001 bye", "closed Some(4001)"];
        assert_eq!(until_closed(&log), expected);
        // Our answer repeats the code; Python tells its own reason, Node that of the answer.
        let closed = server.process.until("closed").pop().unwrap_or_default();
        assert!(closed.starts_with("closed 4001 "), "{closed}");
    });
}

#[test]
fn a_server_that_dies_is_a_close_without_code() {
    for_both(|server| {
        let (con, log) = client(&server.url("/die"), None);
        con.connect();
        con.send("die, please");
        assert_eq!(until_closed(&log), ["connected", "open 101", "closed Some(1006)"]);
    });
}

#[test]
fn a_refusal_reaches_on_error_with_its_answer() {
    for_both(|server| {
        let (con, log) = client(&server.url("/refuse"), None);
        let seen = Rc::new(RefCell::new(None));
        let refusal = seen.clone();
        con.on_error(move |_, code, failure| {
            let response = failure.response().expect("the server's answer");
            let body = String::from_utf8_lossy(response.body()).into_owned();
            let what = (code, failure.kind(), failure.phase(), response.status(), body);
            refusal.replace(Some(what));
        });
        con.connect();
        assert_eq!(until_closed(&log), ["connected", "closed Some(1006)"]);
        let seen = seen.borrow();
        let (code, kind, phase, status, body) = seen.as_ref().expect("on_error came");
        assert_eq!((*code, *kind), (ErrorCode::ConnectFail, FailureKind::Handshake));
        assert_eq!((*phase, *status), (Phase::Handshake, 403));
        assert!(body.contains("not you"), "{body:?}");
    });
}

#[test]
fn headers_arrive_in_case_and_order() {
    for_both(|server| {
        let (con, log) = client(&server.url("/?a=b"), None);
        con.set_headers([("X-First", "1"), ("x-second", "two, and three"), ("X-third", "3")])
            .expect("good headers");
        con.set_websocket_origin("https://origin.test").expect("a good origin");
        con.connect();
        turn_until("the handshake", || log.borrow().len() == 2);
        let request = server.request();
        assert_eq!(request[0], "request /?a=b");
        let has = |line: &str| request.iter().position(|l| l == line);
        assert!(has("header Sec-WebSocket-Version: 13").is_some(), "{request:?}");
        assert!(has("header Origin: https://origin.test").is_some(), "{request:?}");
        assert!(has(&format!("header Host: 127.0.0.1:{}", server.port)).is_some(), "{request:?}");
        let (first, second) = (has("header X-First: 1"), has("header x-second: two, and three"));
        assert!(first.is_some() && first < second, "{request:?}");
        assert!(second < has("header X-third: 3"), "{request:?}");
    });
}

#[test]
fn an_unknown_authority_is_refused_and_the_line_says_what_would_accept_it() {
    let authority = Authority::new();
    let arguments = authority.server_arguments();
    let server = Peer::Node.server(&arguments.each_ref().map(String::as_str));
    let (con, log) = client(&format!("wss://localhost:{}/", server.port), None);
    con.connect();
    let log = until_closed(&log);
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].starts_with("error 1 ") && log[0].contains("localhost"), "{log:?}");
    assert!(log[0].contains("certificate") && log[0].contains("ca_file"), "{log:?}");
}

#[test]
fn a_certificate_for_another_name_is_refused_and_peer_name_accepts_it() {
    let authority = Authority::new();
    let arguments = authority.server_arguments();
    let server = Peer::Python.server(&arguments.each_ref().map(String::as_str));
    // 127.0.0.2 is the same machine; the certificate is for localhost and 127.0.0.1.
    let server = PeerBehind::new(server);
    let url = format!("wss://127.0.0.2:{}/", server.port);
    let (con, log) = client(&url, Some(&authority));
    con.connect();
    let seen = until_closed(&log);
    assert!(seen[0].starts_with("error 1 ") && seen[0].contains("127.0.0.2"), "{seen:?}");
    let (con, log) = client(&url, Some(&authority));
    let tls = Tls::new().ca_file(authority.file("ca.pem")).peer_name("localhost");
    con.set_tls(tls).expect("good settings");
    con.connect();
    turn_until("the handshake", || log.borrow().len() == 2);
    assert_eq!(*log.borrow(), ["connected", "open 101"]);
}

/// The same server under another loopback address, through a pipe of threads.
struct PeerBehind {
    _server: PeerServer,
    port: u16,
}

impl PeerBehind {
    fn new(server: PeerServer) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").expect("all of 127/8 is ours");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let target = server.port;
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let there = std::net::TcpStream::connect(("127.0.0.1", target));
                let Ok(there) = there else { return };
                for (mut from, mut to) in [
                    (stream.try_clone(), there.try_clone()),
                    (there.try_clone(), stream.try_clone()),
                ]
                .into_iter()
                .filter_map(|(from, to)| Some((from.ok()?, to.ok()?)))
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        PeerBehind { _server: server, port }
    }
}
