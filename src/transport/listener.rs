//! What a worker accepts from.
use super::{Place, Stream, tcp, unix};
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// With who bound it; a process that was handed the socket has none.
        _file: unix::SocketFile,
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
                .map(|(socket, file)| Listener::Unix { socket, _file: file }),
        }
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
