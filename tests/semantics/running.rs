//! Runs: how they begin, go on and follow one another; the doors from other threads; foreign
//! descriptors.
use crate::support::log::{keep_log, logged_with};
use crate::support::{
    Transcript, nobody_listens, own_host, raw_connect, raw_listener, run_all_in_time, turn_for,
    turn_until,
};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{LoopHandle, RunStatus, Token, on_readable};

fn turn() {
    assert!(Worker::turn(Duration::ZERO).expect("a turn"), "the loop ended");
}

/// Lines that any thread may write.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn note(&self, line: impl std::fmt::Display) {
        self.0.lock().expect("nobody panicked").push(line.to_string());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").clone()
    }
}

// ---------------------------------------------------------------- beginnings and ends

#[test]
fn a_loop_with_nothing_to_run_is_an_error_at_once() {
    let e = Worker::run_all().expect_err("there is nothing");
    assert!(e.to_string().contains("make a worker, a connection or a timer"), "{e}");
    assert!(!Worker::is_running());
}

#[test]
fn a_worker_a_connection_or_a_timer_is_enough() {
    Worker::new();
    Worker::stop_all();
    run_all_in_time().expect("a worker");
    let _con = AsyncTcpConnection::<Tcp>::new("tcp://127.0.0.1:1").expect("an address");
    Worker::stop_all();
    Worker::run_all().expect("a connection");
    Timer::delay(600, || ());
    Worker::stop_all();
    Worker::run_all().expect("a timer");
}

#[test]
fn a_run_does_not_end_because_its_last_timer_or_connection_did() {
    let seen = Transcript::new();
    let s = seen.clone();
    let door = LoopHandle::current();
    Timer::delay(0, move || {
        s.note("the last timer");
        // Whoever stops it comes when nothing is left.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            door.stop();
        });
    });
    let begin = Instant::now();
    Worker::run_all().expect("a run");
    assert!(begin.elapsed() >= Duration::from_millis(50), "it ended by itself");
    seen.assert(&["the last timer"]);
}

#[test]
fn a_stop_before_the_start_is_remembered() {
    for from_outside in [false, true] {
        let seen = Transcript::new();
        let worker = Worker::new();
        let s = seen.clone();
        worker.on_worker_start(move |_| s.note(format!("start {:?}", Worker::status())));
        let s = seen.clone();
        worker.on_worker_stop(move |_| s.note(format!("stop {:?}", Worker::status())));
        if from_outside {
            LoopHandle::current().stop()
        } else {
            Worker::stop_all()
        }
        run_all_in_time().expect("a short run");
        seen.assert(&["start Starting", "stop Shutdown"]);
    }
    // Only once: the next run goes on.
    Worker::new();
    turn();
    assert_eq!(Worker::status(), RunStatus::Running);
}

#[test]
fn runs_of_a_thread_follow_one_another_and_ids_and_handles_are_never_used_twice() {
    let (listener, addr) = raw_listener();
    let mut ids = Vec::new();
    let mut old: Option<(AsyncTcpConnection<Tcp>, Timer, Worker<Text>, LoopHandle)> = None;
    for run in 0..3 {
        let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("an address");
        let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
        worker.set_name("named");
        worker.set(run);
        let timer = Timer::add(600, |_| ());
        let door = LoopHandle::current();
        ids.push(con.id());
        con.on_connect(|_| Worker::stop_all());
        con.connect();
        if let Some((con, timer, worker, door)) = &old {
            // They stand in the places of the old ones, and are not they.
            assert_eq!((con.status(), con.send("x"), con.id()), (Status::Closed, Sent::Dropped, 0));
            assert!(!timer.del());
            assert_eq!((worker.name(), worker.get::<i32>()), (String::new(), None));
            assert_eq!(format!("{worker:?}"), "(ended worker)");
            assert!(!door.defer(|| panic!("never")));
            con.destroy();
            worker.on_connect(|_| panic!("never"));
        }
        run_all_in_time().expect("a run");
        assert!(!Worker::is_running());
        old = Some((con, timer, worker, door));
    }
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "{ids:?}");
    drop(listener);
}

