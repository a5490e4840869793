//! What an idle TLS connection costs in memory, on either side.
//!
//! One side runs in this thread, the other in a thread of its own: bytes are counted by thread.
#![cfg(any(feature = "tls", feature = "tls-aws-lc"))]

#[path = "support/mod.rs"]
mod support;

#[path = "support/counting.rs"]
mod counting;

use counting::live_of_thread;
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, TryRecvError};
use support::peers::identity;
use support::*;
use workerman::prelude::*;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Both ends are in this process, and machines allow 1 024 descriptors.
const CONNECTIONS: usize = 200;
/// At most, all that the connection keeps; measured in the test's output.
const IDLE_BYTES: isize = 9 << 10;

fn listening(identity: &Path) -> Result<Worker<Websocket>> {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0")?;
    worker.set_transport(Transport::Ssl);
    worker.set_tls(Tls::new().identity(identity))?;
    worker.on_message(|con, data| con.send(data));
    Ok(worker)
}

/// One client and so many more in this thread, one after the other, each with its echo. What each of
/// the others keeps here.
fn clients(url: &str, count: usize) -> isize {
    // Clones share what is expensive, and the sessions that are remembered.
    let tls = Tls::new().danger_accept_invalid_certs();
    let mut before = 0;
    for i in 0..=count {
        if i == 1 {
            before = live_of_thread();
        }
        let con = AsyncTcpConnection::<Ws>::new(url).expect("an address");
        con.set_tls(tls.clone()).expect("settings");
        con.on_websocket_connect(|con, _| con.send("hello"));
        let echoed = Rc::new(Cell::new(false));
        let heard = echoed.clone();
        con.on_message(move |_, _| heard.set(true));
        con.connect();
        turn_until(|| echoed.get());
    }
    (live_of_thread() - before) / count.max(1) as isize
}

#[test]
fn an_idle_tls_client_keeps_at_most_9_kib() {
    let identity = identity();
    let path = identity.path().to_path_buf();
    let server = workerman::spawn(move || listening(&path).map(drop)).expect("it listens");
    let url = format!("wss://{}/", server.addr());
    let idle = clients(&url, CONNECTIONS);
    eprintln!("idle TLS client: {idle} live heap bytes");
    assert!(idle <= IDLE_BYTES, "an idle TLS client has {idle} live heap bytes");
}

#[test]
fn an_idle_accepted_tls_connection_keeps_at_most_9_kib() {
    let identity = identity();
    let worker = listening(identity.path()).expect("a certificate");
    turn_until(|| worker.local_addr().is_some());
    let url = format!("wss://{}/", worker.local_addr().expect("its address"));
    let open = |count: usize| {
        let url = url.clone();
        let (tell, end) = mpsc::channel::<()>();
        let peers = std::thread::spawn(move || {
            clients(&url, count);
            // Open until the other side has counted.
            turn_until(|| end.try_recv() == Err(TryRecvError::Disconnected));
        });
        (tell, peers)
    };
    let first = open(0);
    turn_until(|| worker.connections().len() == 1);
    turn_for(std::time::Duration::from_millis(50));
    let before = live_of_thread();
    let others = open(CONNECTIONS);
    turn_until(|| worker.connections().len() == 2 + CONNECTIONS);
    turn_for(std::time::Duration::from_millis(50));
    let idle = (live_of_thread() - before) / (1 + CONNECTIONS) as isize;
    eprintln!("idle accepted TLS connection: {idle} live heap bytes");
    for (tell, peers) in [first, others] {
        drop(tell);
        turn_until(|| peers.is_finished());
        peers.join().expect("the clients");
    }
    assert!(idle <= IDLE_BYTES, "an idle accepted TLS connection has {idle} live heap bytes");
}
