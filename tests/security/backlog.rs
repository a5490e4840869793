//! Peers that send and do not read, or read and do not wait: what piles up has an end.
use crate::counting::{live_of_thread, peak_of_thread};
use crate::support::endpoint::{BOTH, Ours};
use crate::support::*;
use crate::{either, frame_to, open_as};
use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::Limits;
use workerman::prelude::*;

fn turn() {
    Worker::turn(0).expect("a turn");
}

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
                turn();
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
    for ours in BOTH {
        let limits = Limits::new().send_buffer_bytes(256 << 10);
        let (con, _peer) = open_as!(ours, "", |it| it.set_limits(limits));
        let message = vec![b'x'; 16 << 10];
        let mut dropped = 0;
        let peak = peak_of_thread(|| {
            for _ in 0..2000 {
                dropped += usize::from(either!(con, send, &message[..]) == Sent::Dropped);
                turn();
            }
        });
        assert!(dropped > 0, "32 MB were taken, {ours:?}");
        assert!(peak < 1 << 20, "{peak} bytes wait, {ours:?}");
    }
}

#[test]
fn openai_java_1013_of_pings_that_nobody_hears_the_answers_of_one_is_answered() {
    // A peer that pings and never reads: one pong waits, the latest, and not one a ping. A pong
    // that nobody asked for is answered by nothing.
    for ours in BOTH {
        let (con, mut peer) = open_as!(ours, "", |it| it.on_message(|_, _| ()));
        // The socket is full, and has been noticed to be.
        while con.send(&[b'x'; 8 << 10][..]) == Sent::Flushed {
            turn();
        }
        for (first, pong) in [(0x8a, 0), (0x89, if ours == Ours::Client { 106 } else { 102 })] {
            let frames = frame_to(ours, first, &[b'p'; 100]).repeat(500);
            // With its window told anew the kernel may take a little more; then it takes no more.
            while con.send(&[b'x'; 8 << 10][..]) == Sent::Flushed {
                turn_for(Duration::from_millis(20));
            }
            let (waits, before) = (either!(con, send_buffer_len), live_of_thread());
            let from = either!(con, bytes_read);
            let sent = flood(&mut peer, &frames, 4 << 20);
            turn_until(|| either!(con, bytes_read) == from + sent as u64);
            let grown = live_of_thread() - before;
            assert!(grown < 16 << 10, "{grown} bytes more for {sent} bytes of pings, {ours:?}");
            assert_eq!(either!(con, send_buffer_len), waits + pong, "one pong waits, {ours:?}");
        }
    }
}

#[test]
fn websockets_105_who_is_not_read_sends_no_more() {
    // Also tornado#2341. A fast sender and a program that has paused: the kernel's buffers fill,
    // ours do not.
    for ours in BOTH {
        let got = Rc::new(Cell::new(0));
        let at = got.clone();
        let (con, mut peer) = open_as!(ours, "", |it| {
            it.on_message(move |_, _| at.set(at.get() + 1));
        });
        either!(con, pause_recv);
        let frame = frame_to(ours, 0x82, &[b'x'; 100]);
        let frames = frame.repeat(500);
        let before = live_of_thread();
        let sent = flood(&mut peer, &frames, 64 << 20);
        let grown = live_of_thread() - before;
        assert!(sent < 64 << 20, "all of it was read, {ours:?}");
        assert_eq!(got.get(), 0, "messages while the program has paused, {ours:?}");
        assert!(grown < 256 << 10, "{grown} bytes more for {sent} that nobody wants, {ours:?}");
        either!(con, resume_recv);
        turn_until(|| got.get() >= sent / frame.len() - 1);
    }
}

#[test]
fn websockets_105_an_echo_reads_no_more_than_it_can_send() {
    // One that echoes to somebody who never reads: neither memory nor messages are lost. A client
    // is served on unless it asks for that.
    for ours in BOTH {
        let dropped = Rc::new(Cell::new(0));
        let at = dropped.clone();
        let (con, mut peer) = open_as!(ours, "", |it| {
            it.set_limits(Limits::new().send_buffer_bytes(256 << 10));
            it.on_message(move |con, data| {
                at.set(at.get() + usize::from(con.send(data) == Sent::Dropped));
            });
        });
        either!(con, set_backpressure, true);
        let frames = frame_to(ours, 0x82, &[b'x'; 100]).repeat(500);
        let before = live_of_thread();
        let sent = flood(&mut peer, &frames, 64 << 20);
        let grown = live_of_thread() - before;
        assert!(sent < 64 << 20, "all of it was read, {ours:?}");
        assert_eq!(dropped.get(), 0, "echoes were dropped, {ours:?}");
        assert!(grown < 2 << 20, "{grown} bytes wait, {ours:?}");
    }
}
