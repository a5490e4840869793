//! Raw peers for the tests of sending and closing, and what makes their sockets full.
use crate::support::*;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Connection, Dial, Role, Serve};

/// What a peer with small buffers lets wait at its end.
const SMALL: usize = 512 << 10;

/// Starts the loop's workers; where this one listens.
pub(crate) fn listening<P: Serve>(worker: Worker<P>) -> SocketAddr {
    Worker::turn(Duration::ZERO).expect("it starts");
    worker.local_addr().expect("it listens")
}

/// A listener whose connections soon have a full socket.
pub(crate) fn small_listener() -> (TcpListener, SocketAddr) {
    let (listener, addr) = raw_listener();
    SockRef::from(&listener).set_recv_buffer_size(SMALL).expect("a small buffer");
    (listener, addr)
}

/// A peer whose socket is soon full.
pub(crate) fn small_connect(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(SMALL).expect("a small buffer");
    socket.connect(&addr.into()).expect("somebody listens");
    with_deadline(TcpStream::from(socket))
}

/// A client of the library's for this listener.
pub(crate) fn client<P: Dial + Default>(scheme: &str, addr: SocketAddr) -> AsyncTcpConnection<P> {
    AsyncTcpConnection::new(&format!("{scheme}://{addr}")).expect("a client")
}

/// Dials, and hands out the peer's end.
pub(crate) fn dialed<P: Dial>(con: AsyncTcpConnection<P>, listener: &TcpListener) -> TcpStream {
    con.connect();
    turn_until(|| con.status() == Status::Established);
    raw_accept(listener)
}

/// Dials, and completes the handshake as a server.
pub(crate) fn ws_dialed(con: AsyncTcpConnection<Ws>, listener: &TcpListener) -> TcpStream {
    let mut peer = dialed(con, listener);
    raw_handshake(&mut peer);
    turn_until(|| con.bytes_read() > 0);
    peer
}

/// Connects to a worker of this loop; the worker's end of it, too.
pub(crate) fn accepted<P: Serve>(
    worker: Worker<P>,
    peer: TcpStream,
) -> (TcpConnection<P>, TcpStream) {
    let port = peer.local_addr().expect("its address").port();
    let found = || {
        worker.connections().into_iter().find(|con: &TcpConnection<P>| con.remote_port() == port)
    };
    turn_until(|| found().is_some_and(|con| con.status() == Status::Established));
    (found().expect("it was there"), peer)
}

/// Connects to a worker of this loop, and completes the handshake as a client.
pub(crate) fn ws_accepted(
    worker: Worker<Websocket>,
    mut peer: TcpStream,
) -> (TcpConnection<Websocket>, TcpStream) {
    peer.write_all(UPGRADE.as_bytes()).expect("the request");
    let (con, mut peer) = accepted(worker, peer);
    turn_until(|| arrived(&peer));
    assert!(read_head(&mut peer).starts_with("HTTP/1.1 101 "));
    (con, peer)
}

/// A client's handshake.
pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Whether the peer has something to read: bytes, or an end.
pub(crate) fn arrived(peer: &TcpStream) -> bool {
    peer.set_nonblocking(true).expect("an option");
    let peeked = peer.peek(&mut [0]);
    peer.set_nonblocking(false).expect("an option");
    !matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// Reads to the end in a thread of its own.
pub(crate) fn reader(mut peer: TcpStream) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).map(|_| bytes)
    })
}

/// Turns the loop until the thread has ended.
#[track_caller]
pub(crate) fn turned<T>(thread: JoinHandle<T>) -> T {
    turn_until(|| thread.is_finished());
    thread.join().expect("the peer's assertions hold")
}

/// All that the peer gets until the connection's end, which must be an orderly one.
#[track_caller]
pub(crate) fn all_of(peer: TcpStream) -> Vec<u8> {
    turned(reader(peer)).expect("no reset")
}

/// Sends until the socket is full and bytes wait. How many sends that were.
pub(crate) fn fill(mut send: impl FnMut() -> Sent) -> usize {
    for sends in 1.. {
        match send() {
            Sent::Flushed => assert!(sends < 10_000, "the socket never gets full"),
            Sent::Buffered => return sends,
            Sent::Dropped => panic!("dropped before the socket was full"),
        }
    }
    unreachable!()
}

/// Sends until at least so many bytes wait and none of them moves any more. How many sends that
/// were.
pub(crate) fn stuff<P: Protocol, R: Role>(
    con: Connection<P, R>,
    least: usize,
    send: impl Fn() -> Sent,
) -> usize {
    let mut sends = 0;
    loop {
        while con.send_buffer_len() < least {
            assert_ne!(send(), Sent::Dropped);
            sends += 1;
        }
        let before = con.send_buffer_len();
        // Longer than an acknowledgement may be delayed.
        turn_for(Duration::from_millis(60));
        if con.send_buffer_len() == before {
            return sends;
        }
    }
}

/// Closes so that the other end sees a reset.
pub(crate) fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(peer);
}

/// Notes how this connection opens, fails and closes.
pub(crate) fn noted<P: Protocol, R: Role>(con: Connection<P, R>, transcript: &Transcript) {
    let t = transcript.clone();
    con.on_connect(move |_| t.note("connect"));
    noted_end(con, transcript);
}

/// Notes how this connection fails and closes.
pub(crate) fn noted_end<P: Protocol, R: Role>(con: Connection<P, R>, transcript: &Transcript) {
    let t = transcript.clone();
    con.on_error(move |_, code, failure| t.note(format_args!("{code:?} {:?}", failure.kind())));
    let t = transcript.clone();
    con.on_close(move |_| t.note("close"));
}
