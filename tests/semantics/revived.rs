//! Connections that are asked to live on, or to end, at the least convenient moment.
use crate::peers::*;
use crate::support::*;
use std::cell::Cell;
use std::rc::Rc;
use workerman::prelude::*;

fn echo() -> std::net::SocketAddr {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    worker.on_message(|con, line| con.send(line));
    listening(worker)
}

#[test]
fn a_reconnect_right_after_destroy_follows_the_close_of_that_session() {
    // One open, one close; any → `reconnect(n)`: `on_close` of that session, then Connecting.
    let addr = echo();
    for how in ["reconnect(0)", "reconnect(0.01)", "connect"] {
        let con = client::<Text>("text", addr);
        let seen = Transcript::new();
        noted(con, &seen);
        let first = Cell::new(true);
        let s = seen.clone();
        con.on_message(move |con, line| {
            s.note(line);
            if !first.replace(false) {
                return con.close();
            }
            con.destroy();
            match how {
                "connect" => con.connect(),
                "reconnect(0)" => con.reconnect(0),
                _ => con.reconnect(0.01),
            }
            assert_eq!(con.send("again"), Sent::Buffered, "{how}");
        });
        con.send("first");
        con.connect();
        turn_until(|| con.id() == 0);
        seen.assert(&["connect", "first", "close", "connect", "again", "close"]);
    }
}

#[test]
fn make_may_end_the_connection_that_it_is_made_for() {
    // User code never runs under a borrow: `make` of `new_with`, called by a send ahead.
    let addr = echo();
    for destroys in [false, true] {
        let own: Rc<Cell<Option<AsyncTcpConnection<Text>>>> = Rc::default();
        let theirs = own.clone();
        let con = AsyncTcpConnection::<Text>::new_with(&format!("text://{addr}"), move || {
            if let Some(con) = theirs.get() {
                if destroys { con.destroy() } else { con.close() }
            }
            Text::default()
        })
        .expect("a client");
        own.set(Some(con));
        assert_eq!(con.send("ahead"), Sent::Dropped);
        assert_eq!(con.id(), 0);
    }
}

#[test]
fn the_door_of_a_loop_whose_thread_has_ended_takes_nothing() {
    // `defer` answers true when the closure is queued; there is no queue any more, and the closure
    // must not wait for as long as somebody holds the door.
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(|| {
        Timer::add(1, |_| {});
        Worker::turn(0).expect("a turn");
        workerman::LoopHandle::current()
    });
    let door = thread.join().expect("it ends by itself");
    assert!(!door.defer(move || drop(tell)));
    assert!(told.recv().is_err());
}
