//! Peers that are slow on purpose.
use crate::support::peers::start;
use crate::support::*;
use crate::{finish, opened};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use workerman::Limits;
use workerman::prelude::*;

/// Sends a byte of a head every few milliseconds until the server ends it; whether that happened.
fn trickle(mut stream: TcpStream, beginning: &[u8]) -> bool {
    stream.write_all(beginning).expect("the beginning");
    let end = Instant::now() + PATIENCE / 4;
    while Instant::now() < end {
        if stream.write_all(b"x").is_err() {
            return true;
        }
        stream.set_read_timeout(Some(PATIENCE / 1000)).expect("an option");
        if stream.read(&mut [0; 4096]).is_ok() {
            return true;
        }
    }
    false
}

#[test]
fn websocketpp_789_half_open_handshakes_end_however_busy_they_are() {
    // Also libwebsockets#2154. The deadline is absolute, and meanwhile others are served.
    let (worker, addr) = start::<Websocket>();
    worker.set_limits(Limits::new().opening(0.5));
    worker.on_message(|con, data| con.send(data));
    let idle: Vec<TcpStream> = (0..200).map(|_| raw_connect(addr)).collect();
    let busy = raw_connect(addr);
    turn_until(|| worker.connections().len() == 201);
    let mut good = opened(addr, "");
    let talker = std::thread::spawn(move || {
        good.write_all(&client_frame(0x81, b"still here?")).expect("it is read");
        (read_frame(&mut good), good)
    });
    let (frame, _good) = finish(talker);
    assert_eq!(frame, (0x81, b"still here?".to_vec()));
    let slow = std::thread::spawn(move || trickle(busy, b"GET / HTTP/1.1\r\nX: "));
    assert!(finish(slow), "a byte now and then kept it open");
    turn_until(|| worker.connections().len() == 1);
    drop(idle);
}

#[test]
fn cowboy_212_a_byte_now_and_then_keeps_no_request_alive() {
    let (worker, addr) = start::<Http>();
    worker.set_limits(Limits::new().opening(0.5));
    let busy = raw_connect(addr);
    let slow = std::thread::spawn(move || trickle(busy, b"GET / HTTP/1.1\r\nX: "));
    assert!(finish(slow), "a byte now and then kept it open");
    turn_until(|| worker.connections().is_empty());
}
