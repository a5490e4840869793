//! `udp://`: what a worker of datagrams is of.
use super::Tcp;

/// Datagrams: `Worker<Udp>` receives them as they are, `Worker<Udp<Text>>` as lines.
///
/// With a protocol each datagram is divided for itself: it may hold several packages, and what is
/// no whole package at its end is dropped, as is the rest of one that breaks the protocol (a debug
/// line of the log says so). The protocol has a fresh value for each datagram received and for each
/// one sent. `Context::reply` in `input` and `decode` sends a datagram of its own; a close and
/// deadlines mean nothing here, and `on_connect` is not called. `Http` and `Websocket` need a
/// connection: `listen` refuses them.
///
/// ```
/// use workerman::prelude::*;
///
/// let echo = Worker::<Udp>::listen("udp://127.0.0.1:0")?;
/// echo.on_message(|con, data| con.send(data));
/// let lines = Worker::<Udp<Text>>::listen("udp://127.0.0.1:0")?;
/// lines.on_message(|con, line| con.send(line));
/// # Ok::<(), workerman::Error>(())
/// ```
///
/// A protocol with settings is put into it: `listen_with(address, || Udp::new(protocol))`.
#[derive(Debug, Default)]
pub struct Udp<P = Tcp> {
    protocol: P,
}

impl<P> Udp<P> {
    /// This protocol within datagrams.
    pub fn new(protocol: P) -> Self {
        Udp { protocol }
    }

    /// What is spoken within a datagram.
    pub(crate) fn into_inner(self) -> P {
        self.protocol
    }
}
