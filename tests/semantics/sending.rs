//! What `send` answers, and what becomes of the bytes.
use crate::peers::*;
use crate::support::*;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Context, Dial, FailureKind, Input, Payload, Violation, WebsocketType};

/// Notes what the messages of each drop report were.
fn reports<P: Protocol, R: workerman::Role>(con: workerman::Connection<P, R>, t: &Transcript) {
    let t = t.clone();
    con.on_error(move |_, code, failure| {
        t.note(format_args!("{code:?} {:?} {}", failure.kind(), failure.dropped()));
    });
}

#[test]
fn established_is_flushed_and_leaves_with_the_turn() {
    // Established, no write has met a full socket: Flushed, and it leaves at the end of this
    // connection's part of the turn at the latest; send_buffer_len counts it until then.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_message(move |con, line| {
        t.note(format_args!("{:?} {}", con.send(line), con.send_buffer_len()));
    });
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    peer.write_all(b"one\ntwo\n").expect("the lines");
    turn_until(|| seen.lines().len() == 2);
    // No further turn: they have left.
    assert_eq!(read_bytes(&mut peer, 8), b"one\ntwo\n");
    assert_eq!(con.send_buffer_len(), 0);
    seen.assert(&["Flushed 4", "Flushed 8"]);
}

#[test]
fn when_64_kib_wait_they_leave_at_once() {
    // Small messages pile up to 64 KiB in a callback, then they are written without its end.
    let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
    let most = Rc::new(Cell::new(0));
    let m = most.clone();
    worker.on_message(move |con, _| {
        for _ in 0..200 {
            assert_eq!(con.send([b'.'; 1000]), Sent::Flushed);
            m.set(m.get().max(con.send_buffer_len()));
        }
        assert!(con.bytes_written() >= 64 << 10, "nothing left inside the callback");
        con.close();
    });
    let (_, mut peer) = accepted(worker, raw_connect(listening(worker)));
    peer.write_all(b"go").expect("a byte");
    assert_eq!(all_of(peer).len(), 200_000);
    assert!((60 << 10..64 << 10).contains(&most.get()), "{} waited", most.get());
}

#[test]
fn behind_a_full_socket_it_is_buffered() {
    // Established, a write met a full socket and bytes still wait: Buffered, queued behind them.
    let (listener, addr) = small_listener();
    let con = client::<Tcp>("tcp", addr);
    let peer = dialed(con, &listener);
    let sends = fill(|| con.send([b'.'; 16 << 10]));
    assert_eq!(con.send("last"), Sent::Buffered);
    assert!(con.send_buffer_len() > 4);
    con.close();
    let all = all_of(peer);
    assert_eq!(all.len(), sends * (16 << 10) + 4);
    assert!(all.ends_with(b"last"));
}

#[test]
fn before_the_handshake_is_complete_it_is_buffered_and_goes_first() {
    // Initial, Connecting, handshake not complete: Buffered; sent after the handshake, in order,
    // before anything sent in on_websocket_connect or later.
    let (listener, addr) = raw_listener();
    let con = client::<Ws>("ws", addr);
    con.on_connect(|con| assert_eq!(con.send("4 in on_connect"), Sent::Buffered));
    con.on_websocket_connect(|con, _| assert_eq!(con.send("6 opened"), Sent::Flushed));
    assert_eq!(con.send("1 initial"), Sent::Buffered);
    con.connect();
    assert_eq!(con.status(), Status::Connecting);
    assert_eq!(con.send("2 connecting"), Sent::Buffered);
    assert_eq!(con.send_raw(&[]), Sent::Buffered);
    Worker::turn(Duration::ZERO).expect("a turn");
    assert_eq!(con.send("3 on the way"), Sent::Buffered);
    turn_until(|| con.status() == Status::Established);
    assert_eq!(con.send("5 no 101 yet"), Sent::Buffered);
    let mut peer = raw_accept(&listener);
    raw_handshake(&mut peer);
    turn_until(|| con.bytes_read() > 0);
    assert_eq!(con.send("7 later"), Sent::Flushed);
    con.flush();
    let order = ["1 initial", "2 connecting", "3 on the way", "4 in on_connect"];
    for text in order.into_iter().chain(["5 no 101 yet", "6 opened", "7 later"]) {
        assert_eq!(read_frame(&mut peer), (0x81, text.into()));
    }
}

