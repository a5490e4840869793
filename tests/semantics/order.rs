//! The order of things inside a turn.
use crate::support::{
    Transcript, raw_accept, raw_connect, raw_listener, read_bytes, turn_for, turn_until,
};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{FailureKind, Limits, LoopHandle, on_signal};

const NOW: Duration = Duration::ZERO;

/// One turn that waits for nothing.
fn turn() {
    assert!(Worker::turn(NOW).expect("a turn"), "the loop ended");
}

/// A worker of this thread's own loop that listens already.
fn listening<P: workerman::Serve + Default>(scheme: &str) -> (Worker<P>, SocketAddr) {
    let worker = Worker::<P>::listen(&format!("{scheme}://127.0.0.1:0")).expect("an address");
    turn();
    (worker, worker.local_addr().expect("it listens"))
}

/// A raw peer of the worker, whose connection stands.
fn peer_of<P: workerman::Serve>(
    worker: Worker<P>,
    addr: SocketAddr,
) -> (std::net::TcpStream, TcpConnection<P>) {
    let before = worker.connections().len();
    let peer = raw_connect(addr);
    turn_until(|| worker.connections().len() > before);
    (peer, *worker.connections().last().expect("it came"))
}

// ---------------------------------------------------------------- the parts of a turn

#[test]
fn a_turn_serves_signals_then_deferred_closures_then_timers_then_sockets_then_dirty_connections() {
    // SIGUSR2: no other test of this program uses it.
    const SIGNAL: i32 = 12;
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
    let (mut loud, _) = peer_of(worker, addr);
    let (mut other, quiet) = peer_of(worker, addr);
    let s = seen.clone();
    let loud_con = worker.connections()[0];
    loud_con.on_message(move |_, line| {
        s.note(format!("socket: {line}"));
        assert_eq!(quiet.send("to another"), Sent::Flushed);
        s.note(format!("dirty bytes: {}", quiet.send_buffer_len()));
    });
    let s = seen.clone();
    on_signal(SIGNAL, move |_| s.note("signal")).expect("it can be caught");
    turn();

    loud.write_all(b"hello\n").expect("the socket takes it");
    let s = seen.clone();
    Timer::delay(0, move || s.note("timer"));
    for i in 1..=2 {
        let seen = SendNote::of(&seen);
        assert!(LoopHandle::current().defer(move || seen.note(&format!("deferred {i}"))));
    }
    signal_hook::low_level::raise(SIGNAL).expect("a signal to ourselves");
    turn();
    seen.assert(&[
        "signal",
        "deferred 1",
        "deferred 2",
        "timer",
        "socket: hello",
        "dirty bytes: 11",
    ]);
    // It has left in that turn: no other was needed.
    assert_eq!(quiet.send_buffer_len(), 0);
    assert_eq!(read_bytes(&mut other, 11), b"to another\n");
}

/// A closure for `defer` must be `Send`, though it runs on this thread: it finds the transcript by
/// number.
#[derive(Clone, Copy)]
struct SendNote(usize);

thread_local! {
    static TRANSCRIPTS: RefCell<Vec<Transcript>> = const { RefCell::new(Vec::new()) };
}

impl SendNote {
    fn of(transcript: &Transcript) -> SendNote {
        TRANSCRIPTS.with(|all| {
            all.borrow_mut().push(transcript.clone());
            SendNote(all.borrow().len() - 1)
        })
    }

    fn note(self, line: &str) {
        TRANSCRIPTS.with(|all| all.borrow()[self.0].note(line));
    }
}

#[test]
fn a_closure_deferred_in_a_turn_runs_in_the_next_and_before_its_timers() {
    let seen = Transcript::new();
    let (first, second) = (SendNote::of(&seen), SendNote::of(&seen));
    turn();
    LoopHandle::current().defer(move || {
        first.note("first");
        LoopHandle::current().defer(move || second.note("second"));
    });
    turn();
    seen.assert(&["first"]);
    let s = seen.clone();
    Timer::delay(0, move || s.note("timer"));
    turn();
    seen.assert(&["first", "second", "timer"]);
}

// ---------------------------------------------------------------- timers

#[test]
fn timers_fire_by_deadline_and_those_of_one_length_in_the_order_of_making() {
    let seen = Transcript::new();
    let begin = Instant::now();
    for (ms, name) in [(30, "late"), (0, "at once"), (20, "second"), (10, "first")] {
        let s = seen.clone();
        Timer::delay(Duration::from_millis(ms), move || s.note(name));
    }
    for i in 0..20 {
        let s = seen.clone();
        Timer::delay(Duration::from_millis(5), move || s.note(i));
    }
    // All are due in one and the same turn.
    std::thread::sleep(Duration::from_millis(40).saturating_sub(begin.elapsed()));
    turn();
    let numbers: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let mut expected = vec!["at once"];
    expected.extend(numbers.iter().map(String::as_str));
    expected.extend(["first", "second", "late"]);
    seen.assert(&expected);
}

