//! What ends a handle, what a stale one answers, and what goes over in upgrades and pipes.
use crate::support::log::{keep_log, logged_with};
use crate::support::peers::{
    Peer, error_line, read_to_end, refusing, start, tcp_client, watch, ws_client,
};
use crate::support::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Connection, Limits, Role};

/// Every question that a stale handle is asked, and its quiet answer.
#[track_caller]
fn assert_stale<R: Role>(con: Connection<Tcp, R>) {
    assert_eq!(con.send("x"), Sent::Dropped);
    assert_eq!(con.send_raw(b"x"), Sent::Dropped);
    assert_eq!(con.status(), Status::Closed);
    assert_eq!((con.id(), con.bytes_read(), con.bytes_written()), (0, 0, 0));
    assert_eq!((con.send_buffer_len(), con.recv_buffer_len()), (0, 0));
    assert_eq!((con.max_send_buffer_size(), con.max_package_size()), (0, 0));
    assert_eq!((con.remote_addr(), con.remote_ip(), con.local_addr()), (None, None, None));
    assert_eq!((con.remote_port(), con.local_port(), con.local_ip()), (0, 0, None));
    assert_eq!((con.remote_address().as_str(), con.local_address().as_str()), ("", ""));
    con.set(1u8);
    assert_eq!((con.get::<u8>(), con.with(|n: &mut u8| *n)), (None, None));
    assert_eq!((con.any().id(), con.any().protocol()), (0, ""));
    assert_eq!(con.any().send("x"), Sent::Dropped);
    assert_eq!(con.token().get(), None);
    assert_eq!(format!("{con:?} {con}"), "(ended connection) (ended connection)");
    con.on_message(|_, _| {});
    con.set_limits(Limits::new());
    con.pause_recv();
    con.resume_recv();
    con.flush();
    con.shutdown_write();
    con.close_with("x");
    con.destroy();
    assert_stale_upgrade(con);
    assert_eq!(con.status(), Status::Closed);
}

fn assert_stale_upgrade<R: Role>(con: Connection<Tcp, R>) {
    let upgraded = con.upgrade_with(Text::default());
    assert_eq!((upgraded.status(), upgraded.send("x")), (Status::Closed, Sent::Dropped));
}

#[test]
fn a_client_handle_ends_when_on_close_returns_without_a_reconnect() {
    // What ends a client handle: `on_close` that returned without a reconnect. After that it is
    // stale: `send` is `Dropped`, `status` Closed, getters `None`, 0 or empty.
    let (_held, addr) = refusing();
    let t = Transcript::new();
    let con = tcp_client(&format!("tcp://{addr}"), &t);
    let at = t.clone();
    con.on_close(move |con| at.note(format!("close {}", con.id())));
    con.connect();
    turn_until(|| t.has("close 1"));
    assert_stale(con);
    con.cancel_reconnect();
    assert_eq!((con.remote_host().as_str(), con.remote_uri().as_str()), ("", ""));
}

#[test]
fn close_and_destroy_outside_a_session_end_the_handle() {
    // What ends a client handle: `close()` or `destroy()` outside a session.
    for destroy in [false, true] {
        let con = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:9").expect("client");
        con.send("queued");
        if destroy {
            con.destroy()
        } else {
            con.close()
        }
        assert_stale(con);
    }
}

#[test]
fn the_end_of_the_run_ends_every_handle() {
    // What ends a client handle: the end of the run; also one that never dialled.
    let (worker, addr) = start::<Tcp>();
    let accepted = Rc::new(RefCell::new(Vec::new()));
    let list = accepted.clone();
    worker.on_connect(move |con| list.borrow_mut().push(con));
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("client");
    let idle = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:9").expect("client");
    con.connect();
    turn_until(|| accepted.borrow().len() == 1);
    Worker::stop_all();
    while Worker::turn(1).expect("a turn") {}
    assert_stale(con);
    assert_stale(idle);
    assert_stale(accepted.borrow()[0]);
    assert!(worker.connections().is_empty());
}

