//! How every socket ends: what was queued leaves, our direction ends, input is discarded.
use crate::peers::*;
use crate::support::*;
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Context, FailureKind, Input, Limits, Payload, Serve, Violation};

#[test]
fn the_last_answer_survives_unread_input() {
    // A violation is answered (1009), then input is discarded until the peer's end: closed over
    // unread input the socket would send a reset, which takes the answer with it.
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().message_bytes(1000));
    let (con, mut peer) = ws_accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    let talking = thread::spawn(move || {
        let mut frame = vec![0x82, 0xff];
        frame.extend_from_slice(&(8u64 << 20).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.resize(frame.len() + (8 << 20), b'x');
        peer.write_all(&frame).expect("all of it is taken");
        let answer = read_frame(&mut peer);
        assert_eq!(peer.read(&mut [0]).expect("no reset"), 0);
        answer
    });
    let (first, payload) = turned(talking);
    assert_eq!((first, &payload[..2]), (0x88, &1009u16.to_be_bytes()[..]));
    turn_until(|| con.id() == 0);
    seen.assert(&["SessionFail Protocol", "close"]);
}

#[test]
fn the_last_message_before_close_survives_unread_input() {
    // The same after close() of the program's own.
    let worker = Worker::<Tcp>::listen("tcp://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    con.on_message(|con, _| con.close_with("too much"));
    let talking = thread::spawn(move || {
        peer.write_all(&vec![b'x'; 8 << 20]).expect("all of it is taken");
        let mut answer = String::new();
        peer.read_to_string(&mut answer).expect("no reset");
        answer
    });
    assert_eq!(turned(talking), "too much");
}

#[test]
fn on_close_comes_at_the_end_and_a_peer_that_stays_is_left_after_a_second() {
    // Read and discard until the peer's FIN or 1 s.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let addr = listening(worker);
    let (con, mut peer) = accepted(worker, raw_connect(addr));
    let before = Instant::now();
    con.close_with("bye");
    turn_until(|| arrived(&peer));
    assert_eq!(read_bytes(&mut peer, 4), b"bye\n");
    assert_eq!(peer.read(&mut [0]).expect("our direction has ended"), 0);
    assert_eq!(con.status(), Status::Closing);
    turn_until(|| con.id() == 0);
    let took = before.elapsed();
    assert!((950..1900).contains(&took.as_millis()), "{took:?}");

    let (con, peer) = accepted(worker, raw_connect(addr));
    let before = Instant::now();
    con.close();
    turn_until(|| arrived(&peer));
    assert_eq!(con.status(), Status::Closing);
    drop(peer);
    turn_until(|| con.id() == 0);
    assert!(before.elapsed() < Duration::from_millis(900), "the peer's FIN was not looked at");
}

#[test]
fn a_peer_that_never_reads_is_destroyed_at_the_deadline() {
    // on_error(SendFail), on_close: also for an accepted connection, after close().
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().closing(0.2).send_buffer_bytes(64 << 20));
    let (con, _peer) = accepted(worker, small_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    stuff(con, 4 << 20, || con.send("x".repeat(512 << 10)));
    let t = seen.clone();
    con.on_error(move |con, code, failure| {
        assert_eq!(failure.kind(), FailureKind::ClientClosed);
        t.note(format_args!("{code:?} {}", con.status()));
    });
    let before = Instant::now();
    con.close();
    turn_until(|| con.id() == 0);
    assert!(before.elapsed() >= Duration::from_millis(190));
    seen.assert(&["SendFail CLOSING", "close"]);
}

#[test]
fn closing_goes_on_as_long_as_bytes_leave() {
    // The deadline is one without progress: a slow reader gets all of it.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().closing(0.4).send_buffer_bytes(64 << 20));
    let (con, mut peer) = accepted(worker, small_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    let sends = stuff(con, 24 << 20, || con.send("x".repeat((1 << 20) - 1)));
    con.close();
    let slow = thread::spawn(move || {
        let mut piece = vec![0; 1 << 20];
        for _ in 0..sends {
            peer.read_exact(&mut piece).expect("a piece");
            thread::sleep(Duration::from_millis(30));
        }
        peer.read(&mut piece).expect("no reset")
    });
    let before = Instant::now();
    assert_eq!(turned(slow), 0);
    assert!(before.elapsed() > Duration::from_millis(500), "too fast to prove anything");
    turn_until(|| con.id() == 0);
    seen.assert(&["close"]);
}

#[test]
fn a_reset_while_closing_is_told_if_bytes_are_lost() {
    // on_error(SendFail, Reset), on_close; with nothing unsent on_close alone.
    let (listener, addr) = small_listener();
    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted(con, &seen);
    let peer = dialed(con, &listener);
    con.set_max_send_buffer_size(64 << 20);
    stuff(con, 4 << 20, || con.send("x".repeat(512 << 10)));
    con.close();
    turn_for(Duration::from_millis(10));
    reset(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["connect", "SendFail Reset", "close"]);

    let con = client::<Text>("text", addr);
    let seen = Transcript::new();
    noted(con, &seen);
    let peer = dialed(con, &listener);
    con.close();
    turn_until(|| arrived(&peer));
    reset(peer);
    turn_until(|| con.id() == 0);
    seen.assert(&["connect", "close"]);
}

#[test]
fn a_reset_with_unsent_bytes_is_told_and_without_is_not() {
    // In an open session: on_error(SendFail, Reset), on_close; on_close alone.
    let (listener, addr) = small_listener();
    for unsent in [true, false] {
        let con = client::<Text>("text", addr);
        let seen = Transcript::new();
        noted(con, &seen);
        let peer = dialed(con, &listener);
        if unsent {
            con.set_max_send_buffer_size(64 << 20);
            stuff(con, 4 << 20, || con.send("x".repeat(512 << 10)));
        }
        reset(peer);
        turn_until(|| con.id() == 0);
        let expected = ["connect", "SendFail Reset", "close"];
        match unsent {
            true => seen.assert(&expected),
            false => seen.assert(&["connect", "close"]),
        }
    }
}

/// Lines; what is left at the peer's end is one, too, and it is asked for loudly.
#[derive(Default)]
struct Last(Transcript);

impl Protocol for Last {
    const NAME: &'static str = "last";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        let end = buffer.iter().position(|byte| *byte == b'\n');
        Ok(end.map_or(Input::Partial, |end| Input::Package(end + 1)))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        Ok(Some(Data::Binary(&package[..package.len() - 1])))
    }

    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        out.extend_from_slice(message.as_bytes());
        Ok(())
    }

    fn on_eof<'a>(
        &mut self,
        rest: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        self.0.note("on_eof");
        Ok((!rest.is_empty()).then_some(Data::Binary(rest)))
    }
}

