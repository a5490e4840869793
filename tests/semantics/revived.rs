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
