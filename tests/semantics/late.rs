//! What the library does late: deadlines behind a busy loop, an end behind an upgrade.
use crate::support::peers::{read_to_end, start};
use crate::support::{
    Transcript, client_frame, raw_connect, raw_upgrade, read_bytes, read_frame, turn_for,
    turn_until,
};
use std::cell::RefCell;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Limits, Serve};

/// Longer than the deadlines of these tests.
const BUSY: Duration = Duration::from_millis(120);
const SHORT: f64 = 0.08;

/// A worker with these limits whose connections note what comes.
fn noting<P>(limits: Limits, seen: &Transcript) -> (Worker<P>, SocketAddr)
where
    P: Serve + Default,
    for<'a> P: Protocol<Incoming<'a> = Data<'a>>,
{
    let (worker, addr) = start::<P>();
    worker.set_limits(limits);
    let s = seen.clone();
    worker.on_message(move |_, data| s.note(format!("message {data}")));
    let s = seen.clone();
    worker.on_error(move |_, _, failure| s.note(failure));
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    (worker, addr)
}

/// The loop is busy with something else while the peer says its part in good time.
fn says_meanwhile(peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).expect("the kernel takes it");
    std::thread::sleep(BUSY); // It is our own loop that sleeps here, as a slow callback would.
}

#[test]
fn a_loop_that_was_busy_longer_than_a_deadline_reads_before_it_judges() {
    let seen = Transcript::new();
    // The rest of a package, and an idle limit.
    for limits in [Limits::new().partial_package(SHORT), Limits::new().idle(SHORT)] {
        let (worker, addr) = noting::<Text>(limits, &seen);
        let mut peer = raw_connect(addr);
        peer.write_all(b"hel").expect("the socket takes it");
        turn_until(|| worker.connections().first().is_some_and(|con| con.recv_buffer_len() == 3));
        says_meanwhile(&mut peer, b"lo\n");
        let before = seen.lines().len();
        turn_until(|| seen.lines().len() > before);
        assert_eq!(seen.lines().last().map(String::as_str), Some("message hello"));
        worker.unlisten();
        // Then the deadline holds.
        peer.write_all(b"x").expect("the socket takes it");
        turn_until(|| seen.lines().last().is_some_and(|line| line == "close"));
    }
    // The handshake.
    let (worker, addr) = noting::<Websocket>(Limits::new().opening(SHORT), &seen);
    let s = seen.clone();
    worker.on_websocket_connected(move |_, _| s.note("open"));
    let mut peer = raw_connect(addr);
    turn_until(|| worker.connections().len() == 1);
    says_meanwhile(
        &mut peer,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let before = seen.lines().len();
    turn_until(|| seen.lines().len() > before);
    assert_eq!(seen.lines().last().map(String::as_str), Some("open"));
}

#[test]
fn a_close_frame_that_came_in_time_is_no_failure_behind_a_busy_loop() {
    let seen = Transcript::new();
    let (worker, addr) = noting::<Websocket>(Limits::new().closing(SHORT), &seen);
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        raw_upgrade(&mut peer);
        peer
    });
    turn_until(|| peer.is_finished());
    let mut peer = peer.join().expect("the peer");
    let con = worker.connections()[0];
    let s = seen.clone();
    con.on_close(move |con| s.note(format!("close {:?}", con.close_code())));
    con.close();
    turn_for(Duration::from_millis(10));
    assert_eq!(read_frame(&mut peer).0, 0x88);
    says_meanwhile(&mut peer, &client_frame(0x88, &1000u16.to_be_bytes()));
    turn_until(|| !seen.lines().is_empty());
    seen.assert(&["close Some(1000)"]);
}

/// The one connection of a text worker, and its peer, which reads little.
fn with_peer() -> (TcpConnection<Text>, TcpStream) {
    let (worker, addr) = start::<Text>();
    let peer = raw_connect(addr);
    turn_until(|| worker.connections().len() == 1);
    (worker.connections()[0], peer)
}

