//! A worker's callbacks hold for all its connections, but for one that has set its own.
use crate::support::peers::start;
use crate::support::{
    Transcript, client_frame, raw_connect, raw_upgrade, read_bytes, turn_for, turn_until,
};
use std::io::Write;
use std::net::TcpStream;
use workerman::prelude::*;

/// A peer whose handshake is done, and its connection.
fn upgraded(worker: Worker<Websocket>) -> (TcpConnection<Websocket>, TcpStream) {
    let addr = worker.local_addr().expect("it listens");
    let before = worker.connections().len();
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        raw_upgrade(&mut peer);
        peer
    });
    turn_until(|| peer.is_finished());
    turn_until(|| worker.connections().len() > before);
    (*worker.connections().last().expect("it came"), peer.join().expect("the peer"))
}

/// Lets everything happen that a WebSocket can be told of.
fn everything_happens(con: TcpConnection<Websocket>, mut peer: TcpStream, seen: &Transcript) {
    let say = |peer: &mut TcpStream, bytes: &[u8]| peer.write_all(bytes).expect("it is taken");
    let lines = seen.lines().len();
    say(&mut peer, &client_frame(0x81, b"x"));
    say(&mut peer, &client_frame(0x89, b"p"));
    say(&mut peer, &client_frame(0x8a, b"q"));
    turn_until(|| seen.lines().len() == lines + 3);
    con.set_max_send_buffer_size(64 << 10);
    con.set_backpressure(false);
    while con.send("x".repeat(100_000)) != Sent::Dropped {}
    turn_until(|| seen.lines().len() == lines + 5);
    // It reads until all has left.
    let reader = std::thread::spawn(move || {
        std::io::copy(&mut peer.try_clone().expect("a clone"), &mut std::io::sink()).ok();
        peer
    });
    turn_until(|| seen.lines().len() == lines + 6);
    con.destroy();
    turn_until(|| seen.lines().last().is_some_and(|line| line.ends_with("close")));
    reader.join().expect("the reader");
}

#[test]
fn a_connections_own_callbacks_take_the_place_of_its_workers() {
    let seen = Transcript::new();
    let (worker, _) = start::<Websocket>();
    macro_rules! set_all {
        ($on:expr, $who:literal) => {
            let s = seen.clone();
            $on.on_message(move |_, _| s.note(concat!($who, " message")));
            let s = seen.clone();
            $on.on_websocket_ping(move |_, _| s.note(concat!($who, " ping")));
            let s = seen.clone();
            $on.on_websocket_pong(move |_, _| s.note(concat!($who, " pong")));
            let s = seen.clone();
            $on.on_error(move |_, _, _| s.note(concat!($who, " error")));
            let s = seen.clone();
            $on.on_buffer_full(move |_| s.note(concat!($who, " full")));
            let s = seen.clone();
            $on.on_buffer_drain(move |_| s.note(concat!($who, " drain")));
            let s = seen.clone();
            $on.on_close(move |_| s.note(concat!($who, " close")));
        };
    }
    set_all!(worker, "worker");
    let names = ["message", "ping", "pong", "full", "error", "drain", "close"];
    let told = |who: &str| names.map(|name| format!("{who} {name}")).to_vec();

    let (plain, peer) = upgraded(worker);
    everything_happens(plain, peer, &seen);
    assert_eq!(seen.lines(), told("worker"));

    let (own, peer) = upgraded(worker);
    set_all!(own, "own");
    everything_happens(own, peer, &seen);
    assert_eq!(seen.lines()[7..], told("own"));

    // And the next one has its worker's again.
    let (next, peer) = upgraded(worker);
    everything_happens(next, peer, &seen);
    assert_eq!(seen.lines()[14..], told("worker"));
}

#[test]
fn a_connections_own_callbacks_of_the_handshake_and_of_the_farewell_count_too() {
    let seen = Transcript::new();
    let (worker, _) = start::<Websocket>();
    let s = seen.clone();
    worker.on_websocket_connect(move |_, _| s.note("worker connect"));
    let s = seen.clone();
    worker.on_websocket_connected(move |_, _| s.note("worker connected"));
    let s = seen.clone();
    worker.on_websocket_close(move |_, _, _| s.note("worker farewell"));
    let leave = |(con, mut peer): (TcpConnection<Websocket>, TcpStream)| {
        peer.write_all(&client_frame(0x88, &1000u16.to_be_bytes())).expect("it is taken");
        turn_until(|| con.status() == Status::Closed);
        assert_eq!(read_bytes(&mut peer, 4), b"\x88\x02\x03\xe8");
    };
    leave(upgraded(worker));
    seen.assert(&["worker connect", "worker connected", "worker farewell"]);

    let s = seen.clone();
    worker.on_connect(move |con| {
        let own = s.clone();
        con.on_websocket_connect(move |_, _| own.note("own connect"));
        let own = s.clone();
        con.on_websocket_connected(move |_, _| own.note("own connected"));
        let own = s.clone();
        con.on_websocket_close(move |_, _, _| own.note("own farewell"));
    });
    leave(upgraded(worker));
    turn_for(std::time::Duration::from_millis(10));
    assert_eq!(seen.lines()[3..], ["own connect", "own connected", "own farewell"]);
}
