//! Full send buffers: who waits for whom, and what is told.
use crate::peers::*;
use crate::support::*;
use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Connection, FailureKind, Limits, Role};

/// More than a kernel takes by itself, retried or not.
const LIMIT: usize = 4 << 20;

/// Notes full and drained buffers.
fn noted_buffer<P: Protocol, R: Role>(con: Connection<P, R>, transcript: &Transcript) {
    let t = transcript.clone();
    con.on_buffer_full(move |_| t.note("full"));
    let t = transcript.clone();
    con.on_buffer_drain(move |con| t.note(format_args!("drain {}", con.send_buffer_len())));
    noted_end(con, transcript);
}

/// Sends until the limit is reached.
fn fill_to_limit<R: Role>(con: Connection<Text, R>) {
    con.set_max_send_buffer_size(LIMIT);
    stuff(con, LIMIT, || con.send("x".repeat(200 << 10)));
}

fn echo_loses_nothing(length: usize, count: usize) {
    let worker = Worker::<Frame>::listen("frame://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    worker.set_limits(Limits::new().send_buffer_bytes(LIMIT));
    worker.on_message(|con, data| assert_ne!(con.send(data), Sent::Dropped));
    let (con, mut peer) = accepted(worker, small_connect(listening(worker)));
    noted_end(con, &seen);
    let mut writing = peer.try_clone().expect("the other half");
    let sent = thread::spawn(move || {
        let mut all = Vec::new();
        for number in 0..count {
            let message = vec![number as u8; length];
            all.extend_from_slice(&(4 + length as u32).to_be_bytes());
            all.extend_from_slice(&message);
        }
        writing.write_all(&all).expect("all of it");
        all
    });
    // It reads nothing before the server has stopped reading.
    turn_until(|| con.send_buffer_len() >= LIMIT);
    let before = con.bytes_read();
    turn_for(Duration::from_millis(30));
    assert_eq!(con.bytes_read(), before, "read on over a full buffer");
    let got = thread::spawn(move || {
        let mut all = vec![0; count * (4 + length)];
        peer.read_exact(&mut all).expect("all of it");
        (peer, all)
    });
    let (_peer, got) = turned(got);
    assert!(got == sent.join().expect("the writer"), "something was lost or altered");
    seen.assert(&[]);
}

#[test]
fn an_echo_server_loses_nothing_however_fast_it_is_fed() {
    // An accepted connection whose own waiting bytes reach the limit is neither read nor delivered.
    echo_loses_nothing(1000, 20_000);
}

#[test]
fn an_echo_server_loses_nothing_of_large_messages_either() {
    // The same where one message alone is larger than the limit.
    echo_loses_nothing(1 << 20, 20);
}

#[test]
fn an_accepted_connection_is_served_again_when_half_has_left() {
    // Not before: packages wait, read or unread.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_message(move |con, line| {
        assert!(con.send_buffer_len() <= LIMIT / 2, "{} wait", con.send_buffer_len());
        t.note(line);
    });
    let (con, mut peer) = accepted(worker, small_connect(listening(worker)));
    fill_to_limit(con);
    peer.write_all(b"one\ntwo\n").expect("lines");
    turn_for(Duration::from_millis(30));
    seen.assert(&[]);
    let reading = reader(peer.try_clone().expect("the other half"));
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["one", "two"]);
    con.close();
    turned(reading).expect("no reset");
}

#[test]
fn clients_are_served_on() {
    // Two peers that both waited would wait for ever.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    let t = seen.clone();
    con.on_message(move |_, line| t.note(line));
    let mut peer = dialed(con, &listener);
    fill_to_limit(con);
    peer.write_all(b"one\n").expect("a line");
    turn_until(|| seen.has("one"));
    assert!(con.send_buffer_len() > LIMIT / 2, "{} wait", con.send_buffer_len());
}

