//! Reconnects that are taken back, by `cancel_reconnect`, `close` and `destroy`.
use super::life::{closing_once, counting};
use crate::support::peers::{refusing, tcp_client};
use crate::support::*;
use std::time::Duration;
use workerman::prelude::*;

#[test]
fn cancel_reconnect_leaves_the_handle_initial() {
    // `cancel_reconnect()` of a pending one, also within `on_close`, leaves the handle Initial, as
    // `new` does: `connect()` dials.
    type Case = (&'static str, fn(AsyncTcpConnection));
    let cases: [Case; 3] = [
        ("reconnect later", |con| con.reconnect(0.03)),
        ("reconnect now", |con| con.reconnect(0)),
        ("twice", |con| {
            con.reconnect(0);
            con.reconnect(0.02);
        }),
    ];
    for (what, ask) in cases {
        let (_worker, address, accepted) = counting();
        // Within on_close.
        let t = Transcript::new();
        let inside = closing_once(&address, &t, move |con| {
            ask(con);
            con.cancel_reconnect();
        });
        inside.connect();
        // Outside, before any session.
        let u = Transcript::new();
        let outside = tcp_client(&address, &u);
        ask(outside);
        outside.cancel_reconnect();
        turn_until(|| t.has("INITIAL"));
        turn_for(Duration::from_millis(50));
        assert_eq!(accepted.get(), 1, "{what}");
        assert_eq!((inside.status(), outside.status()), (Status::Initial, Status::Initial));
        t.assert(&["connect", "close CLOSED", "INITIAL"]);
        u.assert(&[]);
        inside.connect();
        outside.connect();
        turn_until(|| accepted.get() == 3);
        turn_until(|| t.count("connect") == 2 && u.has("connect ESTABLISHED"));
    }
}

#[test]
fn a_cancelled_handle_is_ended_by_close_without_an_event() {
    // A cancelled one keeps the handle; `close()` ends it: nothing is delivered.
    let (_worker, address, _) = counting();
    let t = Transcript::new();
    let con = closing_once(&address, &t, |con| {
        con.reconnect(5);
        con.cancel_reconnect();
    });
    con.connect();
    turn_until(|| t.has("INITIAL"));
    con.close();
    assert_eq!((con.status(), con.id()), (Status::Closed, 0));
    t.assert(&["connect", "close CLOSED", "INITIAL"]);
}

#[test]
fn cancel_of_the_reconnect_of_an_open_connection_leaves_it_initial_once_it_has_closed() {
    // `reconnect` on an open connection, cancelled while it closes or in its `on_close`: the
    // session ends, the handle stays Initial.
    for inside in [false, true] {
        let (_worker, address, accepted) = counting();
        let t = Transcript::new();
        let con = tcp_client(&address, &t);
        let at = t.clone();
        con.on_close(move |con| {
            at.note("close");
            if inside {
                con.cancel_reconnect();
            }
        });
        con.connect();
        turn_until(|| t.has("connect ESTABLISHED") && accepted.get() == 1);
        con.reconnect(0);
        if !inside {
            assert_eq!(con.status(), Status::Closing);
            con.cancel_reconnect();
        }
        turn_until(|| t.has("close"));
        turn_for(Duration::from_millis(30));
        assert_eq!((con.status(), accepted.get()), (Status::Initial, 1));
        con.connect();
        turn_until(|| accepted.get() == 2);
    }
}

#[test]
fn cancel_reconnect_with_none_pending_does_nothing() {
    // With none pending it does nothing: Initial, Connecting by `connect`, Established, Closing.
    let (_worker, address, accepted) = counting();
    let t = Transcript::new();
    let con = tcp_client(&address, &t);
    con.cancel_reconnect();
    assert_eq!(con.status(), Status::Initial);
    con.connect();
    con.cancel_reconnect();
    assert_eq!(con.status(), Status::Connecting);
    turn_until(|| t.has("connect ESTABLISHED") && accepted.get() == 1);
    con.cancel_reconnect();
    assert_eq!(con.status(), Status::Established);
    con.close();
    con.cancel_reconnect();
    turn_until(|| t.has("close CLOSED"));
    con.cancel_reconnect();
    assert_eq!((con.status(), con.id()), (Status::Closed, 0), "it kept no handle");
}

#[test]
fn close_and_destroy_cancel_a_reconnect_wherever_it_was_asked_for() {
    // `close()` then cancels the reconnect: on an open connection, in `on_close`, in `on_error`.
    for destroy in [false, true] {
        let end = move |con: AsyncTcpConnection| {
            if destroy { con.destroy() } else { con.close() }
        };
        let (_worker, address, accepted) = counting();
        let t = Transcript::new();
        let open = tcp_client(&address, &t);
        open.connect();
        turn_until(|| t.has("connect ESTABLISHED"));
        open.reconnect(0);
        end(open);
        turn_until(|| t.has("close CLOSED"));
        for delay in [0.0, 0.01] {
            let t = Transcript::new();
            let con = closing_once(&address, &t, move |con| {
                con.reconnect(delay);
                end(con);
            });
            con.connect();
            turn_until(|| t.has("CLOSED"));
            turn_for(Duration::from_millis(30));
            t.assert(&["connect", "close CLOSED", "CLOSED"]);
            assert_eq!(con.id(), 0);
        }
        assert_eq!(accepted.get(), 3);
        let (_held, addr) = refusing();
        let t = Transcript::new();
        let con = tcp_client(&format!("tcp://{addr}"), &t);
        let at = t.clone();
        con.on_error(move |con, _, _| {
            at.note("error");
            con.reconnect(0.01);
            end(con);
        });
        con.connect();
        turn_until(|| con.status() == Status::Closed);
        turn_for(Duration::from_millis(30));
        assert_eq!((t.count("error"), con.id()), (1, 0));
    }
}

#[test]
fn cancel_reconnect_inside_the_error_of_a_failed_opening_leaves_it_initial() {
    // `cancel_reconnect()` of a pending one leaves the handle Initial; the attempt has had its
    // `on_error`, and the reconnect that was called there its effect: no `on_close` (Q40).
    for delay in [0.0, 0.01] {
        let (held, addr) = refusing();
        let t = Transcript::new();
        let con = tcp_client(&format!("tcp://{addr}"), &t);
        let at = t.clone();
        con.on_error(move |con, _, _| {
            con.reconnect(delay);
            con.cancel_reconnect();
            at.note(format!("error {}", con.status()));
        });
        con.connect();
        turn_until(|| t.has("error INITIAL"));
        turn_for(Duration::from_millis(30));
        t.assert(&["error INITIAL"]);
        held.listen(8).expect("now somebody listens");
        con.connect();
        turn_until(|| t.has("connect ESTABLISHED"));
    }
}

#[test]
fn a_reconnect_inside_an_error_that_ends_nothing_closes_first() {
    // `reconnect` on an open connection, here inside an `on_error` that ends nothing: close,
    // `on_close`, then dial.
    let (_worker, address, accepted) = counting();
    let t = Transcript::new();
    let con = tcp_client(&address, &t);
    con.set_max_send_buffer_size(0);
    let at = t.clone();
    con.on_error(move |con, code, _| {
        at.note(format!("error {code} {}", con.status()));
        con.reconnect(0);
        at.note(con.status());
    });
    con.connect();
    turn_until(|| t.has("connect ESTABLISHED") && accepted.get() == 1);
    assert_eq!(con.send("too much"), Sent::Dropped);
    turn_until(|| accepted.get() == 2 && t.count("connect ESTABLISHED") == 2);
    t.assert(&[
        "connect ESTABLISHED",
        "error 2 ESTABLISHED",
        "CLOSING",
        "close CLOSED",
        "connect ESTABLISHED",
    ]);
}
