//! What a worker accepts from.
use super::{Place, Stream, tcp, unix};
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// With who bound it; a process that was handed the socket has none.
        file: Option<unix::SocketFile>,
    },
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Ip(SocketAddr),
    /// Unix clients have no names.
    Unix,
}

impl Listener {
    pub(crate) fn bind(
        place: &Place,
        backlog: i32,
        reuse_port: bool,
        only_v6: Option<bool>,
    ) -> io::Result<Self> {
        match place {
            Place::Ip(address) => {
                tcp::listen(*address, backlog, reuse_port, only_v6).map(Listener::Tcp)
            }
            Place::Unix(path) => unix::listen(path, backlog)
                .map(|(socket, file)| Listener::Unix { socket, file: Some(file) }),
        }
    }

    /// A socket that another process bound.
    pub(crate) fn handed(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            let socket = UnixListener::from_std(socket.into());
            return Ok(Listener::Unix { socket, file: None });
        }
        Ok(Listener::Tcp(TcpListener::from_std(socket.into())))
    }

    /// The next connection; its options are set.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                tcp::accept(listener).map(|(socket, peer)| (Stream::tcp(socket), Peer::Ip(peer)))
            }
            Listener::Unix { socket, .. } => super::again(|| socket.accept())
                .map(|(socket, _)| (Stream::unix(socket), Peer::Unix)),
        }
    }

    /// With the port that the system chose; `None` for a unix socket.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix { .. } => None,
        }
    }

    /// The process is at its limit of descriptors: accepting pauses until some are closed.
    pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }

    /// A newcomer was gone before it was accepted, or its network was (Linux reports that here):
    /// the next one may be there.
    pub(crate) fn is_lost_newcomer(error: &io::Error) -> bool {
        use io::ErrorKind as Kind;
        let gone = matches!(
            error.kind(),
            Kind::ConnectionAborted
                | Kind::ConnectionReset
                | Kind::NetworkDown
                | Kind::NetworkUnreachable
                | Kind::HostUnreachable
        );
        gone || Errno::from_io_error(error) == Some(Errno::PROTO)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix { socket, .. } => socket.as_fd(),
        }
    }
}

impl Source for Listener {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.register(to, token, interest),
            Listener::Unix { socket, .. } => socket.register(to, token, interest),
        }
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.reregister(to, token, interest),
            Listener::Unix { socket, .. } => socket.reregister(to, token, interest),
        }
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.deregister(from),
            Listener::Unix { socket, .. } => socket.deregister(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{Folder, Watch, loopback};

    #[test]
    fn a_socket_that_another_process_bound_is_served_as_it_is() {
        let folder = Folder::new("handed");
        let places = [Place::Ip(loopback()), Place::Unix(folder.path("a.sock"))];
        for place in places {
            let bound = Listener::bind(&place, 16, false, None).expect("bind");
            let copy = bound.as_fd().try_clone_to_owned().expect("dup");
            let mut handed = Listener::handed(copy).expect("handed");
            let client = match &place {
                Place::Ip(_) => {
                    Stream::tcp(tcp::dial(bound.local_addr().expect("port"), None).expect("dial"))
                }
                Place::Unix(path) => Stream::unix(unix::dial(path).expect("dial")),
            };
            Watch::on(&mut handed, Interest::READABLE).wait();
            let (_, peer) = handed.accept().expect("accept");
            match peer {
                Peer::Ip(address) => assert_eq!(Some(address), client.local_addr()),
                Peer::Unix => assert_eq!(client.local_path(), None),
            }
            drop(handed);
            if let Place::Unix(path) = &place {
                assert!(path.exists(), "the file is its binder's");
            }
        }
    }

    #[test]
    fn errors_of_accept_are_told_apart() {
        let of = io::Error::from_raw_os_error;
        assert!(Listener::is_out_of_descriptors(&of(24)));
        assert!(Listener::is_out_of_descriptors(&of(23)));
        assert!(!Listener::is_out_of_descriptors(&io::ErrorKind::WouldBlock.into()));
        assert!(Listener::is_lost_newcomer(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!Listener::is_lost_newcomer(&io::ErrorKind::WouldBlock.into()));
    }
}
