//! Promise: five hundred strangers who connect and then say nothing, or too little, leave a server
//! serving, and all of them are ended at the deadline, whatever they drip meanwhile.
//!
//! In a process of its own: it needs many descriptors.
#[path = "support/mod.rs"]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::*;
use workerman::Limits;
use workerman::prelude::*;

const STRANGERS: usize = 500;
const OPENING: Duration = Duration::from_millis(1500);

fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum.map_or(Some(4096), |most| Some(most.min(4096)));
    setrlimit(Resource::Nofile, limits).expect("up to the hard limit");
}

fn serving(tls: Option<Tls>) -> (Worker<Websocket>, SocketAddr) {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("an address");
    worker.set_limits(Limits::new().opening(OPENING));
    if let Some(tls) = tls {
        worker.set_transport(Transport::Ssl);
        worker.set_tls(tls).expect("a certificate");
    }
    worker.on_message(|con, data| con.send(data));
    Worker::turn(0).expect("a turn");
    (worker, worker.local_addr().expect("it listens"))
}

/// A client of good will gets its answer.
fn is_served(addr: SocketAddr, tls: Option<Tls>) {
    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("an address");
    if let Some(tls) = tls {
        con.set_transport(Transport::Ssl);
        con.set_tls(tls).expect("the authority");
    }
    let seen = Transcript::new();
    let s = seen.clone();
    con.on_message(move |con, data| {
        s.note(data);
        con.close();
    });
    let s = seen.clone();
    con.on_close(move |_| s.note("close"));
    con.send("hello");
    con.connect();
    turn_until(|| seen.has("close"));
    seen.assert(&["hello", "close"]);
}

/// Strangers who say `first`, then drip `more` byte by byte, are ended at the deadline.
fn strangers(first: &[u8], more: &[u8], server: Option<Tls>, client: Option<Tls>) {
    let (worker, addr) = serving(server);
    let begun = Instant::now();
    let mut peers: Vec<TcpStream> = Vec::new();
    for _ in 0..STRANGERS {
        let mut peer = TcpStream::connect(addr).expect("somebody listens");
        peer.write_all(first).expect("the kernel takes it");
        peer.set_nonblocking(true).expect("an option");
        peers.push(peer);
        Worker::turn(0).expect("a turn");
    }
    let all_in = Instant::now();
    is_served(addr, client.clone());
    let mut drip = more.iter().cycle();
    let mut open = peers.len();
    turn_until(|| {
        let next = drip.next().map(|byte| [*byte]);
        peers.retain_mut(|peer| {
            // What is written to one that has ended fails: that is its end too.
            let gone = next.is_some_and(|byte| peer.write(&byte).is_err());
            let mut answer = [0; 512];
            let ended = loop {
                match peer.read(&mut answer) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(e) => break e.kind() != ErrorKind::WouldBlock,
                }
            };
            !gone && !ended
        });
        if peers.len() < open {
            assert!(begun.elapsed() >= OPENING, "ended early, after {:?}", begun.elapsed());
            open = peers.len();
        }
        peers.is_empty()
    });
    let late = all_in.elapsed();
    assert!(late < OPENING + Duration::from_secs(3), "ended late, after {late:?}");
    turn_until(|| worker.connections().is_empty());
    is_served(addr, client);
    worker.unlisten();
}

#[test]
fn five_hundred_strangers_leave_a_server_serving_and_end_at_the_deadline() {
    allow_descriptors();
    // Silent; then with a head that comes byte by byte and never ends.
    strangers(b"", b"", None, None);
    strangers(b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n", None, None);
    #[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
    {
        let identity = peers::identity();
        let server = Tls::new().identity(identity.path());
        let client = Tls::new().ca_file(identity.path()).peer_name("localhost");
        strangers(b"", b"", Some(server.clone()), Some(client.clone()));
        // The beginning of a handshake record that is long in coming.
        strangers(b"\x16\x03\x01\x02\x00\x01", b"\0", Some(server), Some(client));
    }
}