#[test]
fn a_servers_messages_wait_for_its_101() {
    // Handshake not complete, on the accepting side: Buffered, and the 101 is first.
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    worker.on_connect(|con| assert_eq!(con.send("1"), Sent::Buffered));
    worker.on_websocket_connect(|con, _| assert_eq!(con.send("2"), Sent::Buffered));
    worker.on_websocket_connected(|con, _| assert_eq!(con.send("3"), Sent::Flushed));
    let (_, mut peer) = ws_accepted(worker, raw_connect(listening(worker)));
    for text in ["1", "2", "3"] {
        assert_eq!(read_frame(&mut peer), (0x81, text.into()));
    }
}

#[test]
fn what_waits_for_a_refused_handshake_does_not_delay_the_end() {
    // A message queued for a session that never opens is dropped with it, at once.
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_connect(move |con| {
        noted_end(con, &t);
        con.send("never");
    });
    worker.on_websocket_connect(|con, _| con.close());
    let addr = listening(worker);
    let mut peer = raw_connect(addr);
    peer.write_all(UPGRADE.as_bytes()).expect("the request");
    let before = std::time::Instant::now();
    assert!(all_of(peer).starts_with(b"HTTP/1.1 403 "));
    turn_until(|| seen.has("close"));
    assert!(before.elapsed() < Duration::from_secs(3), "it waited for bytes that cannot leave");
    seen.assert(&["close"]);
}

#[test]
fn after_reconnect_on_an_open_connection_it_is_for_the_next_session() {
    // Buffered, for the next session; the one that ends neither sends it nor waits for it.
    let (listener, addr) = raw_listener();
    let con = client::<Ws>("ws", addr);
    let seen = Transcript::new();
    noted(con, &seen);
    let mut first = ws_dialed(con, &listener);
    assert_eq!(con.send("old"), Sent::Flushed);
    con.reconnect(0);
    assert_eq!(con.send("new"), Sent::Buffered);
    assert_eq!(con.status(), Status::Closing);
    turn_until(|| arrived(&first));
    assert_eq!(read_frame(&mut first), (0x81, b"old".into()));
    assert_eq!(read_frame(&mut first), (0x88, vec![0x03, 0xe8]));
    first.write_all(&server_frame(0x88, &[0x03, 0xe8])).expect("the answer");
    drop(first);
    let before = std::time::Instant::now();
    turn_until(|| con.status() == Status::Established);
    assert!(before.elapsed() < Duration::from_secs(3), "what is for the next delayed the end");
    let mut second = raw_accept(&listener);
    raw_handshake(&mut second);
    turn_until(|| arrived(&second));
    assert_eq!(read_frame(&mut second), (0x81, b"new".into()));
    seen.assert(&["connect", "close", "connect"]);
}

#[test]
fn close_after_reconnect_cancels_it_and_drops_what_was_sent() {
    // After reconnect on an open connection close() cancels the reconnect, and the handle ends.
    let (listener, addr) = raw_listener();
    let con = client::<Tcp>("tcp", addr);
    let seen = Transcript::new();
    noted(con, &seen);
    let peer = dialed(con, &listener);
    con.reconnect(0);
    assert_eq!(con.send("never"), Sent::Buffered);
    con.close();
    assert_eq!(con.send("nor this"), Sent::Dropped);
    assert_eq!(all_of(peer), b"");
    turn_until(|| con.id() == 0);
    seen.assert(&["connect", "close"]);
    listener.set_nonblocking(true).expect("an option");
    assert!(listener.accept().is_err(), "it dialled again");
}

#[test]
fn closing_closed_and_stale_drop_without_a_word() {
    // Closing, Closed, stale handle: Dropped, and nothing is reported.
    let (listener, addr) = raw_listener();
    let con = client::<Tcp>("tcp", addr);
    let seen = Transcript::new();
    noted(con, &seen);
    let t = seen.clone();
    con.on_close(move |con| t.note(format_args!("{} {:?}", con.status(), con.send("x"))));
    let peer = dialed(con, &listener);
    con.close();
    assert_eq!((con.status(), con.send("x")), (Status::Closing, Sent::Dropped));
    assert_eq!(all_of(peer), b"");
    turn_until(|| con.id() == 0);
    assert_eq!((con.status(), con.send("x")), (Status::Closed, Sent::Dropped));
    assert_eq!(con.send_raw(b"x"), Sent::Dropped);
    turn_for(Duration::from_millis(20));
    seen.assert(&["connect", "CLOSED Dropped"]);
}