#[test]
fn set_backpressure_chooses_otherwise_for_either() {
    // An accepted connection without it is served on, also one that waits already; a client with
    // it waits.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_message(move |_, line| t.note(line));
    let (con, mut peer) = accepted(worker, small_connect(listening(worker)));
    fill_to_limit(con);
    peer.write_all(b"accepted\n").expect("a line");
    turn_for(Duration::from_millis(30));
    seen.assert(&[]);
    con.set_backpressure(false);
    turn_until(|| seen.has("accepted"));
    assert!(con.send_buffer_len() > LIMIT / 2, "{} wait", con.send_buffer_len());

    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let t = seen.clone();
    con.on_message(move |_, line| t.note(line));
    con.set_backpressure(true);
    let mut peer = dialed(con, &listener);
    fill_to_limit(con);
    peer.write_all(b"client\n").expect("a line");
    turn_for(Duration::from_millis(30));
    assert!(!seen.has("client"));
    let _reading = reader(peer);
    turn_until(|| seen.has("client"));
}

#[test]
fn full_is_told_once_and_drained_once_all_has_left() {
    // on_buffer_full when the waiting bytes reach the limit, after the callback that did it;
    // on_buffer_drain when all have left; and again the next time.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted_buffer(con, &seen);
    let peer = dialed(con, &listener);
    stuff(con, 10 << 10, || con.send("x".repeat(512 << 10)));
    con.set_max_send_buffer_size(con.send_buffer_len() + 1);
    let t = seen.clone();
    Timer::delay(Duration::ZERO, move || {
        assert_eq!(con.send("y"), Sent::Buffered);
        // One more is over the limit.
        assert_eq!(con.send("y"), Sent::Dropped);
        t.note("sent");
    });
    turn_until(|| seen.lines().len() == 3);
    seen.assert(&["sent", "full", "SendFail BufferFull"]);
    let _reading = reader(peer);
    turn_until(|| seen.lines().len() == 4);
    // The limit lies above what the socket may take at once by now.
    con.set_max_send_buffer_size(16 << 20);
    Timer::delay(Duration::ZERO, move || {
        con.send("x".repeat(40 << 20));
    });
    turn_until(|| seen.lines().len() == 6);
    seen.assert(&["sent", "full", "SendFail BufferFull", "drain 0", "full", "drain 0"]);
}

#[test]
fn one_large_message_makes_it_full() {
    // The waiting bytes reach the limit also where one message brings all of them.
    let (listener, addr) = small_listener();
    let con = client::<Ws>("ws", addr);
    let seen = Transcript::new();
    noted_buffer(con, &seen);
    let _peer = ws_dialed(con, &listener);
    assert_eq!(con.send(vec![0; 16 << 20]), Sent::Buffered);
    turn_until(|| !seen.lines().is_empty());
    seen.assert(&["full"]);

    let worker = Worker::<Frame>::listen("frame://127.0.0.1:0").expect("a worker");
    let (con, _peer) = accepted(worker, small_connect(listening(worker)));
    noted_buffer(con, &seen);
    assert_eq!(con.send(vec![0; 16 << 20]), Sent::Buffered);
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["full", "full"]);
}

#[test]
fn drained_comes_only_after_full() {
    // Bytes that waited below the limit leave without a word.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted_buffer(con, &seen);
    let peer = dialed(con, &listener);
    con.set_max_send_buffer_size(1 << 20);
    fill(|| con.send("x".repeat(10 << 10)));
    assert!(con.send_buffer_len() < 1 << 20);
    let _reading = reader(peer);
    turn_until(|| con.send_buffer_len() == 0);
    turn_for(Duration::from_millis(20));
    seen.assert(&[]);
}

#[test]
fn what_was_sent_ahead_can_be_full_and_drains_with_its_session() {
    // Also what waits for a session to come reaches the limit, and is told when it has left.
    let (listener, addr) = raw_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted_buffer(con, &seen);
    con.set_max_send_buffer_size(1000);
    assert_eq!(con.send("x".repeat(1000)), Sent::Buffered);
    assert_eq!(con.send("y"), Sent::Dropped);
    let _first = dialed(con, &listener);
    turn_until(|| seen.has("drain 0"));
    seen.assert(&["full", "SendFail BufferFull", "drain 0"]);
    con.reconnect(0);
    assert_eq!(con.send("x".repeat(1000)), Sent::Buffered);
    drop(_first);
    turn_until(|| seen.count("drain 0") == 2);
    seen.assert(&["full", "SendFail BufferFull", "drain 0", "full", "close", "drain 0"]);
}