#[test]
fn a_timer_is_never_early() {
    let fired = Rc::new(Cell::new(0));
    for i in 0..40u64 {
        let length = Duration::from_micros(i * 733);
        let (fired, begin) = (fired.clone(), Instant::now());
        Timer::delay(length, move || {
            let took = begin.elapsed();
            assert!(took >= length, "after {took:?} instead of {length:?}");
            fired.set(fired.get() + 1);
        });
    }
    turn_until(|| fired.get() == 40);
}

#[test]
fn a_repeating_timer_that_is_late_runs_once_and_keeps_its_phase() {
    const PERIOD: Duration = Duration::from_millis(100);
    let runs: Rc<RefCell<Vec<Duration>>> = Rc::default();
    let (begin, theirs) = (Instant::now(), runs.clone());
    Timer::add(PERIOD, move |_| {
        theirs.borrow_mut().push(begin.elapsed());
        if theirs.borrow().len() == 1 {
            // Three periods and a half go by.
            std::thread::sleep(PERIOD * 7 / 2);
        }
    });
    turn_until(|| runs.borrow().len() == 5);
    let runs = runs.borrow();
    let periods: Vec<u128> = runs.iter().map(|at| at.as_millis() / PERIOD.as_millis()).collect();
    let distinct = periods.windows(2).all(|two| two[0] < two[1]);
    assert!(distinct, "missed periods were made up: {runs:?}");
    assert!(periods[1] >= 4, "{runs:?}");
    // Counted from the late run all would come half a period later.
    let rest = |at: &Duration| at.as_nanos() % PERIOD.as_nanos();
    let kept = runs[2..].iter().any(|at| rest(at) < PERIOD.as_nanos() / 4);
    assert!(kept, "the phase is lost: {runs:?}");
}

#[test]
fn a_timer_that_deletes_itself_or_another_that_is_due_takes_effect_at_once() {
    let seen = Transcript::new();
    let victim: Rc<Cell<Option<Timer>>> = Rc::default();
    let (s, v) = (seen.clone(), victim.clone());
    let own = Timer::add(0.001, move |timer| {
        s.note(format!("own: {}, again: {}", timer.del(), timer.del()));
        let other = v.get().expect("it was made");
        s.note(format!("other: {}, again: {}", other.del(), other.del()));
    });
    let s = seen.clone();
    victim.set(Some(Timer::delay(0.001, move || s.note("the victim fired"))));
    std::thread::sleep(Duration::from_millis(5));
    turn();
    turn();
    seen.assert(&["own: true, again: false", "other: true, again: false"]);
    assert!(!own.del());
}

#[test]
fn a_timer_born_in_a_callback_waits_for_the_next_turn() {
    let seen = Transcript::new();
    let s = seen.clone();
    Timer::delay(0, move || {
        s.note("timer");
        Timer::delay(0, move || s.note("born in a timer"));
    });
    turn();
    seen.assert(&["timer"]);
    turn();
    seen.assert(&["timer", "born in a timer"]);

    // Closures come before timers in a turn: what they make is not due in it.
    let deferred = SendNote::of(&seen);
    LoopHandle::current().defer(move || {
        Timer::delay(0, move || deferred.note("born in a closure"));
        deferred.note("closure");
    });
    turn();
    assert_eq!(seen.lines()[2..], ["closure"]);
    turn();
    assert_eq!(seen.lines()[2..], ["closure", "born in a closure"]);
}

#[test]
fn del_all_ends_the_timers_of_the_program_and_keeps_the_deadlines_of_the_library() {
    let seen = Transcript::new();
    let (listener, addr) = raw_listener();
    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("an address");
    con.set_limits(Limits::new().opening(0.05));
    let s = seen.clone();
    con.on_error(move |_, code, failure| {
        s.note(format!("{code:?} {:?}", failure.kind()));
    });
    let (s, again) = (seen.clone(), Cell::new(true));
    con.on_close(move |con| {
        s.note("close");
        if again.replace(false) {
            con.reconnect(0.02);
            Timer::del_all();
        }
    });
    con.connect();
    let s = seen.clone();
    Timer::add(0.01, move |_| s.note("a timer that was deleted"));
    Timer::del_all();
    // The first opening ends by its deadline, the reconnect dials by its own, and ends likewise.
    turn_until(|| seen.count("close") == 2);
    let failed = format!("ConnectFail {:?}", FailureKind::Deadline);
    seen.assert(&[&failed, "close", &failed, "close"]);
    drop(listener);
}

