//! Sockets: the rest of the crate sees bytes and "would block".
//!
//! A [`Stream`] is a tcp or unix socket, bare or under TLS. None of its calls blocks. What TLS
//! adds to the rules of a bare socket:
//!
//! - [`Stream::write`] answers how much *plaintext* was taken. Fewer bytes than were given, or
//!   `WouldBlock`, mean that the socket is full, so a writable event follows. All bytes taken
//!   does not mean that they left: that is what [`Stream::flush_transport`] answers.
//! - [`Stream::read`] stops short for a small record, so the length of what it gives says nothing
//!   about the socket; [`Stream::drained`] does. What the session still holds shows in
//!   [`Stream::has_unread`], and no event will come for it.
//! - `Ok(0)` is the peer's close_notify. A FIN without one is an error of the kind `UnexpectedEof`:
//!   whoever sits between may have cut the conversation short.
use mio::event::Source;
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

pub(crate) mod address;
pub(crate) mod listener;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod unix;

pub(crate) use address::{ClientAddress, ListenAddress, Place};
pub(crate) use listener::{Listener, Peer};
pub(crate) use tls::{ClientSettings, ServerSettings, TlsFailure, TlsStream};
pub use tls::{Tls, Transport};

/// A socket of the system, and nothing on top.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

/// What a connection reads from and writes to.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain {
        socket: Socket,
        /// The last read emptied the socket.
        drained: bool,
    },
    Tls(Box<TlsStream>),
}

// One a connection: it must not grow by accident. (mio adds a field in debug builds.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Stream>() == 16);

impl Stream {
    pub(crate) fn tcp(socket: mio::net::TcpStream) -> Self {
        Stream::Plain { socket: Socket::Tcp(socket), drained: false }
    }

    pub(crate) fn unix(socket: mio::net::UnixStream) -> Self {
        Stream::Plain { socket: Socket::Unix(socket), drained: false }
    }

    /// The same socket under TLS, as its client; it stays registered. `host` is who the certificate
    /// must name, unless the settings say otherwise. The handshake is the caller's to drive.
    pub(crate) fn over_tls_client(
        self,
        settings: &ClientSettings,
        host: &str,
    ) -> Result<Self, TlsFailure> {
        let socket = self.bare()?;
        Ok(Stream::Tls(Box::new(TlsStream::client(settings, host, socket)?)))
    }

    /// The same socket under TLS, as its server.
    pub(crate) fn over_tls_server(self, settings: &ServerSettings) -> Result<Self, TlsFailure> {
        let socket = self.bare()?;
        Ok(Stream::Tls(Box::new(TlsStream::server(settings, socket)?)))
    }

    fn bare(self) -> Result<Socket, TlsFailure> {
        match self {
            Stream::Plain { socket, .. } => Ok(socket),
            Stream::Tls(_) => Err(TlsFailure::twice()),
        }
    }

    /// `true`: it stands, and the caller reads at once, since the peer's first bytes may have
    /// come with the handshake's last. `false`: call again on the next event. Not for a socket
    /// that is connecting.
    pub(crate) fn handshake(&mut self) -> Result<bool, TlsFailure> {
        match self {
            Stream::Plain { .. } => Ok(true),
            Stream::Tls(tls) => tls.handshake(),
        }
    }

