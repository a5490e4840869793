//! Tcp sockets: dialling, listening and their options.
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// Workerman's: a peer that has answered nothing for two of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(55);

/// Begins to connect; the socket is writable once it has, or has failed: [`connected`] tells.
pub(crate) fn dial(address: SocketAddr, bind_to: Option<SocketAddr>) -> io::Result<TcpStream> {
    if let Some(local) = bind_to
        && local.is_ipv4() != address.is_ipv4()
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address} cannot be reached from {local}: one is IPv4, the other IPv6"),
        ));
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(local) = bind_to {
        socket.bind(&local.into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(e) if super::unix::is_under_way(&e) => {}
        Err(e) => return Err(e),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Whether a dialled socket is connected by now; its failure is the error.
pub(crate) fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // Nobody listens there, and the system has chosen that very port for this end.
        Ok(peer) if stream.local_addr().is_ok_and(|own| own == peer) => {
            Err(io::Error::new(ErrorKind::ConnectionRefused, "nobody listens there but itself"))
        }
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotConnected || super::unix::is_under_way(&e) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// The options of every connected socket: small writes leave at once, a dead peer is noticed.
pub(crate) fn finish(stream: &TcpStream) -> io::Result<()> {
    set_options(&SockRef::from(stream))
}

/// A listening socket with `SO_REUSEADDR`, so that a restarted server gets its port back at once.
///
/// `only_v6`: whether `[::]` leaves IPv4 alone; `None` is the system's choice.
pub(crate) fn listen(
    address: SocketAddr,
    backlog: i32,
    reuse_port: bool,
    only_v6: Option<bool>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if let (Some(only_v6), true) = (only_v6, address.is_ipv6()) {
        socket.set_only_v6(only_v6)?;
    }
    if ACCEPTED_INHERIT {
        set_options(&SockRef::from(&socket))?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// One system call a connection on Linux: what it accepts has the options already.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = super::again(|| listener.accept())?;
    if !ACCEPTED_INHERIT {
        // It may be gone already; then reading from it says so.
        let _ = finish(&stream);
    }
    Ok((stream, peer))
}

/// Accepted sockets have the options of the listening one. Linux says so nowhere; a test does.
const ACCEPTED_INHERIT: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(1);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{Watch, loopback};
    use mio::Interest;

    fn assert_options(stream: &TcpStream) {
        let socket = SockRef::from(stream);
        assert!(socket.tcp_nodelay().expect("nodelay"));
        assert!(socket.keepalive().expect("keepalive"));
        assert_eq!(socket.tcp_keepalive_time().expect("idle"), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().expect("interval"), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_retries().expect("count"), 1);
    }

    #[test]
    fn both_ends_have_nodelay_and_keepalive() {
        let listener = listen(loopback(), 16, false, None).expect("listen");
        let mut dialled = dial(listener.local_addr().expect("port"), None).expect("dial");
        Watch::on(&mut dialled, Interest::WRITABLE).wait();
        assert!(connected(&dialled).expect("connected"));
        finish(&dialled).expect("options");
        assert_options(&dialled);
        let (accepted, peer) = accept(&listener).expect("accept");
        assert_options(&accepted);
        assert_eq!(peer, dialled.local_addr().expect("address"));
    }

    #[test]
    fn accepting_never_blocks_and_neither_do_accepted_sockets() {
        use std::io::Read;
        let mut listener = listen(loopback(), 16, false, None).expect("listen");
        assert_eq!(accept(&listener).expect_err("nobody").kind(), ErrorKind::WouldBlock);
        let _client = dial(listener.local_addr().expect("port"), None).expect("dial");
        Watch::on(&mut listener, Interest::READABLE).wait();
        let (mut accepted, _) = accept(&listener).expect("accept");
        let read = accepted.read(&mut [0; 8]).expect_err("nothing sent");
        assert_eq!(read.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_refused_connection_is_an_error_of_connected() {
        // Bound and not listening: nobody else can take the port meanwhile.
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        holder.bind(&loopback().into()).expect("bind");
        let address = holder.local_addr().expect("address").as_socket().expect("ip");
        let refused = match dial(address, None) {
            Ok(mut stream) => {
                Watch::on(&mut stream, Interest::WRITABLE).wait();
                connected(&stream).expect_err("refused")
            }
            Err(e) => e,
        };
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_client_leaves_from_the_address_that_it_is_bound_to() {
        let mut listener = listen(loopback(), 16, false, None).expect("listen");
        let to = listener.local_addr().expect("port");
        let from: SocketAddr = "127.0.0.2:0".parse().expect("address");
        let _client = dial(to, Some(from)).expect("dial");
        Watch::on(&mut listener, Interest::READABLE).wait();
        assert_eq!(accept(&listener).expect("accept").1.ip(), from.ip());

        let other: SocketAddr = "[::1]:0".parse().expect("address");
        let error = dial(to, Some(other)).expect_err("other family");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("one is IPv4, the other IPv6"), "{error}");
    }

    #[test]
    fn a_port_is_shared_only_by_those_that_ask_for_it() {
        let first = listen(loopback(), 16, true, None).expect("listen");
        let address = first.local_addr().expect("port");
        listen(address, 16, true, None).expect("both reuse the port");
        let error = listen(address, 16, false, None).expect_err("one does not");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn v6_only_is_what_was_asked() {
        let any: SocketAddr = "[::]:0".parse().expect("address");
        for only in [true, false] {
            let Ok(listener) = listen(any, 16, false, Some(only)) else { return };
            assert_eq!(SockRef::from(&listener).only_v6().expect("option"), only);
        }
    }
}
