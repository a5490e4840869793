//! `close` and its kin: what leaves, what is still delivered, who ends the socket.
use crate::peers::*;
use crate::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Connection, Limits, Role, WebsocketSession};

const CLOSE: u8 = 0x88;

/// The payload of a close frame.
fn code(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// Notes messages, pings, the peer's close frame, failures and `on_close` with its code.
fn noted_ws<P, R>(con: Connection<P, R>, transcript: &Transcript)
where
    P: WebsocketSession + for<'a> Protocol<Incoming<'a> = Data<'a>>,
    R: Role,
{
    noted_end(con, transcript);
    let t = transcript.clone();
    con.on_message(move |_, data| t.note(data));
    let t = transcript.clone();
    con.on_websocket_ping(move |_, _| t.note("ping"));
    let t = transcript.clone();
    con.on_websocket_close(move |con, code, reason| {
        t.note(format_args!("{} peer says {code} {reason:?}", con.status()));
    });
    let t = transcript.clone();
    con.on_close(move |con| t.note(format_args!("{} {:?}", con.status(), con.close_code())));
}

fn client_pair() -> (AsyncTcpConnection<Ws>, TcpStream, Transcript) {
    let (listener, addr) = small_listener();
    let con = client::<Ws>("ws", addr);
    let seen = Transcript::new();
    noted_ws(con, &seen);
    let peer = ws_dialed(con, &listener);
    (con, peer, seen)
}

fn server_pair() -> (TcpConnection<Websocket>, TcpStream, Transcript) {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    let (con, peer) = ws_accepted(worker, small_connect(listening(worker)));
    let seen = Transcript::new();
    noted_ws(con, &seen);
    (con, peer, seen)
}

/// Turns until the peer's next frame is there.
fn next_frame(peer: &mut TcpStream) -> (u8, Vec<u8>) {
    turn_until(|| arrived(peer));
    read_frame(peer)
}

/// Turns until the peer sees our end, with nothing before it.
#[track_caller]
fn expect_end(peer: &mut TcpStream) {
    turn_until(|| arrived(peer));
    assert_eq!(peer.read(&mut [0; 64]).expect("no reset"), 0, "bytes behind the farewell");
}

#[test]
fn close_sends_what_is_queued_then_the_farewell_then_ends() {
    // Of a client and of a server; the farewell of a WebSocket is a close frame with 1000.
    let (con, mut peer, seen) = client_pair();
    con.send("one");
    con.send("two");
    con.close();
    assert_eq!(con.status(), Status::Closing);
    assert_eq!(next_frame(&mut peer), (0x81, b"one".into()));
    assert_eq!(next_frame(&mut peer), (0x81, b"two".into()));
    assert_eq!(next_frame(&mut peer), (CLOSE, code(1000, "")));
    peer.write_all(&server_frame(CLOSE, &code(1000, ""))).expect("the answer");
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["CLOSED Some(1000)"]);

    let (con, mut peer, seen) = server_pair();
    con.close_with("last");
    assert_eq!(next_frame(&mut peer), (0x81, b"last".into()));
    assert_eq!(next_frame(&mut peer), (CLOSE, code(1000, "")));
    peer.write_all(&client_frame(CLOSE, &code(1000, ""))).expect("the answer");
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["CLOSED Some(1000)"]);
}

#[test]
fn nothing_is_delivered_after_close_also_not_what_is_read_already() {
    // No message, no ping; text printed after con.close() comes before what on_close prints.
    let (con, mut peer, seen) = server_pair();
    let t = seen.clone();
    con.on_message(move |con, data| {
        t.note(data);
        con.close();
        t.note("after close()");
    });
    let batch = [
        client_frame(0x81, b"one"),
        client_frame(0x89, b"ping"),
        client_frame(0x81, b"two"),
        client_frame(0x01, b"thr"),
    ];
    peer.write_all(&batch.concat()).expect("a batch");
    turn_until(|| !seen.lines().is_empty());
    peer.write_all(&client_frame(0x80, b"ee")).expect("the rest of a message");
    turn_for(Duration::from_millis(20));
    assert_eq!(next_frame(&mut peer), (CLOSE, code(1000, "")));
    // RFC 6455 §5.5.2: the pong of a ping is no data.
    assert_eq!(next_frame(&mut peer), (0x8a, b"ping".into()));
    peer.write_all(&client_frame(CLOSE, &code(1000, ""))).expect("the answer");
    expect_end(&mut peer);
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "after close()", "CLOSED Some(1000)"]);
}

