//! Reconnect, and what it keeps; `cancelling.rs` takes it back, `handles.rs` has the ends of
//! handles, upgrades and pipes.
use crate::support::peers::{
    Peer, black_hole, error_line, read_to_end, refusing, start, tcp_client, watch, ws_client,
};
use crate::support::*;
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Context, Dial, Input, Limits, Violation};

/// A server of lines that counts who came.
pub(super) fn counting() -> (Worker<Text>, String, Rc<Cell<usize>>) {
    let (worker, addr) = start::<Text>();
    let accepted = Rc::new(Cell::new(0));
    let count = accepted.clone();
    worker.on_connect(move |_| count.set(count.get() + 1));
    (worker, format!("tcp://{addr}"), accepted)
}

/// A client whose `on_close` calls `f` the first time.
pub(super) fn closing_once(
    address: &str,
    t: &Transcript,
    mut f: impl FnMut(AsyncTcpConnection) + 'static,
) -> AsyncTcpConnection {
    let con = tcp_client(address, t);
    let (at, mut first) = (t.clone(), true);
    con.on_close(move |con| {
        at.note(format!("close {}", con.status()));
        if std::mem::take(&mut first) {
            f(con);
            at.note(con.status());
        }
    });
    con.on_connect({
        let (at, mut first) = (t.clone(), true);
        move |con| {
            at.note("connect");
            if std::mem::take(&mut first) {
                con.destroy();
            }
        }
    });
    con
}

#[test]
fn reconnect_keeps_handle_id_callbacks_user_data_and_counters() {
    // In `on_close` or `on_error`: same handle, id, callbacks, settings, user data, counters.
    let peer = Peer::listening(|listener| {
        for _ in 0..2 {
            let mut stream = raw_accept(&listener);
            stream.write_all(b"12345").expect("bytes");
            assert_eq!(read_bytes(&mut stream, 3), b"abc");
        }
    });
    let t = Transcript::new();
    let con = tcp_client(&peer.tcp(), &t);
    con.set(String::from("mine"));
    let at = t.clone();
    con.on_message(move |con, data| {
        at.note(format!("message {data} on {}", con.id()));
        con.send("abc");
    });
    let at = t.clone();
    con.on_close(move |closing| {
        assert_eq!(closing, con);
        let (read, written) = (con.bytes_read(), con.bytes_written());
        at.note(format!("{read} {written} {:?}", con.get::<String>()));
        if read == 5 {
            con.set(String::from("still mine"));
            con.reconnect(0);
        }
    });
    con.connect();
    turn_until(|| t.has("10 6 Some(\"still mine\")"));
    t.assert(&[
        "connect ESTABLISHED",
        "message 12345 on 1",
        "5 3 Some(\"mine\")",
        "connect ESTABLISHED",
        "message 12345 on 1",
        "10 6 Some(\"still mine\")",
    ]);
}

#[test]
fn reconnect_inside_on_error_keeps_everything_too() {
    // In `on_error`: same handle, id, callbacks, user data.
    let (held, addr) = refusing();
    let t = Transcript::new();
    let con = tcp_client(&format!("tcp://{addr}"), &t);
    con.set(7u8);
    let at = t.clone();
    con.on_error(move |con, code, failure| {
        at.note(error_line(con, code, failure));
        con.reconnect(0.02);
        at.note(con.status());
    });
    con.connect();
    turn_until(|| t.has("INITIAL"));
    held.listen(8).expect("now somebody listens");
    turn_until(|| t.has("connect ESTABLISHED"));
    assert_eq!((con.id(), con.get::<u8>()), (1, Some(7)));
    let lines = t.lines();
    assert_eq!(lines[..2], ["error 1 Refused Connect CLOSING", "INITIAL"]);
    assert!(!t.has("close CLOSED"));
}

