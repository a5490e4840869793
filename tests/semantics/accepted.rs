//! States of accepted connections: what comes when, and what strangers get to see.
use crate::support::log::{keep_log, logged_with};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::support::peers::identity;
use crate::support::peers::{error_line, read_to_end, start, watch};
use crate::support::*;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Connection, Server};

/// Notes all that comes to a worker's connections.
fn watch_worker(worker: Worker<Websocket>, to: &Transcript) {
    let t = to.clone();
    worker.on_connect(move |con| {
        watch(con, &t);
        t.note(format!("connect {}", con.status()));
    });
    let t = to.clone();
    worker.on_websocket_connect(move |_, request| t.note(format!("upgrade {}", request.uri())));
    let t = to.clone();
    worker.on_websocket_connected(move |_, request| t.note(format!("upgraded {}", request.uri())));
    let t = to.clone();
    worker.on_message(move |_, data| t.note(format!("message {data}")));
    let t = to.clone();
    worker.on_websocket_close(move |con, code, _| t.note(format!("bye {code} {}", con.status())));
}

/// A raw client that sends this and hands back all that comes.
fn stranger(addr: SocketAddr, request: String) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        stream.write_all(request.as_bytes()).expect("the request");
        String::from_utf8_lossy(&read_to_end(&mut stream)).into_owned()
    })
}