#[test]
fn a_reconnect_that_was_put_off_by_a_timer_of_the_same_turn_waits_for_its_new_time() {
    let (listener, addr) = raw_listener();
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("an address");
    Timer::delay(0.01, move || con.reconnect(600));
    con.reconnect(0.01);
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..5 {
        turn();
    }
    assert_eq!(con.status(), Status::Initial, "it dialled by its old time");
    listener.set_nonblocking(true).expect("it can");
    assert!(listener.accept().is_err(), "somebody came");
}

#[test]
fn the_deadline_of_an_opening_counts_from_its_own_dial_not_from_the_session_before() {
    let (listener, addr) = raw_listener();
    let seen = Transcript::new();
    // Made and told its limits long before it dials.
    let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("an address");
    turn_for(Duration::from_millis(80));
    let s = seen.clone();
    con.on_connect(move |_| s.note("connect"));
    let s = seen.clone();
    con.on_error(move |_, _, failure| s.note(failure));
    let (s, again) = (seen.clone(), Cell::new(true));
    con.on_close(move |con| {
        s.note("close");
        if again.replace(false) {
            con.reconnect(0);
        }
    });
    con.connect();
    con.set_limits(Limits::new().opening(0.05));
    turn_until(|| seen.lines().len() == 1);
    // The session outlives the deadline of its opening.
    let stream = raw_accept(&listener);
    turn_for(Duration::from_millis(80));
    drop(stream);
    turn_until(|| seen.lines().len() == 3);
    seen.assert(&["connect", "close", "connect"]);
}

// ---------------------------------------------------------------- queued events

#[test]
fn between_two_messages_of_one_read_queued_events_come_first() {
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
    let (mut peer, con) = peer_of(worker, addr);
    let (_other, victim) = peer_of(worker, addr);
    let s = seen.clone();
    victim.on_close(move |_| s.note("close of the other"));
    let s = seen.clone();
    con.on_message(move |_, line| {
        s.note(format!("message {line}"));
        if line == "a" {
            victim.destroy();
            s.note("text after destroy");
        }
    });
    peer.write_all(b"a\nb\n").expect("the socket takes it");
    turn_until(|| seen.has("message b"));
    seen.assert(&["message a", "text after destroy", "close of the other", "message b"]);
}

#[test]
fn between_two_timers_and_two_closures_of_one_turn_queued_events_come_first() {
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
    let mut peers = Vec::new();
    for (i, deferred) in [false, true].into_iter().enumerate() {
        let (peer, con) = peer_of(worker, addr);
        peers.push(peer);
        let s = seen.clone();
        con.on_close(move |_| s.note(format!("close {i}")));
        let token = con.token();
        let note = SendNote::of(&seen);
        let first = move || {
            token.get().expect("it lives").destroy();
            note.note(&format!("first {i}"));
        };
        let second = move || note.note(&format!("second {i}"));
        if deferred {
            LoopHandle::current().defer(first);
            LoopHandle::current().defer(second);
        } else {
            Timer::delay(0, first);
            Timer::delay(0, second);
            turn();
        }
    }
    turn();
    seen.assert(&["first 0", "close 0", "second 0", "first 1", "close 1", "second 1"]);
}

/// Fills the send buffer of a connection whose peer reads nothing; what its callback saw.
fn fill(con: TcpConnection<Tcp>) -> (Sent, Sent) {
    con.set_max_send_buffer_size(1000);
    let much = vec![7u8; 16 << 20];
    let first = con.send(&much[..]);
    let second = (0..1000).fold(Sent::Flushed, |_, _| con.send("more"));
    (first, second)
}

#[test]
fn text_after_a_send_that_fills_comes_before_full_then_one_error_that_counts_the_drops() {
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Tcp>("tcp"));
    let (_peer, con) = peer_of(worker, addr);
    let s = seen.clone();
    con.on_buffer_full(move |_| s.note("full"));
    let s = seen.clone();
    con.on_error(move |_, code, failure| s.note(format!("{code:?} {}", failure.dropped())));
    let s = seen.clone();
    Timer::delay(0, move || {
        let (first, second) = fill(con);
        s.note(format!("sent: {first:?}, {second:?}"));
    });
    turn();
    seen.assert(&["sent: Buffered, Dropped", "full", "SendFail 1000"]);
    turn();
    assert_eq!(seen.lines().len(), 3);
}

