//! Topics, and messages that are encoded once for many.
use crate::support::peers::{start, tcp_client, watch, ws_client};
use crate::support::{Transcript, turn_for, turn_until};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{Context, Dial, Input, Limits, Payload, Serve, Violation};

/// A line client that notes what comes under its name.
fn reader(name: &'static str, addr: SocketAddr, seen: &Transcript) -> AsyncTcpConnection<Text> {
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    let s = seen.clone();
    con.on_message(move |_, line| s.note(format!("{name} {line}")));
    con.connect();
    con
}

/// So many connections of a text worker, each subscribed to `news`, in the order of their ids.
fn three(seen: &Transcript) -> (Worker<Text>, Vec<AsyncTcpConnection<Text>>) {
    let (worker, addr) = start::<Text>();
    worker.on_connect(|con| con.subscribe("news"));
    let mut readers = Vec::new();
    for name in ["a", "b", "c"] {
        readers.push(reader(name, addr, seen));
        turn_until(|| worker.connections().len() == readers.len());
    }
    (worker, readers)
}

#[test]
fn what_is_published_comes_to_all_who_have_subscribed_and_to_nobody_else() {
    let seen = Transcript::new();
    let (worker, _readers) = three(&seen);
    let second = worker.connections()[1];
    assert!(second.unsubscribe("news") && !second.unsubscribe("news"));
    assert!(second.subscribe("sport") && second.subscribe("sport"));
    assert_eq!(second.topics(), ["sport"]);
    assert_eq!((worker.subscribers("news"), worker.subscribers("sport")), (2, 1));
    assert_eq!(worker.publish("news", "rain"), 2);
    assert_eq!(worker.publish("sport", "goal"), 1);
    assert_eq!(worker.publish("nothing", "lost"), 0);
    assert_eq!(worker.any().publish("news", b"sun"), 2);
    turn_until(|| seen.lines().len() == 5);
    let mut lines = seen.lines();
    lines.sort();
    assert_eq!(lines, ["a rain", "a sun", "b goal", "c rain", "c sun"]);
}

#[test]
fn a_connections_own_news_come_to_all_others() {
    let seen = Transcript::new();
    let (worker, _readers) = three(&seen);
    assert_eq!(worker.connections()[0].publish("news", "rain"), 2);
    turn_until(|| seen.lines().len() == 2);
    turn_for(Duration::from_millis(20));
    let mut lines = seen.lines();
    lines.sort();
    assert_eq!(lines, ["b rain", "c rain"]);
}

#[test]
fn a_topic_is_delivered_in_the_order_of_ids_whatever_the_order_of_subscriptions() {
    let (worker, addr) = start::<Stop>();
    let seen = Transcript::new();
    let s = seen.clone();
    // What cannot be encoded is told by each in its turn.
    worker.on_error(move |con, _, _| s.note(con.id()));
    let clients = [0, 1, 2].map(|_| tcp_client(&format!("tcp://{addr}"), &Transcript::new()));
    clients.iter().for_each(|con| con.connect());
    turn_until(|| worker.connections().len() == 3);
    let all = worker.connections();
    for at in [2, 0, 1] {
        assert!(all[at].subscribe("late"));
    }
    assert_eq!(worker.publish("late", "a.b"), 0);
    turn_until(|| seen.lines().len() == 3);
    let ids: Vec<String> = all.iter().map(|con| con.id().to_string()).collect();
    assert_eq!(seen.lines(), ids);
}

#[test]
fn a_subscription_ends_with_its_connection_and_the_table_with_the_last() {
    let seen = Transcript::new();
    let (worker, readers) = three(&seen);
    let gone = worker.connections()[1];
    assert!(gone.subscribe("more"));
    gone.close();
    assert!(!gone.subscribe("later"), "it is closing");
    assert_eq!(worker.publish("news", "rain"), 2, "nothing is queued for one that closes");
    turn_until(|| worker.connections().len() == 2);
    assert_eq!((worker.subscribers("news"), worker.subscribers("more")), (2, 0));
    assert!(gone.topics().is_empty() && !gone.subscribe("x") && !gone.unsubscribe("news"));
    assert_eq!(gone.publish("news", "of a stale handle"), 0);
    readers.iter().for_each(|con| con.close());
    turn_until(|| worker.connections().is_empty());
    assert_eq!(worker.subscribers("news"), 0);
}

#[test]
fn a_peer_cannot_make_the_table_grow_without_end() {
    let seen = Transcript::new();
    let (worker, _readers) = three(&seen);
    let con = worker.connections()[0];
    con.set_limits(Limits::new().subscriptions(2).topic_bytes(8));
    assert!(!con.subscribe("a name of more than eight bytes"), "Limits::topic_bytes");
    assert!(con.subscribe("second"));
    assert!(!con.subscribe("third"), "Limits::subscriptions");
    assert!(con.subscribe("news"), "it has that one already");
    assert!(con.unsubscribe("news") && con.subscribe("third"));
    assert_eq!(con.topics(), ["second", "third"]);
    assert_eq!(worker.connections()[1].topics(), ["news"]);
}