#[test]
fn the_settings_of_a_websocket_survive_and_its_protocol_begins_afresh() {
    // Fresh protocol state; headers, type, limits and origin stay: a message that the first session
    // left half done does not meet the second's.
    let (tell, told) = mpsc::channel();
    let peer = Peer::listening(move |listener| {
        for _ in 0..2 {
            let mut stream = raw_accept(&listener);
            tell.send(raw_handshake(&mut stream)).expect("the test waits");
            stream.write_all(&server_frame(0x81, b"whole")).expect("a message");
            stream.write_all(&server_frame(0x01, b"half")).expect("a fragment");
            assert_eq!(read_frame(&mut stream), (0x82, b"text".to_vec()));
            stream.write_all(b"\x81\x05he").expect("part of what may not come here");
        }
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    con.set_headers([("X-One", "1"), ("Cookie", "a=b")]).expect("headers");
    con.set_websocket_origin("https://example.com").expect("an origin");
    con.set_websocket_type(Ws::BINARY_TYPE_ARRAYBUFFER);
    con.set_max_package_size(77);
    let at = t.clone();
    con.on_message(move |con, data| {
        at.note(format!("message {data}"));
        con.send("text");
    });
    let at = t.clone();
    con.on_error(move |_, _, failure| at.note(failure));
    let (at, mut left) = (t.clone(), 1);
    con.on_close(move |con| {
        if left > 0 {
            left -= 1;
            con.reconnect(0);
        }
        at.note(format!("close {:?}", con.close_code()));
    });
    con.connect();
    turn_until(|| t.count("close Some(1006)") + t.count("close Some(1002)") == 2);
    let session = ["connect ESTABLISHED", "open 101", "message whole"];
    let lines = t.lines();
    assert_eq!(
        (&lines[..3], &lines[5..8]),
        (&session.map(String::from)[..], &session.map(String::from)[..])
    );
    assert_eq!(con.max_package_size(), 0, "the handle has ended");
    let heads: Vec<String> = told.iter().collect();
    let without_key = |head: &String| {
        let lines = head.lines().filter(|line| !line.starts_with("Sec-WebSocket-Key"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_key(&heads[0]), without_key(&heads[1]));
    assert_ne!(heads[0], heads[1], "each session has a key of its own");
    for line in ["X-One: 1\r\nCookie: a=b\r\n", "Origin: https://example.com\r\n"] {
        assert!(heads[1].contains(line), "{}", heads[1]);
    }
}

#[test]
fn what_is_set_after_an_early_send_still_reaches_the_next_opening() {
    // Headers hold from the next opening on, also when something was sent ahead of it.
    let (tell, told) = mpsc::channel();
    let peer = Peer::with_one(move |mut stream| {
        tell.send(raw_handshake(&mut stream)).expect("the test waits");
        assert_eq!(read_frame(&mut stream), (0x81, b"early".to_vec()));
    });
    let t = Transcript::new();
    let con = ws_client(&peer.ws(), &t);
    assert_eq!(con.send("early"), Sent::Buffered);
    con.set_headers([("X-Late", "1")]).expect("headers");
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    let head = told.recv().expect("the head");
    assert!(head.contains("X-Late: 1\r\n"), "{head}");
}

#[test]
fn an_idle_limit_survives_and_is_still_reset_by_bytes() {
    // Settings survive: the idle limit of a later session judges by what that session received.
    let peer = Peer::listening(|listener| {
        drop(raw_accept(&listener));
        let mut stream = raw_accept(&listener);
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(60));
            stream.write_all(b".").expect("it is still open");
        }
        // Silent now: the limit ends it.
        assert_eq!(read_to_end(&mut stream), b"");
    });
    let t = Transcript::new();
    let con = tcp_client(&peer.tcp(), &t);
    con.set_limits(Limits::new().idle(0.3));
    let (at, mut left) = (t.clone(), 1);
    con.on_close(move |con| {
        at.note("close");
        if left > 0 {
            left -= 1;
            con.reconnect(0);
        }
    });
    con.connect();
    turn_until(|| t.count("close") == 2);
    assert_eq!(t.count("message ."), 8);
}

#[test]
fn the_opening_deadline_of_a_reconnect_begins_with_its_own_dial() {
    // One deadline for each opening: a session that lived longer than it, and a handle that waited
    // longer than it, dial as well as the first.
    let (_worker, address, accepted) = counting();
    let t = Transcript::new();
    let con = tcp_client(&address, &t);
    con.set_limits(Limits::new().opening(0.1));
    turn_for(Duration::from_millis(150));
    let (at, mut left) = (t.clone(), 2);
    con.on_close(move |con| {
        at.note("close");
        left -= 1;
        if left > 0 {
            con.reconnect(0);
            con.set_limits(Limits::new().opening(0.1));
        }
    });
    con.connect();
    turn_until(|| accepted.get() == 1 && t.has("connect ESTABLISHED"));
    turn_for(Duration::from_millis(150));
    con.destroy();
    turn_until(|| t.count("close") == 1);
    turn_until(|| t.lines().len() == 3);
    con.destroy();
    turn_until(|| t.count("close") == 2);
    t.assert(&["connect ESTABLISHED", "close", "connect ESTABLISHED", "close"]);
}

/// Numbers its messages from 0 in each session.
#[derive(Default)]
struct Numbered(u8);

impl Protocol for Numbered {
    const NAME: &'static str = "numbered";
    type Incoming<'a> = &'a [u8];
    type Outgoing<'a> = u8;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        Ok(Input::Package(buffer.len()))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a [u8]>, Violation> {
        Ok(Some(package))
    }

    fn encode(&mut self, byte: u8, out: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        out.extend_from_slice(&[self.0, byte]);
        self.0 += 1;
        Ok(())
    }
}

impl Dial for Numbered {}

#[test]
fn what_a_failed_opening_was_to_send_leaves_no_trace_in_the_next() {
    // Fresh protocol state: what was encoded ahead for an opening that failed is dropped with it,
    // and so is the protocol value that encoded it.
    let (held, addr) = refusing();
    let t = Transcript::new();
    let con = AsyncTcpConnection::<Numbered>::new(&format!("numbered://{addr}")).expect("client");
    watch(con, &t);
    let at = t.clone();
    con.on_error(move |con, _, failure| {
        at.note(format!("{} dropped", failure.dropped()));
        con.reconnect(0.01);
    });
    assert_eq!((con.send(b'a'), con.send(b'b')), (Sent::Buffered, Sent::Buffered));
    con.connect();
    turn_until(|| t.has("2 dropped"));
    held.listen(8).expect("now somebody listens");
    con.send(b'c');
    turn_until(|| t.has("connect ESTABLISHED"));
    con.send(b'd');
    let (mut stream, _) =
        held.accept().map(|(s, a)| (std::net::TcpStream::from(s), a)).expect("it");
    turn_for(Duration::from_millis(5));
    assert_eq!(read_bytes(&mut stream, 4), [0, b'c', 1, b'd']);
}

#[test]
fn reconnect_0_never_dials_in_the_turn_that_asked() {
    // `reconnect(0)` dials in the next turn, never in this one.
    let t = Transcript::new();
    let con = tcp_client("unix:///nowhere/at/all.sock", &t);
    let (at, mut left) = (t.clone(), 3);
    con.on_close(move |con| {
        at.note("close");
        if left > 0 {
            left -= 1;
            con.reconnect(0);
        }
    });
    con.connect();
    // A dial of this kind fails at once: each turn brings one attempt at most.
    let mut turns = 0;
    while t.count("close") < 4 {
        let before = t.count("close");
        Worker::turn(1).expect("a turn");
        turns += 1;
        assert!(t.count("close") <= before + 1, "two attempts in a turn: {:?}", t.lines());
        assert!(turns < 100);
    }
    assert!(turns >= 4);
}

#[test]
fn of_several_reconnects_before_the_dial_the_last_wins() {
    // Called again before it dials: the last call wins; none of those it replaces has an
    // `on_close`.
    let soon = Duration::from_millis(80);
    for delays in [&[5.0, 0.08][..], &[0.0, 0.08], &[0.01, 0.08], &[5.0, 0.0], &[0.08, 0.0, 0.08]] {
        for inside in [false, true] {
            let (_worker, address, accepted) = counting();
            let t = Transcript::new();
            let asked = Rc::new(Cell::new(Instant::now()));
            let at = asked.clone();
            let again = move |con: AsyncTcpConnection| {
                at.set(Instant::now());
                delays.iter().for_each(|&delay| con.reconnect(delay));
            };
            let sessions = if inside {
                closing_once(&address, &t, again).connect();
                2
            } else {
                again(tcp_client(&address, &t));
                1
            };
            turn_until(|| accepted.get() == sessions);
            let waited = asked.get().elapsed();
            assert!(delays.last() == Some(&0.0) || waited >= soon, "{delays:?}: {waited:?}");
            turn_for(Duration::from_millis(30));
            assert_eq!(accepted.get(), sessions, "{delays:?}");
            assert_eq!(t.count("close CLOSED"), sessions - 1, "{delays:?}: {:?}", t.lines());
        }
    }
}

#[test]
fn what_is_sent_between_two_reconnects_stays_for_the_session_to_come() {
    // What is sent after `reconnect` was called, also within `on_close`, belongs to the next
    // session; a second call only moves the dial.
    let peer = Peer::listening(|listener| {
        drop(raw_accept(&listener));
        assert_eq!(read_to_end(&mut raw_accept(&listener)), b"ab");
    });
    let t = Transcript::new();
    let con = closing_once(&peer.tcp(), &t, |con| {
        con.reconnect(0);
        assert_eq!(con.send("a"), Sent::Buffered);
        con.reconnect(0.01);
        assert_eq!(con.send("b"), Sent::Buffered);
    });
    con.connect();
    turn_until(|| t.count("connect") == 2);
    con.close();
    turn_until(|| t.count("close CLOSED") == 2);
}

#[test]
fn reconnect_on_an_open_connection_closes_first_and_the_one_in_its_on_close_wins() {
    // `reconnect` on an open connection: close, `on_close`, then dial after the delay; a
    // `reconnect` in that `on_close` wins.
    for (outer, inner) in [(0.0, None), (0.0, Some(0.1)), (5.0, Some(0.0))] {
        let (_worker, address, accepted) = counting();
        let t = Transcript::new();
        let con = tcp_client(&address, &t);
        let at = t.clone();
        con.on_close(move |con| {
            at.note("close");
            if let Some(inner) = inner {
                con.reconnect(inner);
            }
        });
        con.connect();
        turn_until(|| t.has("connect ESTABLISHED") && accepted.get() == 1);
        con.reconnect(outer);
        turn_until(|| t.has("close"));
        let closed = Instant::now();
        turn_until(|| accepted.get() == 2);
        turn_until(|| t.count("connect ESTABLISHED") == 2);
        t.assert(&["connect ESTABLISHED", "close", "connect ESTABLISHED"]);
        let least = Duration::from_secs_f64(inner.unwrap_or(outer) * 0.9);
        assert!(closed.elapsed() >= least, "{outer} {inner:?}: {:?}", closed.elapsed());
    }
}

#[test]
fn reconnect_on_an_opening_connection_is_a_close_then_a_dial() {
    // `reconnect` on an opening connection: close, `on_close`, then dial after the delay; also
    // where `connect` has not dialled yet.
    let (_held, addr) = black_hole();
    for under_way in [false, true] {
        let t = Transcript::new();
        let con = tcp_client(&format!("tcp://{addr}"), &t);
        con.connect();
        if under_way {
            turn_for(Duration::from_millis(10));
        }
        con.reconnect(0.05);
        turn_until(|| t.has("close CLOSED"));
        assert_eq!(con.status(), Status::Initial);
        turn_until(|| con.status() == Status::Connecting);
        t.assert(&["close CLOSED"]);
        con.destroy();
        turn_until(|| t.count("close CLOSED") == 2);
    }
}

#[test]
fn while_the_worker_stops_a_reconnect_has_no_effect() {
    // While the worker stops: no effect, and the run ends in time.
    let (_worker, address, accepted) = counting();
    let t = Transcript::new();
    let con = tcp_client(&address, &t);
    let at = t.clone();
    con.on_close(move |con| {
        at.note("close");
        con.reconnect(0);
        con.connect();
        at.note(con.status());
    });
    let waiting = tcp_client(&address, &t);
    waiting.reconnect(5);
    con.connect();
    turn_until(|| t.has("connect ESTABLISHED") && accepted.get() == 1);
    Worker::stop_all();
    let asked = Instant::now();
    while Worker::turn(1).expect("a turn") {}
    assert!(asked.elapsed() < Duration::from_secs(5));
    t.assert(&["connect ESTABLISHED", "close", "CLOSED"]);
    assert_eq!((con.id(), waiting.id(), accepted.get()), (0, 0, 1));
}

#[test]
fn negative_and_nan_delays_count_as_0() {
    // Negative and NaN delays count as 0.
    for delay in [-1.0, f64::NAN, f64::NEG_INFINITY, -0.0] {
        let (_worker, address, accepted) = counting();
        let t = Transcript::new();
        let con = tcp_client(&address, &t);
        con.reconnect(delay);
        assert_eq!(con.status(), Status::Connecting, "{delay}");
        turn_until(|| accepted.get() == 1);
    }
}
