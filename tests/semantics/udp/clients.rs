//! Clients over udp: connect, send, errors, close.
use super::*;
use crate::support::Transcript;
use crate::support::log::{keep_log, logged, logged_with};
use std::net::Ipv4Addr;
use workerman::{FailureKind, Limits, Status};

/// All that a client is told, as lines.
fn watch(con: AsyncUdpConnection<Tcp>, to: &Transcript) {
    let t = to.clone();
    con.on_connect(move |_| t.note("connect"));
    let t = to.clone();
    con.on_message(move |_, data| t.note(format!("message {data}")));
    let t = to.clone();
    con.on_error(move |_, code, failure| t.note(format!("error {code} {:?}", failure.kind())));
    let t = to.clone();
    con.on_close(move |con| t.note(format!("close {}", con.status())));
}

#[test]
fn connect_queues_on_connect_and_messages_come_from_the_peer_alone() {
    let (far, stranger) = (peer(), peer());
    let to = far.local_addr().expect("its address");
    let seen = Transcript::new();
    let con = client::<Tcp>(to);
    watch(con, &seen);
    assert_eq!((con.status(), con.remote_addr(), con.local_addr()), (Status::Initial, None, None));
    assert_eq!((con.remote_address(), con.remote_port()), (to.to_string(), to.port()));
    con.connect();
    con.connect();
    seen.assert(&[]);
    turn();
    seen.assert(&["connect"]);
    assert_eq!((con.status(), con.remote_addr()), (Status::Established, Some(to)));
    assert_eq!(con.remote_ip(), Some(to.ip()));
    let own = con.local_addr().expect("it is bound");
    assert_eq!((con.local_ip(), con.local_port()), (Some(own.ip()), own.port()));
    assert_eq!((con.local_address(), con.remote_host()), (own.to_string(), "127.0.0.1".into()));
    assert_eq!(format!("{con:?}"), format!("udp#{} {to}", con.id()));
    assert_eq!(con.to_string(), format!("{con:?}"));
    assert_eq!(con.send("ping"), Sent::Flushed);
    assert_eq!(next(&far), b"ping");
    stranger.send_to(b"me too", own).expect("the kernel takes it");
    far.send_to(b"", own).expect("the kernel takes it");
    far.send_to(b"pong", own).expect("the kernel takes it");
    turn_until(|| seen.has("message pong"));
    seen.assert(&["connect", "message ", "message pong"]);
    con.close();
    turn();
}

#[test]
fn send_before_connect_connects_and_close_lets_it_go_first() {
    let far = peer();
    let seen = Transcript::new();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    watch(con, &seen);
    // Fire and forget, as a program does that writes a line of statistics.
    assert_eq!(con.send("one"), Sent::Flushed);
    con.close_with("two");
    turn();
    assert_eq!((next(&far), next(&far)), (b"one".to_vec(), b"two".to_vec()));
    seen.assert(&["close CLOSED"]);
}

#[test]
fn after_close_send_is_dropped_and_on_close_comes_once() {
    keep_log();
    let far = peer();
    let seen = Transcript::new();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    watch(con, &seen);
    let s = seen.clone();
    con.on_close(move |con| {
        let (sent, remote) = (con.send("late"), con.remote_addr().is_some());
        let local = con.local_addr().is_some();
        s.note(format!(
            "close {sent:?} {remote} {local} {:?} id {}",
            con.get::<u8>(),
            con.id() > 0
        ));
        con.close();
        con.connect();
    });
    con.set(7_u8);
    con.connect();
    turn();
    con.close();
    assert_eq!(con.status(), Status::Closed);
    assert_eq!((con.send("late"), con.send_raw(b"late")), (Sent::Dropped, Sent::Dropped));
    con.close();
    turn();
    seen.assert(&["connect", "close Dropped true true Some(7) id true"]);
    assert_eq!((con.id(), con.status(), con.get::<u8>()), (0, Status::Closed, None));
    assert_eq!((con.send("stale"), con.remote_address()), (Sent::Dropped, String::new()));
    assert_eq!(format!("{con:?}"), "(ended connection)");
    con.connect();
    assert_eq!(logged_with("WARN", "make a new one"), 1, "{:?}", logged());
    nothing_for(&far);
}

#[test]
fn one_that_was_never_connected_just_ends() {
    let seen = Transcript::new();
    let con = client::<Tcp>(peer().local_addr().expect("its address"));
    watch(con, &seen);
    con.close();
    assert_eq!(con.id(), 0);
    turn();
    seen.assert(&[]);
}

