//! What follows when a callback fails: by `Err`, and by a panic that is contained. Panics that are
//! not are in `panics.rs`.
use crate::support::log::{keep_log, logged, logged_with};
use crate::support::{
    Transcript, client_frame, nobody_listens, own_host, raw_connect, raw_upgrade, read_frame,
    read_head, run_all_in_time, turn_until,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{LoopHandle, Verdict, on_readable, on_signal};

fn turn() {
    assert!(Worker::turn(Duration::ZERO).expect("a turn"), "the loop ended");
}

fn listening<P: workerman::Serve + Default>(scheme: &str) -> (Worker<P>, SocketAddr) {
    let worker = Worker::<P>::listen(&format!("{scheme}://127.0.0.1:0")).expect("an address");
    worker.set_name("w");
    turn();
    (worker, worker.local_addr().expect("it listens"))
}

/// What a peer still gets until the end of the socket.
fn rest(peer: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("an orderly end");
    rest
}

/// The line that tells of a callback of `con`, given as `text#1 127.0.0.1:port`.
#[track_caller]
fn assert_told(con: &str, error: &str) {
    let line = format!("ERROR a callback of {con} of worker \"w\" failed: {error}");
    assert_eq!(logged_with(&line, ""), 1, "{line}\nis not once in {:#?}", logged());
}

fn failing<T>(what: &str) -> workerman::Result<T> {
    Err(what.to_owned().into())
}

// ---------------------------------------------------------------- callbacks of a connection

/// Sets the callback of this name to one that fails.
fn fail_in(con: TcpConnection<Text>, kind: &'static str) {
    match kind {
        "message" => con.on_message(move |_, _| failing::<()>(kind)),
        "end" => con.on_end(move |_| failing::<()>(kind)),
        "full" => con.on_buffer_full(move |_| failing::<()>(kind)),
        "drain" => con.on_buffer_drain(move |_| failing::<()>(kind)),
        "error" => con.on_error(move |_, _, _| failing::<()>(kind)),
        _ => panic!("no such callback: {kind}"),
    }
}

/// Has the callback of this name called.
fn provoke(con: TcpConnection<Text>, peer: &mut TcpStream, kind: &str) {
    match kind {
        "message" => peer.write_all(b"hello\n").expect("the socket takes it"),
        "end" => {
            con.set_half_open(true);
            peer.shutdown(std::net::Shutdown::Write).expect("our end");
        }
        "full" | "error" | "drain" => {
            con.set_max_send_buffer_size(1000);
            con.send(&vec![7u8; 16 << 20][..]);
            con.send("one too many");
        }
        _ => panic!("no such callback: {kind}"),
    }
}

#[test]
fn an_error_of_any_callback_of_an_accepted_connection_is_logged_and_closes_that_one() {
    for kind in ["message", "end", "full", "drain", "error"] {
        keep_log();
        let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
        let s = seen.clone();
        worker.on_close(move |_| s.note("close"));
        let mut peer = raw_connect(addr);
        turn_until(|| worker.connections().len() == 1);
        let con = worker.connections()[0];
        let name = format!("{con:?}");
        fail_in(con, kind);
        provoke(con, &mut peer, kind);
        let reader = std::thread::spawn(move || rest(&mut peer).len());
        turn_until(|| seen.has("close"));
        assert!(reader.join().expect("an orderly end") <= (16 << 20) + 14);
        seen.assert(&["close"]);
        assert_told(&name, kind);
        worker.unlisten();
    }
}

#[test]
fn an_error_of_on_connect_closes_the_connection_before_anything_is_delivered() {
    keep_log();
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
    worker.on_connect(|con| {
        con.send("a last word");
        failing::<()>("connect")
    });
    let s = seen.clone();
    worker.on_message(move |_, _| s.note("message"));
    let (s, name) = (seen.clone(), Rc::new(Cell::new(String::new())));
    let theirs = name.clone();
    worker.on_close(move |con| {
        theirs.set(format!("{con:?}"));
        s.note("close");
    });
    let mut peer = raw_connect(addr);
    peer.write_all(b"hello\n").expect("the socket takes it");
    peer.shutdown(std::net::Shutdown::Write).expect("our end");
    turn_until(|| seen.has("close"));
    seen.assert(&["close"]);
    assert_eq!(rest(&mut peer), b"a last word\n");
    assert_told(&name.take(), "connect");
}

#[test]
fn an_error_of_on_close_is_logged_and_that_is_all() {
    keep_log();
    let (worker, addr) = listening::<Text>("text");
    worker.on_message(|con, line| con.send(line));
    worker.on_close(|_| failing::<()>("close"));
    let peer = raw_connect(addr);
    let mut other = raw_connect(addr);
    turn_until(|| worker.connections().len() == 2);
    drop(peer);
    turn_until(|| worker.connections().len() == 1);
    assert_eq!(logged_with("ERROR on_close of text#1", "failed: close"), 1, "{:?}", logged());
    other.write_all(b"hello\n").expect("the socket takes it");
    let mut answer = [0; 6];
    turn();
    other.read_exact(&mut answer).expect("an answer");
}

#[test]
fn an_error_of_a_callback_of_a_websocket_closes_it_with_1011() {
    for kind in ["message", "ping", "pong", "connected"] {
        keep_log();
        let (seen, (worker, addr)) = (Transcript::new(), listening::<Websocket>("websocket"));
        match kind {
            "message" => worker.on_message(move |_, _| failing::<()>(kind)),
            "ping" => worker.on_websocket_ping(move |_, _| failing::<()>(kind)),
            "pong" => worker.on_websocket_pong(move |_, _| failing::<()>(kind)),
            _ => worker.on_websocket_connected(move |_, _| failing::<()>(kind)),
        }
        let (s, name) = (seen.clone(), Rc::new(Cell::new(String::new())));
        let theirs = name.clone();
        worker.on_close(move |con| {
            theirs.set(format!("{con:?}"));
            s.note(format!("close {:?}", con.close_code()));
        });
        let peer = std::thread::spawn(move || {
            let mut peer = raw_connect(addr);
            assert!(raw_upgrade(&mut peer).starts_with("HTTP/1.1 101"));
            let first = match kind {
                "message" => 0x81,
                "ping" => 0x89,
                _ => 0x8a,
            };
            if kind != "connected" {
                peer.write_all(&client_frame(first, b"x")).expect("the socket takes it");
            }
            let mut frame = read_frame(&mut peer);
            if frame.0 == 0x8a {
                frame = read_frame(&mut peer);
            }
            assert_eq!(frame, (0x88, 1011u16.to_be_bytes().to_vec()));
            peer.write_all(&client_frame(0x88, &1000u16.to_be_bytes())).expect("our answer");
            rest(&mut peer)
        });
        turn_until(|| !seen.lines().is_empty());
        assert_eq!(peer.join().expect("the peer's own assertions"), b"");
        seen.assert(&["close Some(1000)"]);
        assert_told(&name.take(), kind);
        worker.unlisten();
    }
}

#[test]
fn an_error_of_on_websocket_connect_is_answered_500() {
    keep_log();
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Websocket>("websocket"));
    worker.on_websocket_connect(|_, _| failing::<()>("the database is away"));
    let s = seen.clone();
    worker.on_websocket_connected(move |_, _| s.note("connected"));
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        let head = raw_upgrade(&mut peer);
        (head, String::from_utf8(rest(&mut peer)).expect("text"))
    });
    turn_until(|| seen.has("close"));
    let (head, body) = peer.join().expect("the peer's own assertions");
    assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    assert!(!body.contains("database"), "strangers need not know: {body}");
    seen.assert(&["close"]);
    assert_eq!(logged_with("ERROR", "the database is away"), 1, "{:?}", logged());
}

