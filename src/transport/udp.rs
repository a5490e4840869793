//! Udp sockets: datagrams in and out; none of the calls blocks.
use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket that is bound, and connected where it is a client's.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: UdpSocket,
    /// Whom a client hears, as the kernel writes it: `0.0.0.0` has become an address.
    peer: Option<SocketAddr>,
}

impl Socket {
    /// For a worker. Without `SO_REUSEADDR`: under that two programs would share a port, and only
    /// one of them be served.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        UdpSocket::bind(address).map(|udp| Socket { udp, peer: None })
    }

    /// For a client: it receives from `to` alone. Nothing is sent by that.
    pub(crate) fn connect(to: SocketAddr, bind_to: Option<SocketAddr>) -> io::Result<Self> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = bind_to.unwrap_or_else(|| SocketAddr::new(any, 0));
        if local.is_ipv4() != to.is_ipv4() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{to} cannot be reached from {local}: one is IPv4, the other IPv6"),
            ));
        }
        Self::connected(UdpSocket::bind(local)?, to)
    }

    fn connected(udp: UdpSocket, to: SocketAddr) -> io::Result<Self> {
        udp.connect(to)?;
        let peer = Some(udp.peer_addr()?);
        Ok(Socket { udp, peer })
    }

    /// A datagram that is longer than `buffer` is cut; none is longer than 65 535 bytes.
    pub(crate) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        super::again(|| self.udp.recv_from(buffer))
    }

    /// The same for a connected socket. The kernel lets nobody else in, but what strangers sent
    /// before it was connected is still there (udp(7), connect(2)): it is passed over.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (length, from) = self.recv_from(buffer)?;
            let is_peer = |peer: SocketAddr| (from.ip(), from.port()) == (peer.ip(), peer.port());
            if self.peer.is_none_or(is_peer) {
                return Ok(length);
            }
        }
    }

    /// A datagram is taken whole or not at all.
    pub(crate) fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        super::again(|| self.udp.send_to(datagram, to)).map(drop)
    }

    /// The same for a connected socket.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        super::again(|| self.udp.send(datagram)).map(drop)
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.udp.local_addr().ok()
    }

    /// What became of an earlier datagram: the network said it, and the socket is as good as
    /// before. Linux tells it to the next call, whatever that is.
    pub(crate) fn is_news(error: &io::Error) -> bool {
        use io::ErrorKind as Kind;
        let told = matches!(
            error.kind(),
            Kind::ConnectionRefused
                | Kind::ConnectionReset
                | Kind::HostUnreachable
                | Kind::NetworkUnreachable
                | Kind::NetworkDown
                | Kind::PermissionDenied
        );
        told || Self::is_too_long(error) || Errno::from_io_error(error) == Some(Errno::PROTO)
    }

    /// More than a datagram can be.
    pub(crate) fn is_too_long(error: &io::Error) -> bool {
        Errno::from_io_error(error) == Some(Errno::MSGSIZE)
    }
}

impl Source for Socket {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.udp.register(to, token, interest)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.udp.reregister(to, token, interest)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.udp.deregister(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{Watch, loopback};

    #[test]
    fn the_longest_datagram_arrives_whole_and_a_longer_one_is_refused() {
        let mut server = Socket::bind(loopback()).expect("a port");
        let to = server.local_addr().expect("its address");
        let client = Socket::connect(to, None).expect("a client");
        let error = client.send(&vec![1; 65_508]).expect_err("more than a datagram can be");
        assert!(Socket::is_too_long(&error), "{error}");
        client.send(&vec![7; 65_507]).expect("as long as it can be");
        Watch::on(&mut server, Interest::READABLE).wait();
        let mut buffer = vec![0; 64 << 10];
        let (length, from) = server.recv_from(&mut buffer).expect("the datagram");
        assert_eq!((length, Some(from)), (65_507, client.local_addr()));
        let nothing = server.recv_from(&mut buffer).expect_err("the other one was not sent");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_a_stranger_sent_before_the_client_was_connected_is_not_heard() {
        let server = Socket::bind(loopback()).expect("a port");
        let to = server.local_addr().expect("its address");
        let mut udp = UdpSocket::bind(loopback()).expect("a port");
        let own = udp.local_addr().expect("its address");
        let stranger = Socket::bind(loopback()).expect("a port");
        stranger.send_to(b"stranger", own).expect("the socket takes it");
        Watch::on(&mut udp, Interest::READABLE).wait();
        let mut client = Socket::connected(udp, to).expect("a client");
        server.send_to(b"server", own).expect("the socket takes it");
        Watch::on(&mut client, Interest::READABLE).wait();
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).expect("the server's"), 6);
        assert_eq!(&buffer[..6], b"server");
        let nothing = client.recv(&mut buffer).expect_err("there is no more");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_client_of_the_address_of_all_addresses_hears_the_one_that_answers() {
        let mut server = Socket::bind(loopback()).expect("a port");
        let port = server.local_addr().expect("its address").port();
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let mut client = Socket::connect(any, None).expect("a client");
        client.send(b"ask").expect("the socket takes it");
        Watch::on(&mut server, Interest::READABLE).wait();
        let mut buffer = [0; 16];
        let (_, from) = server.recv_from(&mut buffer).expect("the question");
        server.send_to(b"answer", from).expect("the socket takes it");
        Watch::on(&mut client, Interest::READABLE).wait();
        assert_eq!(client.recv(&mut buffer).expect("the answer"), 6);
    }

    #[test]
    fn a_port_is_not_shared_with_another_program() {
        let first = Socket::bind(loopback()).expect("a port");
        let error = Socket::bind(first.local_addr().expect("its address")).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_client_leaves_from_the_address_that_it_is_bound_to() {
        let server = Socket::bind(loopback()).expect("a port");
        let to = server.local_addr().expect("its address");
        let from: SocketAddr = "127.0.0.2:0".parse().expect("an address");
        let client = Socket::connect(to, Some(from)).expect("a client");
        assert_eq!(client.local_addr().map(|own| own.ip()), Some(from.ip()));
        let other: SocketAddr = "[::1]:0".parse().expect("an address");
        let error = Socket::connect(to, Some(other)).expect_err("the other family");
        assert!(error.to_string().contains("one is IPv4, the other IPv6"), "{error}");
    }
}