#[test]
fn a_thousand_drops_are_one_report_a_turn() {
    // Waiting bytes at the limit: Dropped; one report a turn, after the callback that met the
    // first; later ones of that turn are counted in the next report.
    let (listener, addr) = small_listener();
    let con = client::<Tcp>("tcp", addr);
    let seen = Transcript::new();
    let _peer = dialed(con, &listener);
    stuff(con, 10 << 10, || con.send(vec![b'.'; 512 << 10]));
    con.set_max_send_buffer_size(1);
    let t = seen.clone();
    con.on_error(move |_, code, failure| {
        assert!(failure.to_string().starts_with("send buffer full and drop package"));
        t.note(format_args!("{code:?} {:?} {}", failure.kind(), failure.dropped()));
    });
    for (round, drops) in [(1, 1000), (2, 1), (3, 10)] {
        let t = seen.clone();
        // All three timers are of one turn.
        Timer::delay(Duration::ZERO, move || {
            for _ in 0..drops {
                assert_eq!(con.send("x"), Sent::Dropped);
            }
            t.note(format_args!("round {round}"));
        });
    }
    turn_until(|| seen.lines().len() == 5);
    turn_for(Duration::from_millis(20));
    seen.assert(&[
        "round 1",
        "SendFail BufferFull 1000",
        "round 2",
        "round 3",
        "SendFail BufferFull 11",
    ]);
}

#[test]
fn a_drop_inside_on_error_is_not_reported_in_that_turn() {
    // It is counted in the next turn's report, so that nothing spins inside one turn.
    let (listener, addr) = small_listener();
    let con = client::<Tcp>("tcp", addr);
    let seen = Transcript::new();
    let _peer = dialed(con, &listener);
    stuff(con, 10 << 10, || con.send(vec![b'.'; 512 << 10]));
    con.set_max_send_buffer_size(1);
    let t = seen.clone();
    con.on_error(move |con, _, failure| {
        t.note(failure.dropped());
        if t.lines().len() < 3 {
            con.send("x");
            con.send("y");
        }
    });
    Timer::delay(Duration::ZERO, move || assert_eq!(con.send("first"), Sent::Dropped));
    turn_until(|| seen.has("1"));
    seen.assert(&["1"]);
    Worker::turn(Duration::ZERO).expect("a turn");
    seen.assert(&["1", "2"]);
    turn_for(Duration::from_millis(20));
    seen.assert(&["1", "2", "2"]);
}

#[test]
fn a_message_that_cannot_be_encoded_is_dropped_and_told() {
    // Text that is not UTF-8 under BINARY_TYPE_BLOB: Dropped, on_error(SendFail) says what, and
    // the session goes on.
    let (listener, addr) = raw_listener();
    let con = client::<Ws>("ws", addr);
    let seen = Transcript::new();
    let mut peer = ws_dialed(con, &listener);
    let t = seen.clone();
    con.on_error(move |con, code, failure| {
        assert!(failure.to_string().contains("UTF-8"), "{failure}");
        assert_eq!(failure.kind(), FailureKind::Encode);
        t.note(format_args!("{code:?} {} {}", failure.dropped(), con.status()));
    });
    con.set_websocket_type(Ws::BINARY_TYPE_BLOB);
    let (short, long) = ([0xff; 4], [0xff; 20_000]);
    assert_eq!(con.send(short), Sent::Dropped);
    assert_eq!(con.send(long), Sent::Dropped);
    assert_eq!(con.send("fine"), Sent::Flushed);
    turn_until(|| seen.lines().len() == 1);
    assert_eq!(read_frame(&mut peer), (0x81, b"fine".into()));
    seen.assert(&["SendFail 2 ESTABLISHED"]);
}