    /// `Ok(0)` is the peer's orderly end; see the module for what differs under TLS.
    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain { socket, drained } => {
                let got = socket.read(buffer);
                *drained = !matches!(&got, Ok(n) if *n == buffer.len());
                got
            }
            Stream::Tls(tls) => tls.read(buffer),
        }
    }

    /// The last [`read`](Stream::read) emptied the socket. It may stop the reading only if the
    /// event said neither read-closed nor error, and if nothing [is unread](Stream::has_unread).
    #[inline]
    pub(crate) fn drained(&self) -> bool {
        match self {
            Stream::Plain { drained, .. } => *drained,
            Stream::Tls(tls) => tls.drained(),
        }
    }

    /// The TLS session holds something that [`read`](Stream::read) has not given: bytes, the peer's
    /// end, a failure. No event will come for it.
    #[inline]
    pub(crate) fn has_unread(&self) -> bool {
        match self {
            Stream::Plain { .. } => false,
            Stream::Tls(tls) => tls.has_unread(),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain { socket, .. } => socket.write(bytes),
            Stream::Tls(tls) => tls.write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    pub(crate) fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Plain { socket, .. } => socket.write_vectored(bytes),
            Stream::Tls(tls) => tls.write_vectored(bytes),
        }
    }

    /// `true`: the kernel has all that was written. `false`: call again on the next writable event.
    pub(crate) fn flush_transport(&mut self) -> io::Result<bool> {
        match self {
            Stream::Plain { .. } => Ok(true),
            Stream::Tls(tls) => tls.flush_transport(),
        }
    }

    /// Bytes that [`write`](Stream::write) took and that may not all be the kernel's yet: at most
    /// 64 KiB.
    pub(crate) fn unflushed(&self) -> usize {
        match self {
            Stream::Plain { .. } => 0,
            Stream::Tls(tls) => tls.unflushed(),
        }
    }

    /// Ends our direction, under TLS with its farewell. `false`: that has not left yet; call
    /// again on the next writable event.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<bool> {
        match self {
            Stream::Plain { socket, .. } => socket.shutdown_write().map(|()| true),
            Stream::Tls(tls) => tls.shutdown_write(),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// What an error of `read`, `write`, `flush_transport` or `shutdown_write` means, in words.
    pub(crate) fn failure(&self, error: io::Error) -> TlsFailure {
        match self {
            Stream::Plain { .. } => TlsFailure::of_socket(error),
            Stream::Tls(tls) => tls.failure(error),
        }
    }

    /// Whether a dialled socket is connected by now; its failure is the error.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp::connected(tcp),
            Socket::Unix(unix) => unix::connected(unix),
        }
    }

    /// The options of a connected socket; a unix socket has none.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp::finish(tcp),
            Socket::Unix(_) => Ok(()),
        }
    }

    /// What has happened to the socket that no read or write has told yet.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp.take_error(),
            Socket::Unix(unix) => unix.take_error(),
        }
    }

    /// `None` for a unix socket.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(tcp) => tcp.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// The file that this end of a unix socket is bound to, if it is.
    pub(crate) fn local_path(&self) -> Option<String> {
        match self.socket() {
            Socket::Tcp(_) => None,
            Socket::Unix(unix) => unix::path_text(unix.local_addr()),
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Stream::Plain { socket, .. } => socket,
            Stream::Tls(tls) => tls.socket(),
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Stream::Plain { socket, .. } => socket,
            Stream::Tls(tls) => tls.socket_mut(),
        }
    }
}

impl Socket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| match self {
            Socket::Tcp(tcp) => tcp.read(buffer),
            Socket::Unix(unix) => unix.read(buffer),
        })
    }

    fn shutdown_write(&self) -> io::Result<()> {
        let ended = match self {
            Socket::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Socket::Unix(unix) => unix.shutdown(Shutdown::Write),
        };
        match ended {
            // The peer has ended the connection: our direction is as closed as it can be.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        again(|| match self {
            Socket::Tcp(tcp) => tcp.write(bytes),
            Socket::Unix(unix) => unix.write(bytes),
        })
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        again(|| match self {
            Socket::Tcp(tcp) => tcp.write_vectored(bytes),
            Socket::Unix(unix) => unix.write_vectored(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A signal is no reason to give up.
#[inline]
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Source for Socket {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(tcp) => tcp.register(to, token, interest),
            Socket::Unix(unix) => unix.register(to, token, interest),
        }
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(tcp) => tcp.reregister(to, token, interest),
            Socket::Unix(unix) => unix.reregister(to, token, interest),
        }
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        match self {
            Socket::Tcp(tcp) => tcp.deregister(from),
            Socket::Unix(unix) => unix.deregister(from),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.socket_mut().register(to, token, interest)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.socket_mut().reregister(to, token, interest)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.socket_mut().deregister(from)
    }
}

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
