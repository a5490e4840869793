//! What connections and messages cost in memory, counted by an allocator of the test's own.
//!
//! All in one test: the count is the process's, and nothing else may run meanwhile.
#[path = "support/mod.rs"]
mod support;

#[path = "support/counting.rs"]
mod counting;

use counting::{calls, live};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use support::*;
use workerman::prelude::*;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Both ends of each are in this process, and machines allow 1 024 descriptors. More with
/// `WORKERMAN_CONNECTIONS`, where `ulimit -n` allows twice as many.
fn connections() -> usize {
    let asked = std::env::var("WORKERMAN_CONNECTIONS").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(400)
}

/// In debug builds mio keeps a number of its own beside each socket.
const OF_DEBUG_BUILDS: isize = if cfg!(debug_assertions) { 16 } else { 0 };

/// An idle accepted WebSocket, before and after it has carried something large.
const ACCEPTED_BYTES: isize = 256 + OF_DEBUG_BUILDS;
/// An idle client, with the callbacks of the manual's program and what it keeps to reconnect.
const CLIENT_BYTES: isize = 1024 + OF_DEBUG_BUILDS;

/// So many of them carry something large.
const TOUCHED: usize = 100;
/// So many of them, beside the clients that are still there: both ends take descriptors.
#[cfg(feature = "deflate")]
const COMPRESSING: usize = 64;
/// An idle accepted WebSocket that compresses without takeover, which is the default, behind a
/// message in either direction: nothing but what it has agreed on.
#[cfg(feature = "deflate")]
const COMPRESSING_BYTES: isize = 448 + OF_DEBUG_BUILDS;
/// The same with takeover in both directions: a compressor and an inflater of its own.
#[cfg(feature = "deflate")]
const REMEMBERING_BYTES: isize = 336 << 10;

fn live_per(before: isize, count: usize) -> isize {
    (live() - before) / count as isize
}

/// A client's frame of 64 KiB and more: the length in eight bytes, a mask of zeros.
fn large_frame(length: usize) -> Vec<u8> {
    let mut frame = vec![0x82, 0xff];
    frame.extend_from_slice(&(length as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(14 + length, b'x');
    frame
}

fn accepted() -> (Worker<Websocket>, Vec<TcpStream>) {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("an address");
    worker.on_message(|con, data| con.send(data));
    worker.on_close(|_| {});
    turn_until(|| worker.local_addr().is_some());
    let addr = worker.local_addr().expect("it listens");
    let mut peers = Vec::with_capacity(connections() + 1);
    let open = |peers: &mut Vec<TcpStream>| {
        let mut peer = raw_connect(addr);
        let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        peer.write_all(request.as_bytes()).expect("the request");
        let count = peers.len() + 1;
        turn_until(|| worker.any().connections().len() == count);
        turn_until(|| {
            peer.set_nonblocking(true).expect("set");
            let there = peer.peek(&mut [0]).is_ok();
            peer.set_nonblocking(false).expect("set");
            there
        });
        read_head(&mut peer);
        peers.push(peer);
    };
    open(&mut peers);
    let before = live();
    for _ in 0..connections() {
        open(&mut peers);
    }
    let idle = live_per(before, connections());
    eprintln!("idle accepted connection: {idle} live heap bytes");
    assert!(idle <= ACCEPTED_BYTES, "an idle accepted connection has {idle} live heap bytes");

    let (frame, mut back) = (large_frame(256 << 10), vec![0; 10 + (256 << 10)]);
    let before_frames = live();
    for peer in peers.iter_mut().take(TOUCHED) {
        let mut sender = peer.try_clone().expect("a copy");
        let copy = frame.clone();
        let sending = std::thread::spawn(move || sender.write_all(&copy).expect("it is read"));
        peer.set_nonblocking(true).expect("set");
        let mut got = 0;
        turn_until(|| {
            got += peer.read(&mut back[got..]).unwrap_or(0);
            got == back.len()
        });
        peer.set_nonblocking(false).expect("set");
        sending.join().expect("sent");
    }
    let grown = live_per(before_frames, TOUCHED);
    eprintln!("after 256 KiB each: {} live heap bytes", idle + grown);
    assert!(idle + grown <= ACCEPTED_BYTES, "{} live heap bytes after a message", idle + grown);
    (worker, peers)
}

/// Echoes of small messages, some at once: once the first have made room, nothing is allocated.
fn steady(peer: &mut TcpStream) {
    let batch: Vec<u8> = (0..16).flat_map(|_| client_frame(0x81, &[b'x'; 64])).collect();
    let mut back = vec![0; 16 * 66];
    let mut round = || {
        peer.write_all(&batch).expect("it is read");
        peer.set_nonblocking(true).expect("set");
        let mut got = 0;
        turn_until(|| {
            got += peer.read(&mut back[got..]).unwrap_or(0);
            got == back.len()
        });
        peer.set_nonblocking(false).expect("set");
    };
    for _ in 0..20 {
        round();
    }
    let before = calls();
    for _ in 0..200 {
        round();
    }
    let more = calls() - before;
    eprintln!("3 200 echoed messages: {more} allocations");
    assert_eq!(more, 0, "allocations in 3 200 echoed messages");
}

/// A server in a thread, which answers each handshake and keeps nothing.
fn silent_server() -> SocketAddr {
    let (listener, addr) = raw_listener();
    std::thread::spawn(move || serve(&listener));
    addr
}

fn serve(listener: &TcpListener) {
    let mut kept = Vec::with_capacity(connections() + 1);
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        raw_handshake(&mut stream);
        kept.push(stream);
    }
}

fn clients() {
    let addr = silent_server();
    let open = Rc::new(Cell::new(0));
    let make = |open: &Rc<Cell<usize>>| {
        let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}/feed")).expect("made");
        con.set_headers([("Cookie", "PHPSID=82u98fjhakfusuanfnahfi")]).expect("a right header");
        con.on_connect(|_| {});
        let count = open.clone();
        con.on_websocket_connect(move |_, _| count.set(count.get() + 1));
        con.on_message(|_, _| {});
        con.on_error(|_, _, _| {});
        con.on_close(|con| con.reconnect(1));
        con.connect();
    };
    make(&open);
    turn_until(|| open.get() == 1);
    let before = live();
    for i in 0..connections() {
        make(&open);
        turn_until(|| open.get() == i + 2);
    }
    // What the server's thread holds meanwhile is its heads: give it the time to drop them.
    turn_for(std::time::Duration::from_millis(50));
    let idle = live_per(before, connections());
    eprintln!("idle client: {idle} live heap bytes");
    assert!(idle <= CLIENT_BYTES, "an idle client has {idle} live heap bytes");
}

