//! Peers that do as a test says, and callbacks that write down what came.
use super::{PATIENCE, Transcript, raw_accept, raw_listener};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Connection, Protocol, Role, Serve};

/// A thread that plays the other end over blocking sockets; its panic is the test's.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Plays with the listener.
    pub(crate) fn listening(play: impl FnOnce(TcpListener) + Send + 'static) -> Peer {
        let (listener, addr) = raw_listener();
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Peer { addr, thread: Some(std::thread::spawn(move || play(listener))) }
    }

    /// Plays with the first that connects; nobody else is let in.
    pub(crate) fn with_one(play: impl FnOnce(TcpStream) + Send + 'static) -> Peer {
        Peer::listening(move |listener| {
            let stream = raw_accept(&listener);
            drop(listener);
            play(stream);
        })
    }

    /// Whether it has come to its end, well or badly.
    pub(crate) fn has_played(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn ws(&self) -> String {
        format!("ws://{}", self.addr)
    }

    pub(crate) fn tcp(&self) -> String {
        format!("tcp://{}", self.addr)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A test that has failed may have left it waiting.
        let thread = self.thread.take().filter(|_| !std::thread::panicking());
        if let Some(Err(panic)) = thread.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Reads to the other end's end, or to its reset, and hands back what came.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        Err(e) => panic!("the other end did not end: {e}"),
    }
    bytes
}

/// Ends the socket with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(stream);
}

/// An address where nobody listens for as long as the socket is held.
pub(crate) fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    let addr = socket.local_addr().expect("its address").as_socket().expect("an IP address");
    (socket, addr)
}

/// An address that answers no SYN, because its queue is full, for as long as these are held.
pub(crate) fn black_hole() -> (Vec<Socket>, SocketAddr) {
    let (socket, addr) = refusing();
    socket.listen(1).expect("it listens");
    let mut held = vec![socket];
    // A queue of one holds two on Linux; the others are on their way for ever.
    for _ in 0..8 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        filler.set_nonblocking(true).expect("non-blocking");
        let _ = filler.connect(&addr.into());
        held.push(filler);
    }
    (held, addr)
}

/// A worker that listens on loopback, started.
pub(crate) fn start<P: Serve + Default>() -> (Worker<P>, SocketAddr) {
    let worker = Worker::<P>::listen(&format!("{}://127.0.0.1:0", P::NAME)).expect("it listens");
    Worker::turn(0).expect("the first turn");
    let addr = worker.local_addr().expect("it is bound");
    (worker, addr)
}

/// `error 1 Refused Connect CLOSING`: code, kind, phase, and the status meanwhile.
pub(crate) fn error_line<P: Protocol, R: Role>(
    con: Connection<P, R>,
    code: ErrorCode,
    failure: &Failure,
) -> String {
    format!("error {code} {:?} {:?} {}", failure.kind(), failure.phase(), con.status())
}

/// Notes opening, errors and end, each with the status meanwhile.
pub(crate) fn watch<P: Protocol, R: Role>(con: Connection<P, R>, to: &Transcript) {
    let t = to.clone();
    con.on_connect(move |con| t.note(format!("connect {}", con.status())));
    let t = to.clone();
    con.on_error(move |con, code, failure| t.note(error_line(con, code, failure)));
    let t = to.clone();
    con.on_close(move |con| t.note(format!("close {}", con.status())));
}

/// A WebSocket client that notes all that comes.
pub(crate) fn ws_client(address: &str, to: &Transcript) -> AsyncTcpConnection<Ws> {
    let con = AsyncTcpConnection::<Ws>::new(address).expect("an address");
    watch(con, to);
    let t = to.clone();
    con.on_websocket_connect(move |_, response| t.note(format!("open {}", response.status())));
    let t = to.clone();
    con.on_message(move |_, data| t.note(format!("message {data}")));
    let t = to.clone();
    con.on_websocket_close(move |con, code, reason| {
        t.note(format!("farewell {code} {reason:?} {}", con.status()));
    });
    con
}

/// A client of lines or of bytes that notes all that comes.
pub(crate) fn tcp_client(address: &str, to: &Transcript) -> AsyncTcpConnection<Tcp> {
    let con = AsyncTcpConnection::<Tcp>::new(address).expect("an address");
    watch(con, to);
    let t = to.clone();
    con.on_message(move |_, data| t.note(format!("message {}", data.escape_ascii())));
    con
}

/// Certificate and key for `localhost`, signed by nobody, in one file that goes with the test.
pub(crate) struct Identity(PathBuf);

impl Identity {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) fn identity() -> Identity {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("certificate");
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let name = format!("workerman-test-{}-{number}.pem", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, made.cert.pem() + &made.signing_key.serialize_pem()).expect("a file");
    Identity(path)
}
