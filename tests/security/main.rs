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

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;
use support::*;

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

/// The head of a client's frame of so many bytes, whose mask changes nothing.
fn long_head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first, 0xff];
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

/// A close frame of a client's.
fn farewell() -> Vec<u8> {
    client_frame(0x88, &1000u16.to_be_bytes())
}

/// The code of the server's close frame; what comes before is not looked at.
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