#[test]
fn what_is_registered_after_a_run_belongs_to_the_next() {
    let seen = Transcript::new();
    Worker::new();
    let s = seen.clone();
    Timer::delay(0, move || {
        s.note("first run");
        Worker::stop_all();
    });
    run_all_in_time().expect("the first");
    let s = seen.clone();
    Timer::delay(0, move || {
        s.note("second run");
        Worker::stop_all();
    });
    run_all_in_time().expect("the second");
    seen.assert(&["first run", "second run"]);
}

#[test]
fn threads_have_a_loop_each() {
    let lines = Lines::default();
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let lines = lines.clone();
            std::thread::spawn(move || {
                Timer::delay(0.01 * f64::from(i), move || {
                    lines.note(i);
                    Worker::stop_all();
                });
                // The stop of one leaves the others alone.
                Worker::run_all().expect("a run");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("its run was fine");
    }
    let mut all = lines.all();
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3"]);
}

// ---------------------------------------------------------------- turn

#[test]
fn the_first_turn_starts_what_run_all_would_start() {
    let seen = Transcript::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    let s = seen.clone();
    worker.on_worker_start(move |worker| s.note(format!("{}", worker.local_addr().is_some())));
    assert_eq!((Worker::status(), worker.local_addr()), (RunStatus::Initial, None));
    turn();
    seen.assert(&["true"]);
    assert_eq!(Worker::status(), RunStatus::Running);
    turn();
    seen.assert(&["true"]);
}

#[test]
fn a_turn_with_nothing_registered_waits_and_answers_true() {
    let begin = Instant::now();
    assert!(Worker::turn(0.03).expect("a turn"));
    assert!(begin.elapsed() >= Duration::from_millis(30));
    let begin = Instant::now();
    Timer::delay(0.01, || ());
    assert!(Worker::turn(20).expect("a turn"));
    assert!(begin.elapsed() < Duration::from_secs(10), "it did not wait for the timer alone");
}

#[test]
fn after_a_stop_turn_goes_on_closing_and_answers_false_when_all_is_closed() {
    let seen = Transcript::new();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    let s = seen.clone();
    worker.on_worker_stop(move |worker| s.note(format!("stop, {}", worker.connections().len())));
    let s = seen.clone();
    worker.on_close(move |_| s.note("close"));
    turn();
    let mut peer = raw_connect(worker.local_addr().expect("it listens"));
    turn_until(|| worker.connections().len() == 1);
    Worker::stop_all();
    assert!(Worker::turn(0).expect("a turn"), "the peer has not answered yet");
    seen.assert(&["stop, 1"]);
    assert_eq!(peer.read(&mut [0]).expect("our end"), 0);
    drop(peer);
    while Worker::turn(0.02).expect("a turn") {}
    seen.assert(&["stop, 1", "close"]);
    assert!(!Worker::is_running());
    // The next call begins another run.
    assert!(Worker::turn(0).expect("a turn"));
    assert!(Worker::is_running());
}

#[test]
fn run_all_and_turn_inside_a_callback_are_errors_and_the_run_goes_on() {
    let seen = Transcript::new();
    let note = |seen: &Transcript, place: &str| {
        let run = Worker::run_all().expect_err("a run inside a run");
        let turn = Worker::turn(0).expect_err("a turn inside a turn");
        assert!(run.to_string().contains("inside a callback"), "{run}");
        assert!(turn.to_string().contains("inside a callback"), "{turn}");
        seen.note(place);
    };
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    let s = seen.clone();
    worker.on_worker_start(move |worker| {
        note(&s, "on_worker_start");
        let con = AsyncTcpConnection::<Text>::new(&format!(
            "text://{}",
            worker.local_addr().expect("it listens")
        ));
        let con = con.expect("an address");
        con.send("hello");
        con.connect();
    });
    let s = seen.clone();
    worker.on_connect(move |_| note(&s, "on_connect"));
    let s = seen.clone();
    worker.on_message(move |con, _| {
        note(&s, "on_message");
        con.close();
    });
    let s = seen.clone();
    worker.on_close(move |_| {
        note(&s, "on_close");
        let t = s.clone();
        Timer::delay(0, move || {
            note(&t, "a timer");
            Worker::stop_all();
        });
    });
    let s = seen.clone();
    worker.on_worker_stop(move |_| note(&s, "on_worker_stop"));
    run_all_in_time().expect("a run");
    seen.assert(&[
        "on_worker_start",
        "on_connect",
        "on_message",
        "on_close",
        "a timer",
        "on_worker_stop",
    ]);
}

#[test]
fn run_all_between_two_turns_is_an_error_that_says_so() {
    Worker::new();
    turn();
    let e = Worker::run_all().expect_err("turn has begun it");
    assert!(e.to_string().contains("turn() has begun it"), "{e}");
    assert!(Worker::is_running());
}

#[test]
fn timers_and_clients_made_before_run_all_run_in_it() {
    let (listener, addr) = raw_listener();
    let seen = Transcript::new();
    let s = seen.clone();
    Timer::delay(0.05, move || {
        s.note("timer");
        Worker::stop_all();
    });
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("an address");
    let s = seen.clone();
    con.on_connect(move |_| s.note("connect"));
    con.connect();
    // Nothing happens before the run.
    seen.assert(&[]);
    assert_eq!(con.status(), Status::Connecting);
    run_all_in_time().expect("a run");
    seen.assert(&["connect", "timer"]);
    drop(listener);
}

// ---------------------------------------------------------------- spawn and Running

#[test]
fn spawn_answers_once_all_workers_listen_and_knows_them_by_name() {
    let server = workerman::spawn(|| {
        let one = Worker::<Text>::listen(&format!("text://{}:0", own_host()))?;
        one.set_name("one");
        one.on_message(|con, line| con.send(line));
        let two = Worker::<Tcp>::listen("tcp://127.0.0.1:0")?;
        two.set_name("two");
        Ok(())
    })
    .expect("it starts");
    assert_eq!(server.addr_of("one"), Some(server.addr()));
    assert_ne!(server.addr_of("two"), Some(server.addr()));
    assert_eq!(server.addr_of("three"), None);
    let mut peer = raw_connect(server.addr());
    peer.write_all(b"hello\n").expect("the socket takes it");
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).expect("an answer");
    drop(peer);
    let addr = server.addr();
    server.stop().expect("an orderly end");
    assert!(nobody_listens(addr));
}

