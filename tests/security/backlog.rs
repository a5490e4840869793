//! Peers that send and do not read, or read and do not wait: what piles up has an end.
use crate::counting::{live_of_thread, peak_of_thread};
use crate::opened;
use crate::support::peers::start;
use crate::support::*;
use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::Limits;
use workerman::prelude::*;

/// Sends as much as goes without anybody reading; how many bytes that was. The loop turns between
/// the pieces, until none has gone for a while.
fn flood(peer: &mut TcpStream, piece: &[u8], at_most: usize) -> usize {
    peer.set_nonblocking(true).expect("an option");
    let (mut sent, mut at, mut refused) = (0, 0, 0);
    let end = Instant::now() + PATIENCE / 2;
    while sent < at_most && refused < 20 {
        assert!(Instant::now() < end, "{sent} bytes, and no end of it");
        match peer.write(&piece[at..]) {
            Ok(n) => {
                sent += n;
                at = (at + n) % piece.len();
                refused = 0;
                turn_for(Duration::ZERO);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                turn_for(Duration::from_millis(5));
            }
            Err(e) => panic!("it ended: {e}"),
        }
    }
    peer.set_nonblocking(false).expect("an option");
    sent
}

#[test]
fn rustsec_2020_0043_what_a_peer_does_not_read_is_dropped_at_the_limit() {
    // Also CVE-2020-35896. A program that sends on and on to somebody who never reads.
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(Limits::new().send_buffer_bytes(256 << 10));
    let _peer = opened(addr, "");
    let con = worker.connections()[0];
    let message = vec![b'x'; 16 << 10];
    let mut dropped = 0;
    let peak = peak_of_thread(|| {
        for _ in 0..2000 {
            dropped += usize::from(con.send(&message[..]) == Sent::Dropped);
            turn_for(Duration::ZERO);
        }
    });
    assert!(dropped > 0, "32 MB were taken");
    assert!(peak < 1 << 20, "{peak} bytes wait");
}

#[test]
fn openai_java_1013_of_pings_that_nobody_hears_the_answers_of_one_is_answered() {
    // A peer that pings and never reads: one pong waits, the latest, and not one a ping.
    let (worker, addr) = start::<Websocket>();
    let mut peer = opened(addr, "");
    let con = worker.connections()[0];
    // The socket is full, and has been noticed to be.
    while con.send(&[b'x'; 8 << 10][..]) == Sent::Flushed {
        turn_for(Duration::ZERO);
    }
    turn_for(Duration::from_millis(50));
    let pings: Vec<u8> = (0..500).flat_map(|_| client_frame(0x89, &[b'p'; 100])).collect();
    let (waits, before) = (con.send_buffer_len(), live_of_thread());
    let sent = flood(&mut peer, &pings, 4 << 20);
    let grown = live_of_thread() - before;
    assert!(sent >= 4 << 20, "pings are read on, and not only {sent} bytes of them");
    assert!(grown < 16 << 10, "{grown} bytes more for {sent} bytes of pings");
    assert_eq!(con.send_buffer_len(), waits + 102, "one pong waits");
}

#[test]
fn websockets_105_who_is_not_read_sends_no_more() {
    // Also tornado#2341. A fast sender and a program that has paused: the kernel's buffers fill,
    // ours do not.
    let (worker, addr) = start::<Websocket>();
    let got = Rc::new(Cell::new(0));
    let at = got.clone();
    worker.on_message(move |_, _| at.set(at.get() + 1));
    let mut peer = opened(addr, "");
    let con = worker.connections()[0];
    con.pause_recv();
    let frames: Vec<u8> = (0..500).flat_map(|_| client_frame(0x82, &[b'x'; 100])).collect();
    let before = live_of_thread();
    let sent = flood(&mut peer, &frames, 64 << 20);
    let grown = live_of_thread() - before;
    assert!(sent < 64 << 20, "all of it was read");
    assert_eq!(got.get(), 0, "messages while the program has paused");
    assert!(grown < 256 << 10, "{grown} bytes more for {sent} bytes that nobody wants");
    con.resume_recv();
    turn_until(|| got.get() >= sent / 106 - 1);
}

#[test]
fn websockets_105_an_echo_reads_no_more_than_it_can_send() {
    // A server that echoes to somebody who never reads: neither memory nor messages are lost.
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(Limits::new().send_buffer_bytes(256 << 10));
    let dropped = Rc::new(Cell::new(0));
    let at = dropped.clone();
    worker.on_message(move |con, data| {
        at.set(at.get() + usize::from(con.send(data) == Sent::Dropped));
    });
    let mut peer = opened(addr, "");
    let frames: Vec<u8> = (0..500).flat_map(|_| client_frame(0x82, &[b'x'; 100])).collect();
    let before = live_of_thread();
    let sent = flood(&mut peer, &frames, 64 << 20);
    let grown = live_of_thread() - before;
    assert!(sent < 64 << 20, "all of it was read");
    assert_eq!(dropped.get(), 0, "echoes were dropped");
    assert!(grown < 2 << 20, "{grown} bytes wait");
}