#[test]
fn a_plain_protocol_delivers_nothing_after_close_either() {
    // The rest of the batch, and what arrives while it flushes and lingers, is discarded.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    noted_end(con, &seen);
    let t = seen.clone();
    con.on_message(move |con, line| {
        t.note(line);
        con.close_with("bye");
    });
    peer.write_all(b"one\ntwo\nthr").expect("a batch");
    turn_until(|| arrived(&peer));
    peer.write_all(b"ee\nfour\n").expect("more");
    assert_eq!(all_of(peer), b"bye\n");
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "close"]);
}

#[test]
fn close_websocket_says_its_code_and_reason_or_1000() {
    // Codes 1000 to 1014 as RFC 6455 allows or 3000 to 4999, a reason of at most 123 bytes; else a
    // log line, and 1000.
    let longest = "ü".repeat(61) + "x";
    let too_long = longest.clone() + "y";
    let fine = [(1000, "bye"), (1001, ""), (1011, "x"), (1014, "x"), (3000, "x"), (4999, &longest)];
    let wrong = [(0, "x"), (999, "x"), (1004, "x"), (1005, "x"), (1006, "x"), (1015, "x")];
    let further = [(1016, "x"), (2999, "x"), (5000, "x"), (65535, "x"), (3000, &too_long)];
    let said = |number, reason: &str| {
        let (con, mut peer, _) = server_pair();
        con.close_websocket(number, reason);
        next_frame(&mut peer)
    };
    for (number, reason) in fine {
        assert_eq!(said(number, reason), (CLOSE, code(number, reason)));
    }
    for (number, reason) in wrong.into_iter().chain(further) {
        let (first, payload) = said(number, reason);
        assert_eq!((first, &payload[..2]), (CLOSE, &code(1000, "")[..]), "for {number}");
    }
    let (con, mut peer, _) = client_pair();
    con.close_websocket(4000, "of a client");
    assert_eq!(next_frame(&mut peer), (CLOSE, code(4000, "of a client")));
}

#[test]
fn data_behind_our_close_frame_is_discarded() {
    // And does not hinder the peer's close frame from being found.
    let (con, mut peer, seen) = client_pair();
    con.close_websocket(3001, "ours");
    assert_eq!(next_frame(&mut peer).0, CLOSE);
    let late = [server_frame(0x81, b"late"), server_frame(0x89, b""), server_frame(0x01, b"la")];
    peer.write_all(&late.concat()).expect("late data");
    turn_for(Duration::from_millis(20));
    peer.write_all(&server_frame(CLOSE, &code(3002, "theirs"))).expect("the answer");
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["CLOSED Some(3002)"]);
}

#[test]
fn a_server_ends_the_socket_after_both_frames() {
    // Not before the client's frame has come, and without waiting for the client's end.
    let (con, mut peer, _) = server_pair();
    con.close();
    assert_eq!(next_frame(&mut peer).0, CLOSE);
    turn_for(Duration::from_millis(30));
    assert!(!arrived(&peer), "the socket ended before the client's close frame");
    peer.write_all(&client_frame(CLOSE, &code(1000, ""))).expect("the answer");
    let before = Instant::now();
    expect_end(&mut peer);
    assert!(before.elapsed() < Duration::from_millis(900));

    let (_, mut peer, _) = server_pair();
    peer.write_all(&client_frame(CLOSE, &code(1000, ""))).expect("a close frame");
    assert_eq!(next_frame(&mut peer).0, CLOSE);
    expect_end(&mut peer);
}