#[test]
fn a_stale_handle_never_reaches_the_next_in_its_place() {
    // A stale handle is never another connection, though its place is used again.
    let old = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:9").expect("client");
    old.close();
    for _ in 0..3 {
        let new = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:9").expect("client");
        old.send("x");
        old.set(5u8);
        old.destroy();
        assert_eq!((new.status(), new.send_buffer_len()), (Status::Initial, 0));
        assert_eq!(new.get::<u8>(), None);
        assert_ne!(old, new);
        new.close();
    }
}

#[test]
fn connect_and_reconnect_on_a_stale_handle_log_the_remedy() {
    // `connect` or `reconnect` on it logs a warning with the remedy.
    keep_log();
    let con = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:9").expect("client");
    con.close();
    let remedy = "call reconnect(5) inside on_close; a timer that reconnects later holds a handle \
                  that has ended";
    con.connect();
    assert_eq!(logged_with("WARN", remedy), 1);
    con.reconnect(5);
    assert_eq!(logged_with("WARN", remedy), 2);
    assert_eq!(con.status(), Status::Closed);
}

#[test]
fn an_accepted_handle_answers_until_its_on_close_has_returned() {
    // What ends an accepted handle: its `on_close` returned. During `on_close` addresses, counters,
    // id and user data still answer.
    let (worker, addr) = start::<Tcp>();
    let kept = Rc::new(Cell::new(None));
    let t = Transcript::new();
    worker.on_connect(|con| con.set("mine"));
    worker.on_message(|con, data| con.send(data));
    let (keep, at) = (kept.clone(), t.clone());
    worker.on_close(move |con| {
        keep.set(Some(con));
        let (remote, local) = (con.remote_addr(), con.local_addr());
        assert_eq!(
            (con.remote_ip().map(|ip| ip.to_string()), local),
            (Some("127.0.0.1".into()), Some(addr))
        );
        assert_eq!((con.local_ip(), con.local_port()), (Some(addr.ip()), addr.port()));
        assert_eq!(
            (con.remote_address(), con.local_address()),
            (remote.expect("remote").to_string(), addr.to_string())
        );
        let counters = (con.id(), con.bytes_read(), con.bytes_written());
        at.note(format!("{counters:?} {:?} {con:?}", con.get::<&str>()));
        assert_eq!(con.worker().name(), worker.name());
    });
    let mut stream = raw_connect(addr);
    let port = stream.local_addr().expect("an address").port();
    stream.write_all(b"hello").expect("bytes");
    turn_until(|| worker.connections().iter().any(|con| con.bytes_written() == 5));
    drop(stream);
    turn_until(|| !t.lines().is_empty());
    t.assert(&[&format!("(1, 5, 5) Some(\"mine\") tcp#1 127.0.0.1:{port}")]);
    assert_stale(kept.get().expect("it was there"));
}

#[test]
fn handles_compare_hash_and_print() {
    // Handles compare by identity, hash, print as `ws#3 127.0.0.1:1234`.
    let make = |address| AsyncTcpConnection::<Ws>::new(address).expect("client");
    let (a, b, c) = (make("ws://127.0.0.1:1"), make("ws://[::1]:2/x"), make("wss://example.com"));
    let copy = a;
    assert!(a == copy && a != b && a.any() == copy.any() && a.any() != b.any());
    let mut names = HashMap::from([(a, "a"), (b, "b")]);
    names.insert(copy, "again");
    assert_eq!((names.len(), names[&a]), (2, "again"));
    let printed = [format!("{a:?}"), format!("{b:?}"), format!("{:?}", c.any())];
    assert_eq!(printed, ["ws#1 127.0.0.1:1", "ws#2 [::1]:2", "ws#3 example.com:443"]);
    assert_eq!([a.to_string(), b.to_string(), c.any().to_string()], printed);
}

#[test]
fn ids_are_1_2_3_and_never_twice_the_same_in_a_loop() {
    // `id()` is 1, 2, 3 … in the order of making, clients and accepted ones together, never twice
    // the same in one loop, also over its runs.
    let (worker, addr) = start::<Tcp>();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let ids = seen.clone();
    worker.on_connect(move |con| ids.borrow_mut().push(con.id()));
    let t = Transcript::new();
    let first = tcp_client(&format!("tcp://{addr}"), &t);
    first.connect();
    turn_until(|| seen.borrow().len() == 1);
    let second = tcp_client(&format!("tcp://{addr}"), &t);
    assert_eq!((first.id(), seen.borrow()[0], second.id()), (1, 2, 3));
    second.close();
    assert_eq!(tcp_client("tcp://127.0.0.1:9", &t).id(), 4, "its place is free, its id is not");
    Worker::stop_all();
    while Worker::turn(1).expect("a turn") {}
    assert_eq!(tcp_client("tcp://127.0.0.1:9", &t).id(), 5);
}

