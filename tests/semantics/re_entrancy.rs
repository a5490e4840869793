//! User code never runs under a borrow: each place where it runs calls the library again.
use crate::support::log::{at_each_line, keep_log, logged_with};
use crate::support::{Transcript, raw_connect, read_bytes, turn_until};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{LoopHandle, Status, on_signal};

fn turn() {
    assert!(Worker::turn(Duration::ZERO).expect("a turn"), "the loop ended");
}

/// A server of lines in this thread, and a peer whose connection stands.
fn server() -> (Worker<Text>, SocketAddr) {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    worker.on_message(|con, line| con.send(line));
    turn();
    (worker, worker.local_addr().expect("it listens"))
}

fn peer_of(worker: Worker<Text>, addr: SocketAddr) -> (TcpStream, TcpConnection<Text>) {
    let before = worker.connections().len();
    let peer = raw_connect(addr);
    turn_until(|| worker.connections().len() > before);
    (peer, *worker.connections().last().expect("it came"))
}

fn is_echoed(peer: &mut TcpStream) {
    peer.write_all(b"echo?\n").expect("the socket takes it");
    turn();
    assert_eq!(read_bytes(peer, 6), b"echo?\n");
}

thread_local! {
    /// Whom `call_everything` talks to, and how often it did.
    static TALK_TO: Cell<Option<TcpConnection<Text>>> = const { Cell::new(None) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static WRONG: Cell<bool> = const { Cell::new(false) };
}

/// What a destructor, a `Clone`, a protocol may want of the library.
fn call_everything() {
    CALLS.set(CALLS.get() + 1);
    let Some(con) = TALK_TO.get() else { return };
    con.send("called");
    con.send_raw(b"raw\n");
    con.flush();
    con.set(7u8);
    con.with(|count: &mut u64| *count += 1);
    con.set_max_send_buffer_size(1 << 20);
    con.pause_recv();
    con.resume_recv();
    let told = (con.id(), con.get::<u8>(), con.status(), con.remote_addr(), con.local_addr());
    let more = (con.bytes_read(), con.bytes_written(), con.send_buffer_len(), con.token().get());
    let _ = format!("{con:?} {told:?} {more:?} {:?}", con.any());
    let worker = con.worker();
    let _ = (worker.name(), worker.local_addr(), worker.connections(), worker.connection(1));
    Timer::delay(0, || ()).del();
    LoopHandle::current().defer(|| ());
    if let Ok(client) = AsyncTcpConnection::<Text>::new("text://127.0.0.1:1") {
        client.send("ahead");
        client.close();
    }
    // A panic here may be one inside a destructor that unwinds: it is told later.
    if Worker::turn(Duration::ZERO).is_ok() || Worker::run_all().is_ok() {
        WRONG.set(true);
    }
}

/// A value with a destructor, a `Clone` and a `Default` that call the library.
struct Caller;

impl Drop for Caller {
    fn drop(&mut self) {
        call_everything();
    }
}

impl Clone for Caller {
    fn clone(&self) -> Self {
        call_everything();
        Caller
    }
}

impl Default for Caller {
    fn default() -> Self {
        call_everything();
        Caller
    }
}

/// Keeps a closure the owner of a value.
fn hold(_: &Caller) {}

/// How often `f` led to `call_everything`, when this connection is the one talked to.
fn calls_during(con: TcpConnection<Text>, f: impl FnOnce()) -> usize {
    TALK_TO.set(Some(con));
    CALLS.set(0);
    f();
    TALK_TO.set(None);
    assert!(!WRONG.get(), "a turn inside a turn, or a run inside a run");
    CALLS.get()
}

/// Runs `f` inside a callback of this thread's loop.
fn inside_a_callback(f: impl FnOnce() + 'static) {
    let done = Rc::new(Cell::new(false));
    let theirs = done.clone();
    Timer::delay(0, move || {
        f();
        theirs.set(true);
    });
    turn_until(|| done.get());
}

// ---------------------------------------------------------------- user data

#[test]
fn drop_clone_and_default_of_user_data_may_call_the_library() {
    let (worker, addr) = server();
    let (mut peer, con) = peer_of(worker, addr);
    let calls = calls_during(con, || {
        inside_a_callback(move || {
            con.with(|_: &mut Caller| ()); // Default
            drop(con.get::<Caller>()); // Clone, and its Drop
            con.set(Caller); // Drop of the first one
            worker.set(Caller);
            drop(worker.get::<Caller>());
            worker.set(Caller);
        });
    });
    assert_eq!(calls, 1 + 2 + 1 + 2 + 1);
    let mut called = b"called\nraw\n".repeat(calls);
    called.extend_from_slice(b"echo?\n");
    peer.write_all(b"echo?\n").expect("the socket takes it");
    turn();
    assert_eq!(read_bytes(&mut peer, called.len()), called);
}

#[test]
fn drop_of_user_data_of_a_connection_that_ends_may_call_the_library_and_its_own_handle() {
    let (worker, addr) = server();
    let (mut other_peer, other) = peer_of(worker, addr);
    let (peer, con) = peer_of(worker, addr);
    con.set(Caller);
    con.set(Quiet(con));
    let calls = calls_during(other, || {
        drop(peer);
        turn_until(|| worker.connections().len() == 1);
    });
    assert_eq!(calls, 1);
    assert_eq!(QUIET.get(), 1);
    assert_eq!(read_bytes(&mut other_peer, 11), b"called\nraw\n");
}

thread_local! {
    static QUIET: Cell<usize> = const { Cell::new(0) };
}

/// The data of a connection that has ended finds its own handle stale.
struct Quiet(TcpConnection<Text>);

impl Drop for Quiet {
    fn drop(&mut self) {
        let con = self.0;
        assert_eq!(con.send("too late"), Sent::Dropped);
        assert_eq!((con.status(), con.id(), con.remote_addr()), (Status::Closed, 0, None));
        assert_eq!(con.get::<u8>(), None);
        assert_eq!(con.with(|_: &mut u8| ()), None);
        con.close();
        con.destroy();
        QUIET.set(QUIET.get() + 1);
    }
}

#[test]
fn drop_of_user_data_at_the_end_of_a_run_may_call_the_library() {
    let (worker, addr) = server();
    let (_peer, con) = peer_of(worker, addr);
    con.set(Caller);
    worker.set(Caller);
    let (timers, closures) = (Caller, Caller);
    Timer::add(600, move |_| hold(&timers));
    worker.on_worker_start(move |_| hold(&closures));
    let calls = calls_during(con, || {
        Worker::stop_all();
        turn_until(|| !Worker::is_running());
    });
    assert_eq!(calls, 4);
}

// ---------------------------------------------------------------- closures

#[test]
fn a_closure_that_is_replaced_from_inside_itself_runs_to_its_end_and_may_own_what_calls_back() {
    let (worker, addr) = server();
    let (mut peer, con) = peer_of(worker, addr);
    let seen = Transcript::new();
    let (s, owned) = (seen.clone(), Caller);
    con.on_message(move |con, _| {
        let t = s.clone();
        con.on_message(move |_, line| t.note(format!("new: {line}")));
        s.note(format!("old, still here: {}", std::mem::size_of_val(&owned)));
    });
    let calls = calls_during(con, || {
        peer.write_all(b"a\nb\n").expect("the socket takes it");
        turn_until(|| seen.lines().len() == 2);
    });
    seen.assert(&["old, still here: 0", "new: b"]);
    assert_eq!(calls, 1);
}

#[test]
fn every_closure_that_is_replaced_or_ended_may_own_what_calls_back() {
    let (worker, addr) = server();
    let (mut peer, con) = peer_of(worker, addr);
    inside_a_callback(move || replace_each(worker, con));
    turn();
    assert_eq!(read_bytes(&mut peer, 11), b"called\nraw\n");
}

fn replace_each(worker: Worker<Text>, con: TcpConnection<Text>) {
    let each = |replace: &dyn Fn(Caller)| {
        replace(Caller);
        calls_during(con, || replace(Caller))
    };
    type Client = AsyncTcpConnection<Ws>;
    let client: Client = AsyncTcpConnection::new("ws://127.0.0.1:1").expect("an address");
    let replaced = [
        each(&|c| worker.on_connect(move |_| hold(&c))),
        each(&|c| worker.on_close(move |_| hold(&c))),
        each(&|c| worker.on_error(move |_, _, _| hold(&c))),
        each(&|c| worker.on_buffer_full(move |_| hold(&c))),
        each(&|c| worker.on_worker_start(move |_| hold(&c))),
        each(&|c| worker.on_worker_stop(move |_| hold(&c))),
        each(&|c| con.on_error(move |_, _, _| hold(&c))),
        each(&|c| con.on_close(move |_| hold(&c))),
        each(&|c| con.on_end(move |_| hold(&c))),
        each(&|c| client.on_websocket_connect(move |_, _| hold(&c))),
        each(&|c| client.on_websocket_ping(move |_, _| hold(&c))),
        each(&|c| client.on_message(move |_, _| hold(&c))),
    ];
    assert_eq!(replaced, [1; 12]);
    let ended = calls_during(con, || {
        let (a, b, c) = (Caller, Caller, Caller);
        Timer::add(600, move |_| hold(&a)).del();
        Timer::delay(600, move || drop(b));
        Timer::del_all();
        client.on_buffer_drain(move |_| hold(&c));
        client.close();
    });
    // The client's, the drain one, and both timers'.
    assert_eq!(ended, 2 + 4);
}

#[test]
fn handlers_of_signals_that_end_with_the_run_may_own_what_calls_back() {
    let (worker, addr) = server();
    let (_peer, con) = peer_of(worker, addr);
    let owned = Caller;
    on_signal(23, move |_| hold(&owned)).expect("it can be caught");
    let calls = calls_during(con, || {
        Worker::stop_all();
        turn_until(|| !Worker::is_running());
    });
    assert_eq!(calls, 1);
}

#[test]
fn the_closure_of_with_has_the_value_out_and_may_ask_for_others() {
    keep_log();
    let (worker, addr) = server();
    let (mut peer, con) = peer_of(worker, addr);
    let seen = Transcript::new();
    let s = seen.clone();
    inside_a_callback(move || {
        con.set("first".to_string());
        let answer = con.with(|text: &mut String| {
            s.note(format!("the same again: {:?}", con.with(|_: &mut String| ())));
            s.note(format!("a copy: {:?}", con.get::<String>()));
            s.note(format!("another: {:?}", con.with(|n: &mut u32| *n)));
            con.send("from inside");
            text.push_str(", changed");
            text.len()
        });
        s.note(format!("{answer:?} {:?}", con.get::<String>()));
        con.with(|_: &mut String| con.set("set meanwhile".to_string()));
        s.note(format!("{:?}", con.get::<String>()));
    });
    seen.assert(&[
        "the same again: None",
        "a copy: None",
        "another: Some(0)",
        "Some(14) Some(\"first, changed\")",
        "Some(\"set meanwhile\")",
    ]);
    assert_eq!(logged_with("WARN with::<alloc::string::String> inside with::<", ""), 1);
    turn();
    assert_eq!(read_bytes(&mut peer, 12), b"from inside\n");
    // A connection that ends inside its own closure takes the value with it.
    let ended = con.with(|_: &mut Vec<u8>| {
        con.destroy();
        con.status()
    });
    assert_eq!(ended, Some(Status::Closed));
    turn();
    assert_eq!(con.get::<String>(), None);
}

#[test]
fn iterators_over_connections_are_snapshots() {
    let (worker, addr) = server();
    let peers: Vec<_> = (0..5).map(|_| peer_of(worker, addr)).collect();
    let mut count = 0;
    for con in worker.connections() {
        count += 1;
        for other in worker.any().connections() {
            other.destroy();
        }
        assert_eq!(con.send("gone"), Sent::Dropped);
    }
    assert_eq!((count, peers.len()), (5, 5));
    turn();
    assert!(worker.connections().is_empty());
}

// ---------------------------------------------------------------- makers, iterators, loggers

#[test]
fn make_of_listen_with_may_call_the_library() {
    let (plain, addr) = server();
    let (mut peer, con) = peer_of(plain, addr);
    let made = Worker::<Text>::listen_with("text://127.0.0.1:0", || {
        call_everything();
        Text::default()
    });
    let made = made.expect("an address");
    made.on_message(|con, line| con.send(line));
    let mut own = None;
    let calls = calls_during(con, || {
        own = Some(peer_of(made, made.local_addr().expect("it listens")));
    });
    assert_eq!(calls, 1);
    is_echoed(&mut own.expect("it came").0);
    turn();
    assert_eq!(read_bytes(&mut peer, 11), b"called\nraw\n");
}

#[test]
fn make_of_listen_with_may_close_its_own_listener_and_stop_the_run() {
    let seen = Transcript::new();
    let own: Rc<Cell<Option<Worker<Text>>>> = Rc::default();
    let (theirs, s) = (own.clone(), seen.clone());
    let made = Worker::<Text>::listen_with("text://127.0.0.1:0", move || {
        s.note("made");
        theirs.get().expect("it was made").unlisten();
        Worker::stop_all();
        Text::default()
    });
    let made = made.expect("an address");
    own.set(Some(made));
    let s = seen.clone();
    made.on_connect(move |_| s.note("connect"));
    let s = seen.clone();
    made.on_close(move |_| s.note("close"));
    turn();
    let addr = made.local_addr().expect("it listens");
    let _peers = (raw_connect(addr), TcpStream::connect(addr));
    turn_until(|| !Worker::is_running());
    seen.assert(&["made", "connect", "close"]);
}

#[test]
fn make_of_new_with_may_call_the_library_and_its_own_connection_drops_what_it_sends() {
    let (worker, addr) = server();
    let (_peer, con) = peer_of(worker, addr);
    let seen = Transcript::new();
    let own: Rc<Cell<Option<AsyncTcpConnection<Text>>>> = Rc::default();
    let (theirs, s) = (own.clone(), seen.clone());
    let client = AsyncTcpConnection::<Text>::new_with(&format!("text://{addr}"), move || {
        call_everything();
        let own = theirs.get().expect("it was made");
        s.note(format!("make: {:?}", own.send("from make")));
        Text::default()
    });
    let client = client.expect("an address");
    own.set(Some(client));
    let s = seen.clone();
    client.on_message(move |con, line| {
        s.note(line);
        con.close();
    });
    let (s, again) = (seen.clone(), Cell::new(true));
    client.on_close(move |con| {
        s.note("close");
        if again.replace(false) {
            con.reconnect(0);
        }
    });
    let calls = calls_during(con, || {
        // Made ahead of its session by the first send, by the opening for the second session.
        inside_a_callback(move || {
            assert_eq!(client.send("ahead"), Sent::Buffered);
            client.connect();
        });
        turn_until(|| seen.has("close"));
        client.on_connect(|con| con.close());
        turn_until(|| seen.count("close") == 2);
    });
    seen.assert(&["make: Dropped", "ahead", "close", "make: Dropped", "close"]);
    assert_eq!(calls, 2);
}

/// Header lines that come from an iterator which calls the library meanwhile.
struct Lines<F>(usize, F);

impl<F: FnMut()> Iterator for Lines<F> {
    type Item = (&'static str, &'static str);

    fn next(&mut self) -> Option<Self::Item> {
        self.1();
        self.0 += 1;
        [("X-One", "1"), ("X-Two", "2")].get(self.0 - 1).copied()
    }
}

#[test]
fn iterators_passed_to_set_headers_may_call_the_library_and_the_same_connection() {
    let (plain, addr) = server();
    let (_peer, con) = peer_of(plain, addr);
    let seen = Transcript::new();
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("an address");
    let s = seen.clone();
    worker.on_websocket_connect(move |own, request| {
        let of = |name| request.header(name).unwrap_or("none").to_owned();
        s.note(format!("{} {} {}", of("X-One"), of("X-Two"), of("Sec-WebSocket-Protocol")));
        own.set_headers(Lines(0, move || {
            call_everything();
            own.set_websocket_type(workerman::WebsocketType::Blob);
            own.send("ahead of the 101");
        }))?;
        Ok(())
    });
    let address = format!("ws://{}", worker.local_addr().expect("it listens"));
    let client = AsyncTcpConnection::<Ws>::new(&address).expect("an address");
    let s = seen.clone();
    client.on_websocket_connect(move |_, response| {
        let of = |name| response.header(name).unwrap_or("none").to_owned();
        s.note(format!("{} {}", of("X-One"), of("X-Two")));
    });
    let s = seen.clone();
    client.on_message(move |_, data| s.note(data));
    let calls = calls_during(con, || {
        inside_a_callback(move || {
            let set = client.set_headers(Lines(0, move || {
                call_everything();
                client.set_websocket_client_protocol("chat").expect("a token");
                client.send("ahead of the handshake");
            }));
            set.expect("headers");
            client.connect();
        });
        turn_until(|| seen.lines().len() == 5);
    });
    let ahead = "ahead of the 101";
    seen.assert(&["1 2 chat", "1 2", ahead, ahead, ahead]);
    assert_eq!(calls, 6);
}

#[test]
fn a_logger_that_sends_may_be_called_at_any_line() {
    keep_log();
    let (worker, addr) = server();
    let (mut peer, con) = peer_of(worker, addr);
    let lines = Rc::new(Cell::new(0));
    let theirs = lines.clone();
    TALK_TO.set(Some(con));
    at_each_line(Some(Rc::new(move || {
        theirs.set(theirs.get() + 1);
        for con in worker.connections() {
            con.send("logged");
        }
        let _ = (worker.local_addr(), format!("{worker:?}"));
    })));
    // Lines of every kind: newcomers, ends, failures, an upgrade, a refused client, a listener.
    let (mut second, other) = peer_of(worker, addr);
    worker.on_close(|_| -> workerman::Result { Err("oh".into()) });
    other.on_message(|con, _| {
        let new = con.upgrade_with(Frame::default());
        new.on_message(|_, _| ());
    });
    second.write_all(b"x\n").expect("the socket takes it");
    turn_until(|| other.status() == Status::Closed);
    drop((second, peer_of(worker, addr)));
    let late = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    late.unlisten();
    let client = AsyncTcpConnection::<Ws>::new("ws://127.0.0.1:1").expect("an address");
    client.connect();
    Timer::delay(0, || -> workerman::Result { Err("a timer".into()) });
    Timer::add(-1, |_| ());
    let closed = Rc::new(RefCell::new(false));
    let theirs = closed.clone();
    client.on_close(move |_| *theirs.borrow_mut() = true);
    turn_until(|| *closed.borrow() && worker.any().connections().len() == 1);
    Worker::stop_all();
    turn_until(|| !Worker::is_running());
    at_each_line(None);
    TALK_TO.set(None);
    assert!(lines.get() > 5, "only {} lines", lines.get());
    let logged = read_bytes(&mut peer, 7);
    assert_eq!(logged, b"logged\n");
}

#[test]
fn a_logger_may_ask_a_listener_that_is_just_beginning_to_listen() {
    keep_log();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    let asked = Rc::new(Cell::new(0));
    let theirs = asked.clone();
    at_each_line(Some(Rc::new(move || {
        let _ = worker.local_addr();
        theirs.set(theirs.get() + 1);
    })));
    turn();
    at_each_line(None);
    assert!(asked.get() > 0 && worker.local_addr().is_some());
}