impl Serve for Last {}

#[test]
fn after_the_peers_fin_packages_are_delivered_on_eof_is_asked_and_the_answer_leaves() {
    // `printf x | nc -N` gets its answer, then the connection closes.
    let seen = Transcript::new();
    let t = seen.clone();
    let worker = Worker::<Last>::listen_with("tcp://127.0.0.1:0", move || Last(t.clone()));
    let worker = worker.expect("a worker");
    let t = seen.clone();
    worker.on_message(move |con, data| {
        t.note(data);
        con.send(data)
    });
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    noted_end(con, &seen);
    peer.write_all(b"one\ntwo\nthree").expect("the question");
    peer.shutdown(Shutdown::Write).expect("our end");
    assert_eq!(all_of(peer), b"onetwothree");
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "two", "on_eof", "three", "close"]);
}

#[test]
fn after_the_peers_fin_all_that_is_queued_leaves() {
    // However much it is, and however slowly it is read.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().send_buffer_bytes(64 << 20));
    let seen = Transcript::new();
    worker.on_message(|con, _| {
        for _ in 0..30 {
            con.send("x".repeat((1 << 20) - 1));
        }
    });
    let (con, mut peer) = accepted(worker, small_connect(listening(worker)));
    noted_end(con, &seen);
    peer.write_all(b"all\n").expect("the question");
    peer.shutdown(Shutdown::Write).expect("our end");
    turn_until(|| con.status() == Status::Closing);
    turn_for(Duration::from_millis(30));
    assert_eq!(con.status(), Status::Closing);
    assert_eq!(all_of(peer).len(), 30 << 20);
    turn_until(|| con.id() == 0);
    seen.assert(&["close"]);
}

#[test]
fn an_end_and_input_behind_a_violation_is_nobodys_loss() {
    // The peer that broke the protocol may go away at once: on_error once, then on_close.
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = ws_accepted(worker, raw_connect(listening(worker)));
    let seen = Transcript::new();
    noted_end(con, &seen);
    peer.write_all(&client_frame(0x83, b"no such opcode")).expect("a frame");
    peer.write_all(&client_frame(0x83, b"again")).expect("a frame");
    reset(peer);
    turn_until(|| con.id() == 0);
    let lines = seen.lines();
    assert!(lines == ["SessionFail Protocol", "close"] || lines == ["close"], "{lines:?}");
}

#[test]
fn an_accepted_socket_that_was_closed_is_gone() {
    // Nobody answers at its end: what the peer writes then is refused by the system.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let (con, mut peer) = accepted(worker, raw_connect(listening(worker)));
    con.destroy();
    turn_until(|| con.id() == 0);
    assert_eq!(peer.read(&mut [0]).expect("an end"), 0);
    let gone = (0..100).find_map(|_| peer.write_all(b"x").err()).expect("an error");
    assert!(matches!(gone.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{gone}");
}

#[test]
fn a_callback_that_took_long_leaves_the_peer_its_time() {
    // Read and discard until the peer's FIN or 1 s: from the close on, not from the turn's poll.
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let closed = Rc::new(Cell::new(None));
    let theirs = closed.clone();
    worker.on_message(move |con, _| {
        thread::sleep(Duration::from_millis(1100));
        con.close();
        theirs.set(Some(Instant::now()));
    });
    let took = Rc::new(Cell::new(None));
    let theirs = took.clone();
    worker.on_close(move |_| theirs.set(closed.get().map(|at: Instant| at.elapsed())));
    // It has the clock read at the beginning of each turn.
    Timer::add(0.01, |_| {});
    let addr = listening(worker);
    let mut peer = raw_connect(addr);
    peer.write_all(b"hello\n").expect("the socket takes it");
    turn_until(|| took.get().is_some());
    assert!(took.get() > Some(Duration::from_millis(900)), "{took:?}");
}