#[test]
fn an_upgraded_connection_is_a_new_handle_with_the_old_id_and_user_data() {
    // `upgrade_with(q)`: the old handle is stale from the call on, user data and id stay, bytes not
    // yet delivered go to `q`; the worker's callbacks are not taken over; no `on_close` for the old
    // protocol, one for the new.
    let (worker, addr) = start::<Tcp>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_close(move |_| at.note("the old on_close"));
    let at = t.clone();
    worker.on_connect(move |con| {
        con.set(String::from("mine"));
        let (at, u) = (at.clone(), at.clone());
        con.on_message(move |con, data| {
            at.note(format!("bytes {}", data.escape_ascii()));
            let id = con.id();
            let lines = con.upgrade_with(Text::default());
            assert_stale(con);
            assert_eq!((lines.id(), lines.get::<String>()), (id, Some("mine".into())));
            assert_eq!((lines.status(), lines.bytes_read()), (Status::Established, 5));
            assert_eq!(worker.any().connections(), [lines.any()]);
            lines.send("hello");
            let at = u.clone();
            lines.on_message(move |_, line| at.note(format!("line {line}")));
            let at = u.clone();
            lines.on_close(move |con| at.note(format!("close {} {}", con.id(), con.bytes_read())));
        });
    });
    let mut stream = raw_connect(addr);
    stream.write_all(b"START").expect("bytes");
    assert_eq!(peer_reads(&mut stream, 6), b"hello\n");
    stream.write_all(b"one\ntwo\n").expect("lines");
    turn_until(|| t.has("line two"));
    drop(stream);
    turn_until(|| t.has("close 1 13"));
    turn_for(Duration::from_millis(10));
    t.assert(&["bytes START", "line one", "line two", "close 1 13"]);
    assert!(worker.any().connections().is_empty());
}

/// Reads while this thread's loop turns.
fn peer_reads(stream: &mut std::net::TcpStream, length: usize) -> Vec<u8> {
    let mut other = stream.try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || read_bytes(&mut other, length));
    turn_until(|| reader.is_finished());
    reader.join().expect("the bytes")
}

#[test]
fn bytes_behind_the_message_that_upgrades_go_to_the_new_protocol() {
    // Bytes not yet delivered go to `q` once the callback returns.
    let (worker, addr) = start::<Text>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_message(move |con, line| {
        at.note(format!("line {line}"));
        let framed = con.upgrade_with(Tcp::default());
        let u = at.clone();
        framed.on_message(move |_, data| u.note(format!("bytes {}", data.escape_ascii())));
        at.note("returned");
    });
    let mut stream = raw_connect(addr);
    stream.write_all(b"go\nraw\nbytes").expect("bytes");
    turn_until(|| t.lines().len() == 3);
    t.assert(&["line go", "returned", "bytes raw\\nbytes"]);
}

#[test]
fn callbacks_of_an_upgraded_connection_are_dropped_after_the_running_one() {
    // Its callbacks are dropped after the running one.
    struct Tell(Transcript);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }
    let (worker, addr) = start::<Tcp>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_connect(move |con| {
        let (at, tell) = (at.clone(), Tell(at.clone()));
        con.on_message(move |con, _| {
            let _tell = &tell;
            con.upgrade_with(Text::default());
            at.note("upgraded");
        });
    });
    let mut stream = raw_connect(addr);
    stream.write_all(b"x").expect("a byte");
    turn_until(|| t.has("dropped"));
    t.assert(&["upgraded", "dropped"]);
}

