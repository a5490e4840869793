//! States: what leads from one to the next, and what is delivered. Clients; `accepted.rs` has the
//! other side.
use crate::support::log::{keep_log, logged_with};
use crate::support::peers::{
    Peer, black_hole, read_to_end, refusing, reset, start, tcp_client, watch, ws_client,
};
use crate::support::*;
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{FailureKind, Limits};

#[test]
fn a_new_handle_is_initial_and_nothing_is_delivered() {
    // `new` → Initial, nothing delivered.
    let t = Transcript::new();
    let con = tcp_client("tcp://127.0.0.1:9", &t);
    assert_eq!(con.status(), Status::Initial);
    turn_for(Duration::from_millis(30));
    assert_eq!(con.status(), Status::Initial);
    t.assert(&[]);
}

#[test]
fn connect_is_connecting_and_begins_in_the_next_turn() {
    // Initial → `connect()` → Connecting, nothing delivered; the attempt starts in the next turn,
    // its errors always come from the loop (Q8).
    let (_held, addr) = refusing();
    for address in [format!("tcp://{addr}"), "unix:///nowhere/at/all.sock".into()] {
        let t = Transcript::new();
        let con = tcp_client(&address, &t);
        let (c, at) = (con, t.clone());
        Timer::delay(0, move || {
            c.connect();
            at.note(format!("called {}", c.status()));
            // It is due at the earliest in the turn after this one.
            let at = at.clone();
            Timer::delay(0, move || at.note("next turn"));
        });
        turn_until(|| t.has("close CLOSED"));
        let lines = t.lines();
        assert_eq!(lines[0], "called CONNECTING");
        assert_eq!(lines[1], "next turn", "a dial inside the turn that asked: {lines:?}");
        assert_eq!(&lines[2..], ["error 1 Refused Connect CLOSING", "close CLOSED"]);
    }
}