#[test]
fn running_on_its_own_thread_asks_for_the_stop_and_does_not_wait() {
    for drops in [false, true] {
        let (give, take) = mpsc::channel::<workerman::Running>();
        let (tell, told) = mpsc::channel();
        let server = workerman::spawn(move || {
            let worker = Worker::new();
            let t = tell.clone();
            worker.on_worker_stop(move |_| t.send("stop".to_owned()).expect("the test listens"));
            let take = RefCell::new(Some(take));
            LoopHandle::current().defer(|| ());
            Timer::add(0.001, move |timer| {
                let Ok(own) = take.borrow().as_ref().expect("once").try_recv() else { return };
                timer.del();
                if drops {
                    drop(own);
                    tell.send("dropped".to_owned()).expect("the test listens");
                } else {
                    let e = own.stop().expect_err("it would wait for itself");
                    tell.send(e.to_string()).expect("the test listens");
                }
            });
            Ok(())
        });
        give.send(server.expect("it starts")).expect("the loop listens");
        let first = told.recv().expect("a line");
        match drops {
            true => assert_eq!(first, "dropped"),
            false => assert!(first.contains("would wait for itself"), "{first}"),
        }
        assert_eq!(told.recv().expect("a line"), "stop");
        // The run ends, and with it both senders.
        assert!(told.recv().is_err());
    }
}

// ---------------------------------------------------------------- doors from other threads

