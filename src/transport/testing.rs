//! What the tests of sockets share: waiting with a bound, folders that vanish, two ends of a
//! connection.
#![cfg_attr(
    not(any(feature = "tls", feature = "tls-aws-lc")),
    allow(dead_code, reason = "most of it serves the tests of TLS")
)]
use super::{Socket, Stream, tcp, unix};
use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, fs, process};

/// What has not happened by then never will.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// The system chooses the port.
pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Waits for one source.
pub(crate) struct Watch<'a, S: Source> {
    poll: Poll,
    source: &'a mut S,
}

impl<'a, S: Source> Watch<'a, S> {
    pub(crate) fn on(source: &'a mut S, interest: Interest) -> Self {
        let poll = Poll::new().expect("poll");
        poll.registry().register(source, Token(0), interest).expect("register");
        Watch { poll, source }
    }

    pub(crate) fn wait(mut self) {
        let mut events = Events::with_capacity(1);
        self.poll.poll(&mut events, Some(BOUND)).expect("poll");
        assert!(!events.is_empty(), "nothing happened in {BOUND:?}");
        self.poll.registry().deregister(self.source).expect("deregister");
    }
}

/// A folder of a test's own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("workerman-{name}-{}-{count}", process::id()));
        fs::create_dir_all(&path).expect("folder");
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("write");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two ends of a tcp connection, the dialling one first.
pub(crate) fn tcp_pair() -> (Stream, Stream) {
    let mut listener = tcp::listen(loopback(), 16, false, None).expect("listen");
    let address = listener.local_addr().expect("address");
    let mut near = tcp::dial(address, None).expect("dial");
    Watch::on(&mut listener, Interest::READABLE).wait();
    let (far, _) = tcp::accept(&listener).expect("accept");
    Watch::on(&mut near, Interest::WRITABLE).wait();
    assert!(tcp::connected(&near).expect("connected"));
    tcp::finish(&near).expect("options");
    (Stream::tcp(near), Stream::tcp(far))
}

/// Two ends of a unix connection.
pub(crate) fn unix_pair() -> (Stream, Stream) {
    let (near, far) = mio::net::UnixStream::pair().expect("pair");
    (Stream::unix(near), Stream::unix(far))
}

pub(crate) fn readable(stream: &mut Stream) {
    Watch::on(stream, Interest::READABLE).wait();
}

pub(crate) fn writable(stream: &mut Stream) {
    Watch::on(stream, Interest::WRITABLE).wait();
}

/// The next bytes, or the end, waiting for them.
pub(crate) fn read_some(stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => readable(stream),
            read => return read,
        }
    }
}

/// So many bytes.
pub(crate) fn read_exact(stream: &mut Stream, count: usize) -> Vec<u8> {
    let mut got = vec![0; count];
    let mut filled = 0;
    while filled < count {
        let more = read_some(stream, &mut got[filled..]).expect("read");
        assert!(more > 0, "the end after {filled} of {count} bytes");
        filled += more;
    }
    got
}

pub(crate) fn write_all(stream: &mut Stream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(taken) => bytes = &bytes[taken..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => writable(stream),
            Err(e) => panic!("write: {e}"),
        }
    }
    while !stream.flush_transport().expect("flush") {
        writable(stream);
    }
}

/// What only tests ask.
impl Stream {
    pub(crate) fn wants_write(&self) -> bool {
        match self {
            Stream::Plain { .. } => false,
            Stream::Tls(tls) => tls.wants_write(),
        }
    }

    /// `None` for a unix socket and for a peer that is gone.
    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// The file that the peer of a unix socket is bound to, if it is.
    pub(crate) fn peer_path(&self) -> Option<String> {
        match self.socket() {
            Socket::Tcp(_) => None,
            Socket::Unix(unix) => unix::path_text(unix.peer_addr()),
        }
    }
}
