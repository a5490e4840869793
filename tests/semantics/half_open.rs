//! One direction ends, the other goes on.
use crate::peers::*;
use crate::support::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use workerman::prelude::*;
use workerman::{Connection, Role};

fn noted_half<R: Role>(con: Connection<Text, R>, transcript: &Transcript) {
    noted_end(con, transcript);
    let t = transcript.clone();
    con.on_message(move |_, line| t.note(line));
    let t = transcript.clone();
    con.on_end(move |con| t.note(format_args!("end, {}", con.status())));
}

#[test]
fn half_open_the_peers_end_ends_only_the_reading() {
    // on_end says so, behind the last package; the program goes on sending, and ends with close().
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_half(con, &seen);
    con.set_half_open(true);
    peer.write_all(b"one\ntwo\n").expect("lines");
    peer.shutdown(Shutdown::Write).expect("its end");
    turn_until(|| seen.has("end, ESTABLISHED"));
    for text in ["a", "b"] {
        assert_eq!(con.send(text), Sent::Flushed);
        turn_until(|| arrived(&peer));
        assert_eq!(read_bytes(&mut peer, 2), format!("{text}\n").as_bytes());
    }
    assert_eq!(con.status(), Status::Established);
    con.close_with("last");
    assert_eq!(all_of(peer), b"last\n");
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "two", "end, ESTABLISHED", "close"]);
}

#[test]
fn without_half_open_the_peers_end_closes() {
    // on_end is not called.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_half(con, &seen);
    peer.write_all(b"one\n").expect("a line");
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "close"]);
}

#[test]
fn shutdown_write_ends_our_direction_behind_what_is_queued() {
    // Receiving goes on; what is sent after it is Dropped; the peer's end then closes.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted_half(con, &seen);
    let mut peer = dialed(con, &listener);
    con.set_max_send_buffer_size(64 << 20);
    let sends = stuff(con, 4 << 20, || con.send("x".repeat((512 << 10) - 1)));
    con.shutdown_write();
    assert_eq!(con.send("behind"), Sent::Dropped);
    let reading = reader(peer.try_clone().expect("the other half"));
    assert_eq!(turned(reading).expect("no reset").len(), sends * (512 << 10));
    assert_eq!((con.status(), con.send("behind")), (Status::Established, Sent::Dropped));
    peer.write_all(b"still heard\n").expect("a line");
    turn_until(|| seen.has("still heard"));
    drop(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["still heard", "close"]);
}

#[test]
fn when_both_directions_have_ended_it_closes() {
    // Whichever ended first: nothing can happen on it any more.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let addr = listening(worker);
    for ours_first in [true, false] {
        let (con, mut peer) = accepted(worker, raw_connect(addr));
        let seen = Transcript::new();
        noted_half(con, &seen);
        con.set_half_open(true);
        if ours_first {
            con.shutdown_write();
            turn_until(|| arrived(&peer));
            assert_eq!(peer.read(&mut [0]).expect("our end"), 0);
        }
        peer.shutdown(Shutdown::Write).expect("its end");
        turn_until(|| seen.has("end, ESTABLISHED"));
        con.shutdown_write();
        turn_until(|| con.id() == 0);
        seen.assert(&["end, ESTABLISHED", "close"]);
    }
}

/// Says this, ends its direction, reads to the end.
fn asks(mut peer: TcpStream, question: &'static str) -> JoinHandle<String> {
    thread::spawn(move || {
        peer.write_all(question.as_bytes()).expect("the question");
        peer.shutdown(Shutdown::Write).expect("its end");
        let mut answer = String::new();
        peer.read_to_string(&mut answer).expect("no reset");
        answer
    })
}

#[test]
fn a_proxy_that_is_half_open_loses_no_answer() {
    // `pipe` passes an end on as shutdown_write where both sides are half-open; when both
    // directions have ended, both connections are gone.
    let (listener, backend) = raw_listener();
    let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
    worker.on_connect(move |con| {
        let far = client::<Tcp>("tcp", backend);
        for half_open in [con.any().downcast::<Tcp, workerman::Server>(), Some(con)] {
            half_open.expect("it is one").set_half_open(true);
        }
        far.set_half_open(true);
        con.pipe(far);
        far.pipe(con);
        far.connect();
    });
    let asking = asks(raw_connect(listening(worker)), "question");
    let answering = thread::spawn(move || {
        let mut peer = raw_accept(&listener);
        let mut question = String::new();
        peer.read_to_string(&mut question).expect("a question with its end");
        peer.write_all(format!("{question} answered").as_bytes()).expect("the answer");
    });
    assert_eq!(turned(asking), "question answered");
    answering.join().expect("the backend");
    turn_until(|| worker.connections().is_empty());
}

#[test]
fn a_pipes_end_closes_the_other_side_otherwise() {
    // And what was on its way is flushed first.
    let (listener, backend) = raw_listener();
    let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
    worker.on_connect(move |con| {
        let far = client::<Tcp>("tcp", backend);
        con.pipe(far);
        far.pipe(con);
        far.connect();
    });
    let mut near = raw_connect(listening(worker));
    near.write_all(b"question").expect("a question");
    let answering = thread::spawn(move || {
        let mut peer = raw_accept(&listener);
        assert_eq!(read_bytes(&mut peer, 8), b"question");
        peer.write_all(&vec![b'x'; 4 << 20]).expect("the answer");
    });
    assert_eq!(all_of(near).len(), 4 << 20);
    answering.join().expect("the backend");
    turn_until(|| worker.connections().is_empty());
}

#[test]
fn a_half_open_connection_whose_peer_resets_ends() {
    // A TCP reset with nothing unsent: `on_close` alone, also behind the peer's FIN.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_connect(move |con| {
        con.set_half_open(true);
        noted_half(con, &s);
    });
    let addr = listening(worker);
    let peer = raw_connect(addr);
    peer.shutdown(Shutdown::Write).expect("its end");
    turn_until(|| seen.has("end, ESTABLISHED"));
    reset(peer);
    turn_until(|| worker.connections().is_empty());
    assert_eq!(seen.lines().last().map(String::as_str), Some("close"));
}