#[test]
fn a_client_waits_for_the_server_to_end_the_socket() {
    // Whoever sent its close frame first.
    for ours_first in [true, false] {
        let (con, mut peer, seen) = client_pair();
        if ours_first {
            con.close();
            assert_eq!(next_frame(&mut peer).0, CLOSE);
        }
        peer.write_all(&server_frame(CLOSE, &code(1000, ""))).expect("a close frame");
        if !ours_first {
            assert_eq!(next_frame(&mut peer).0, CLOSE);
        }
        turn_for(Duration::from_millis(30));
        assert_eq!(con.status(), Status::Closing);
        assert!(!arrived(&peer), "the client ended the socket");
        drop(peer);
        turn_until(|| con.id() == 0);
        assert!(seen.has("CLOSED Some(1000)"));
    }
}

#[test]
fn a_peer_that_never_answers_is_left_after_the_closing_deadline() {
    // Then the socket goes: 1006, and no on_error, since nothing of the program's is lost.
    let (con, mut peer, seen) = client_pair();
    con.set_limits(Limits::new().closing(0.2));
    con.send("last");
    con.close();
    let before = Instant::now();
    assert_eq!(next_frame(&mut peer), (0x81, b"last".into()));
    assert_eq!(next_frame(&mut peer).0, CLOSE);
    turn_until(|| con.id() == 0);
    assert!(before.elapsed() >= Duration::from_millis(190));
    seen.assert(&["CLOSED Some(1006)"]);
    expect_end(&mut peer);
}

#[test]
fn the_peers_time_begins_when_our_close_frame_has_left() {
    // Not with close(): what is queued may take longer, as long as bytes leave.
    let (con, mut peer, seen) = client_pair();
    con.set_limits(Limits::new().closing(0.4).send_buffer_bytes(64 << 20));
    stuff(con, 24 << 20, || con.send(vec![0; 1 << 20]));
    con.close();
    let before = Instant::now();
    let slow = thread::spawn(move || {
        while read_frame_fast(&mut peer) != CLOSE {
            thread::sleep(Duration::from_millis(40));
        }
        peer
    });
    turn_until(|| con.send_buffer_len() == 0);
    let left = Instant::now();
    assert!(left - before > Duration::from_millis(500), "the test was too fast to prove anything");
    turn_until(|| con.id() == 0);
    assert!(left.elapsed() >= Duration::from_millis(390));
    turned(slow);
    seen.assert(&["CLOSED Some(1006)"]);
}

/// Reads a client's frame without looking at it; its first byte.
fn read_frame_fast(peer: &mut TcpStream) -> u8 {
    let head = read_bytes(peer, 2);
    let length = match head[1] & 0x7f {
        127 => u64::from_be_bytes(read_bytes(peer, 8).try_into().expect("eight")) as usize,
        short => short as usize,
    };
    read_bytes(peer, 4 + length);
    head[0]
}

#[test]
fn the_peers_close_frame_is_answered_with_its_code() {
    // on_websocket_close(con, code, reason) inside Closing, then on_close, where close_code()
    // answers what the peer sent; what it sends there is Dropped.
    type Pair = (Vec<u8>, &'static str, &'static str, Vec<u8>);
    let cases: [Pair; 3] = [
        (code(3001, "bye"), "CLOSING peer says 3001 \"bye\"", "CLOSED Some(3001)", code(3001, "")),
        (code(1000, ""), "CLOSING peer says 1000 \"\"", "CLOSED Some(1000)", code(1000, "")),
        (vec![], "CLOSING peer says 1005 \"\"", "CLOSED Some(1005)", vec![]),
    ];
    for (theirs, says, closed, answer) in cases {
        let (con, mut peer, seen) = client_pair();
        con.send("before");
        peer.write_all(&server_frame(CLOSE, &theirs)).expect("a close frame");
        assert_eq!(next_frame(&mut peer), (0x81, b"before".into()));
        assert_eq!(next_frame(&mut peer), (CLOSE, answer.clone()));
        drop(peer);
        turn_until(|| con.id() == 0);
        seen.assert(&[says, closed]);

        let (con, mut peer, seen) = server_pair();
        let behind = client_frame(0x81, b"behind its own farewell");
        let frames = [client_frame(CLOSE, &theirs), behind].concat();
        peer.write_all(&frames).expect("a close frame");
        assert_eq!(next_frame(&mut peer), (CLOSE, answer));
        expect_end(&mut peer);
        drop(peer);
        turn_until(|| con.id() == 0);
        seen.assert(&[says, closed]);
    }
}