#[test]
fn defer_runs_in_the_order_given_and_answers_false_for_ever_after_the_run() {
    let lines = Lines::default();
    let door = LoopHandle::current();
    let l = lines.clone();
    let thread = {
        let door = door.clone();
        std::thread::spawn(move || {
            for i in 0..100 {
                let l = l.clone();
                assert!(door.defer(move || l.note(i)));
            }
            door.stop();
        })
    };
    Worker::new();
    run_all_in_time().expect("a run");
    thread.join().expect("its assertions hold");
    let expected: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    assert_eq!(lines.all(), expected);
    assert!(!door.defer(|| panic!("never")));
    door.stop();
    // The next run has a door of its own; the old one stays closed, and cannot stop it.
    Worker::new();
    turn();
    assert!(!door.defer(|| panic!("never")));
    door.stop();
    turn();
    assert!(LoopHandle::current().defer(|| ()));
}

#[test]
fn closures_that_are_left_at_the_end_of_a_run_are_dropped_on_the_loops_thread() {
    struct Witness(Lines);
    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.note(format!("dropped by {:?}", std::thread::current().id()));
        }
    }
    /// Each closure defers another: one is always left.
    fn again(witness: Witness, runs: Arc<AtomicUsize>) {
        LoopHandle::current().defer(move || {
            runs.fetch_add(1, Ordering::Relaxed);
            again(Witness(witness.0.clone()), runs);
        });
    }
    let (lines, runs) = (Lines::default(), Arc::new(AtomicUsize::new(0)));
    again(Witness(lines.clone()), runs.clone());
    Timer::delay(0.01, Worker::stop_all);
    run_all_in_time().expect("a run");
    let all = lines.all();
    assert_eq!(all.len(), runs.load(Ordering::Relaxed) + 1, "one of them never ran");
    let own = format!("dropped by {:?}", std::thread::current().id());
    assert!(all.iter().all(|line| *line == own), "{all:?}");
}

#[test]
fn another_thread_reaches_a_connection_by_its_token_and_the_token_names_nobody_elsewhere() {
    let (give, take) = mpsc::channel::<(LoopHandle, Token<Text, workerman::Server>)>();
    let server = workerman::spawn(move || {
        let worker = Worker::<Text>::listen("text://127.0.0.1:0")?;
        worker.on_connect(move |con| {
            give.send((LoopHandle::current(), con.token())).expect("the test listens");
        });
        Ok(())
    })
    .expect("it starts");
    let mut peer = raw_connect(server.addr());
    let (door, token) = take.recv().expect("it connected");
    // In this thread there may be a connection in the same place: it is another loop's.
    let (listener, addr) = raw_listener();
    let own = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    assert!(token.get().is_none());
    assert!(own.token().get().is_some());
    door.defer(move || {
        let con = token.get().expect("it lives");
        con.send("from another thread");
    });
    let mut answer = [0; 20];
    peer.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"from another thread\n");
    drop((peer, listener));
    server.stop().expect("an orderly end");
    assert!(!door.defer(|| ()));
}

// ---------------------------------------------------------------- foreign descriptors

#[test]
fn on_readable_asks_again_as_long_as_something_is_left() {
    let (mut ours, theirs) = UnixStream::pair().expect("two ends");
    ours.write_all(b"abc").expect("the socket takes it");
    let seen = Transcript::new();
    let s = seen.clone();
    let watch = on_readable(theirs, move |mut stream: &UnixStream| {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        s.note(byte[0] as char);
        Ok(())
    })
    .expect("a socket can be watched");
    turn_until(|| seen.lines().len() == 3);
    turn_for(Duration::from_millis(20));
    seen.assert(&["a", "b", "c"]);
    ours.write_all(b"d").expect("the socket takes it");
    turn_until(|| seen.lines().len() == 4);
    // The end is readable too.
    drop((ours, watch));
}