#[test]
fn an_error_of_a_clients_callback_closes_the_client_and_asks_no_handler() {
    keep_log();
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Websocket>("websocket"));
    worker.on_websocket_connected(|con, _| con.send("hello"));
    let s = seen.clone();
    worker.set_error_handler(move |_, _| {
        s.note("a handler");
        Verdict::Keep
    });
    let s = seen.clone();
    worker.on_websocket_close(move |_, code, _| s.note(format!("peer got {code}")));
    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("an address");
    con.on_message(|_, _| failing::<()>("client"));
    let s = seen.clone();
    con.on_close(move |_| s.note("close"));
    con.connect();
    turn_until(|| seen.has("close"));
    seen.assert(&["peer got 1011", "close"]);
    assert_eq!(logged_with("ERROR a callback of ws#1", "failed: client"), 1, "{:?}", logged());
}

// ---------------------------------------------------------------- verdicts

/// A worker whose on_message fails, with this verdict; the peer says "a" and "b" in one write.
fn judged(verdict: Verdict) -> (Transcript, Worker<Text>, TcpStream) {
    keep_log();
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
    let s = seen.clone();
    worker.on_message(move |con, line| {
        s.note(format!("message {line}"));
        con.send(line);
        failing::<()>("oh")
    });
    let s = seen.clone();
    worker.set_error_handler(move |con, e| {
        s.note(format!("{} {e}", con.protocol()));
        verdict
    });
    let s = seen.clone();
    worker.on_worker_stop(move |_| s.note("stop"));
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    let mut peer = raw_connect(addr);
    peer.write_all(b"a\nb\n").expect("the socket takes it");
    (seen, worker, peer)
}