#[test]
fn a_transport_that_stands_is_established_and_the_handshake_follows() {
    // Connecting → Established: `on_connect`; for Ws the handshake, then `on_websocket_connect`.
    let peer = Peer::with_one(|mut stream| {
        raw_handshake(&mut stream);
        read_to_end(&mut stream);
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.connect();
    turn_until(|| t.has("open 101"));
    assert_eq!(con.status(), Status::Established);
    t.assert(&["connect ESTABLISHED", "open 101"]);
    con.destroy();
    turn_until(|| t.has("close CLOSED"));
}

#[test]
fn an_opening_that_fails_is_one_error_then_one_close() {
    // Connecting fails → Closed: `on_error(ConnectFail)`, `on_close`; each once.
    let (_held, addr) = refusing();
    let t = Transcript::new();
    let con = ws_client(&format!("ws://{addr}"), &t);
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    turn_for(Duration::from_millis(20));
    t.assert(&["error 1 Refused Connect CLOSING", "close CLOSED"]);
    assert_eq!(con.status(), Status::Closed);
}

#[test]
fn a_refused_handshake_is_an_error_then_a_close_also_where_the_end_comes_with_it() {
    // Established, handshake refused → Closed: `on_error(ConnectFail)`, `on_close`; status Closing
    // inside that `on_error`, also when answer and FIN are there together.
    for waits in [false, true] {
        let peer = Peer::with_one(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").expect("answer");
            if waits {
                read_to_end(&mut stream);
            }
        });
        let t = Transcript::new();
        ws_client(&peer.ws(), &t).connect();
        turn_until(|| t.has("close CLOSED"));
        t.assert(&["connect ESTABLISHED", "error 1 Handshake Handshake CLOSING", "close CLOSED"]);
    }
}

#[test]
fn a_late_handshake_is_an_error_then_a_close() {
    // Established, handshake late → Closed: `on_error(ConnectFail)`, `on_close`.
    let peer = Peer::with_one(|mut stream| drop(read_to_end(&mut stream)));
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.set_limits(Limits::new().opening(0.1));
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    t.assert(&["connect ESTABLISHED", "error 1 Deadline Handshake CLOSING", "close CLOSED"]);
}

#[test]
fn a_broken_protocol_is_an_error_then_a_close_also_where_the_end_comes_with_it() {
    // Established, the peer breaks the protocol → Closing, Closed: `on_error(SessionFail)`,
    // `on_close`.
    for waits in [false, true] {
        let peer = Peer::with_one(move |mut stream| {
            raw_handshake(&mut stream);
            stream.write_all(&server_frame(0x83, b"")).expect("a reserved opcode");
            if waits {
                read_to_end(&mut stream);
            }
        });
        let t = Transcript::new();
        ws_client(&peer.ws(), &t).connect();
        turn_until(|| t.has("close CLOSED"));
        let open = ["connect ESTABLISHED", "open 101"];
        let end = ["error 3 Protocol Session CLOSING", "close CLOSED"];
        t.assert(&[open, end].concat());
    }
}

#[test]
fn a_peer_that_answers_no_ping_is_an_error_then_a_close() {
    // Established, pong deadline → Closed: `on_error(SessionFail)`, `on_close`.
    let peer = Peer::with_one(|mut stream| {
        raw_handshake(&mut stream);
        read_to_end(&mut stream);
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.set_websocket_ping_interval(0.05);
    con.set_websocket_pong_timeout(0.05);
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    let open = ["connect ESTABLISHED", "open 101"];
    t.assert(&[open, ["error 3 PongTimeout Session CLOSING", "close CLOSED"]].concat());
}

#[test]
fn a_reset_with_bytes_unsent_is_an_error_first() {
    // Established, unsent bytes lost → `on_error(SendFail, Reset)`, `on_close` (Q24).
    let (go, told) = mpsc::channel::<()>();
    let peer = Peer::with_one(move |stream| {
        told.recv().expect("the word");
        reset(stream);
    });
    let t = Transcript::new();
    let con = tcp_client(&peer.tcp(), &t);
    con.set_max_send_buffer_size(64 << 20);
    con.on_connect(move |con| {
        con.send(vec![7; 32 << 20]);
        go.send(()).expect("the peer waits");
    });
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    t.assert(&["error 2 Reset Session CLOSING", "close CLOSED"]);
}

#[test]
fn a_reset_with_nothing_unsent_is_a_close_alone() {
    // A TCP reset with nothing unsent: `on_close` alone, as in PHP.
    let (go, told) = mpsc::channel::<()>();
    let peer = Peer::with_one(move |stream| {
        told.recv().expect("the word");
        reset(stream);
    });
    let t = Transcript::new();
    tcp_client(&peer.tcp(), &t).connect();
    turn_until(|| t.has("connect ESTABLISHED"));
    go.send(()).expect("the peer waits");
    turn_until(|| t.has("close CLOSED"));
    t.assert(&["connect ESTABLISHED", "close CLOSED"]);
}

#[test]
fn an_orderly_end_is_the_farewell_and_a_close() {
    // Established, peer's orderly end → Closed: (`on_websocket_close`,) `on_close`; status Closing
    // inside the first, Closed inside the second.
    let peer = Peer::with_one(|mut stream| {
        raw_handshake(&mut stream);
        let mut farewell = 1001u16.to_be_bytes().to_vec();
        farewell.extend_from_slice(b"bye");
        stream.write_all(&server_frame(0x88, &farewell)).expect("the farewell");
        assert_eq!(read_frame(&mut stream), (0x88, vec![3, 0xe9]), "answered with its code");
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    let at = t.clone();
    con.on_close(move |con| at.note(format!("close {:?} {}", con.close_code(), con.status())));
    con.connect();
    turn_until(|| t.has("close Some(1001) CLOSED"));
    let open = ["connect ESTABLISHED", "open 101"];
    t.assert(&[open, ["farewell 1001 \"bye\" CLOSING", "close Some(1001) CLOSED"]].concat());
}

#[test]
fn a_fin_alone_or_inside_a_frame_is_a_close_alone_with_1006() {
    // A Ws session that ends by FIN, also inside a frame: `on_close` alone, `close_code()` 1006.
    for bytes in [&b""[..], &b"\x81\x05he"[..], &b"\x81"[..], &b"\x01\x02he"[..]] {
        let peer = Peer::with_one(|mut stream| {
            raw_handshake(&mut stream);
            stream.write_all(bytes).expect("a beginning");
        });
        let t = Transcript::new();
        let con = ws_client(&peer.ws(), &t);
        let at = t.clone();
        con.on_close(move |con| at.note(format!("close {:?}", con.close_code())));
        con.connect();
        turn_until(|| con.status() == Status::Closed);
        t.assert(&["connect ESTABLISHED", "open 101", "close Some(1006)"]);
    }
}

#[test]
fn close_is_closing_until_the_socket_has_ended() {
    // Established → `close()` → Closing; `on_close` when the socket is closed. `close_with` sends
    // before it, `close_websocket` says its code.
    let (go, told) = mpsc::channel::<()>();
    let peer = Peer::with_one(move |mut stream| {
        raw_handshake(&mut stream);
        assert_eq!(read_frame(&mut stream), (0x81, b"last".to_vec()));
        assert_eq!(read_frame(&mut stream), (0x88, 1000u16.to_be_bytes().to_vec()));
        told.recv().expect("the word");
        stream.write_all(&server_frame(0x88, &1000u16.to_be_bytes())).expect("its answer");
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.on_websocket_connect(|con, _| con.close_with("last"));
    con.connect();
    turn_until(|| con.status() == Status::Closing);
    turn_for(Duration::from_millis(50));
    assert_eq!(con.status(), Status::Closing, "the peer has not answered");
    t.assert(&["connect ESTABLISHED"]);
    go.send(()).expect("the peer waits");
    turn_until(|| t.has("close CLOSED"));
    t.assert(&["connect ESTABLISHED", "close CLOSED"]);
}

#[test]
fn destroy_ends_at_once_while_established_and_while_closing() {
    // Established, Closing → `destroy()` → Closed: `on_close`, no `on_error`.
    for closing_first in [false, true] {
        let peer = Peer::with_one(|mut stream| {
            raw_handshake(&mut stream);
            read_to_end(&mut stream);
        });
        let t = Transcript::new();
        let con = ws_client(&peer.ws(), &t);
        let at = t.clone();
        con.on_websocket_connect(move |con, _| {
            if closing_first {
                con.close();
                at.note(con.status());
            }
            con.destroy();
            at.note(con.status());
        });
        con.connect();
        turn_until(|| t.has("close CLOSED"));
        let whole = ["connect ESTABLISHED", "CLOSING", "CLOSED", "close CLOSED"];
        let expected: Vec<&str> =
            whole.into_iter().filter(|line| closing_first || *line != "CLOSING").collect();
        t.assert(&expected);
    }
}

#[test]
fn close_and_destroy_while_connecting_are_a_close_without_an_error() {
    // Connecting → `close()`, `destroy()` → Closed: `on_close`, no `on_error`; before the dial
    // begins, and while the socket is on its way.
    let (_held, addr) = black_hole();
    for (destroy, under_way) in [(false, false), (false, true), (true, false), (true, true)] {
        let t = Transcript::new();
        let con = tcp_client(&format!("tcp://{addr}"), &t);
        con.connect();
        if under_way {
            turn_for(Duration::from_millis(20));
        }
        assert_eq!(con.status(), Status::Connecting);
        if destroy {
            con.destroy()
        } else {
            con.close()
        }
        t.assert(&[]);
        turn_until(|| t.has("close CLOSED"));
        turn_for(Duration::from_millis(10));
        t.assert(&["close CLOSED"]);
    }
}

#[test]
fn a_client_close_before_the_handshake_is_complete_is_a_destroy() {
    // On a client `close()` before the handshake is complete is `destroy()`: `on_close` at once,
    // nothing but the request on the wire.
    let (tell, told) = mpsc::channel();
    let peer = Peer::with_one(move |mut stream| {
        read_head(&mut stream);
        let rest = read_to_end(&mut stream);
        tell.send(rest).expect("the test waits");
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.send("never");
    con.connect();
    turn_until(|| t.has("connect ESTABLISHED"));
    turn_for(Duration::from_millis(20));
    con.close();
    assert_eq!(con.status(), Status::Closed);
    turn_until(|| t.has("close CLOSED"));
    t.assert(&["connect ESTABLISHED", "close CLOSED"]);
    assert_eq!(told.recv().expect("the peer"), b"");
}

#[test]
fn close_and_destroy_outside_a_session_deliver_nothing_and_cancel_a_reconnect() {
    // Initial, also waiting to reconnect → `close()`, `destroy()` → Closed: nothing; a pending
    // reconnect is cancelled (Q15).
    for (destroy, waiting) in [(false, false), (false, true), (true, false), (true, true)] {
        let (worker, addr) = start::<Text>();
        let accepted = Rc::new(Cell::new(0));
        let count = accepted.clone();
        worker.on_connect(move |_| count.set(count.get() + 1));
        let t = Transcript::new();
        let con = tcp_client(&format!("tcp://{addr}"), &t);
        if waiting {
            con.reconnect(0.02);
        }
        assert_eq!(con.status(), Status::Initial);
        if destroy {
            con.destroy()
        } else {
            con.close()
        }
        assert_eq!(con.status(), Status::Closed);
        turn_for(Duration::from_millis(60));
        t.assert(&[]);
        assert_eq!(accepted.get(), 0);
    }
}

#[test]
fn connect_while_connecting_or_established_is_ignored() {
    // `connect()` while Connecting or Established is ignored, as in PHP.
    let (worker, addr) = start::<Text>();
    let accepted = Rc::new(Cell::new(0));
    let count = accepted.clone();
    worker.on_connect(move |_| count.set(count.get() + 1));
    let t = Transcript::new();
    let con = tcp_client(&format!("tcp://{addr}"), &t);
    con.connect();
    con.connect();
    turn_until(|| accepted.get() == 1 && con.status() == Status::Established);
    con.connect();
    turn_for(Duration::from_millis(30));
    assert_eq!((accepted.get(), con.status()), (1, Status::Established));
    t.assert(&["connect ESTABLISHED"]);
}

#[test]
fn nothing_of_an_ended_session_is_delivered_after_its_close() {
    // One open, one close; nothing of the ended session is delivered after `on_close`, also not
    // from bytes that are there already, and not where the handle lives on.
    let peer = Peer::listening(|listener| {
        for text in [b"a\nb\nc\n", b"d\ne\nf\n"] {
            raw_accept(&listener).write_all(text).expect("lines");
        }
    });
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{}", peer.addr)).expect("client");
    watch(con, &t);
    let at = t.clone();
    con.on_message(move |con, line| {
        at.note(line);
        con.destroy();
    });
    let (at, mut again) = (t.clone(), true);
    con.on_close(move |con| {
        at.note("close");
        if std::mem::take(&mut again) {
            con.reconnect(0);
        }
    });
    con.connect();
    turn_until(|| t.count("close") == 2);
    let session = |line| ["connect ESTABLISHED", line, "close"];
    t.assert(&[session("a"), session("d")].concat());
}

#[test]
fn every_on_connect_has_one_on_close_however_sessions_end() {
    // Every `on_connect` is followed by exactly one `on_close`: FIN, reset, violation, farewell,
    // refusal, our close, our destroy.
    const ROUNDS: usize = 22;
    let peer = Peer::listening(|listener| {
        for round in 0..ROUNDS {
            let mut stream = raw_accept(&listener);
            match round % 11 {
                0 | 1 => drop(read_to_end(&mut stream)),
                2..=6 => drop(read_head(&mut stream)),
                _ => drop(raw_handshake(&mut stream)),
            }
            let last: &[u8] = match round % 11 {
                3 => b"garbage\r\n\r\n",
                4 => b"HTTP/1.1 101 Yes\r\n\r\n",
                5 => b"HTTP/1.1 500 No\r\n\r\n",
                8 => &[0x83, 0],
                9 => &[0x88, 2, 3, 0xe8],
                _ => b"",
            };
            stream.write_all(last).expect("the end");
            if round % 11 == 6 || round % 11 == 10 {
                reset(stream);
            }
        }
    });
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Ws>::new(&peer.ws()).expect("client");
    let (at, mut round) = (t.clone(), 0);
    con.on_connect(move |con| {
        at.note("connect");
        match round % 11 {
            0 => con.close(),
            1 => con.destroy(),
            _ => {}
        }
        round += 1;
    });
    let (at, mut left) = (t.clone(), ROUNDS - 1);
    con.on_close(move |con| {
        at.note("close");
        if left > 0 {
            left -= 1;
            con.reconnect(0);
        }
    });
    con.connect();
    turn_until(|| t.count("close") == ROUNDS);
    assert_eq!(t.lines(), ["connect", "close"].repeat(ROUNDS));
}

#[test]
fn connect_inside_the_error_of_a_failed_opening_has_no_close() {
    // Closing inside an `on_error` that ends something → `connect()`, `reconnect(0)` → Connecting.
    // An opening that failed before `on_connect` then has no `on_close` (Q40).
    for reconnects in [false, true] {
        let (_held, addr) = refusing();
        let t = Transcript::new();
        let con = tcp_client(&format!("tcp://{addr}"), &t);
        let (at, mut left) = (t.clone(), 2);
        con.on_error(move |con, code, failure| {
            assert_eq!((code, failure.kind()), (ErrorCode::ConnectFail, FailureKind::Refused));
            at.note(format!("error {}", con.status()));
            if left > 0 {
                left -= 1;
                if reconnects {
                    con.reconnect(0)
                } else {
                    con.connect()
                }
                at.note(con.status());
            }
        });
        con.connect();
        turn_until(|| t.has("close CLOSED"));
        let again = ["error CLOSING", "CONNECTING"];
        t.assert(&[&again[..], &again, &["error CLOSING", "close CLOSED"]].concat());
    }
}

#[test]
fn once_on_connect_was_delivered_on_close_always_comes() {
    // Once `on_connect` was delivered, `on_close` always comes: also where the `on_error` of a
    // refused handshake or of a broken session reconnects, and the reconnect takes place.
    for (handshake, connects) in [(false, false), (false, true), (true, false), (true, true)] {
        let peer = Peer::listening(move |listener| {
            let mut stream = raw_accept(&listener);
            if handshake {
                read_head(&mut stream);
                stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").expect("answer");
            } else {
                raw_handshake(&mut stream);
                stream.write_all(&server_frame(0x83, b"")).expect("a reserved opcode");
            }
            drop(stream);
            raw_handshake(&mut raw_accept(&listener));
        });
        let t = Transcript::new();
        let con = ws_client(&peer.ws(), &t);
        let at = t.clone();
        con.on_error(move |con, _, _| {
            at.note(format!("error {}", con.status()));
            if connects { con.connect() } else { con.reconnect(0) }
        });
        con.connect();
        turn_until(|| t.count("close CLOSED") == 2);
        let open: &[&str] = &["connect ESTABLISHED", "open 101"];
        let first = if handshake { &open[..1] } else { open };
        t.assert(&[first, &["error CLOSING", "close CLOSED"], open, &["close CLOSED"]].concat());
    }
}

#[test]
fn reconnect_on_an_open_connection_is_initial_once_it_has_closed() {
    // any → `reconnect(n)`, n > 0 → Initial when the session has closed; `on_close` of that
    // session; n seconds later Connecting.
    let (_worker, addr) = start::<Text>();
    let t = Transcript::new();
    let con = tcp_client(&format!("tcp://{addr}"), &t);
    con.connect();
    turn_until(|| t.has("connect ESTABLISHED"));
    let asked = Instant::now();
    con.reconnect(0.1);
    turn_until(|| t.has("close CLOSED"));
    assert_eq!(con.status(), Status::Initial);
    t.assert(&["connect ESTABLISHED", "close CLOSED"]);
    turn_until(|| t.count("connect ESTABLISHED") == 2);
    assert!(asked.elapsed() >= Duration::from_millis(100), "{:?}", asked.elapsed());
    t.assert(&["connect ESTABLISHED", "close CLOSED", "connect ESTABLISHED"]);
}

#[test]
fn an_error_that_ends_nothing_leaves_the_status_alone() {
    // `status()` is unchanged inside an `on_error` whose failure ends nothing.
    let peer = Peer::with_one(|mut stream| {
        raw_handshake(&mut stream);
        read_to_end(&mut stream);
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.on_websocket_connect(|con, _| {
        con.set_websocket_type(Ws::BINARY_TYPE_BLOB);
        assert_eq!(con.send(&b"\xff"[..]), Sent::Dropped);
    });
    con.connect();
    turn_until(|| t.has("error 2 Encode Session ESTABLISHED"));
    assert_eq!(con.status(), Status::Established);
    con.destroy();
    turn_until(|| t.has("close CLOSED"));
}

#[test]
fn a_status_prints_as_php_names_it() {
    // It prints as PHP's names.
    let all = [
        (Status::Initial, "INITIAL", 0),
        (Status::Connecting, "CONNECTING", 1),
        (Status::Established, "ESTABLISHED", 2),
        (Status::Closing, "CLOSING", 8),
        (Status::Closed, "CLOSED", 16),
    ];
    for (status, name, number) in all {
        assert_eq!((status.to_string().as_str(), status as u8), (name, number));
    }
}

#[test]
fn a_failure_of_a_client_without_callbacks_is_one_warning() {
    // Without callbacks the failure is a log line: `warn` for clients.
    keep_log();
    let (_held, addr) = refusing();
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("client");
    con.connect();
    turn_until(|| con.status() == Status::Closed);
    assert_eq!(logged_with("WARN", &addr.to_string()), 1);
    assert_eq!(logged_with("ERROR", ""), 0);
}