#[test]
fn what_is_paused_stays_paused_over_an_upgrade() {
    let seen = Transcript::new();
    let (con, mut peer) = with_peer();
    con.pause_recv();
    let new = con.upgrade_with(Tcp::default());
    let s = seen.clone();
    new.on_message(move |_, data| s.note(data));
    peer.write_all(b"later").expect("the kernel takes it");
    turn_for(Duration::from_millis(30));
    seen.assert(&[]);
    new.resume_recv();
    turn_until(|| seen.has("later"));
}

#[test]
fn shutdown_write_before_an_upgrade_ends_our_direction_behind_what_was_queued() {
    let (con, mut peer) = with_peer();
    con.send("last words");
    con.shutdown_write();
    let new = con.upgrade_with(Tcp::default());
    assert_eq!(new.send("too late"), Sent::Dropped);
    let reader = std::thread::spawn(move || (read_to_end(&mut peer), peer));
    turn_until(|| reader.is_finished());
    let (bytes, mut peer) = reader.join().expect("the peer");
    assert_eq!(bytes, b"last words\n");
    // The other direction goes on.
    let seen = Transcript::new();
    let s = seen.clone();
    new.on_message(move |_, data| s.note(data));
    peer.write_all(b"still here").expect("the kernel takes it");
    turn_until(|| seen.has("still here"));
}

#[test]
fn a_buffer_that_was_full_before_an_upgrade_is_told_drained_behind_it() {
    let seen = Transcript::new();
    let (con, mut peer) = with_peer();
    while con.send("x".repeat(100_000)) != Sent::Dropped {}
    let new: Rc<RefCell<Option<TcpConnection<Tcp>>>> = Rc::default();
    let (n, s) = (new.clone(), seen.clone());
    con.on_buffer_full(move |con| {
        s.note("full");
        let new = con.upgrade_with(Tcp::default());
        let s = s.clone();
        new.on_buffer_drain(move |_| s.note("drain"));
        n.replace(Some(new));
    });
    turn_until(|| seen.has("full"));
    let new = new.borrow().expect("the upgraded one");
    // Full: it is not served.
    let s = seen.clone();
    new.on_message(move |_, data| s.note(data));
    peer.write_all(b"while full").expect("the kernel takes it");
    turn_for(Duration::from_millis(30));
    seen.assert(&["full"]);
    let length = new.bytes_written() as usize + new.send_buffer_len();
    let reader = std::thread::spawn(move || (read_bytes(&mut peer, length).len(), peer));
    turn_until(|| seen.lines().len() == 3);
    let mut lines = seen.lines();
    lines.sort();
    assert_eq!(lines, ["drain", "full", "while full"]);
    turn_until(|| reader.is_finished());
    assert_eq!(reader.join().expect("the peer").0, length);
}

#[test]
fn a_half_open_websocket_says_no_pong_and_no_farewell_once_its_own_direction_has_ended() {
    let seen = Transcript::new();
    let (worker, addr) = noting::<Websocket>(Limits::new(), &seen);
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        raw_upgrade(&mut peer);
        peer
    });
    turn_until(|| peer.is_finished());
    let mut peer = peer.join().expect("the peer");
    let con = worker.connections()[0];
    con.set_half_open(true);
    con.send("bye");
    con.shutdown_write();
    turn_for(Duration::from_millis(10));
    peer.write_all(&client_frame(0x89, b"ping")).expect("the kernel takes it");
    peer.write_all(&client_frame(0x81, b"more")).expect("the kernel takes it");
    turn_until(|| seen.has("message more"));
    turn_for(Duration::from_millis(20));
    assert_eq!(con.status(), Status::Established);
    peer.write_all(&client_frame(0x88, &1000u16.to_be_bytes())).expect("the kernel takes it");
    let reader = std::thread::spawn(move || read_to_end(&mut peer));
    turn_until(|| seen.has("close"));
    seen.assert(&["message more", "close"]);
    turn_until(|| reader.is_finished());
    assert_eq!(reader.join().expect("the peer"), b"\x81\x03bye");
}