fn upgrade_request(more: &str) -> String {
    format!(
        "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

#[test]
fn a_websocket_server_sees_the_transport_the_request_and_the_answer_in_order() {
    // `on_connect` when the transport stands; then `on_websocket_connect` before the answer is
    // written, `on_websocket_connected` once the 101 is queued.
    let (worker, addr) = start::<Websocket>();
    let t = Transcript::new();
    watch_worker(worker, &t);
    let at = t.clone();
    worker.on_websocket_connect(move |con, request| {
        at.note(format!("upgrade {} {}", request.uri(), con.bytes_written()));
        assert_eq!(con.send_buffer_len(), 0, "the answer is not queued yet");
    });
    let at = t.clone();
    worker.on_websocket_connected(move |con, _| {
        at.note(format!("upgraded {}", con.send_buffer_len() > 0));
        con.close();
    });
    let mut stream = raw_connect(addr);
    turn_until(|| t.has("connect ESTABLISHED"));
    t.assert(&["connect ESTABLISHED"]);
    stream.write_all(upgrade_request("").as_bytes()).expect("the request");
    turn_until(|| t.has("upgraded true"));
    t.assert(&["connect ESTABLISHED", "upgrade /x 0", "upgraded true"]);
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    stream.write_all(&client_frame(0x88, &1000u16.to_be_bytes())).expect("the answer");
    turn_until(|| t.has("close CLOSED"));
}

#[test]
fn a_request_that_is_no_upgrade_is_answered_with_its_status() {
    // Answered with its status and a short text: `on_error(SessionFail, Handshake)`, `on_close`.
    let plain = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let old = upgrade_request("").replace("Version: 13", "Version: 8");
    for (request, status) in
        [(plain, "HTTP/1.1 400 "), (&old, "HTTP/1.1 426 "), ("\0\r\n\r\n", "HTTP/1.1 400 ")]
    {
        let (worker, addr) = start::<Websocket>();
        let t = Transcript::new();
        watch_worker(worker, &t);
        let client = stranger(addr, request.to_string());
        turn_until(|| t.has("close CLOSED"));
        t.assert(&["connect ESTABLISHED", "error 3 Handshake Handshake CLOSING", "close CLOSED"]);
        let answer = client.join().expect("the client");
        assert!(answer.starts_with(status), "{answer}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(!body.trim().is_empty() && body.len() < 1000, "{answer}");
        worker.unlisten();
    }
}

#[test]
fn refuse_sends_that_response_and_close_a_403_then_only_on_close() {
    // `refuse(response)` sends that response, `close()` inside `on_websocket_connect` a 403; both
    // then only `on_close`.
    for refuses in [true, false] {
        let (worker, addr) = start::<Websocket>();
        let t = Transcript::new();
        watch_worker(worker, &t);
        worker.on_websocket_connect(move |con, _| {
            if refuses {
                con.refuse(Response::new(402).with_header("X-Why", "money").with_body("pay"));
            } else {
                con.close();
            }
        });
        let client = stranger(addr, upgrade_request(""));
        turn_until(|| t.has("close CLOSED"));
        t.assert(&["connect ESTABLISHED", "close CLOSED"]);
        let answer = client.join().expect("the client");
        if refuses {
            assert!(answer.starts_with("HTTP/1.1 402 "), "{answer}");
            assert!(answer.contains("X-Why: money") && answer.ends_with("\r\n\r\npay"), "{answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        }
        worker.unlisten();
    }
}

#[test]
fn a_clients_fin_alone_or_inside_a_frame_is_a_close_alone_with_1006() {
    // A Websocket session that ends by FIN, also inside a frame: `on_close` alone, 1006.
    let half = client_frame(0x81, b"hello")[..8].to_vec();
    for bytes in [Vec::new(), half, client_frame(0x01, b"frag")] {
        let (worker, addr) = start::<Websocket>();
        let t = Transcript::new();
        watch_worker(worker, &t);
        let (at, told) = (t.clone(), Rc::new(Cell::new(0)));
        let tell = told.clone();
        worker.on_websocket_connected(move |con, _| {
            let (at, tell) = (at.clone(), tell.clone());
            con.on_close(move |con| {
                tell.set(con.close_code().unwrap_or(0));
                at.note("close");
            });
        });
        let client = std::thread::spawn(move || {
            let mut stream = raw_connect(addr);
            raw_upgrade(&mut stream);
            stream.write_all(&bytes).expect("a beginning");
        });
        turn_until(|| t.has("close"));
        client.join().expect("the client");
        t.assert(&["connect ESTABLISHED", "upgrade /", "close"]);
        assert_eq!(told.get(), 1006);
        worker.unlisten();
    }
}

#[test]
fn a_farewell_of_the_client_is_told_while_closing() {
    // Peer's orderly end → `on_websocket_close`, status Closing inside it, then `on_close`.
    let (worker, addr) = start::<Websocket>();
    let t = Transcript::new();
    watch_worker(worker, &t);
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        raw_upgrade(&mut stream);
        stream.write_all(&client_frame(0x88, &3000u16.to_be_bytes())).expect("the farewell");
        read_frame(&mut stream)
    });
    turn_until(|| t.has("close CLOSED"));
    assert_eq!(client.join().expect("the client"), (0x88, 3000u16.to_be_bytes().to_vec()));
    let begin = ["connect ESTABLISHED", "upgrade /", "upgraded /"];
    t.assert(&[&begin[..], &["bye 3000 CLOSING", "close CLOSED"]].concat());
}

#[test]
fn a_stranger_that_breaks_the_protocol_is_no_warning() {
    // Without callbacks the failure is a log line, `debug` for accepted connections: strangers must
    // not fill logs.
    keep_log();
    let (worker, addr) = start::<Websocket>();
    let closed = Rc::new(Cell::new(false));
    let tell = closed.clone();
    worker.on_close(move |_| tell.set(true));
    let client = stranger(addr, "no http at all\r\n\r\n".into());
    turn_until(|| closed.get());
    client.join().expect("the client");
    assert_eq!(logged_with("WARN", "") + logged_with("ERROR", ""), 0);
    assert!(logged_with("DEBUG", "websocket#") >= 1);
}

#[test]
fn connections_holds_one_from_before_on_connect_until_on_close_has_returned() {
    // `worker.connections()` holds a connection from before its `on_connect` until its `on_close`
    // has returned, in the order of ids; `connection(id)` finds it.
    let (worker, addr) = start::<Text>();
    let seen = Rc::new(RefCell::new(Vec::<(&str, Vec<u64>)>::new()));
    let ids = move || worker.connections().iter().map(Connection::id).collect::<Vec<u64>>();
    let note = {
        let seen = seen.clone();
        move |what, con: Connection<Text, Server>| {
            assert_eq!(worker.connection(con.id()), Some(con));
            seen.borrow_mut().push((what, ids()));
        }
    };
    let (n, m) = (note.clone(), note);
    worker.on_connect(move |con| n("connect", con));
    worker.on_close(move |con| m("close", con));
    let mut peers = Vec::new();
    for _ in 0..3 {
        let count = seen.borrow().len();
        peers.push(raw_connect(addr));
        turn_until(|| seen.borrow().len() > count);
    }
    // The middle one first.
    for at in [1, 0, 0] {
        let count = seen.borrow().len();
        drop(peers.remove(at));
        turn_until(|| seen.borrow().len() > count);
    }
    turn_for(Duration::from_millis(10));
    assert_eq!(ids(), []);
    let expected = [
        ("connect", vec![1]),
        ("connect", vec![1, 2]),
        ("connect", vec![1, 2, 3]),
        ("close", vec![1, 2, 3]),
        ("close", vec![1, 3]),
        ("close", vec![3]),
    ];
    assert_eq!(*seen.borrow(), expected);
    assert_eq!(worker.connection(2), None);
}

#[test]
fn a_close_that_destroys_the_others_gives_each_its_own() {
    // One open, one close: each accepted connection has its own, whatever its neighbour does.
    let (worker, addr) = start::<Text>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_connect(move |con| at.note(format!("connect {}", con.id())));
    let at = t.clone();
    worker.on_close(move |con| {
        at.note(format!("close {}", con.id()));
        for other in worker.connections() {
            other.destroy();
        }
    });
    let at = t.clone();
    worker.on_error(move |con, code, failure| at.note(error_line(con, code, failure)));
    let peers: Vec<_> = (0..3).map(|_| raw_connect(addr)).collect();
    turn_until(|| t.has("connect 3"));
    drop(peers);
    turn_until(|| worker.connections().is_empty());
    let mut lines = t.lines();
    assert_eq!(lines.split_off(3).len(), 3);
    for id in 1..=3 {
        assert_eq!(t.count(&format!("close {id}")), 1);
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn on_connect_comes_when_the_transport_stands_tls_included() {
    // Accepted connections: `on_connect` when the transport stands, TLS included (Q10).
    let (worker, addr) = start::<Text>();
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity().path())).expect("an identity");
    let t = Transcript::new();
    let at = t.clone();
    worker.on_connect(move |con| at.note(format!("accepted {}", con.status())));
    // A socket that says nothing stands, but not its TLS.
    let silent = raw_connect(addr);
    turn_for(Duration::from_millis(50));
    t.assert(&[]);
    assert!(worker.connections().is_empty());
    let con = AsyncTcpConnection::<Text>::new(&format!("ssl://{addr}")).expect("client");
    con.set_tls(Tls::new().danger_accept_invalid_certs()).expect("settings");
    watch(con, &t);
    con.connect();
    turn_until(|| t.lines().len() == 2);
    assert!(t.has("accepted ESTABLISHED") && t.has("connect ESTABLISHED"));
    drop(silent);
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[test]
fn an_accepted_connection_whose_tls_fails_has_no_events() {
    // The first of a worker is a warning, for it may be a mistake of one's own; others are debug
    // lines.
    keep_log();
    let (worker, addr) = start::<Text>();
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity().path())).expect("an identity");
    let t = Transcript::new();
    let at = t.clone();
    worker.on_connect(move |_| at.note("connect"));
    let at = t.clone();
    worker.on_error(move |con, code, failure| at.note(error_line(con, code, failure)));
    let at = t.clone();
    worker.on_close(move |_| at.note("close"));
    let clients = [0, 1, 2].map(|_| stranger(addr, "GET / HTTP/1.1\r\n\r\n".into()));
    turn_until(|| logged_with("DEBUG", "TLS") == 2);
    turn_for(Duration::from_millis(20));
    t.assert(&[]);
    assert!(worker.connections().is_empty());
    assert_eq!(logged_with("WARN", "TLS with the client failed"), 1);
    assert_eq!(logged_with("WARN", "") + logged_with("ERROR", ""), 1);
    for client in clients {
        client.join().expect("the client");
    }
}
