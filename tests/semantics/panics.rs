//! A panic in a callback: logged, `on_worker_stop` runs, sockets close, then it goes on in whoever
//! runs the loop.
use crate::support::log::{keep_log, logged, logged_with};
use crate::support::{
    Transcript, nobody_listens, own_host, raw_connect, raw_listener, run_all_in_time,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{LoopHandle, on_readable, on_signal};

/// What the panic that leaves `f` said.
#[track_caller]
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it did not panic") };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

fn dial(addr: SocketAddr) -> AsyncTcpConnection<Text> {
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    con.connect();
    con
}

/// Has a callback of this kind panic, with a client that talks with the worker.
fn set_up(worker: Worker<Text>, kind: &'static str) {
    const SIGNAL: i32 = 10;
    let oops = move || -> () { panic!("in {kind}") };
    match kind {
        "on_connect" => worker.on_connect(move |_| oops()),
        "on_message" => worker.on_message(move |_, _| oops()),
        "on_close" => {
            worker.on_message(|con, _| con.close());
            worker.on_close(move |_| oops());
        }
        "on_error" => {
            worker.on_connect(|con| con.set_max_package_size(1));
            worker.on_error(move |_, _, _| oops());
        }
        "on_buffer_full" => {
            worker.on_message(|con, _| {
                con.set_max_send_buffer_size(10);
                con.send(&vec![0u8; 16 << 20][..]);
            });
            worker.on_buffer_full(move |_| oops());
        }
        _ => {}
    }
    worker.on_worker_start(move |worker| {
        let con = dial(worker.local_addr().expect("it listens"));
        con.send("hello");
        con.send("again");
        match kind {
            "a timer" => drop(Timer::delay(0.01, oops)),
            "a deferred closure" => drop(LoopHandle::current().defer(oops)),
            "on_signal" => {
                on_signal(SIGNAL, move |_| oops()).expect("it can be caught");
                signal_hook::low_level::raise(SIGNAL).expect("a signal to ourselves");
            }
            "on_readable" => {
                let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two ends");
                ours.write_all(b"x").expect("the socket takes it");
                let watch = on_readable(theirs, move |_| oops()).expect("a socket");
                std::mem::forget((ours, watch));
            }
            "a client's on_message" => con.on_message(move |_, _| oops()),
            "on_worker_start" => oops(),
            _ => {}
        }
        if kind == "a client's on_message" {
            worker.on_message(|con, line| con.send(line));
        }
    });
}

#[test]
fn a_panic_in_each_kind_of_callback_ends_the_run_and_goes_on_in_the_caller_of_run_all() {
    for kind in [
        "on_connect",
        "on_message",
        "on_close",
        "on_error",
        "on_buffer_full",
        "a timer",
        "a deferred closure",
        "on_signal",
        "on_readable",
        "a client's on_message",
    ] {
        keep_log();
        let seen = Transcript::new();
        let other = Worker::new();
        let s = seen.clone();
        other.on_worker_stop(move |_| {
            s.note("stop");
            panic!("in on_worker_stop too");
        });
        let worker =
            Worker::<Text>::listen(&format!("text://{}:0", own_host())).expect("an address");
        set_up(worker, kind);
        let (s, at_stop) = (seen.clone(), Rc::new(Cell::new(None)));
        let theirs = at_stop.clone();
        worker.on_worker_stop(move |worker| {
            theirs.set(worker.local_addr());
            s.note("stop");
        });
        assert_eq!(panic_of(run_all_in_time), format!("in {kind}"));
        // Of both workers, and the first one's panic is only logged.
        seen.assert(&["stop", "stop"]);
        let told = format!("ERROR the run ends: a callback panicked: in {kind}");
        assert_eq!(logged_with(&told, ""), 1, "{:?}", logged());
        assert_eq!(logged_with("ERROR on_worker_stop of", "panicked: in on_worker_stop too"), 1);
        // Sockets are closed, and the thread may run again.
        let addr = at_stop.get().expect("it listened until the stop");
        assert!(nobody_listens(addr), "{kind}: somebody still listens");
        assert!(!Worker::is_running());
        Timer::delay(0, Worker::stop_all);
        Worker::run_all().expect("another run");
    }
}

#[test]
fn a_panic_in_on_worker_start_stops_the_workers_that_had_started_and_goes_on() {
    let seen = Transcript::new();
    let first = Worker::new();
    let s = seen.clone();
    first.on_worker_stop(move |_| s.note("first stops"));
    let second = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    set_up(second, "on_worker_start");
    let s = seen.clone();
    second.on_worker_stop(move |_| s.note("second stops"));
    assert_eq!(panic_of(run_all_in_time), "in on_worker_start");
    seen.assert(&["first stops"]);
}

#[test]
fn a_panic_in_on_worker_stop_does_not_keep_the_other_workers_from_stopping() {
    let seen = Transcript::new();
    for name in ["one", "two", "three"] {
        let s = seen.clone();
        Worker::new().on_worker_stop(move |_| {
            s.note(name);
            assert!(name != "two", "two cannot stop");
        });
    }
    Worker::stop_all();
    assert_eq!(panic_of(run_all_in_time), "two cannot stop");
    seen.assert(&["one", "two", "three"]);
    assert!(!Worker::is_running());
}

#[test]
fn after_a_panic_peers_see_the_end_of_their_sockets() {
    let (listener, addr) = raw_listener();
    let client = dial(addr);
    client.on_connect(|_| panic!("here"));
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    let peers: Rc<Cell<Option<TcpStream>>> = Rc::default();
    let theirs = peers.clone();
    worker.on_worker_start(move |worker| {
        theirs.set(Some(raw_connect(worker.local_addr().expect("it listens"))));
    });
    assert_eq!(panic_of(run_all_in_time), "here");
    let (mut dialled, _) = listener.accept().expect("it was dialled");
    assert_eq!(dialled.read(&mut [0; 8]).expect("an end"), 0);
    let mut accepted = peers.take().expect("it connected");
    // It may still have stood in the queue of the listening socket, which then resets it.
    assert_eq!(accepted.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn a_panic_in_turn_goes_on_in_its_caller_and_the_run_has_ended() {
    let seen = Transcript::new();
    let s = seen.clone();
    Worker::new().on_worker_stop(move |_| s.note("stop"));
    Timer::delay(0, || panic!("in a turn"));
    assert_eq!(panic_of(|| Worker::turn(Duration::ZERO)), "in a turn");
    seen.assert(&["stop"]);
    assert!(!Worker::is_running());
}

#[test]
fn a_panic_goes_on_in_whoever_joins_a_running_loop() {
    let spawn = || {
        let server = workerman::spawn(|| {
            Timer::delay(0.01, || panic!("in the thread"));
            Worker::new();
            Ok(())
        });
        server.expect("it starts")
    };
    let server = spawn();
    wait_for_end(&server);
    assert_eq!(panic_of(move || server.stop()), "in the thread");
    let server = spawn();
    wait_for_end(&server);
    assert_eq!(panic_of(move || drop(server)), "in the thread");
}

/// The loop's run has ended: its door is closed.
fn wait_for_end(server: &workerman::Running) {
    while server.handle().defer(|| ()) {
        std::thread::yield_now();
    }
}

#[test]
fn running_dropped_while_its_thread_unwinds_only_logs_the_panic_of_the_loop() {
    keep_log();
    let text = panic_of(|| {
        let server = workerman::spawn(|| {
            Worker::new();
            Timer::delay(0, || panic!("of the loop"));
            Ok(())
        });
        wait_for_end(server.as_ref().expect("it starts"));
        panic!("of the test");
    });
    // A second panic while unwinding would have ended the process.
    assert_eq!(text, "of the test");
    assert_eq!(logged_with("ERROR a spawned loop panicked: of the loop", ""), 1, "{:?}", logged());
}

#[test]
fn a_panic_or_an_error_before_it_listens_is_what_spawn_returns() {
    let e = workerman::spawn(|| panic!("in setup")).expect_err("it panicked");
    assert!(e.to_string().contains("in setup"), "{e}");
    let e = workerman::spawn(|| {
        Worker::new().on_worker_start(|_| panic!("in the start"));
        Ok(())
    });
    let e = e.expect_err("it panicked");
    assert!(e.to_string().contains("in the start"), "{e}");
    let e = workerman::spawn(|| Err("not today".into())).expect_err("it failed");
    assert_eq!(e.to_string(), "not today");
    let (taken, addr) = raw_listener();
    let e = workerman::spawn(move || {
        Worker::<Text>::listen(&format!("text://{addr}"))?;
        Ok(())
    });
    let e = e.expect_err("the port is taken");
    assert!(e.to_string().contains(&addr.to_string()), "{e}");
    drop(taken);
}
