//! Datagrams: workers and clients over udp.
use crate::support::{PATIENCE, turn_until};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Serve, UdpConnection};

mod clients;
mod inside;
mod workers;

fn turn() {
    assert!(Worker::turn(Duration::ZERO).expect("a turn"), "the loop ended");
}

/// A peer that knows nothing of us: blocking, with a deadline.
fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("a port");
    peer.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    peer
}

/// What the next datagram holds.
#[track_caller]
fn next(peer: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 64 << 10];
    let (length, _) = peer.recv_from(&mut buffer).expect("a datagram in time");
    buffer.truncate(length);
    buffer
}

/// Nothing has come: what loopback delivers is there when `send` has returned.
#[track_caller]
fn nothing_for(peer: &UdpSocket) {
    peer.set_nonblocking(true).expect("an option");
    let got = peer.recv_from(&mut [0; 64]);
    assert!(got.is_err(), "a datagram of {got:?} bytes");
    peer.set_nonblocking(false).expect("an option");
}

fn listening<P: Serve + Default>() -> (Worker<Udp<P>>, SocketAddr) {
    let worker = Worker::<Udp<P>>::listen("udp://127.0.0.1:0").expect("an address");
    turn();
    (worker, worker.local_addr().expect("it listens"))
}

fn client<P: workerman::Dial + Default>(to: SocketAddr) -> AsyncUdpConnection<P> {
    AsyncUdpConnection::<P>::new(&format!("udp://{to}")).expect("an address")
}

/// A handle of this worker for that peer.
fn handle_of(worker: Worker<Udp>, peer: &UdpSocket, to: SocketAddr) -> UdpConnection<Tcp> {
    let kept = std::rc::Rc::new(std::cell::Cell::new(None));
    let theirs = kept.clone();
    worker.on_message(move |con, _| theirs.set(Some(con)));
    peer.send_to(b"here I am", to).expect("the kernel takes it");
    turn_until(|| kept.get().is_some());
    kept.get().expect("just seen")
}