/// Idle connections that have echoed a compressed message each.
#[cfg(feature = "deflate")]
fn compressing(deflate: workerman::Deflate, count: usize) -> isize {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("an address");
    worker.set_websocket_deflate(deflate);
    worker.on_message(|con, data| con.send(data));
    turn_until(|| worker.local_addr().is_some());
    let addr = worker.local_addr().expect("it listens");
    let mut peers = Vec::with_capacity(count + 1);
    let mut packer = zlib_rs::Deflate::new(6, false, 15);
    let mut packed = vec![0; 200];
    let flush = zlib_rs::DeflateFlush::SyncFlush;
    packer.compress(&[b'x'; 2000], &mut packed, flush).expect("it compresses");
    packed.truncate(packer.total_out() as usize - 4);
    let open = |peers: &mut Vec<TcpStream>| {
        let mut peer = raw_connect(addr);
        let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        peer.write_all(request.as_bytes()).expect("the request");
        peer.write_all(&client_frame(0xc1, &packed)).expect("a message");
        let waits = |peer: &TcpStream, least: usize| {
            peer.set_nonblocking(true).expect("set");
            let there = peer.peek(&mut [0; 1024]).is_ok_and(|length| length >= least);
            peer.set_nonblocking(false).expect("set");
            there
        };
        turn_until(|| waits(&peer, 1));
        let head = read_head(&mut peer);
        assert!(head.contains("permessage-deflate"), "{head}");
        turn_until(|| waits(&peer, 3));
        assert_eq!(read_frame(&mut peer).0, 0xc1, "the echo is compressed");
        peers.push(peer);
    };
    open(&mut peers);
    turn_for(std::time::Duration::from_millis(20));
    let before = live();
    for _ in 0..count {
        open(&mut peers);
    }
    let idle = live_per(before, count);
    drop(peers);
    turn_until(|| worker.any().connections().is_empty());
    worker.unlisten();
    idle
}

#[cfg(feature = "deflate")]
fn compressed() {
    let deflate = workerman::Deflate::default();
    let idle = compressing(deflate, COMPRESSING);
    eprintln!("idle accepted connection that compresses: {idle} live heap bytes");
    assert!(idle <= COMPRESSING_BYTES, "{idle} live heap bytes");
    let remembering = deflate.server_no_context_takeover(false).client_no_context_takeover(false);
    let idle = compressing(remembering, 32);
    eprintln!("and with takeover both ways: {idle} live heap bytes");
    assert!(idle <= REMEMBERING_BYTES, "{idle} live heap bytes");
    let half = deflate.server_no_context_takeover(false);
    let idle = compressing(half, 32);
    eprintln!("and with takeover of what is sent alone: {idle} live heap bytes");
}

#[test]
fn idle_connections_and_steady_messages_cost_what_is_promised() {
    // At most 256 live heap bytes an idle accepted connection, 1 KiB an idle client, no allocation
    // a message.
    let (_worker, mut peers) = accepted();
    steady(&mut peers[0]);
    drop(peers);
    turn_for(std::time::Duration::from_millis(200));
    clients();
    #[cfg(feature = "deflate")]
    compressed();
}
