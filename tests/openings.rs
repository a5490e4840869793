//! Promise: the deadline of an opening begins with its own attempt, however long the loop has run
//! and whatever came before on the handle.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{Limits, Running};

const OPENING: Duration = Duration::from_millis(300);

fn echo() -> Running {
    workerman::spawn(|| {
        Worker::<Text>::listen("text://127.0.0.1:0")?.on_message(|con, data| con.send(data));
        Ok(())
    })
    .expect("a port of loopback is free")
}

/// Turns this thread's loop for so long.
fn turn_for(length: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < length {
        Worker::turn(Duration::from_millis(10)).expect("no other loop runs in this thread");
    }
}

#[track_caller]
fn turn_until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited in vain");
        Worker::turn(Duration::from_millis(10)).expect("no other loop runs in this thread");
    }
}

fn noting(server: &Running) -> (AsyncTcpConnection<Text>, Rc<RefCell<Vec<String>>>) {
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{}", server.addr()))
        .expect("a good address");
    con.set_limits(Limits::new().opening(OPENING));
    let log = Rc::new(RefCell::new(Vec::new()));
    let note = log.clone();
    con.on_connect(move |_| note.borrow_mut().push("connected".to_owned()));
    let note = log.clone();
    con.on_error(move |_, _, failure| note.borrow_mut().push(failure.to_string()));
    let note = log.clone();
    con.on_close(move |_| note.borrow_mut().push("closed".to_owned()));
    (con, log)
}

#[test]
fn a_client_made_late_has_its_whole_time() {
    let server = Rc::new(echo());
    Timer::add(60, |_| {}); // Something that keeps the loop.
    turn_for(2 * OPENING);
    // Within a callback, as programs do: one whose session ends makes the next one.
    let (first, first_log) = noting(&server);
    let log = Rc::new(RefCell::new(None));
    let second = log.clone();
    let there = server.clone();
    first.on_close(move |_| {
        let (con, log) = noting(&there);
        con.set_backpressure(true);
        con.connect();
        second.replace(Some(log));
    });
    first.on_connect(|con| con.close());
    first.connect();
    turn_until(|| log.borrow().as_ref().is_some_and(|log| !log.borrow().is_empty()));
    assert_eq!(*first_log.borrow(), [""; 0]);
    assert_eq!(*log.borrow().as_ref().expect("it was made").borrow(), ["connected"]);
}

#[test]
fn a_client_that_reconnects_after_a_long_session_has_its_whole_time() {
    let server = echo();
    let (con, log) = noting(&server);
    con.on_close(|con| con.reconnect(0));
    con.connect();
    turn_until(|| log.borrow().len() == 1);
    turn_for(2 * OPENING);
    con.close();
    turn_until(|| log.borrow().len() == 2);
    assert_eq!(*log.borrow(), ["connected", "connected"]);
}