#[test]
fn a_refused_datagram_reaches_on_error_once_and_the_connection_goes_on() {
    let far = peer();
    let to = far.local_addr().expect("its address");
    drop(far);
    let seen = Transcript::new();
    let con = client::<Tcp>(to);
    watch(con, &seen);
    let s = seen.clone();
    con.on_error(move |con, code, failure| {
        let text = failure.to_string();
        assert!(text.contains(&to.to_string()) && text.contains("nobody listens there"), "{text}");
        assert!(failure.io().is_some());
        s.note(format!("error {code} {:?} {} {}", failure.kind(), failure.dropped(), con.status()));
    });
    con.connect();
    con.send("anybody there?");
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["connect", "error 2 Refused 0 ESTABLISHED"]);
    // Somebody listens now; what the network says of the one before stands in nobody's way.
    con.send("still nobody");
    let far = UdpSocket::bind(to).expect("the port is free");
    far.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    assert_eq!(con.send("and now?"), Sent::Flushed);
    assert_eq!(next(&far), b"and now?");
    turn_until(|| seen.lines().len() == 3);
    con.close();
    turn();
    assert_eq!(seen.lines()[3], "close CLOSED");
}

#[test]
fn without_on_error_a_loss_is_a_warning_once_a_second_at_most() {
    keep_log();
    let far = peer();
    let to = far.local_addr().expect("its address");
    drop(far);
    let con = client::<Tcp>(to);
    con.connect();
    for _ in 0..20 {
        con.send("anybody there?");
        turn();
    }
    assert_eq!(logged_with("WARN udp#", "nobody listens there"), 1, "{:?}", logged());
    con.close();
    turn();
}

#[test]
fn what_is_too_long_is_dropped_with_one_on_error_a_turn() {
    let far = peer();
    let seen = Transcript::new();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    let s = seen.clone();
    con.on_error(move |con, code, failure| {
        s.note(format!("error {code} {:?} {}", failure.kind(), failure.dropped()));
        if s.lines().len() == 1 {
            let text = failure.to_string();
            assert!(text.contains("70000 bytes is longer than 65507"), "{text}");
            // Told in the next turn: else it would go on for ever.
            con.send(vec![0; 70_000]);
        }
    });
    con.connect();
    turn();
    for _ in 0..3 {
        assert_eq!(con.send(vec![0; 70_000]), Sent::Dropped);
    }
    assert_eq!(con.send(vec![7; 65_507]), Sent::Flushed);
    turn();
    seen.assert(&["error 2 Encode 3"]);
    turn();
    seen.assert(&["error 2 Encode 3", "error 2 Encode 1"]);
    assert_eq!(next(&far).len(), 65_507);
    // Where the program allows more than the system does, the system says so.
    con.set_limits(Limits::new().datagram_bytes(1 << 20));
    assert_eq!(con.send(vec![0; 70_000]), Sent::Dropped);
    turn();
    assert_eq!(seen.count("error 2 Encode 1"), 2);
    con.set_limits(Limits::new().datagram_bytes(3));
    assert_eq!((con.send("four"), con.send("six")), (Sent::Dropped, Sent::Flushed));
    con.close();
    turn();
    assert_eq!(seen.count("error 2 Encode 1"), 3, "told although it closed: {:?}", seen.lines());
}

#[test]
fn a_received_datagram_above_the_limit_is_dropped_and_warned_of() {
    keep_log();
    let far = peer();
    let seen = Transcript::new();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    watch(con, &seen);
    con.set_limits(Limits::new().datagram_bytes(4));
    con.connect();
    turn();
    let own = con.local_addr().expect("it is bound");
    for text in ["five!", "six!!!", "four"] {
        far.send_to(text.as_bytes(), own).expect("the kernel takes it");
    }
    turn_until(|| seen.has("message four"));
    seen.assert(&["connect", "message four"]);
    assert_eq!(logged_with("WARN udp#", "Limits::datagram_bytes"), 1, "{:?}", logged());
    con.close();
    turn();
}

#[test]
fn a_protocol_within_datagrams_is_spoken_by_clients_too() {
    let (worker, to) = listening::<Text>();
    worker.on_message(|con, line| {
        con.send_raw(b"first\nsecond\ntail");
        con.send(line)
    });
    let con = AsyncUdpConnection::<Text>::new(&format!("text://{to}")).expect("an address");
    let seen = Transcript::new();
    let s = seen.clone();
    con.on_message(move |_, line| s.note(line));
    con.send("hello");
    turn_until(|| seen.lines().len() == 3);
    seen.assert(&["first", "second", "hello"]);
    con.close();
    turn();
}