#[test]
fn an_upgraded_connection_subscribes_in_the_worker_that_accepted_it() {
    // And what is published comes in its own protocol.
    let seen = Transcript::new();
    let (web, addr) = start::<Http>();
    web.on_message(|con, request| match Websocket::accept(&request) {
        Ok(websocket) => {
            let con = con.upgrade_with(websocket);
            assert!(con.subscribe("news"));
            con.on_message(|con, data| con.publish("news", data));
        }
        Err(refusal) => {
            con.send(refusal);
        }
    });
    let clients = [0, 1].map(|_| ws_client(&format!("ws://{addr}"), &Transcript::new()));
    for (at, con) in clients.iter().enumerate() {
        let s = seen.clone();
        con.on_message(move |_, data| s.note(format!("{at} {data} {}", data.is_text())));
        con.connect();
    }
    turn_until(|| web.subscribers("news") == 2);
    assert_eq!(web.publish("news", "rain"), 2);
    turn_until(|| seen.lines().len() == 2);
    clients[0].send(b"sun");
    turn_until(|| seen.lines().len() == 3);
    let mut lines = seen.lines();
    lines.sort();
    assert_eq!(lines, ["0 rain true", "1 rain true", "1 sun false"]);
}

#[test]
fn an_upgrade_ends_the_subscriptions_of_the_old_protocol() {
    let seen = Transcript::new();
    let (worker, _readers) = three(&seen);
    let con = worker.connections()[0].upgrade_with(Tcp::default());
    assert!(con.topics().is_empty());
    assert_eq!(worker.subscribers("news"), 2);
    assert!(con.subscribe("news"));
    assert_eq!(worker.publish("news", "x"), 3);
}

thread_local! {
    static ENCODED: Cell<u32> = const { Cell::new(0) };
}

/// A protocol of the program's own: whatever was sent, a full stop behind it.
#[derive(Default)]
struct Stop;

impl Protocol for Stop {
    const NAME: &'static str = "stop";
    type Incoming<'a> = &'a [u8];
    type Outgoing<'a> = &'a str;
    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        Ok(buffer
            .iter()
            .position(|b| *b == b'.')
            .map_or(Input::Partial, |at| Input::Package(at + 1)))
    }
    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<&'a [u8]>, Violation> {
        Ok(Some(package))
    }
    fn encode(&mut self, m: &str, out: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        out.extend_from_slice(m.as_bytes());
        out.push(b'.');
        Ok(())
    }
}
impl Serve for Stop {}
impl Dial for Stop {}
impl Prepare for Stop {
    fn encode_for_all(message: &Payload, out: &mut Vec<u8>) -> Result<usize, Violation> {
        ENCODED.set(ENCODED.get() + 1);
        if message.as_bytes().contains(&b'.') {
            return Err(Violation::new("a full stop within"));
        }
        out.extend_from_slice(message.as_bytes());
        out.push(b'.');
        Ok(0)
    }
}

#[test]
fn a_message_to_all_is_encoded_once() {
    let (worker, addr) = start::<Stop>();
    let seen = Transcript::new();
    let clients: Vec<_> = (0..3).map(|_| tcp_client(&format!("tcp://{addr}"), &seen)).collect();
    clients.iter().for_each(|con| con.connect());
    turn_until(|| worker.connections().len() == 3);
    assert_eq!(worker.send_to_all("hi"), 3);
    turn_until(|| seen.count("message hi.") == 3);
    worker.connections().iter().for_each(|con| assert!(con.subscribe("t")));
    assert_eq!(worker.publish("t", "ho"), 3);
    turn_until(|| seen.count("message ho.") == 3);
    assert_eq!(ENCODED.get(), 2);
}

#[test]
fn a_message_that_cannot_be_encoded_is_dropped_for_each_and_told_to_each() {
    let (worker, addr) = start::<Stop>();
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_error(move |_, code, failure| s.note(format!("{code} {failure}")));
    let clients: Vec<_> =
        (0..2).map(|_| tcp_client(&format!("tcp://{addr}"), &Transcript::new())).collect();
    clients.iter().for_each(|con| con.connect());
    turn_until(|| worker.connections().len() == 2);
    assert_eq!(worker.send_to_all("a.b"), 0);
    turn_until(|| seen.lines().len() == 2);
    assert!(
        seen.lines().iter().all(|line| line.contains("a full stop within")),
        "{:?}",
        seen.lines()
    );
}