#[test]
fn below_the_limit_a_message_is_taken_whole_however_large() {
    // Taken whole or not at all.
    let (listener, addr) = small_listener();
    let con = client::<Frame>("frame", addr);
    let seen = Transcript::new();
    reports(con, &seen);
    let peer = dialed(con, &listener);
    con.set_max_send_buffer_size(1000);
    let large = vec![b'x'; 32 << 20];
    assert_eq!(con.send(&large), Sent::Buffered);
    assert_eq!(con.send("not at all"), Sent::Dropped);
    let reading = reader(peer);
    turn_until(|| con.send_buffer_len() == 0);
    con.close();
    let all = turned(reading).expect("no reset");
    assert_eq!(all.len(), 4 + large.len());
    assert!(all[4..] == large);
    seen.assert(&["SendFail BufferFull 1"]);
}

/// Numbers its messages, session by session.
struct Numbered {
    made: u32,
    sent: u32,
    seen: Transcript,
}

impl Protocol for Numbered {
    const NAME: &'static str = "numbered";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        Ok(if buffer.is_empty() { Input::Partial } else { Input::Package(buffer.len()) })
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        Ok(Some(Data::Binary(package)))
    }

    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        self.sent += 1;
        let text = String::from_utf8_lossy(message.as_bytes()).into_owned();
        self.seen.note(format_args!("encode {text}"));
        writeln!(out, "{}.{} {text}", self.made, self.sent).map_err(Violation::from)
    }

    fn on_connect(&mut self, _: &mut Context) {
        self.seen.note(format_args!("stands {}", self.made));
    }
}

impl Dial for Numbered {}

fn numbered(addr: std::net::SocketAddr, seen: &Transcript) -> AsyncTcpConnection<Numbered> {
    let (t, count) = (seen.clone(), Cell::new(0));
    AsyncTcpConnection::new_with(&format!("tcp://{addr}"), move || {
        count.set(count.get() + 1);
        t.note(format_args!("make {}", count.get()));
        Numbered { made: count.get(), sent: 0, seen: t.clone() }
    })
    .expect("a client")
}

#[test]
fn what_is_sent_ahead_is_encoded_at_once_by_the_session_to_come() {
    // `make` is called for it then, and its on_connect comes later.
    let (listener, addr) = raw_listener();
    let seen = Transcript::new();
    let con = numbered(addr, &seen);
    con.send("a");
    con.send("b");
    seen.note("connect()");
    let mut peer = dialed(con, &listener);
    con.send("c");
    con.flush();
    assert_eq!(read_bytes(&mut peer, 18), b"1.1 a\n1.2 b\n1.3 c\n");
    seen.assert(&["make 1", "encode a", "encode b", "connect()", "stands 1", "encode c"]);
}

#[test]
fn a_failed_opening_drops_its_queue_and_counts_it() {
    // failure.dropped() counts what was queued; the value that encoded it goes, too: the next
    // session begins with a fresh one, and what is sent after reconnect() belongs to it.
    let (listener, addr) = raw_listener();
    drop(listener);
    let seen = Transcript::new();
    let con = numbered(addr, &seen);
    let t = seen.clone();
    con.on_error(move |con, code, failure| {
        t.note(format_args!("{code:?} {}", failure.dropped()));
        assert_eq!(con.send("no"), Sent::Dropped);
        con.reconnect(0);
        assert_eq!(con.send("yes"), Sent::Buffered);
    });
    con.send("a");
    con.send("b");
    con.connect();
    turn_until(|| seen.has("ConnectFail 2"));
    let again = std::net::TcpListener::bind(addr).expect("the port is free still");
    turn_until(|| con.status() == Status::Established);
    let mut peer = raw_accept(&again);
    let lines = seen.lines();
    assert_eq!(
        lines[..6],
        ["make 1", "encode a", "encode b", "ConnectFail 2", "make 2", "encode yes"]
    );
    let made = lines.iter().filter(|line| line.starts_with("make")).count();
    let expected = format!("{made}.1 yes\n");
    assert_eq!(read_bytes(&mut peer, expected.len()), expected.as_bytes());
}