#[test]
fn text_after_close_and_destroy_comes_before_what_on_close_prints() {
    let (seen, (worker, addr)) = (Transcript::new(), listening::<Text>("text"));
    for (i, destroys) in [false, true].into_iter().enumerate() {
        let (mut peer, con) = peer_of(worker, addr);
        let s = seen.clone();
        con.on_message(move |con, _| {
            if destroys {
                con.destroy()
            } else {
                con.close()
            }
            s.note(format!("text {i} {}", con.status()));
        });
        let s = seen.clone();
        con.on_close(move |con| s.note(format!("close {i} {}", con.status())));
        peer.write_all(b"now\n").expect("the socket takes it");
        if !destroys {
            peer.shutdown(std::net::Shutdown::Write).expect("our end");
        }
        turn_until(|| worker.connections().is_empty());
    }
    seen.assert(&["text 0 CLOSING", "close 0 CLOSED", "text 1 CLOSED", "close 1 CLOSED"]);
}

#[test]
fn text_after_stop_all_comes_before_what_on_worker_stop_prints_and_that_before_the_next_timer() {
    let seen = Transcript::new();
    let worker = Worker::new();
    let s = seen.clone();
    worker.on_worker_stop(move |_| s.note("stop"));
    let s = seen.clone();
    worker.on_worker_start(move |_| {
        let (s, t) = (s.clone(), s.clone());
        Timer::delay(0, move || {
            Worker::stop_all();
            s.note("text after stop_all");
        });
        Timer::delay(0, move || t.note("a timer after the stop"));
    });
    Worker::run_all().expect("a run");
    seen.assert(&["text after stop_all", "stop"]);
}

#[test]
fn a_thousand_and_twenty_four_deliveries_follow_from_one_another_then_the_rest_comes_first() {
    const ALL: usize = 1500;
    let (_listener, addr) = raw_listener();
    let closed = Rc::new(Cell::new(0));
    let cons: Rc<RefCell<Vec<AsyncTcpConnection<Tcp>>>> = Rc::default();
    let (c, all) = (closed.clone(), cons.clone());
    Timer::delay(0, move || {
        for i in 0..ALL {
            let con = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{addr}")).expect("made");
            let (c, others) = (c.clone(), all.clone());
            con.on_close(move |_| {
                c.set(c.get() + 1);
                if let Some(next) = others.borrow().get(i + 1) {
                    next.destroy();
                }
            });
            con.connect();
            all.borrow_mut().push(con);
        }
        all.borrow()[0].destroy();
    });
    turn();
    assert_eq!(closed.get(), 1024);
    let (c, at_timer) = (closed.clone(), Rc::new(Cell::new(0)));
    let theirs = at_timer.clone();
    Timer::delay(0, move || theirs.set(c.get()));
    turn();
    assert_eq!((at_timer.get(), closed.get()), (ALL, ALL));
}

// ---------------------------------------------------------------- budgets

#[test]
fn one_loud_peer_does_not_starve_a_quiet_one() {
    const RECEIVES: usize = 8 * (64 << 10);
    let (worker, addr) = listening::<Tcp>("tcp");
    let (loud, loud_con) = peer_of(worker, addr);
    let (mut quiet, quiet_con) = peer_of(worker, addr);
    let (bytes, heard) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let theirs = bytes.clone();
    loud_con.on_message(move |_, data| theirs.set(theirs.get() + data.len()));
    let theirs = heard.clone();
    quiet_con.on_message(move |_, _| theirs.set(true));
    let mut writer = loud.try_clone().expect("a second handle");
    let flood = std::thread::spawn(move || {
        let block = vec![0u8; 256 << 10];
        while writer.write_all(&block).is_ok() {}
    });
    turn_until(|| bytes.get() > 4 << 20);
    for _ in 0..10 {
        heard.set(false);
        quiet.write_all(b"me too").expect("the socket takes it");
        let before = bytes.get();
        turn();
        assert!(heard.get(), "the quiet peer waits for another turn");
        assert!(bytes.get() - before <= RECEIVES, "{} bytes in a turn", bytes.get() - before);
    }
    loud_con.destroy();
    turn();
    loud.shutdown(std::net::Shutdown::Both).ok();
    flood.join().expect("the flood ends");
}

#[test]
fn a_listener_takes_sixty_four_newcomers_in_a_turn_and_the_others_in_the_next() {
    let (worker, addr) = listening::<Tcp>("tcp");
    let peers: Vec<_> = (0..100).map(|_| raw_connect(addr)).collect();
    let count = Rc::new(Cell::new(0));
    let theirs = count.clone();
    worker.on_connect(move |_| theirs.set(theirs.get() + 1));
    turn();
    assert_eq!(count.get(), 64);
    turn();
    assert_eq!(count.get(), peers.len());
}
