//! What the protocol itself sends: pongs, close frames, replies.
use crate::peers::*;
use crate::support::*;
use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Context, Dial, Input, Payload, Violation};

/// Reads frames up to the first pong.
fn next_pong(peer: &mut TcpStream) -> Vec<u8> {
    loop {
        let (first, payload) = read_frame(peer);
        if first == 0x8a {
            return payload;
        }
    }
}

fn pings(texts: &[&str], frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    texts.iter().flat_map(|text| frame(0x89, text.as_bytes())).collect()
}

#[test]
fn every_ping_has_its_pong() {
    // Of a client and of a server, also where on_websocket_ping is set.
    let (listener, addr) = raw_listener();
    let con = client::<Ws>("ws", addr);
    let mut peer = ws_dialed(con, &listener);
    peer.write_all(&pings(&["a", "", "c"], server_frame)).expect("pings");
    turn_until(|| arrived(&peer));
    for text in ["a", "", "c"] {
        assert_eq!(read_frame(&mut peer), (0x8a, text.into()));
    }
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a worker");
    let seen = Transcript::new();
    let t = seen.clone();
    worker.on_websocket_ping(move |con, payload| {
        t.note(String::from_utf8_lossy(payload));
        con.send("behind");
    });
    let (_, mut peer) = ws_accepted(worker, raw_connect(listening(worker)));
    peer.write_all(&pings(&["d", "e"], client_frame)).expect("pings");
    turn_until(|| seen.lines().len() == 2);
    let order = [(0x8a, "d"), (0x81, "behind"), (0x8a, "e"), (0x81, "behind")];
    for (first, text) in order {
        assert_eq!(read_frame(&mut peer), (first, text.into()));
    }
    seen.assert(&["d", "e"]);
}

#[test]
fn a_pong_that_waits_for_a_full_socket_gives_way_to_the_next() {
    // A peer that pings and never reads costs one pong of memory; before and after the socket is
    // full every ping has its own.
    let (listener, addr) = small_listener();
    let con = client::<Ws>("ws", addr);
    let count = Rc::new(Cell::new(0));
    let c = count.clone();
    con.on_websocket_ping(move |_, _| c.set(c.get() + 1));
    let mut peer = ws_dialed(con, &listener);
    stuff(con, 10 << 10, || con.send(vec![0; 512 << 10]));
    let waiting = con.send_buffer_len();
    peer.write_all(&pings(&["a", "b", "c"], server_frame)).expect("pings");
    turn_until(|| count.get() == 3);
    assert_eq!(con.send_buffer_len(), waiting + 2 + 4 + 1);
    let mut reading = peer.try_clone().expect("the other half");
    let first = std::thread::spawn(move || next_pong(&mut reading));
    assert_eq!(turned(first), b"c");
    turn_until(|| con.send_buffer_len() == 0);
    peer.write_all(&pings(&["d", "e"], server_frame)).expect("pings");
    turn_until(|| count.get() == 5);
    assert_eq!((next_pong(&mut peer), next_pong(&mut peer)), (b"d".to_vec(), b"e".to_vec()));
}

#[test]
fn answers_do_not_count_against_the_limit() {
    // A pong goes out although the buffer is full, and takes no room from the program's messages;
    // so do pings and pongs of the program's own.
    let (listener, addr) = small_listener();
    let con = client::<Ws>("ws", addr);
    let seen = Transcript::new();
    let mut peer = ws_dialed(con, &listener);
    stuff(con, 10 << 10, || con.send(vec![0; 512 << 10]));
    // Room for one byte, and a pong of 106 behind it.
    con.set_max_send_buffer_size(con.send_buffer_len() + 1);
    let t = seen.clone();
    con.on_websocket_ping(move |con, _| {
        let raw = con.send_raw(&client_frame(0x8a, b"raw"));
        t.note(format_args!("{raw:?} {:?}", con.send("full")));
        t.note(format_args!("{:?} {:?}", con.ping(b"own"), con.pong(b"own")));
    });
    let payload = "p".repeat(100);
    peer.write_all(&server_frame(0x89, payload.as_bytes())).expect("a ping");
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["Buffered Dropped", "Buffered Buffered"]);
    let reading = std::thread::spawn(move || [(); 3].map(|()| next_pong(&mut peer)));
    let pongs = turned(reading);
    assert!(pongs.contains(&payload.into_bytes()), "the answer is lost");
    assert!(pongs.contains(&b"own".to_vec()), "the program's own is lost");
}

/// Answers each byte with a kilobyte.
#[derive(Default)]
struct Talker;

impl Protocol for Talker {
    const NAME: &'static str = "talker";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        Ok(if buffer.is_empty() { Input::Partial } else { Input::Package(1) })
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        cx.reply(&[b'r'; 1 << 10]);
        Ok(Some(Data::Binary(package)))
    }

    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        out.extend_from_slice(message.as_bytes());
        Ok(())
    }
}

impl Dial for Talker {}

#[test]
fn reading_stops_when_64_kib_of_answers_wait() {
    // The connection is not read until they have left: a peer that asks and never reads costs no
    // more than that.
    let (listener, addr) = small_listener();
    let con = client::<Talker>("tcp", addr);
    let (count, early) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (c, e) = (count.clone(), early.clone());
    let mut peer = dialed(con, &listener);
    // So much that what the socket takes at a time is a part of it.
    con.set_max_send_buffer_size(64 << 20);
    let sends = stuff(con, 8 << 20, || con.send(vec![b'.'; 512 << 10]));
    let waiting = con.send_buffer_len();
    con.on_message(move |con, _| {
        c.set(c.get() + 1);
        // The batch that follows the stop begins with nothing waiting.
        if c.get() == 65 {
            e.set(con.send_buffer_len());
        }
    });
    peer.write_all(&[b'?'; 1000]).expect("questions");
    turn_for(Duration::from_millis(30));
    assert_eq!(count.get(), 64);
    assert_eq!(con.send_buffer_len(), waiting + (64 << 10));
    let mut reading = peer.try_clone().expect("the other half");
    let all = sends * (512 << 10) + (1000 << 10);
    let reading = std::thread::spawn(move || read_bytes(&mut reading, all));
    turn_until(|| count.get() == 1000);
    assert!(early.get() <= 1 << 10, "{} waited when it read on", early.get());
    let got = turned(reading);
    assert_eq!(got.iter().filter(|byte| **byte == b'r').count(), 1000 << 10);
}
