//! How a run stops: in which order, by which deadline, and what no longer happens meanwhile.
use crate::support::{
    Transcript, client_frame, nobody_listens, own_host, raw_accept, raw_connect, raw_handshake,
    raw_listener, raw_upgrade, read_frame, run_all_in_time, turn_until,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{LoopHandle, RunStatus};

/// A WebSocket client of this address, in a thread; it hears of its 101 by the channel.
fn websocket_peer(
    addr: std::net::SocketAddr,
    answers: bool,
) -> std::thread::JoinHandle<((u8, Vec<u8>), usize)> {
    std::thread::spawn(move || {
        let mut peer = raw_connect(addr);
        assert!(raw_upgrade(&mut peer).starts_with("HTTP/1.1 101"));
        let farewell = read_frame(&mut peer);
        if answers {
            peer.write_all(&client_frame(0x88, &farewell.1)).expect("our answer");
        }
        let rest = peer.read_to_end(&mut Vec::new()).unwrap_or(0);
        (farewell, rest)
    })
}

fn websocket_worker() -> Worker<Websocket> {
    Worker::listen(&format!("websocket://{}:0", own_host())).expect("an address")
}

/// Notes what a worker of WebSockets sees from its stop on.
fn watched(worker: Worker<Websocket>, seen: &Transcript, connections: usize) {
    let s = seen.clone();
    worker.on_websocket_connected(move |_, _| {
        s.note("connected");
        if s.count("connected") == connections {
            Worker::stop_all();
            s.note("text after stop_all");
        }
    });
    let (s, addr) = (seen.clone(), Rc::new(Cell::new(None)));
    let theirs = addr.clone();
    worker.on_worker_stop(move |worker| {
        theirs.set(worker.local_addr());
        let open = worker.connections();
        let status = open.iter().all(|con| con.status() == Status::Established);
        let listens = TcpStream::connect(theirs.get().expect("it listens")).is_ok();
        s.note(format!("stop: {} open: {status}, listens: {listens}", open.len()));
    });
    let s = seen.clone();
    worker.on_close(move |con| {
        let listens = !nobody_listens(addr.get().expect("it listened"));
        s.note(format!("close {:?}, listens: {listens}", con.close_code()));
    });
    let s = seen.clone();
    worker.on_error(move |_, code, _| s.note(format!("error {code:?}")));
}

#[test]
fn stopping_goes_on_worker_stop_then_listeners_then_1001_then_on_close_then_ok() {
    let seen = Transcript::new();
    let worker = websocket_worker();
    watched(worker, &seen, 2);
    assert!(Worker::turn(0).expect("a turn"));
    let addr = worker.local_addr().expect("it listens");
    let peers = [websocket_peer(addr, true), websocket_peer(addr, true)];
    let begin = Instant::now();
    turn_until(|| !Worker::is_running());
    assert!(begin.elapsed() < Duration::from_millis(1500), "it waited for its deadline");
    for peer in peers {
        let (farewell, rest) = peer.join().expect("the peer's own assertions");
        assert_eq!(farewell, (0x88, 1001u16.to_be_bytes().to_vec()));
        assert_eq!(rest, 0);
    }
    seen.assert(&[
        "connected",
        "connected",
        "text after stop_all",
        "stop: 2 open: true, listens: true",
        "close Some(1001), listens: false",
        "close Some(1001), listens: false",
    ]);
}

#[test]
fn what_is_left_at_the_deadline_is_destroyed_with_its_on_close_and_run_all_returns_ok() {
    let seen = Transcript::new();
    let worker = websocket_worker();
    watched(worker, &seen, 1);
    let peer: Rc<Cell<Option<std::thread::JoinHandle<_>>>> = Rc::default();
    let theirs = peer.clone();
    worker.on_worker_start(move |worker| {
        let addr = worker.local_addr().expect("it listens");
        theirs.set(Some(websocket_peer(addr, false)));
    });
    let begin = Instant::now();
    run_all_in_time().expect("a run that was stopped in order");
    let took = begin.elapsed();
    let (least, most) = (Duration::from_millis(1800), Duration::from_millis(3000));
    assert!(took >= least && took < most, "the deadline is 2 s − 0.2 s: {took:?}");
    seen.assert(&[
        "connected",
        "text after stop_all",
        "stop: 1 open: true, listens: true",
        "close Some(1006), listens: false",
    ]);
    let (farewell, _) = peer.take().expect("started").join().expect("its own assertions");
    assert_eq!(farewell, (0x88, 1001u16.to_be_bytes().to_vec()));
}

/// Notes everything that a client's callbacks see.
fn noted(con: AsyncTcpConnection<Ws>, name: &'static str, seen: &Transcript) {
    let s = seen.clone();
    con.on_websocket_connect(move |_, _| s.note(format!("{name}: connected")));
    let s = seen.clone();
    con.on_error(move |_, code, failure| s.note(format!("{name}: {code:?} {failure}")));
    let s = seen.clone();
    con.on_close(move |con| {
        s.note(format!("{name}: close"));
        con.reconnect(0);
        con.reconnect(0.01);
        con.connect();
    });
}

#[test]
fn clients_say_goodbye_too_openings_are_abandoned_and_nobody_reconnects() {
    let seen = Transcript::new();
    let (listener, addr) = raw_listener();
    let server = std::thread::spawn(move || {
        let mut open = raw_accept(&listener);
        raw_handshake(&mut open);
        let farewell = read_frame(&mut open);
        open.write_all(&[0x88, 2, 3, 0xe9]).expect("our answer");
        drop(open);
        // Whoever comes later has to wait: the handshake is never answered. Nobody comes after it.
        let opening = raw_accept(&listener);
        listener.set_nonblocking(true).expect("it can");
        (farewell, opening, listener)
    });
    let make = |name| {
        let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("an address");
        noted(con, name, &seen);
        con
    };
    let open = make("open");
    open.connect();
    turn_until(|| seen.has("open: connected"));
    let opening = make("opening");
    opening.connect();
    let s = seen.clone();
    opening.on_connect(move |_| s.note("opening: transport"));
    turn_until(|| seen.has("opening: transport"));
    let waiting = make("waiting");
    waiting.reconnect(0.01);
    make("initial");
    let (dialing, s) = (make("dialing"), seen.clone());
    Worker::new().on_worker_stop(move |_| s.note("never: it missed the start"));
    Timer::delay(0, move || {
        dialing.connect();
        Worker::stop_all();
    });
    turn_until(|| !Worker::is_running());
    let mut lines = seen.lines();
    let (before, after) = (lines.drain(..2).collect::<Vec<_>>(), &mut lines);
    assert_eq!(before, ["open: connected", "opening: transport"]);
    after.sort();
    assert_eq!(*after, ["dialing: close", "open: close", "opening: close"]);
    for con in [open, opening, waiting, dialing] {
        assert_eq!((con.status(), con.id()), (Status::Closed, 0));
    }
    let (farewell, _, listener) = server.join().expect("the server's own assertions");
    assert_eq!(farewell, (0x88, 1001u16.to_be_bytes().to_vec()));
    assert!(listener.accept().is_err(), "somebody dialled while stopping");
}

#[test]
fn timers_of_the_program_are_silent_once_on_worker_stop_has_returned() {
    let seen = Transcript::new();
    let (listener, addr) = raw_listener();
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    con.connect();
    let worker = Worker::new();
    let s = seen.clone();
    worker.on_worker_start(move |_| {
        let t = s.clone();
        Timer::add(0.001, move |_| t.note("timer"));
    });
    let s = seen.clone();
    worker.on_worker_stop(move |_| {
        s.note("stop");
        let t = s.clone();
        Timer::delay(0, move || t.note("a timer made in on_worker_stop"));
    });
    let s = seen.clone();
    con.on_close(move |_| {
        s.note("close");
        let t = s.clone();
        Timer::delay(0, move || t.note("a timer made in on_close"));
    });
    con.on_connect(|_| Worker::stop_all());
    // The peer never ends its side: the run lasts on for a second.
    let begin = Instant::now();
    Worker::run_all().expect("a run");
    assert!(begin.elapsed() >= Duration::from_millis(900));
    let lines = seen.lines();
    let stop = lines.iter().position(|line| line == "stop").expect("it stopped");
    assert_eq!(lines[stop..], ["stop", "close"]);
    drop(listener);
}

#[test]
fn a_client_made_and_connected_while_stopping_neither_dials_nor_delays_the_end() {
    let (listener, addr) = raw_listener();
    let first = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("an address");
    let seen = Transcript::new();
    let s = seen.clone();
    first.on_close(move |_| {
        let second = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("made");
        let t = s.clone();
        second.on_close(move |_| t.note("close of the second"));
        second.connect();
        s.note(format!("second: {}", second.status()));
    });
    first.on_connect(|_| Worker::stop_all());
    first.connect();
    let server = std::thread::spawn(move || {
        drop(raw_accept(&listener));
        listener.set_nonblocking(true).expect("it can");
        listener
    });
    let begin = Instant::now();
    run_all_in_time().expect("a run");
    assert!(begin.elapsed() < Duration::from_millis(1500), "it waited for its deadline");
    seen.assert(&["second: INITIAL"]);
    assert!(server.join().expect("accepted").accept().is_err(), "the second dialled");
}

#[test]
fn stop_all_and_the_stop_of_a_loop_handle_and_the_drop_of_running_all_stop_in_the_same_way() {
    let (tell, told) = std::sync::mpsc::channel();
    let spawn = || {
        let tell = tell.clone();
        workerman::spawn(move || {
            let worker = Worker::<Text>::listen("text://127.0.0.1:0")?;
            let t = tell.clone();
            worker.on_worker_stop(move |worker| {
                let line = format!("stop {} {}", worker.connections().len(), Worker::status());
                t.send(line).expect("the test listens");
            });
            worker.on_message(|_, _| Worker::stop_all());
            worker.on_close(move |_| tell.send("close".into()).expect("the test listens"));
            Ok(())
        })
        .expect("it starts")
    };
    for how in ["drop", "stop", "handle", "stop_all"] {
        let server = spawn();
        let mut peer = raw_connect(server.addr());
        // It stands once its worker knows it.
        let (here, is_here) = std::sync::mpsc::channel();
        let probe = move || here.send(()).expect("the test listens");
        peer.write_all(b"part of a line").expect("the socket takes it");
        server.handle().defer(probe);
        is_here.recv().expect("a turn");
        std::thread::sleep(Duration::from_millis(20));
        let closer = {
            let mut peer = peer.try_clone().expect("a second handle");
            std::thread::spawn(move || {
                assert_eq!(peer.read(&mut [0]).expect("an orderly end"), 0);
                peer.shutdown(std::net::Shutdown::Both).ok();
            })
        };
        match how {
            "drop" => drop(server),
            "stop" => server.stop().expect("an orderly end"),
            "handle" => {
                server.handle().stop();
                assert_eq!(told.recv().expect("a line"), "stop 1 4");
                assert_eq!(told.recv().expect("a line"), "close");
                server.stop().expect("it has ended");
                closer.join().expect("the peer's own assertions");
                continue;
            }
            _ => {
                peer.write_all(b"\n").expect("the socket takes it");
                assert_eq!(told.recv().expect("a line"), "stop 1 4");
                assert_eq!(told.recv().expect("a line"), "close");
                drop(server);
                closer.join().expect("the peer's own assertions");
                continue;
            }
        }
        closer.join().expect("the peer's own assertions");
        let lines: Vec<String> = told.try_iter().collect();
        assert_eq!(lines, ["stop 1 4", "close"], "{how}");
    }
}

#[test]
fn the_status_of_the_run_follows_its_parts() {
    let seen = Transcript::new();
    let worker = Worker::new();
    let note = |seen: &Transcript, place: &str| {
        seen.note(format!("{place} {:?} {}", Worker::status(), Worker::is_running()));
    };
    note(&seen, "before");
    let s = seen.clone();
    worker.on_worker_start(move |_| {
        note(&s, "start");
        let t = s.clone();
        Timer::delay(0, move || {
            note(&t, "timer");
            Worker::stop_all();
        });
    });
    let s = seen.clone();
    worker.on_worker_stop(move |_| note(&s, "stop"));
    run_all_in_time().expect("a run");
    note(&seen, "after");
    assert_eq!(Worker::status(), RunStatus::Initial);
    seen.assert(&[
        "before Initial false",
        "start Starting true",
        "timer Running true",
        "stop Shutdown true",
        "after Initial false",
    ]);
    assert!(LoopHandle::current().defer(|| ()));
}