#[test]
fn a_dropped_watch_is_silent_also_inside_its_own_callback() {
    let (mut ours, theirs) = UnixStream::pair().expect("two ends");
    ours.write_all(b"abc").expect("the socket takes it");
    let watch: Rc<Cell<Option<workerman::Watch<UnixStream>>>> = Rc::default();
    let (count, own) = (Rc::new(Cell::new(0)), watch.clone());
    let theirs_count = count.clone();
    let made = on_readable(theirs, move |_| {
        theirs_count.set(theirs_count.get() + 1);
        if theirs_count.get() == 2 {
            drop(own.take());
        }
    });
    watch.set(Some(made.expect("a socket can be watched")));
    turn_until(|| count.get() == 2);
    turn_for(Duration::from_millis(20));
    assert_eq!(count.get(), 2);
    // The descriptor went with it; a process that another test starts may hold it for a moment.
    turn_until(|| ours.write_all(b"x").is_err());
}

#[test]
fn a_watch_may_be_replaced_by_another_inside_its_own_callback() {
    // Dropping it ends the watching: the same descriptor can be watched anew, at once.
    let (mut ours, theirs) = UnixStream::pair().expect("two ends");
    ours.write_all(b"abc").expect("the socket takes it");
    let theirs = Rc::new(theirs);
    let watch: Rc<Cell<Option<workerman::Watch<Rc<UnixStream>>>>> = Rc::default();
    let again = Rc::new(Cell::new(0));
    let (own, count) = (watch.clone(), again.clone());
    let made = on_readable(theirs, move |stream| {
        drop(own.take());
        let count = count.clone();
        own.set(Some(on_readable(stream.clone(), move |_| count.set(count.get() + 1))?));
        Ok(())
    });
    watch.set(Some(made.expect("a socket can be watched")));
    turn_until(|| again.get() > 1);
    drop(watch.take());
}

#[test]
fn a_regular_file_cannot_be_watched() {
    let path = std::env::temp_dir().join(format!("wm-regular-{}", std::process::id()));
    let file = std::fs::File::create(&path).expect("a file");
    let e = on_readable(file, |_| ()).expect_err("the system waits for no file");
    assert!(e.to_string().contains("watching descriptor"), "{e}");
    std::fs::remove_file(&path).expect("it is ours");
}

/// One descriptor, whoever holds it.
#[derive(Clone)]
struct Same(Rc<UnixStream>);

impl AsFd for Same {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn a_descriptor_is_watched_once_and_the_refusal_leaves_the_first_alone() {
    let (mut ours, theirs) = UnixStream::pair().expect("two ends");
    let same = Same(Rc::new(theirs));
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    let _watch = on_readable(same.clone(), move |_| seen.set(seen.get() + 1)).expect("a socket");
    assert!(on_readable(same, |_| panic!("never")).is_err());
    ours.write_all(b"x").expect("the socket takes it");
    turn_until(|| count.get() == 2);
}

#[test]
fn a_descriptor_can_be_watched_again_in_the_next_run() {
    let (mut ours, theirs) = UnixStream::pair().expect("two ends");
    ours.write_all(b"x").expect("the socket takes it");
    let same = Same(Rc::new(theirs));
    let mut kept = Vec::new();
    for run in 1..=4 {
        let count = Rc::new(Cell::new(0));
        let theirs = count.clone();
        let watch = on_readable(same.clone(), move |_| {
            theirs.set(theirs.get() + 1);
            // Also after a run that ended out of order.
            assert!(run != 2, "the second ends by a panic");
            Worker::stop_all();
        });
        kept.push(watch.unwrap_or_else(|e| panic!("run {run}: {e}")));
        Worker::new();
        let ended = std::panic::catch_unwind(run_all_in_time);
        assert_eq!((count.get(), ended.is_ok()), (1, run != 2), "run {run}");
    }
    // Watches of runs that have ended are quiet, also when they go.
    drop(kept);
}

#[test]
fn a_line_of_the_programs_own_goes_to_the_log() {
    keep_log();
    Worker::log(format_args!("{} users", 3));
    assert_eq!(logged_with("INFO", "3 users"), 1);
}