#[test]
fn verdict_keep_goes_on_as_if_nothing_had_happened_and_logs_nothing() {
    let (seen, worker, mut peer) = judged(Verdict::Keep);
    turn_until(|| seen.has("message b"));
    seen.assert(&["message a", "text oh", "message b", "text oh"]);
    assert_eq!(worker.connections().len(), 1);
    turn();
    let mut answer = [0; 4];
    peer.read_exact(&mut answer).expect("both answers");
    assert_eq!(&answer, b"a\nb\n");
    assert_eq!(logged_with("ERROR", ""), 0, "{:?}", logged());
}

#[test]
fn verdict_close_closes_and_what_was_sent_still_leaves() {
    let (seen, _, mut peer) = judged(Verdict::Close);
    peer.shutdown(std::net::Shutdown::Write).expect("our end");
    turn_until(|| seen.has("close"));
    seen.assert(&["message a", "text oh", "close"]);
    assert_eq!(rest(&mut peer), b"a\n");
}

#[test]
fn verdict_stop_worker_stops_as_stop_all_does() {
    let (seen, _, peer) = judged(Verdict::StopWorker);
    peer.shutdown(std::net::Shutdown::Write).expect("our end");
    turn_until(|| !Worker::is_running());
    seen.assert(&["message a", "text oh", "stop", "close"]);
}

// ---------------------------------------------------------------- other callbacks

#[test]
fn an_error_of_a_timer_is_logged_and_a_repeating_one_goes_on() {
    keep_log();
    let count = Rc::new(Cell::new(0));
    let theirs = count.clone();
    Timer::add(0.001, move |_| {
        theirs.set(theirs.get() + 1);
        failing::<()>("every time")
    });
    Timer::delay(0, || failing::<()>("once"));
    turn_until(|| count.get() == 3);
    assert_eq!(logged_with("ERROR a timer's callback failed: every time", ""), 3);
    assert_eq!(logged_with("ERROR a timer's callback failed: once", ""), 1);
}

#[test]
fn an_error_of_a_deferred_closure_is_logged_and_the_next_one_runs() {
    keep_log();
    let door = LoopHandle::current();
    turn();
    door.defer(|| failing::<()>("first"));
    door.defer(|| failing::<()>("second"));
    turn();
    assert_eq!(logged_with("ERROR a deferred closure failed: first", ""), 1);
    assert_eq!(logged_with("ERROR a deferred closure failed: second", ""), 1);
}