#[test]
fn unsent_bytes_without_progress_end_the_session() {
    // on_error(SendFail), closed, after Limits::send_stall.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().send_stall(0.2));
    let (con, _peer) = accepted(worker, small_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    let t = seen.clone();
    con.on_error(move |con, code, failure| {
        assert_eq!(failure.kind(), FailureKind::ClientClosed);
        assert!(failure.to_string().contains("0.2 s"), "{failure}");
        t.note(format_args!("{code:?} {}", con.status()));
    });
    let before = std::time::Instant::now();
    fill(|| con.send("x".repeat(100 << 10)));
    turn_until(|| seen.has("close"));
    // What was sent between two turns counts from the former one.
    assert!(before.elapsed() >= Duration::from_millis(150));
    seen.assert(&["SendFail CLOSING", "close"]);
}

#[test]
fn bytes_that_go_on_leaving_may_take_longer_than_the_stall() {
    // The deadline is one without progress.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    con.set_limits(Limits::new().send_stall(0.4).send_buffer_bytes(64 << 20));
    let seen = Transcript::new();
    noted_end(con, &seen);
    let mut peer = dialed(con, &listener);
    for _ in 0..30 {
        con.send("x".repeat(1 << 20));
    }
    let slow = thread::spawn(move || {
        let mut piece = vec![0; 3 << 20];
        for _ in 0..10 {
            peer.read_exact(&mut piece).expect("a piece");
            thread::sleep(Duration::from_millis(100));
        }
        peer
    });
    turn_until(|| con.send_buffer_len() == 0);
    seen.assert(&[]);
    turned(slow);
}

#[test]
fn what_is_paused_by_a_full_buffer_keeps_its_order() {
    // A server that answers each package with more than it read stops inside a batch: the rest of
    // the batch is delivered later, in order.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().send_buffer_bytes(LIMIT));
    let next = Rc::new(Cell::new(0));
    let n = next.clone();
    worker.on_message(move |con, line| {
        assert_eq!(line, n.get().to_string());
        n.set(n.get() + 1);
        assert_ne!(con.send("x".repeat(50 << 10)), Sent::Dropped);
    });
    let (con, mut peer) = accepted(worker, small_connect(listening(worker)));
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    peer.write_all(lines.as_bytes()).expect("the lines");
    turn_until(|| con.send_buffer_len() >= LIMIT);
    assert!(next.get() < 1000);
    let reading = reader(peer);
    turn_until(|| next.get() == 1000);
    con.close();
    assert_eq!(turned(reading).expect("no reset").len(), 1000 * ((50 << 10) + 1));
}

#[test]
fn a_connection_that_closes_is_told_neither_full_nor_drained() {
    // From the call on nothing is delivered but `on_error` for lost bytes and `on_close`.
    for (before, destroys) in [(false, false), (true, false), (false, true), (true, true)] {
        let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
        let (con, peer) = accepted(worker, small_connect(listening(worker)));
        con.set_max_send_buffer_size(1 << 20);
        let seen = Transcript::new();
        noted_buffer(con, &seen);
        while con.send_buffer_len() < 1 << 20 {
            assert_ne!(con.send(vec![0; 1 << 20]), Sent::Dropped);
        }
        if before {
            turn_until(|| !seen.lines().is_empty());
        }
        if destroys {
            con.destroy()
        } else {
            con.close()
        }
        let reading = reader(peer);
        turn_until(|| con.id() == 0);
        let _ = turned(reading);
        let told = seen.lines().len();
        assert_eq!((told, seen.count("close")), (1 + usize::from(before), 1), "{:?}", seen.lines());
    }
}