#[test]
fn an_upgraded_connection_keeps_its_idle_limit() {
    // An upgraded connection's idle limit is reset by what it receives.
    let (worker, addr) = start::<Tcp>();
    worker.set_limits(Limits::new().idle(0.3));
    let t = Transcript::new();
    let at = t.clone();
    worker.on_connect(move |con| {
        let lines = con.upgrade_with(Text::default());
        let u = at.clone();
        lines.on_message(move |_, line| u.note(line));
        let u = at.clone();
        lines.on_close(move |_| u.note("close"));
    });
    let client = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(60));
            stream.write_all(b"x\n").expect("it is still open");
        }
        read_to_end(&mut stream)
    });
    turn_until(|| t.has("close"));
    assert_eq!(t.count("x"), 8);
    assert_eq!(client.join().expect("the client"), b"");
}

#[test]
fn an_upgraded_client_cannot_reconnect() {
    // A client that was upgraded cannot reconnect (there is no recipe for its protocol): a warning,
    // and the handle ends.
    for on_close in [true, false] {
        keep_log();
        let (_worker, addr) = start::<Text>();
        let t = Transcript::new();
        let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("client");
        let lines = Rc::new(Cell::new(None));
        let keep = lines.clone();
        con.on_connect(move |con| keep.set(Some(con.upgrade_with(Text::default()))));
        con.connect();
        turn_until(|| lines.get().is_some());
        let lines = lines.get().expect("upgraded");
        watch(lines, &t);
        if on_close {
            let at = t.clone();
            lines.on_close(move |con| {
                at.note("close CLOSED");
                con.reconnect(0.01);
                con.connect();
                at.note(con.status());
            });
            lines.close();
        } else {
            lines.reconnect(0.01);
        }
        turn_until(|| lines.id() == 0);
        turn_for(Duration::from_millis(30));
        t.assert(if on_close { &["close CLOSED", "CLOSED"] } else { &["close CLOSED"] });
        assert!(logged_with("WARN", "upgraded") >= 1);
        assert_eq!(lines.send("x"), Sent::Dropped);
    }
}

#[test]
fn what_arrives_is_piped_and_the_end_closes_the_other_side() {
    // `a.pipe(b)`: `a`'s messages go to `b`; `a`'s end closes `b`.
    let target = Peer::with_one(|mut stream| {
        assert_eq!(read_bytes(&mut stream, 5), b"there");
        stream.write_all(b"and back").expect("an answer");
        assert_eq!(read_to_end(&mut stream), b"");
    });
    let (worker, addr) = start::<Tcp>();
    let to = target.tcp();
    worker.on_connect(move |con| {
        let other = AsyncTcpConnection::<Tcp>::new(&to)?;
        con.pipe(other);
        other.pipe(con);
        other.connect();
        workerman::Result::Ok(())
    });
    let mut stream = raw_connect(addr);
    stream.write_all(b"there").expect("bytes");
    assert_eq!(peer_reads(&mut stream, 8), b"and back");
    drop(stream);
    turn_until(|| worker.connections().is_empty());
    turn_until(|| target.has_played());
}

#[test]
fn a_full_target_pauses_its_source_and_a_drained_one_resumes_it() {
    // `b` full pauses `a`, `b` drained resumes it: nothing is lost however slow `b` is.
    const LENGTH: usize = 8 << 20;
    let (go, told) = std::sync::mpsc::channel::<()>();
    let target = Peer::with_one(move |mut stream| {
        told.recv().expect("the word");
        let all = read_to_end(&mut stream);
        assert_eq!(all.len(), LENGTH);
        assert!(all.iter().enumerate().all(|(at, byte)| *byte == (at / 1000) as u8));
    });
    let (worker, addr) = start::<Tcp>();
    let to = target.tcp();
    let other = Rc::new(Cell::new(None));
    let keep = other.clone();
    worker.on_connect(move |con| {
        let other = AsyncTcpConnection::<Tcp>::new(&to)?;
        other.set_max_send_buffer_size(64 << 10);
        con.pipe(other);
        other.connect();
        keep.set(Some(other));
        workerman::Result::Ok(())
    });
    let source = std::thread::spawn(move || {
        let mut stream = raw_connect(addr);
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at / 1000) as u8).collect();
        stream.write_all(&bytes).expect("all bytes");
    });
    turn_until(|| other.get().is_some_and(|other| other.send_buffer_len() >= 64 << 10));
    turn_for(Duration::from_millis(50));
    let waiting = other.get().expect("it is there").send_buffer_len();
    assert!(waiting <= 256 << 10, "the source is not paused: {waiting}");
    go.send(()).expect("the target waits");
    turn_until(|| worker.connections().is_empty() && target.has_played());
    source.join().expect("the source");
}

