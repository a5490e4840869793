//! Promise: what broke other libraries does not break this one. One test for each entry of the
//! advisories that could concern us, named after it; `README.md` here has the table, and `prove`
//! shows that each test fails when its defence is taken out.
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/counting.rs"]
mod counting;

mod backlog;
mod frames;
mod heads;
#[cfg(feature = "deflate")]
mod inflate;
mod masks;
mod origins;
mod slow;
mod smuggling;
mod stale;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use support::endpoint::Ours;
use support::*;
use workerman::prelude::*;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// A client's handshake, with these lines more.
fn upgrade(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A raw client of a WebSocket worker of this loop, whose handshake is complete.
fn opened(addr: SocketAddr, more: &str) -> TcpStream {
    let mut peer = raw_connect(addr);
    peer.write_all(upgrade(more).as_bytes()).expect("the request");
    turn_until(|| has_come(&peer));
    let head = read_head(&mut peer);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    peer
}

/// A raw server of a client of this loop, whose handshake is complete.
fn answered(con: AsyncTcpConnection<Ws>, listener: TcpListener, more: &str) -> TcpStream {
    let open = Rc::new(Cell::new(false));
    let at = open.clone();
    con.on_websocket_connect(move |_, _| at.set(true));
    con.connect();
    let lines = format!("\r\n{more}\r\n");
    let peer = finish(std::thread::spawn(move || {
        let mut stream = raw_accept(&listener);
        let answer = accept_head(&read_head(&mut stream)).replace("\r\n\r\n", &lines);
        stream.write_all(answer.as_bytes()).expect("the 101");
        stream
    }));
    turn_until(|| open.get());
    peer
}

/// One of ours that is open, as `AnyConnection`, and the raw peer. The peer's handshake has these
/// lines more; the worker or the client is set up before.
macro_rules! open_as {
    ($ours:expr, $more:expr, |$it:ident| $set:expr) => {
        match $ours {
            crate::support::endpoint::Ours::Server => {
                let ($it, addr) = crate::support::peers::start::<Websocket>();
                $set;
                let peer = crate::opened(addr, $more);
                ($it.connections()[0].any(), peer)
            }
            crate::support::endpoint::Ours::Client => {
                let (listener, addr) = crate::support::raw_listener();
                let address = format!("ws://{addr}");
                let $it = AsyncTcpConnection::<Ws>::new(&address).expect("an address");
                $set;
                ($it.any(), crate::answered($it, listener, $more))
            }
        }
    };
}

/// Calls a method of whichever of the two it is.
macro_rules! either {
    ($con:expr, $call:ident $(, $with:expr)*) => {
        match $con.downcast::<Ws, workerman::Client>() {
            Some(con) => con.$call($($with),*),
            None => {
                let con = $con.downcast::<Websocket, workerman::Server>().expect("no third");
                con.$call($($with),*)
            }
        }
    };
}
use {either, open_as};

/// Whether the peer has something to read: bytes, or an end.
fn has_come(peer: &TcpStream) -> bool {
    peer.set_nonblocking(true).expect("an option");
    let peeked = peer.peek(&mut [0]);
    peer.set_nonblocking(false).expect("an option");
    !matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
}

/// Turns this thread's loop until the peer's thread has played; its panic is the test's.
#[track_caller]
fn finish<T>(peer: JoinHandle<T>) -> T {
    turn_until(|| peer.is_finished());
    peer.join().expect("the peer's part")
}

/// Sends this to a worker of this loop and hands back all that comes until its end. Those who
/// refuse early may reset what is still on its way.
#[track_caller]
fn talk(addr: SocketAddr, request: impl Into<Vec<u8>>) -> String {
    let request = request.into();
    let peer = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let _ = stream.write_all(&request);
        stream.set_read_timeout(Some(PATIENCE / 2)).expect("an option");
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            answer.extend_from_slice(&piece[..n]);
        }
        answer
    });
    String::from_utf8_lossy(&finish(peer)).into_owned()
}

/// The status of the first answer, 0 where there is none.
#[track_caller]
fn status(addr: SocketAddr, request: impl Into<Vec<u8>>) -> u16 {
    let answer = talk(addr, request);
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The head of a frame of so many bytes for ours; where there is a mask it changes nothing.
fn head_to(ours: Ours, first: u8, length: u64) -> Vec<u8> {
    let masked = if ours == Ours::Server { 0x80 } else { 0 };
    let mut head = match length {
        0..126 => vec![first, masked | length as u8],
        126..0x1_0000 => vec![first, masked | 126, (length >> 8) as u8, length as u8],
        _ => [&[first, masked | 127][..], &length.to_be_bytes()].concat(),
    };
    if masked != 0 {
        head.extend_from_slice(&[0; 4]);
    }
    head
}

/// A whole frame for ours.
fn frame_to(ours: Ours, first: u8, payload: &[u8]) -> Vec<u8> {
    [&head_to(ours, first, payload.len() as u64), payload].concat()
}

/// The peer's close frame.
fn farewell_to(ours: Ours) -> Vec<u8> {
    frame_to(ours, 0x88, &1000u16.to_be_bytes())
}

/// The code of our close frame; what comes before is not looked at.
fn close_code(mut peer: TcpStream) -> u16 {
    loop {
        let (first, payload) = read_frame(&mut peer);
        if first == 0x88 {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}

/// The time that this thread computes for `work`: others on the machine do not count.
fn computing(work: impl FnOnce()) -> Duration {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = now();
    work();
    let passed = now() - before;
    Duration::new(passed.tv_sec as u64, passed.tv_nsec as u32)
}