#[test]
fn without_a_close_frame_on_websocket_close_is_not_called() {
    // FIN, FIN inside a frame, reset: on_close alone, and close_code() is 1006.
    for last in [&b""[..], &[0x81, 0x05, b'h']] {
        let (con, mut peer, seen) = client_pair();
        peer.write_all(last).expect("part of a frame");
        drop(peer);
        turn_until(|| con.id() == 0);
        seen.assert(&["CLOSED Some(1006)"]);
    }
    let (con, peer, seen) = server_pair();
    reset(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["CLOSED Some(1006)"]);
}

#[test]
fn a_close_code_is_none_while_the_session_is_on() {
    // It answers in on_close.
    let (con, peer, _) = server_pair();
    assert_eq!(con.close_code(), None);
    drop(peer);
}

#[test]
fn close_twice_does_nothing_and_close_with_while_closing_drops() {
    // Also on a stale handle: nothing.
    let (con, mut peer, seen) = server_pair();
    con.close_websocket(3001, "first");
    con.close();
    con.close_websocket(3002, "second");
    con.close_with("dropped");
    con.end_with("dropped");
    assert_eq!(next_frame(&mut peer), (CLOSE, code(3001, "first")));
    peer.write_all(&client_frame(CLOSE, &code(3001, ""))).expect("the answer");
    expect_end(&mut peer);
    drop(peer);
    turn_until(|| con.id() == 0);
    con.close();
    con.destroy();
    con.close_with("dropped");
    turn_for(Duration::from_millis(10));
    seen.assert(&["CLOSED Some(3001)"]);
}

#[test]
fn destroy_ends_at_once_and_says_nothing_of_unsent_bytes() {
    // The socket is closed, on_close comes when the callback has returned, on_error does not; also
    // while Closing.
    for closing in [false, true] {
        let (con, mut peer, seen) = client_pair();
        let t = seen.clone();
        con.set_max_send_buffer_size(64 << 20);
        let sends = stuff(con, 4 << 20, || con.send(vec![0; 512 << 10]));
        if closing {
            con.close();
        }
        con.on_message(move |con, data| {
            t.note(data);
            con.destroy();
            t.note(format_args!("{} {:?}", con.status(), con.send("x")));
        });
        let t = seen.clone();
        match closing {
            false => peer.write_all(&server_frame(0x81, b"go")).expect("a frame"),
            true => {
                Timer::delay(Duration::ZERO, move || {
                    con.destroy();
                    t.note(format_args!("{} {:?}", con.status(), con.send("x")));
                });
            }
        }
        turn_until(|| con.id() == 0);
        let expected = ["go", "CLOSED Dropped", "CLOSED Some(1006)"];
        seen.assert(if closing { &expected[1..] } else { &expected });
        let got = turned(reader(peer)).map_or(0, |bytes| bytes.len());
        assert!(got < sends * (512 << 10), "what was unsent has left");
    }
}

#[test]
fn a_close_frame_right_before_a_reset_is_heard() {
    // What was read before the connection broke counts.
    let (con, mut peer, seen) = server_pair();
    con.close();
    turn_until(|| arrived(&peer));
    peer.write_all(&client_frame(CLOSE, &code(3001, ""))).expect("the answer");
    // Closed over our unread close frame: a reset.
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["CLOSED Some(3001)"]);
}