#[test]
fn an_error_of_on_signal_is_logged_and_the_next_signal_is_delivered() {
    // SIGWINCH: no other test of this program uses it.
    const SIGNAL: i32 = 28;
    keep_log();
    let count = Rc::new(Cell::new(0));
    let theirs = count.clone();
    on_signal(SIGNAL, move |signal| {
        theirs.set(theirs.get() + 1);
        failing::<()>(&format!("signal {signal}"))
    })
    .expect("it can be caught");
    for i in 1..=2 {
        signal_hook::low_level::raise(SIGNAL).expect("a signal to ourselves");
        turn_until(|| count.get() == i);
    }
    assert_eq!(logged_with("ERROR the callback of signal 28 failed: signal 28", ""), 2);
}

#[test]
fn an_error_of_on_readable_is_logged_and_the_watching_goes_on() {
    keep_log();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two ends");
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    let watch = on_readable(theirs, move |_| {
        seen.set(seen.get() + 1);
        failing::<()>("unread")
    })
    .expect("a socket can be watched");
    ours.write_all(b"x").expect("the socket takes it");
    turn_until(|| count.get() == 2);
    assert_eq!(logged_with("ERROR the callback of descriptor", "failed: unread"), 2);
    drop(watch);
}

#[test]
fn an_error_of_on_worker_start_is_what_run_all_returns_and_nothing_listens_any_more() {
    keep_log();
    let seen = Transcript::new();
    let first = Worker::<Text>::listen(&format!("text://{}:0", own_host())).expect("an address");
    let (s, addr) = (seen.clone(), Rc::new(Cell::new(None)));
    let theirs = addr.clone();
    first.on_worker_start(move |worker| {
        theirs.set(worker.local_addr());
        s.note("first starts");
    });
    let s = seen.clone();
    first.on_worker_stop(move |_| s.note("first stops"));
    let second = Worker::new();
    second.set_name("second");
    second.on_worker_start(|_| failing::<()>("no database"));
    let s = seen.clone();
    second.on_worker_stop(move |_| s.note("second stops"));
    let third = Worker::new();
    let s = seen.clone();
    third.on_worker_start(move |_| s.note("third starts"));

    let e = Worker::run_all().expect_err("it did not start");
    assert_eq!(e.to_string(), "no database");
    seen.assert(&["first starts", "first stops"]);
    assert_eq!(logged_with("DEBUG on_worker_start of \"second\" failed: no database", ""), 1);
    assert!(nobody_listens(addr.get().expect("it was bound")));
    assert!(!Worker::is_running());
    // The same by turns, and in a thread of its own.
    Worker::new().on_worker_start(|_| failing::<()>("nor now"));
    assert_eq!(Worker::turn(0).expect_err("it did not start").to_string(), "nor now");
    let spawned = workerman::spawn(|| {
        Worker::new().on_worker_start(|_| failing::<()>("nor there"));
        Ok(())
    });
    assert_eq!(spawned.expect_err("it did not start").to_string(), "nor there");
}

#[test]
fn an_error_of_on_worker_stop_is_logged_and_the_stopping_goes_on() {
    keep_log();
    let seen = Transcript::new();
    for name in ["one", "two"] {
        let worker = Worker::new();
        worker.set_name(name);
        let s = seen.clone();
        worker.on_worker_stop(move |_| {
            s.note(name);
            failing::<()>("too late")
        });
    }
    Worker::stop_all();
    run_all_in_time().expect("the run itself was fine");
    seen.assert(&["one", "two"]);
    assert_eq!(logged_with("ERROR on_worker_stop of \"one\" failed: too late", ""), 1);
    assert_eq!(logged_with("ERROR on_worker_stop of \"two\" failed: too late", ""), 1);
}

// ---------------------------------------------------------------- contained panics

