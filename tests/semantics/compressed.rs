//! Compressed messages in the loop: small ones that become large take no more than their turn.
use crate::support::*;
use std::cell::Cell;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use workerman::Deflate;
use workerman::prelude::*;

const LENGTH: usize = 256 << 10;
/// What inflating may make in a turn, and one message more.
const SHARE: usize = (512 << 10) + LENGTH;

/// A frame with so many zeros, compressed.
fn small() -> Vec<u8> {
    let mut deflater = zlib_rs::Deflate::new(9, false, 15);
    let mut packed = vec![0; 4096];
    let flush = zlib_rs::DeflateFlush::SyncFlush;
    deflater.compress(&[0; LENGTH], &mut packed, flush).expect("it compresses");
    packed.truncate(deflater.total_out() as usize);
    let payload = packed.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a flushed block");
    let [high, low] = (payload.len() as u16).to_be_bytes();
    [&[0xc2, 0xfe, high, low, 0, 0, 0, 0], payload].concat()
}

/// A raw client whose handshake is complete.
fn compressing(worker: Worker<Websocket>) -> TcpStream {
    let before = worker.connections().len();
    let mut peer = raw_connect(listening_at(worker));
    let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    peer.write_all(request.as_bytes()).expect("the request");
    let opened = Rc::new(Cell::new(false));
    let theirs = opened.clone();
    worker.on_websocket_connected(move |_, _| theirs.set(true));
    turn_until(|| opened.get());
    assert_eq!(worker.connections().len(), before + 1);
    let head = read_head(&mut peer);
    assert!(head.contains("permessage-deflate"), "{head}");
    peer
}

fn listening_at(worker: Worker<Websocket>) -> std::net::SocketAddr {
    turn_until(|| worker.local_addr().is_some());
    worker.local_addr().expect("it listens")
}

fn turn() {
    Worker::turn(std::time::Duration::ZERO).expect("a turn");
}

fn worker() -> Worker<Websocket> {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    worker.set_websocket_deflate(Deflate::default());
    worker
}

#[test]
fn messages_that_become_large_leave_each_turn_to_others_too_and_all_arrive() {
    const COUNT: usize = 400;
    let worker = worker();
    let (mut loud, mut quiet) = (compressing(worker), compressing(worker));
    let (bytes, heard, ended) =
        (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (b, h) = (bytes.clone(), heard.clone());
    worker.connections().iter().for_each(|con| {
        let (b, h) = (b.clone(), h.clone());
        con.on_message(move |_, data| match data.len() {
            LENGTH => b.set(b.get() + LENGTH),
            _ => h.set(true),
        });
    });
    let end = ended.clone();
    worker.connections()[0].on_close(move |_| end.set(true));
    // All of it lies in 120 KiB, and the peer's end behind it.
    loud.write_all(&small().repeat(COUNT)).expect("the socket takes it");
    loud.shutdown(Shutdown::Write).expect("an open socket");
    while !ended.get() {
        let before = bytes.get();
        heard.set(false);
        quiet.write_all(&client_frame(0x81, b"me too")).expect("the socket takes it");
        turn();
        let made = bytes.get() - before;
        assert!(made <= SHARE, "{made} bytes in a turn");
        assert!(heard.get(), "the quiet peer waits for another turn");
    }
    assert_eq!(bytes.get(), COUNT * LENGTH, "what was read is delivered ahead of the peer's end");
}

#[test]
fn who_pauses_inside_such_a_message_hears_the_rest_when_he_goes_on() {
    let worker = worker();
    let mut peer = compressing(worker);
    let count = Rc::new(Cell::new(0));
    let con = worker.connections()[0];
    let theirs = count.clone();
    con.on_message(move |con, _| {
        theirs.set(theirs.get() + 1);
        con.pause_recv();
    });
    peer.write_all(&small().repeat(20)).expect("the socket takes it");
    for heard in 1..=20 {
        turn_until(|| count.get() == heard);
        turn();
        assert_eq!(count.get(), heard, "it has paused");
        con.resume_recv();
    }
}