#[test]
fn a_name_is_looked_up_off_the_loop_and_what_was_sent_meanwhile_leaves_in_order() {
    let far = peer();
    let port = far.local_addr().expect("its address").port();
    let seen = Transcript::new();
    let con = AsyncUdpConnection::<Tcp>::new(&format!("udp://localhost:{port}")).expect("a name");
    watch(con, &seen);
    con.on_connect(move |con| con.send("three"));
    assert_eq!(con.send("one"), Sent::Buffered);
    assert_eq!((con.send(""), con.send("two")), (Sent::Buffered, Sent::Buffered));
    assert_eq!(
        (con.status(), con.remote_address()),
        (Status::Connecting, format!("localhost:{port}"))
    );
    turn_until(|| con.status() == Status::Established);
    for expected in ["one", "", "two", "three"] {
        assert_eq!(String::from_utf8(next(&far)).expect("text"), expected);
    }
    assert_eq!(con.remote_ip(), Some(Ipv4Addr::LOCALHOST.into()), "as a worker's localhost");
    con.close();
    turn();
    seen.assert(&["close CLOSED"]);
}

#[test]
fn close_while_a_name_is_looked_up_sends_what_waits_and_tells_on_close_alone() {
    let far = peer();
    let port = far.local_addr().expect("its address").port();
    let seen = Transcript::new();
    let address = format!("udp://localhost:{port}");
    let con = AsyncUdpConnection::<Tcp>::new(&address).expect("a name");
    watch(con, &seen);
    con.send("last words");
    con.close();
    assert_eq!((con.send("late"), con.status()), (Sent::Dropped, Status::Closing));
    turn_until(|| !seen.lines().is_empty());
    seen.assert(&["close CLOSED"]);
    assert_eq!(next(&far), b"last words");
    nothing_for(&far);
}

#[test]
fn what_waits_for_a_name_is_bounded_empty_datagrams_too() {
    let seen = Transcript::new();
    let con = AsyncUdpConnection::<Tcp>::new("udp://localhost:9").expect("a name");
    watch(con, &seen);
    con.set_limits(Limits::new().send_buffer_bytes(80));
    con.connect();
    let taken = (0..100).take_while(|_| con.send("") == Sent::Buffered).count();
    assert_eq!(taken, 10, "each counts as its header, 8 bytes");
    turn_until(|| seen.has("error 2 BufferFull"));
    con.close();
    turn();
}

#[test]
fn a_name_without_address_is_on_error_with_what_was_dropped_then_on_close() {
    let con = AsyncUdpConnection::<Tcp>::new("udp://nobody.invalid:9").expect("a name");
    let seen = Transcript::new();
    watch(con, &seen);
    let s = seen.clone();
    con.on_error(move |con, code, failure| {
        let text = failure.to_string();
        assert!(text.contains("nobody.invalid:9"), "{text}");
        assert_eq!(failure.kind(), FailureKind::NameNotFound);
        s.note(format!("error {code} {} {}", failure.dropped(), con.status()));
        assert_eq!(con.send("late"), Sent::Dropped);
        con.connect();
        con.close();
    });
    con.send("one");
    con.send("two");
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["error 1 2 CLOSING", "close CLOSED"]);
    assert_eq!(con.id(), 0);
}

#[test]
fn bind_to_is_where_it_leaves_from_and_the_wrong_family_fails() {
    let far = peer();
    let to = far.local_addr().expect("its address");
    let con = client::<Tcp>(to);
    con.bind_to("127.0.0.3:0".parse().expect("an address"));
    con.send("hello");
    assert_eq!(con.local_ip(), Some(Ipv4Addr::new(127, 0, 0, 3).into()));
    con.close();
    let seen = Transcript::new();
    let con = client::<Tcp>(to);
    watch(con, &seen);
    con.bind_to("[::1]:0".parse().expect("an address"));
    con.connect();
    turn();
    seen.assert(&["error 1 Unreachable", "close CLOSED"]);
}

#[test]
fn a_burst_from_the_peer_is_taken_within_a_budget() {
    let far = peer();
    let seen = Transcript::new();
    let con = client::<Tcp>(far.local_addr().expect("its address"));
    let s = seen.clone();
    con.on_message(move |_, _| s.note("burst"));
    con.connect();
    turn();
    for _ in 0..150 {
        far.send_to(b"x", con.local_addr().expect("it is bound")).expect("the kernel takes it");
    }
    turn();
    assert_eq!(seen.count("burst"), 64);
    turn_until(|| seen.count("burst") == 150);
    con.close();
    turn();
}
