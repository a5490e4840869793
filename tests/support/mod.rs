//! What tests share: a watchdog, a transcript of events, raw peers on loopback.
#![allow(dead_code)]
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;

pub(crate) mod endpoint;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod peers;

/// No test may take longer: what hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What happened, in order, as lines.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Rc<RefCell<Vec<String>>>);

impl Transcript {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn note(&self, line: impl Display) {
        self.0.borrow_mut().push(line.to_string());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.0.borrow().iter().any(|l| l == line)
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.0.borrow().iter().filter(|l| *l == line).count()
    }

    #[track_caller]
    pub(crate) fn assert(&self, expected: &[&str]) {
        assert_eq!(self.lines(), expected, "the transcript (left) is not the promise (right)");
    }
}

/// Turns this thread's loop until `done`; panics when it takes too long.
#[track_caller]
pub(crate) fn turn_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it did not happen in {PATIENCE:?}");
        let more = Worker::turn(Duration::from_millis(20)).expect("a turn");
        assert!(more || done(), "the loop ended before it happened");
    }
}

/// Turns this thread's loop for so long, whatever happens.
pub(crate) fn turn_for(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        if !Worker::turn(left).expect("a turn") {
            return;
        }
    }
}

/// Runs the loop to its end with a deadline: a stop after `PATIENCE` fails the test.
#[track_caller]
pub(crate) fn run_all_in_time() -> Result {
    Timer::delay(PATIENCE, || panic!("the loop did not end in {PATIENCE:?}"));
    Worker::run_all()
}

/// A peer that knows nothing of us: blocking, with deadlines.
pub(crate) fn raw_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    (listener, addr)
}

/// A loopback address of one's own: where it matters that nobody listens any more, no other test
/// may get the port.
pub(crate) fn own_host() -> std::net::Ipv4Addr {
    use std::sync::atomic::{AtomicU8, Ordering};
    static LAST: AtomicU8 = AtomicU8::new(0);
    let (process, last) = (std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    std::net::Ipv4Addr::new(127, 16 + last % 200, (process >> 8) as u8, process as u8)
}

/// Nobody listens there any more. A process that another test is just starting holds every
/// descriptor of ours for a moment, so one look is not enough.
pub(crate) fn nobody_listens(addr: SocketAddr) -> bool {
    let end = Instant::now() + Duration::from_secs(2);
    while TcpStream::connect(addr).is_ok() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A blocking socket that gives up after `PATIENCE`.
pub(crate) fn raw_connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("somebody listens");
    with_deadline(stream)
}

pub(crate) fn raw_accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("somebody connects");
    with_deadline(stream)
}

pub(crate) fn with_deadline(stream: TcpStream) -> TcpStream {
    // What is written leaves then, not with an acknowledgement.
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    stream.set_write_timeout(Some(PATIENCE)).expect("a deadline");
    stream
}

/// Reads up to and with the empty line that ends an HTTP head.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read(&mut byte).expect("a head"), 0, "the end inside a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

/// Reads exactly so many bytes.
pub(crate) fn read_bytes(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// One WebSocket frame as it came: first byte, and the payload unmasked.
pub(crate) fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let head = read_bytes(stream, 2);
    let length = match head[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes(read_bytes(stream, 2).try_into().expect("two"))),
        127 => u64::from_be_bytes(read_bytes(stream, 8).try_into().expect("eight")),
        short => u64::from(short),
    };
    let mask = if head[1] & 0x80 != 0 { read_bytes(stream, 4) } else { vec![0; 4] };
    let mut payload = read_bytes(stream, length as usize);
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[i % 4];
    }
    (head[0], payload)
}

/// A frame as a server sends it (short payloads).
pub(crate) fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![first, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

/// A frame as a client sends it (short payloads), masked.
pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mask = [1u8, 2, 3, 4];
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
    frame
}

/// The server's side of a handshake over a raw socket; hands back the request's head.
pub(crate) fn raw_handshake(stream: &mut TcpStream) -> String {
    let head = read_head(stream);
    let answer = accept_head(&head);
    stream.write_all(answer.as_bytes()).expect("the 101");
    head
}

/// The 101 that answers this request.
pub(crate) fn accept_head(request: &str) -> String {
    use base64::Engine;
    use sha1::Digest;
    let key =
        request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let mut sha = sha1::Sha1::new();
    sha.update(key.trim());
    sha.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(sha.finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// A client's handshake over a raw socket; hands back the answer's head.
pub(crate) fn raw_upgrade(stream: &mut TcpStream) -> String {
    let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the request");
    read_head(stream)
}