#[test]
fn nothing_of_one_session_reaches_the_next() {
    // Unsent bytes end with their session; what is sent after `reconnect` was called, also within
    // on_close, belongs to the next.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted(con, &seen);
    let t = seen.clone();
    con.on_close(move |con| {
        let before = con.send("before");
        con.reconnect(0);
        t.note(format_args!("{before:?} {:?}", con.send("after")));
    });
    let peer = dialed(con, &listener);
    fill(|| con.send("x".repeat(100 << 10)));
    con.send("half");
    reset(peer);
    turn_until(|| seen.lines().len() == 4);
    let mut peer = raw_accept(&listener);
    turn_until(|| arrived(&peer));
    con.send("then");
    con.flush();
    assert_eq!(read_bytes(&mut peer, 11), b"after\nthen\n");
    seen.assert(&["connect", "SendFail Reset", "Dropped Buffered", "connect"]);
}

#[test]
fn outside_a_turn_it_leaves_at_the_next_ones_start_or_with_flush() {
    // Before that nothing is written; flush() writes now.
    let (listener, addr) = raw_listener();
    let con = client::<Text>("text", addr);
    let mut peer = dialed(con, &listener);
    assert_eq!((con.send("one"), con.send_buffer_len()), (Sent::Flushed, 4));
    assert_eq!(con.bytes_written(), 0);
    con.flush();
    assert_eq!((con.bytes_written(), con.send_buffer_len()), (4, 0));
    assert_eq!(read_bytes(&mut peer, 4), b"one\n");
    con.send("two");
    assert!(!arrived(&peer));
    Worker::turn(Duration::ZERO).expect("a turn");
    assert_eq!(read_bytes(&mut peer, 4), b"two\n");
}

#[test]
fn writes_to_another_connection_leave_in_this_turn() {
    // It stands on a dirty list that is flushed before the next poll.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_message(move |con, line| {
        for other in worker.connections().into_iter().filter(|other| *other != con) {
            assert_eq!(other.send(line), Sent::Flushed);
        }
        t.note("sent");
    });
    let addr = listening(worker);
    let (_, mut one) = accepted(worker, raw_connect(addr));
    let (_, mut two) = accepted(worker, raw_connect(addr));
    one.write_all(b"from one\n").expect("a line");
    turn_until(|| seen.has("sent"));
    assert_eq!(read_bytes(&mut two, 9), b"from one\n");
    two.write_all(b"from two\n").expect("a line");
    turn_until(|| seen.count("sent") == 2);
    assert_eq!(read_bytes(&mut one, 9), b"from two\n");
}

#[test]
fn that_the_peer_is_gone_is_told_later() {
    // Never found inside send: on_error(SendFail, "client closed"), on_close come after it.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    let t = seen.clone();
    con.on_error(move |_, code, failure| {
        assert!(failure.to_string().contains("client closed"), "{failure}");
        t.note(format_args!("{code:?}"));
    });
    // It does not read, so only a write can find out.
    con.pause_recv();
    reset(peer);
    let t = seen.clone();
    Timer::delay(Duration::from_millis(20), move || {
        assert_ne!(con.send("x".repeat(100 << 10)), Sent::Dropped);
        t.note("sent");
    });
    turn_until(|| seen.has("close"));
    seen.assert(&["sent", "SendFail", "close"]);
}

#[test]
fn text_goes_as_text_and_bytes_as_binary_unless_the_type_is_set() {
    // &str, String, numbers, formatted text; bytes; a received message as what it was;
    // set_websocket_type overrides all three.
    let (listener, addr) = raw_listener();
    let con = client::<Ws>("ws", addr);
    con.on_message(|con, data| con.send(data));
    let mut peer = ws_dialed(con, &listener);
    let mut round = |kind: Option<WebsocketType>, expected: [u8; 4]| {
        if let Some(kind) = kind {
            con.set_websocket_type(kind);
        }
        con.send("a");
        con.send(42);
        con.send(b"b");
        con.flush();
        peer.write_all(&server_frame(0x82, b"c")).expect("a frame");
        let firsts = RefCell::new(Vec::new());
        for _ in 0..3 {
            firsts.borrow_mut().push(read_frame(&mut peer).0);
        }
        turn_until(|| arrived(&peer));
        firsts.borrow_mut().push(read_frame(&mut peer).0);
        assert_eq!(firsts.into_inner(), expected, "{kind:?}");
    };
    round(None, [0x81, 0x81, 0x82, 0x82]);
    round(Some(Ws::BINARY_TYPE_ARRAYBUFFER), [0x82; 4]);
    round(Some(Ws::BINARY_TYPE_BLOB), [0x81; 4]);
}