#[test]
fn a_contained_panic_counts_as_the_error_of_its_callback() {
    keep_log();
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Websocket>("websocket"));
    Worker::contain_panics(true);
    worker.on_message(|_, data| match data.as_bytes() {
        b"panic" => panic!("by {data}"),
        _ => Ok(()),
    });
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    let count = Rc::new(Cell::new(0));
    let theirs = count.clone();
    Timer::add(0.001, move |_| {
        theirs.set(theirs.get() + 1);
        panic!("in a timer");
    });
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        raw_upgrade(&mut peer);
        peer.write_all(&client_frame(0x81, b"panic")).expect("the socket takes it");
        assert_eq!(read_frame(&mut peer), (0x88, 1011u16.to_be_bytes().to_vec()));
    });
    turn_until(|| seen.has("close") && count.get() >= 3);
    peer.join().expect("the peer's own assertions");
    assert!(Worker::is_running());
    assert_eq!(logged_with("ERROR a callback of websocket#1", "failed: panicked: by panic"), 1);
    assert!(logged_with("ERROR a timer's callback failed: panicked: in a timer", "") >= 3);
    Worker::contain_panics(false);
}

#[test]
fn a_contained_panic_inside_with_leaves_the_value_in_its_place() {
    keep_log();
    let (worker, addr) = listening::<Text>("text");
    Worker::contain_panics(true);
    worker.set_error_handler(|_, _| Verdict::Keep);
    worker.on_message(|con, line| {
        con.with(|count: &mut u32| {
            *count += 1;
            assert!(line != "panic", "inside with");
        });
    });
    let mut peer = raw_connect(addr);
    peer.write_all(b"panic\nfine\n").expect("the socket takes it");
    turn_until(|| worker.connections().first().and_then(|con| con.get::<u32>()) == Some(2));
    assert_eq!(logged_with("WARN", ""), 0, "{:?}", logged());
}

#[test]
fn a_contained_panic_of_on_worker_start_is_what_run_all_returns() {
    keep_log();
    Worker::contain_panics(true);
    Worker::new().on_worker_start(|_| panic!("no luck"));
    let e = Worker::run_all().expect_err("it did not start");
    assert_eq!(e.to_string(), "panicked: no luck");
    let late = Worker::new();
    late.on_worker_stop(|_| panic!("at the end"));
    Worker::stop_all();
    run_all_in_time().expect("only logged");
    assert_eq!(logged_with("ERROR on_worker_stop of", "panicked: at the end"), 1);
}

#[test]
fn an_answer_to_a_peer_that_speaks_no_http_is_no_callbacks_business() {
    // Beside the table: a protocol's own refusal is not logged as a callback's error.
    keep_log();
    let (worker, addr) = listening::<Websocket>("websocket");
    let done = Rc::new(Cell::new(false));
    let theirs = done.clone();
    worker.on_close(move |_| theirs.set(true));
    let peer = std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("the socket takes it");
        let head = read_head(&mut peer);
        rest(&mut peer);
        head
    });
    turn_until(|| done.get());
    let head = peer.join().expect("the peer's own assertions");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert_eq!(logged_with("ERROR", "") + logged_with("WARN", ""), 0, "{:?}", logged());
}

#[test]
fn an_option_that_a_callback_ends_with_counts_as_what_is_in_it() {
    // What `con.with(..)`, `token.get().map(..)` and `con.get::<Timer>().map(..)` give.
    keep_log();
    let (worker, addr) = listening::<Text>("text");
    worker.on_message(|con, line| match &*line {
        b"send" => con.with(|n: &mut u8| con.send(*n)),
        _ => None,
    });
    let mut peer = raw_connect(addr);
    peer.write_all(b"nothing\nsend\n").expect("the kernel took it");
    turn_until(|| worker.connections().iter().any(|con| con.bytes_read() == 13));
    turn();
    let mut answer = [0; 2];
    peer.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"0\n");
    worker.connections()[0].on_message(|_, _| Some(failing::<()>("no luck")));
    peer.write_all(b"again\n").expect("the kernel took it");
    turn_until(|| worker.connections().is_empty());
    assert_eq!(logged_with("ERROR", "no luck"), 1);
}