#[test]
fn what_is_prepared_keeps_its_place_among_what_is_sent() {
    let seen = Transcript::new();
    let (worker, addr) = start::<Websocket>();
    let (small, large) = (Websocket::prepare("p"), Websocket::prepare("L".repeat(300_000)));
    worker.on_connect(move |con| {
        // The handshake is not complete: they wait, in order.
        assert_eq!(con.send("0"), Sent::Buffered);
        assert_eq!(con.send_prepared(&small), Sent::Buffered);
        let (small, large) = (small.clone(), large.clone());
        con.on_message(move |con, data| {
            con.send(format!("{data}1"));
            con.send_prepared(&small);
            con.send_prepared(&large);
            con.send("2");
            con.send_prepared(&small)
        });
    });
    let con = ws_client(&format!("ws://{addr}"), &Transcript::new());
    let s = seen.clone();
    con.on_message(move |_, data| {
        s.note(format!("{}{} {}", &data.to_string()[..1], data.len(), data.is_text()));
    });
    con.on_websocket_connect(|con, _| con.send("x"));
    con.connect();
    turn_until(|| seen.lines().len() == 7);
    seen.assert(&[
        "01 true",
        "p1 true",
        "x2 true",
        "p1 true",
        "L300000 true",
        "21 true",
        "p1 true",
    ]);
}

#[test]
fn set_websocket_type_decides_for_prepared_messages_too() {
    let seen = Transcript::new();
    let (worker, addr) = start::<Websocket>();
    let kind: Rc<Cell<Option<workerman::WebsocketType>>> = Rc::default();
    let k = kind.clone();
    worker.on_websocket_connected(move |con, _| {
        if let Some(kind) = k.get() {
            con.set_websocket_type(kind);
        }
        con.send_prepared(&Websocket::prepare("text"));
        con.send_prepared(&Websocket::prepare(b"bytes"));
    });
    for want in [None, Some(Websocket::BINARY_TYPE_BLOB), Some(Websocket::BINARY_TYPE_ARRAYBUFFER)]
    {
        kind.set(want);
        let con = ws_client(&format!("ws://{addr}"), &Transcript::new());
        let s = seen.clone();
        con.on_message(move |_, data| s.note(format!("{data} {}", data.is_text())));
        let before = seen.lines().len();
        con.connect();
        turn_until(|| seen.lines().len() == before + 2);
    }
    seen.assert(&[
        "text true",
        "bytes false",
        "text true",
        "bytes true",
        "text false",
        "bytes false",
    ]);
}

#[test]
fn prepared_messages_obey_the_limits_of_send() {
    // Below the limit one is taken whole, however large; at the limit it is dropped, and told once
    // a turn with its count; full and drained are told.
    let run = |prepared: bool, length: usize| {
        let (worker, addr) = start::<Text>();
        let seen = Transcript::new();
        let accepted: Rc<RefCell<Option<TcpConnection<Text>>>> = Rc::default();
        let a = accepted.clone();
        worker.on_connect(move |con| {
            a.replace(Some(con));
        });
        let client = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("an address");
        client.on_connect(|con| con.pause_recv());
        client.connect();
        turn_until(|| accepted.borrow().is_some());
        turn_for(Duration::from_millis(20));
        let con = accepted.borrow().expect("it is there");
        watch(con, &seen);
        let s = seen.clone();
        con.on_error(move |_, code, failure| s.note(format!("{code} {}", failure.dropped())));
        let s = seen.clone();
        con.on_buffer_full(move |_| s.note("full"));
        let s = seen.clone();
        con.on_buffer_drain(move |_| s.note("drain"));
        let (line, news) = ("x".repeat(length), Text::prepare("x".repeat(length)));
        let mut answers: Vec<Sent> = Vec::new();
        let mut taken = 0;
        // The kernel takes what it likes: only the answers behind a full socket are compared.
        loop {
            let sent = if prepared { con.send_prepared(&news) } else { con.send(&line) };
            taken += usize::from(sent != Sent::Dropped) * (length + 1);
            if answers.last() != Some(&sent) {
                answers.push(sent);
            }
            if sent == Sent::Dropped && con.send_prepared(&news) == Sent::Dropped {
                break;
            }
            assert!(taken < 64 << 20, "the limit holds");
        }
        assert!(con.send_buffer_len() >= con.max_send_buffer_size());
        assert!(con.send_buffer_len() <= con.max_send_buffer_size() + length);
        turn_until(|| seen.lines().len() == 2);
        client.resume_recv();
        turn_until(|| client.bytes_read() == taken as u64);
        turn_until(|| seen.has("drain"));
        (answers, seen.lines())
    };
    for length in [1000, 100_000] {
        let (answers, lines) = run(true, length);
        assert_eq!(answers, [Sent::Flushed, Sent::Buffered, Sent::Dropped]);
        assert_eq!(lines, ["full", "2 2", "drain"]);
        assert_eq!(run(false, length), (answers, lines), "as a plain send, {length}");
    }
}
