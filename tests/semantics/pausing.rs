//! `pause_recv` and `resume_recv`.
use crate::peers::*;
use crate::support::*;
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Connection, Limits, Role};

const A_WHILE: Duration = Duration::from_millis(30);

fn noted_lines<R: Role>(con: Connection<Text, R>, transcript: &Transcript) {
    noted_end(con, transcript);
    let t = transcript.clone();
    con.on_message(move |_, line| t.note(line));
}

#[test]
fn packages_that_are_read_already_wait_and_come_in_order() {
    // pause_recv inside on_message stops the batch; resume_recv delivers from the next turn on,
    // not inside the call.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    let t = seen.clone();
    con.on_message(move |con, line| {
        t.note(line);
        con.pause_recv();
    });
    peer.write_all(b"1\n2\n3\nfo").expect("a batch");
    turn_until(|| seen.has("1"));
    peer.write_all(b"ur\n5\n").expect("more");
    for (round, line) in [(1, "2"), (2, "3"), (3, "four"), (4, "5")] {
        turn_for(A_WHILE / 3);
        assert_eq!(seen.lines().len(), 3 * round - 2, "delivered while paused");
        let t = seen.clone();
        Timer::delay(Duration::ZERO, move || {
            con.resume_recv();
            t.note("resumed");
        });
        turn_until(|| seen.has(line));
        // The batch has been stopped again, or is over.
        seen.note("-");
    }
    let delivered = ["1", "resumed", "2", "-", "resumed", "3", "-", "resumed", "four", "-"];
    seen.assert(&[&delivered[..], &["resumed", "5", "-"]].concat());
}

#[test]
fn paused_it_is_not_read() {
    // What arrives stays in the kernel.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted_lines(con, &seen);
    let mut peer = dialed(con, &listener);
    con.pause_recv();
    peer.write_all(b"one\n").expect("a line");
    turn_for(A_WHILE);
    assert_eq!(con.bytes_read(), 0);
    con.resume_recv();
    turn_until(|| seen.has("one"));
    seen.assert(&["one"]);
}

#[test]
fn a_fin_is_noticed_after_resuming() {
    // Packages first, then the end.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_lines(con, &seen);
    con.pause_recv();
    peer.write_all(b"one\ntwo\n").expect("lines");
    peer.shutdown(Shutdown::Write).expect("its end");
    turn_for(A_WHILE);
    assert_eq!((con.status(), seen.lines().len()), (Status::Established, 0));
    con.resume_recv();
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "two", "close"]);
}

#[test]
fn sending_goes_on_while_reading_is_paused() {
    // Also behind a full socket.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let peer = dialed(con, &listener);
    con.pause_recv();
    let sends = fill(|| con.send("x".repeat((256 << 10) - 1)));
    let reading = reader(peer);
    turn_until(|| con.send_buffer_len() == 0);
    con.close();
    assert_eq!(turned(reading).expect("no reset").len(), sends * (256 << 10));
}

#[test]
fn the_deadline_of_a_begun_package_rests_meanwhile() {
    // The peer cannot be heard: its time begins anew with resume_recv.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().partial_package(0.25));
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_lines(con, &seen);
    peer.write_all(b"ha").expect("half a line");
    turn_until(|| con.bytes_read() == 2);
    con.pause_recv();
    turn_for(Duration::from_millis(400));
    seen.assert(&[]);
    con.resume_recv();
    turn_for(Duration::from_millis(100));
    seen.assert(&[]);
    peer.write_all(b"lf\nnex").expect("the rest");
    turn_until(|| seen.has("half"));
    let before = Instant::now();
    turn_until(|| con.id() == 0);
    assert!(before.elapsed() >= Duration::from_millis(240));
    seen.assert(&["half", "SessionFail Protocol", "close"]);
}

#[test]
fn the_idle_deadline_rests_meanwhile() {
    // Limits::idle counts from resume_recv.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().idle(0.25));
    let (con, _peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_lines(con, &seen);
    con.pause_recv();
    turn_for(Duration::from_millis(400));
    con.resume_recv();
    let before = Instant::now();
    turn_for(Duration::from_millis(100));
    assert_eq!(con.status(), Status::Established);
    turn_until(|| con.status() != Status::Established);
    assert!(before.elapsed() >= Duration::from_millis(240));
}

#[test]
fn close_while_paused_discards_what_waits_and_ends() {
    // Nothing is delivered after close(), and the unread input resets nothing.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    let t = seen.clone();
    con.on_message(move |con, line| {
        t.note(line);
        con.pause_recv();
    });
    peer.write_all(b"one\ntwo\n").expect("a batch");
    turn_until(|| seen.has("one"));
    peer.write_all(b"three\n").expect("more");
    con.close_with("bye");
    con.resume_recv();
    assert_eq!(all_of(peer), b"bye\n");
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "close"]);
}

#[test]
fn a_pause_ends_with_its_session() {
    // The next session of the handle is read.
    let (listener, addr) = raw_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted_lines(con, &seen);
    con.on_close(|con| con.reconnect(0));
    let first = dialed(con, &listener);
    con.pause_recv();
    con.close();
    drop(first);
    turn_until(|| con.status() == Status::Closing || con.status() == Status::Connecting);
    con.reconnect(0);
    let mut second = {
        turn_until(|| con.status() == Status::Established);
        raw_accept(&listener)
    };
    second.write_all(b"heard\n").expect("a line");
    turn_until(|| seen.has("heard"));
}
