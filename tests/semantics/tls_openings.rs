//! How sessions begin under TLS, with peers that are in a hurry, in no hurry, or in the way.
use crate::peers::*;
use crate::support::*;
use crate::tls_ends::{Certificates, secure};
use rustls::{ClientConnection, StreamOwned};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;
use workerman::Limits;
use workerman::prelude::*;

type Session = StreamOwned<ClientConnection, TcpStream>;

/// Goes as far as it must wait, and hands out what it would write next: the end of the handshake,
/// and these bytes behind it.
fn in_a_hurry(mut peer: Session, bytes: &[u8]) -> (Session, Vec<u8>) {
    while peer.conn.is_handshaking() {
        peer.conn.write_tls(&mut peer.sock).expect("it leaves");
        if peer.conn.wants_read() {
            peer.conn.read_tls(&mut peer.sock).expect("it comes");
            peer.conn.process_new_packets().expect("it is right");
        }
    }
    peer.conn.writer().write_all(bytes).expect("it is taken");
    let mut last = Vec::new();
    while peer.conn.wants_write() {
        peer.conn.write_tls(&mut last).expect("memory");
    }
    (peer, last)
}

#[test]
fn what_comes_with_the_last_of_the_handshake_is_delivered() {
    // One write: the handshake's end and a message of which part stays in the socket.
    let certificates = Certificates::new();
    for length in [100, 5_000, 7_900, 9_000, 20_000, 40_000] {
        let worker = Worker::<Frame>::listen("frame://127.0.0.1:0").expect("a worker");
        let seen = Transcript::new();
        let s = seen.clone();
        worker.on_message(move |_, data| s.note(data.len()));
        let addr = secure(worker, &certificates);
        let peer = certificates.dial(addr).0;
        let mut frame = (length as u32 + 4).to_be_bytes().to_vec();
        frame.resize(length + 4, 7);
        let (mut peer, last) = turned(thread::spawn(move || in_a_hurry(peer, &frame)));
        // All of it is there when the loop looks.
        peer.sock.write_all(&last).expect("it leaves");
        thread::sleep(Duration::from_millis(20));
        turn_for(Duration::from_millis(100));
        assert_eq!(seen.lines(), [length.to_string()]);
        worker.unlisten();
    }
}

#[test]
fn an_end_that_comes_with_the_last_of_the_handshake_is_noticed() {
    // A FIN in the event that brought the handshake's end: no further event tells of it.
    let certificates = Certificates::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_connect(move |con| noted_end(con, &s));
    let addr = secure(worker, &certificates);
    let peer = certificates.dial(addr).0;
    let (mut peer, last) = turned(thread::spawn(move || in_a_hurry(peer, &[])));
    peer.sock.write_all(&last).expect("it leaves");
    peer.sock.shutdown(Shutdown::Write).expect("its end");
    thread::sleep(Duration::from_millis(20));
    turn_until(|| seen.has("close"));
    seen.assert(&["SessionFail Truncated", "close"]);
}

#[test]
fn a_stop_inside_a_tls_handshake_is_no_close() {
    // An accepted connection whose TLS fails has no events; one open, one close.
    let certificates = Certificates::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_connect(move |_| s.note("connect"));
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    let addr = secure(worker, &certificates);
    let _silent = raw_connect(addr);
    turn_for(Duration::from_millis(50));
    Worker::stop_all();
    while Worker::turn(Duration::from_millis(50)).expect("a turn") {}
    seen.assert(&[]);
}

#[test]
fn tls_handshakes_count_as_connections() {
    // Limits::connections: strangers who say nothing cannot hold more sockets than that.
    let certificates = Certificates::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().connections(2).opening(0.3));
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_connect(move |con| s.note(con.id()));
    let addr = secure(worker, &certificates);
    let silent: Vec<_> = (0..2).map(|_| raw_connect(addr)).collect();
    turn_for(Duration::from_millis(50));
    let mut peer = certificates.dial(addr);
    let talking = thread::spawn(move || {
        peer.says(b"hello\n");
        peer
    });
    turn_for(Duration::from_millis(100));
    seen.assert(&[]);
    let _peer = turned(talking);
    turn_until(|| !seen.lines().is_empty());
    drop(silent);
}

#[test]
fn the_openings_deadline_is_one_for_tls_and_handshake() {
    // Accepted: TLS and the WebSocket handshake share one deadline, not reset by bytes.
    let certificates = Certificates::new();
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    worker.set_limits(Limits::new().opening(0.6));
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_connect(move |con| noted_end(con, &s));
    let addr = secure(worker, &certificates);
    let began = std::time::Instant::now();
    let mut peer = certificates.dial(addr);
    turn_for(Duration::from_millis(400));
    let talking = thread::spawn(move || {
        peer.says(b"GET / HTTP/1.1\r\n");
        peer
    });
    let _peer = turned(talking);
    turn_until(|| seen.has("close"));
    assert!(began.elapsed() < Duration::from_millis(850), "{:?}", began.elapsed());
    seen.assert(&["SessionFail Deadline", "close"]);
}