#[test]
fn a_half_open_pipe_passes_an_end_on_and_loses_no_answer() {
    // `pipe` passes an end on as `shutdown_write` when both sides are half-open, so that a proxy
    // loses no answer; when both directions have ended both connections have.
    let target = Peer::with_one(|mut stream| {
        assert_eq!(read_to_end(&mut stream), b"question");
        stream.write_all(b"answer").expect("an answer");
    });
    let (worker, addr) = start::<Tcp>();
    let to = target.tcp();
    let other = Rc::new(Cell::new(None));
    let keep = other.clone();
    worker.on_connect(move |con| {
        let other = AsyncTcpConnection::<Tcp>::new(&to)?;
        con.set_half_open(true);
        other.set_half_open(true);
        con.pipe(other);
        other.pipe(con);
        other.connect();
        keep.set(Some(other));
        workerman::Result::Ok(())
    });
    let mut stream = raw_connect(addr);
    stream.write_all(b"question").expect("bytes");
    stream.shutdown(Shutdown::Write).expect("our end");
    let reader = std::thread::spawn(move || read_to_end(&mut stream));
    turn_until(|| reader.is_finished());
    assert_eq!(reader.join().expect("the reader"), b"answer");
    turn_until(|| worker.connections().is_empty());
    turn_until(|| other.get().is_some_and(|other| other.id() == 0));
}

#[test]
fn replacing_a_workers_callback_concerns_later_connections() {
    // Worker callbacks are copied when a connection is accepted: replacing one later concerns later
    // connections, as in PHP.
    let (worker, addr) = start::<Tcp>();
    let t = Transcript::new();
    let at = t.clone();
    worker.on_message(move |con, _| at.note(format!("old {}", con.id())));
    let mut first = raw_connect(addr);
    turn_until(|| worker.connections().len() == 1);
    let at = t.clone();
    worker.on_message(move |con, _| at.note(format!("new {}", con.id())));
    let mut second = raw_connect(addr);
    second.write_all(b"x").expect("a byte");
    turn_until(|| t.lines().len() == 1);
    first.write_all(b"x").expect("a byte");
    turn_until(|| t.lines().len() == 2);
    t.assert(&["new 2", "old 1"]);
}

#[test]
fn a_timer_with_a_negative_or_nan_interval_is_not_armed() {
    // A timer with a negative or NaN delay is not armed, an error line says so, its handle has
    // ended already.
    keep_log();
    let fired = Rc::new(Cell::new(false));
    for (count, delay) in [-1.0, f64::NAN, f64::NEG_INFINITY].into_iter().enumerate() {
        let (a, b) = (fired.clone(), fired.clone());
        let timers =
            [Timer::add(delay, move |_| a.set(true)), Timer::delay(delay, move || b.set(true))];
        assert_eq!(timers.map(|timer| (timer.id(), timer.del())), [(0, false); 2]);
        assert_eq!(logged_with("ERROR", "interval"), 2 * (count + 1));
    }
    turn_for(Duration::from_millis(20));
    assert!(!fired.get());
}

#[test]
fn a_websocket_handle_of_an_ended_session_is_quiet_too() {
    // Stale: what only WebSockets have answers `None` or `Dropped`.
    let (_held, addr) = refusing();
    let t = Transcript::new();
    let con = ws_client(&format!("ws://{addr}"), &t);
    let at = t.clone();
    con.on_error(move |con, code, failure| at.note(error_line(con, code, failure)));
    con.connect();
    turn_until(|| t.has("close CLOSED"));
    let started = Instant::now();
    assert_eq!((con.close_code(), con.latency(), con.websocket_type()), (None, None, None));
    assert_eq!(
        (con.ping(b""), con.pong(b""), con.send("x")),
        (Sent::Dropped, Sent::Dropped, Sent::Dropped)
    );
    con.close_websocket(1000, "");
    con.set_websocket_ping_interval(1);
    assert!(con.set_headers([("A", "b")]).is_ok());
    assert!(started.elapsed() < Duration::from_secs(1));
}
