//! Datagrams: what callbacks do to their own socket, how they fail, and how it all ends.
use super::*;
use crate::support::log::{at_each_line, keep_log, logged, logged_with};
use crate::support::{Transcript, run_all_in_time, turn_for};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use workerman::{Context, Dial, Input, Protocol, Verdict, Violation};

#[test]
fn unlisten_inside_on_message_ends_it_at_once_also_within_the_datagram() {
    let (worker, to) = listening::<Text>();
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, line| {
        s.note(line);
        assert_eq!(con.send("before"), Sent::Flushed);
        worker.unlisten();
        assert_eq!(con.send("after"), Sent::Dropped);
    });
    let peer = peer();
    peer.send_to(b"one\ntwo\n", to).expect("the kernel takes it");
    peer.send_to(b"three\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(10));
    seen.assert(&["one"]);
    assert_eq!(next(&peer), b"before\n");
    nothing_for(&peer);
}

#[test]
fn a_callback_may_replace_itself_and_the_next_message_is_the_new_ones() {
    struct Loud(Transcript, Worker<Udp<Text>>);
    impl Drop for Loud {
        fn drop(&mut self) {
            // A destructor that calls the library: no borrow may be held.
            self.0.note(format!("dropped {}", self.1.local_addr().is_some()));
            self.1.on_message(|_, _| ());
        }
    }
    let (worker, to) = listening::<Text>();
    let seen = Transcript::new();
    let (s, loud) = (seen.clone(), Loud(seen.clone(), worker));
    worker.on_message(move |_, line| {
        let _ = &loud;
        s.note(format!("old {line}"));
        let s = s.clone();
        worker.on_message(move |_, line| s.note(format!("new {line}")));
    });
    let peer = peer();
    peer.send_to(b"one\ntwo\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    // The destructor replaces the callback again: the second line is nobody's.
    seen.assert(&["old one", "dropped true"]);
}

#[test]
fn a_client_may_close_and_replace_itself_in_each_of_its_callbacks() {
    let (worker, to) = listening::<Text>();
    worker.on_message(|con, _| con.send_raw(b"a\nb\n"));
    for place in ["connect", "message", "error", "close"] {
        let seen = Transcript::new();
        let con = client::<Text>(to);
        let act = {
            let seen = seen.clone();
            move |con: AsyncUdpConnection<Text>, at: &str| {
                seen.note(at);
                if at == place {
                    con.on_connect(|_| ());
                    con.on_message(|_, _| ());
                    con.on_error(|_, _, _| ());
                    con.on_close(|_| ());
                    con.close();
                    assert_eq!(con.send("x"), Sent::Dropped);
                }
            }
        };
        let a = act.clone();
        con.on_connect(move |con| a(con, "connect"));
        let a = act.clone();
        con.on_message(move |con, _| a(con, "message"));
        let a = act.clone();
        con.on_error(move |con, _, _| a(con, "error"));
        con.on_close(move |con| act(con, "close"));
        con.send("hello");
        con.send(vec![b'x'; 70_000]);
        turn_for(Duration::from_millis(10));
        con.close();
        turn();
        let expected: &[&str] = match place {
            "connect" => &["connect"],
            "error" => &["connect", "error"],
            "message" => &["connect", "error", "message"],
            _ => &["connect", "error", "message", "message", "close"],
        };
        assert_eq!(seen.lines(), expected, "{place}");
        assert_eq!(con.id(), 0);
    }
}

#[test]
fn close_inside_on_message_delivers_nothing_more_of_the_datagram_or_behind_it() {
    let far = peer();
    let con = client::<Text>(far.local_addr().expect("its address"));
    let seen = Transcript::new();
    let s = seen.clone();
    con.on_message(move |con, line| {
        s.note(line);
        con.close();
    });
    let s = seen.clone();
    con.on_close(move |_| s.note("close"));
    con.connect();
    turn();
    let own = con.local_addr().expect("it is bound");
    far.send_to(b"one\ntwo\n", own).expect("the kernel takes it");
    far.send_to(b"three\n", own).expect("the kernel takes it");
    turn_until(|| con.id() == 0);
    seen.assert(&["one", "close"]);
}

#[test]
fn an_error_in_a_workers_callback_is_logged_and_the_next_datagram_served() {
    keep_log();
    let (worker, to) = listening::<Text>();
    worker.set_name("lines");
    worker.on_message(|con, line| {
        let number: u8 = line.as_str().unwrap_or_default().parse()?;
        con.send(number);
        Ok(())
    });
    let peer = peer();
    peer.send_to(b"x\n7\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"7\n");
    assert_eq!(logged_with("ERROR a callback of udp 127", "of worker \"lines\" failed"), 1);

    let verdict = Rc::new(Cell::new(Verdict::Close));
    let v = verdict.clone();
    worker.set_error_handler(move |con, e| {
        assert!(e.to_string().contains("invalid digit") && con.id() == 0);
        con.close();
        v.get()
    });
    keep_log();
    peer.send_to(b"x\n8\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"8\n");
    assert_eq!(logged_with("ERROR", ""), 0, "{:?}", logged());
    verdict.set(Verdict::StopWorker);
    let stopped = Rc::new(Cell::new(false));
    let s = stopped.clone();
    worker.on_worker_stop(move |_| s.set(true));
    peer.send_to(b"x\n9\n", to).expect("the kernel takes it");
    turn_until(|| stopped.get());
    while Worker::turn(Duration::ZERO).expect("a turn") {}
    nothing_for(&peer);
}

#[test]
fn an_error_in_a_clients_callback_is_logged_and_closes_it() {
    keep_log();
    let far = peer();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    let seen = Transcript::new();
    con.on_connect(|_| -> Result { Err("no".into()) });
    let s = seen.clone();
    con.on_close(move |_| -> Result {
        s.note("close");
        Err("again no".into())
    });
    con.connect();
    turn();
    seen.assert(&["close"]);
    assert_eq!(logged_with("ERROR a callback of udp#", "failed: no"), 1, "{:?}", logged());
    assert_eq!(logged_with("ERROR a callback of udp#", "failed: again no"), 1);
}

#[test]
fn a_panic_ends_the_run_and_a_contained_one_counts_as_an_error() {
    for contained in [true, false] {
        keep_log();
        let seen = Transcript::new();
        let worker = Worker::<Udp>::listen("udp://127.0.0.1:0").expect("an address");
        Worker::contain_panics(contained);
        let s = seen.clone();
        worker.on_worker_stop(move |_| s.note("stop"));
        let s = seen.clone();
        worker.on_message(move |con, data| {
            if data == "oops" {
                panic!("in a datagram");
            }
            s.note("served");
            con.send(data);
            Worker::stop_all();
        });
        worker.on_worker_start(|worker| {
            let con = client::<Tcp>(worker.local_addr().expect("it listens"));
            con.send("oops");
            con.send("fine");
        });
        let ended = catch_unwind(AssertUnwindSafe(run_all_in_time));
        Worker::contain_panics(false);
        match contained {
            true => {
                ended.expect("no panic").expect("it stops");
                seen.assert(&["served", "stop"]);
            }
            false => {
                ended.expect_err("the panic goes on");
                seen.assert(&["stop"]);
            }
        }
    }
}

#[test]
fn when_the_worker_stops_clients_get_on_close_and_the_port_is_free() {
    let seen = Transcript::new();
    let worker = Worker::<Udp>::listen("udp://127.0.0.1:0").expect("an address");
    let to = Rc::new(Cell::new(None));
    let (s, t) = (seen.clone(), to.clone());
    worker.on_worker_start(move |worker| {
        let addr = worker.local_addr().expect("it listens");
        t.set(Some(addr));
        let never = client::<Tcp>(addr);
        never.on_close(|_| panic!("it was never connected"));
        let open = client::<Tcp>(addr);
        let s1 = s.clone();
        open.on_close(move |con| {
            never.connect();
            let sent = (con.send("late"), never.send("late"));
            s1.note(format!("open closed {sent:?} {}", never.status()));
        });
        open.on_connect(|_| Worker::stop_all());
        open.connect();
        let opening = AsyncUdpConnection::<Tcp>::new("udp://nobody.invalid:9").expect("a name");
        let s1 = s.clone();
        opening.on_close(move |_| s1.note("opening closed"));
        opening.on_error(|_, _, _| panic!("it was abandoned"));
        opening.send("waits");
        let s1 = s.clone();
        worker.on_worker_stop(move |worker| {
            s1.note(format!("stop {} {:?}", worker.local_addr().is_some(), open.send("still")));
        });
    });
    run_all_in_time().expect("it stops");
    let mut lines = seen.lines();
    assert_eq!(lines.remove(0), "stop true Flushed");
    lines.sort();
    assert_eq!(lines, ["open closed (Dropped, Dropped) INITIAL", "opening closed"]);
    let free = UdpSocket::bind(to.get().expect("it listened"));
    assert!(free.is_ok(), "the port is free: {free:?}");
}

#[test]
fn a_loop_with_a_client_over_udp_alone_has_something_to_run() {
    let far = peer();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    con.on_connect(|_| Worker::stop_all());
    con.connect();
    // Without the watchdog's timer: that one would be something to run, too.
    Worker::run_all().expect("it runs and stops");
    Worker::run_all().expect_err("nothing is left to run");
    let worker = Worker::<Udp>::listen("udp://127.0.0.1:0").expect("an address");
    worker.on_worker_start(|_| Worker::stop_all());
    Worker::run_all().expect("it runs and stops");
}

#[test]
fn a_logger_may_send_and_end_what_is_being_logged_of() {
    keep_log();
    let (worker, to) = listening::<Tcp>();
    let peer = peer();
    let con = handle_of(worker, &peer, to);
    let cli = client::<Tcp>(to);
    at_each_line(Some(Rc::new(move || {
        con.send("from the logger");
        cli.send("from the logger");
        let _ = (cli.status(), worker.local_addr());
    })));
    // The poller logs what it registers, and this the drop.
    cli.connect();
    assert_eq!(con.send(vec![0; 70_000]), Sent::Dropped);
    at_each_line(None);
    turn();
    assert_eq!(next(&peer), b"from the logger");
    let other = client::<Tcp>(to);
    other.on_connect(|_| panic!("it was closed before"));
    at_each_line(Some(Rc::new(move || other.close())));
    other.connect();
    at_each_line(None);
    turn();
    assert_eq!(other.id(), 0, "it closed while its socket was registered");
    cli.close();
    turn();
}

thread_local! {
    static OWN: RefCell<Option<Box<dyn Fn() -> Sent>>> = const { RefCell::new(None) };
    static ANSWERS: RefCell<Vec<Sent>> = const { RefCell::new(Vec::new()) };
}

/// A protocol whose methods send through their own connection.
#[derive(Default)]
struct Nosy;

fn nose() {
    let answer = OWN.with(|own| own.borrow().as_ref().map(|send| send()));
    ANSWERS.with(|answers| answers.borrow_mut().extend(answer));
}

impl Protocol for Nosy {
    const NAME: &'static str = "nosy";
    type Incoming<'a> = ();
    type Outgoing<'a> = &'a str;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        nose();
        Ok(Input::Package(buffer.len()))
    }

    fn decode<'a>(
        &mut self,
        _: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<()>, Violation> {
        nose();
        Ok(Some(()))
    }

    fn encode(&mut self, text: &str, out: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        nose();
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
impl Serve for Nosy {}
impl Dial for Nosy {}

/// From now on the methods of `Nosy` send by this.
fn send_by(send: impl Fn() -> Sent + 'static) {
    OWN.with(|own| *own.borrow_mut() = Some(Box::new(send)));
}

#[test]
fn a_send_from_a_protocols_own_methods_is_dropped() {
    let (worker, to) = listening::<Nosy>();
    let far = peer();
    let con = client::<Nosy>(far.local_addr().expect("its address"));
    worker.on_message(move |con, ()| {
        send_by(move || con.send("again"));
        con.send("answer")
    });
    con.on_message(move |con, ()| {
        send_by(move || con.send("again"));
        con.send("answer")
    });
    con.connect();
    turn();
    for to in [to, con.local_addr().expect("it is bound")] {
        OWN.take();
        for _ in 0..2 {
            far.send_to(b"question", to).expect("the kernel takes it");
            turn_for(Duration::from_millis(5));
            assert_eq!(next(&far), b"answer");
        }
        nothing_for(&far);
        // `encode` of the first; `input`, `decode` and `encode` of the second.
        assert_eq!(ANSWERS.take(), [Sent::Dropped; 4]);
    }
    OWN.take();
    con.close();
    turn();
}
