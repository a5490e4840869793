//! Pings, and the peer's silence after one.
use crate::support::{
    Transcript, raw_accept, raw_connect, raw_handshake, raw_listener, raw_upgrade, read_frame,
    server_frame, turn_for, turn_until,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use workerman::Limits;
use workerman::prelude::*;

const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A server for one session that counts pings, and answers each after so long; `None`: never.
fn answering(
    listener: TcpListener,
    after: Option<Duration>,
) -> (Arc<AtomicUsize>, JoinHandle<TcpListener>) {
    let pings = Arc::new(AtomicUsize::new(0));
    let count = pings.clone();
    let server = std::thread::spawn(move || {
        let mut stream = raw_accept(&listener);
        raw_handshake(&mut stream);
        serve_pings(&mut stream, &count, after);
        listener
    });
    (pings, server)
}

/// Until the client's end.
fn serve_pings(stream: &mut TcpStream, pings: &AtomicUsize, after: Option<Duration>) {
    while let Some((first, payload)) = next_frame(stream) {
        if first != PING {
            continue;
        }
        pings.fetch_add(1, Ordering::SeqCst);
        if let Some(after) = after {
            std::thread::sleep(after);
            if stream.write_all(&server_frame(PONG, &payload)).is_err() {
                return;
            }
        }
    }
}

/// `None`: the peer's end or its close frame.
fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    match stream.peek(&mut byte) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(read_frame(stream)).filter(|(first, _)| *first != 0x88),
    }
}

/// A client that notes its end; pings every 20 ms, silence after 100 ms.
fn client(addr: SocketAddr) -> (AsyncTcpConnection<Ws>, Transcript) {
    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("an address");
    let seen = Transcript::new();
    con.set_websocket_ping_interval(0.02);
    con.set_websocket_pong_timeout(0.1);
    let s = seen.clone();
    con.on_websocket_connect(move |_, _| s.note("open"));
    let s = seen.clone();
    con.on_error(move |con, code, failure| {
        s.note(format!("{code:?} {:?} {}", failure.kind(), con.status()));
    });
    let s = seen.clone();
    con.on_close(move |con| s.note(format!("close {}", con.status())));
    (con, seen)
}

/// What silence gives.
const DEAD: [&str; 3] = ["open", "SessionFail PongTimeout CLOSING", "close CLOSED"];

fn end(con: AsyncTcpConnection<Ws>, server: JoinHandle<TcpListener>) {
    con.destroy();
    turn_for(Duration::from_millis(1));
    server.join().expect("the server's own assertions");
}

#[test]
fn the_ping_interval_takes_effect_at_once_and_0_turns_pings_off() {
    let (listener, addr) = raw_listener();
    let (pings, server) = answering(listener, Some(Duration::ZERO));
    let (con, seen) = client(addr);
    con.set_websocket_ping_interval(25);
    con.connect();
    turn_until(|| seen.has("open"));
    turn_for(Duration::from_millis(60));
    assert_eq!(pings.load(Ordering::SeqCst), 0);
    con.set_websocket_ping_interval(0.01);
    turn_until(|| pings.load(Ordering::SeqCst) >= 3);
    con.set_websocket_ping_interval(0);
    // One may have been on its way.
    turn_for(Duration::from_millis(10));
    let at_the_end = pings.load(Ordering::SeqCst);
    turn_for(Duration::from_millis(80));
    assert_eq!(pings.load(Ordering::SeqCst), at_the_end);
    con.set_websocket_ping_interval(0.01);
    turn_until(|| pings.load(Ordering::SeqCst) > at_the_end);
    seen.assert(&["open"]);
    end(con, server);
}

#[test]
fn a_server_answers_pings_and_never_pings_of_its_own_accord() {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("an address");
    assert!(Worker::turn(0).expect("a turn"));
    let addr = worker.local_addr().expect("it listens");
    let (con, seen) = client(addr);
    con.set_websocket_ping_interval(0.005);
    let pongs = Rc::new(Cell::new(0));
    let theirs = pongs.clone();
    con.on_websocket_pong(move |_, _| theirs.set(theirs.get() + 1));
    con.on_websocket_ping(|_, _| panic!("the server pings"));
    con.connect();
    turn_until(|| pongs.get() >= 20);
    seen.assert(&["open"]);
    // Nor one whose client says nothing.
    let mut quiet = raw_connect(addr);
    let head = std::thread::spawn(move || {
        let head = raw_upgrade(&mut quiet);
        (head, quiet)
    });
    turn_until(|| head.is_finished());
    let (_, mut quiet) = head.join().expect("its own assertions");
    turn_for(Duration::from_millis(60));
    quiet.set_nonblocking(true).expect("it can");
    assert!(quiet.read(&mut [0]).is_err(), "the server said something");
}

#[test]
fn silence_after_a_ping_is_told_to_on_error_then_destroyed_then_on_close() {
    let (listener, addr) = raw_listener();
    // It reads all, so that our bytes leave; that proves nothing.
    let (pings, server) = answering(listener, None);
    let (con, seen) = client(addr);
    con.connect();
    turn_until(|| seen.has("open"));
    let begin = Instant::now();
    let chatter = Timer::add(0.005, move |_| con.send("are you there?"));
    turn_until(|| seen.lines().len() == 3);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(110), "before the deadline: {took:?}");
    chatter.del();
    seen.assert(&DEAD);
    assert!(pings.load(Ordering::SeqCst) >= 1);
    server.join().expect("the server's own assertions");
}

#[test]
fn the_failure_says_how_long_no_byte_came() {
    let (listener, addr) = raw_listener();
    let (_, server) = answering(listener, None);
    let (con, seen) = client(addr);
    let s = seen.clone();
    con.on_error(move |_, _, failure| s.note(failure));
    con.connect();
    turn_until(|| seen.lines().len() == 3);
    let line = &seen.lines()[1];
    assert!(line.contains("no byte came in 0.1 s after a ping"), "{line}");
    server.join().expect("the server's own assertions");
}

#[test]
fn any_byte_that_comes_counts_also_part_of_a_message() {
    let (listener, addr) = raw_listener();
    let server = std::thread::spawn(move || {
        let mut stream = raw_accept(&listener);
        raw_handshake(&mut stream);
        // One long message, a byte at a time, and no pong ever.
        stream.write_all(&[0x81, 126, 0x10, 0]).expect("the socket takes it");
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(25));
            if stream.write_all(b"x").is_err() {
                return false;
            }
        }
        // Then silence.
        stream.read_to_end(&mut Vec::new()).ok();
        true
    });
    let (con, seen) = client(addr);
    con.connect();
    turn_until(|| seen.lines().len() == 3);
    seen.assert(&DEAD);
    assert!(server.join().expect("its own assertions"), "it died while bytes came");
}

#[test]
fn our_own_delay_kills_nobody() {
    let (listener, addr) = raw_listener();
    let (pings, server) = answering(listener, Some(Duration::ZERO));
    let (con, seen) = client(addr);
    con.connect();
    turn_until(|| pings.load(Ordering::SeqCst) >= 1);
    for _ in 0..3 {
        // The deadline passes inside a callback, the pong waits in the socket.
        let done = Rc::new(Cell::new(false));
        let theirs = done.clone();
        Timer::delay(0.021, move || {
            std::thread::sleep(Duration::from_millis(250));
            theirs.set(true);
        });
        turn_until(|| done.get());
        turn_for(Duration::from_millis(50));
    }
    seen.assert(&["open"]);
    assert_eq!(con.status(), Status::Established);
    end(con, server);
}

#[test]
fn nobody_is_judged_while_the_program_has_paused_reading() {
    let (listener, addr) = raw_listener();
    let (pings, server) = answering(listener, None);
    let (con, seen) = client(addr);
    con.connect();
    turn_until(|| pings.load(Ordering::SeqCst) >= 1);
    con.pause_recv();
    turn_for(Duration::from_millis(300));
    seen.assert(&["open"]);
    // Its time begins anew when it can be heard again, and it is silent indeed.
    let begin = Instant::now();
    con.resume_recv();
    turn_until(|| seen.lines().len() == 3);
    assert!(begin.elapsed() >= Duration::from_millis(99), "{:?}", begin.elapsed());
    seen.assert(&DEAD);
    server.join().expect("the server's own assertions");
}

#[test]
fn nobody_is_judged_while_the_library_has_paused_reading() {
    let (listener, addr) = raw_listener();
    let server = std::thread::spawn(move || {
        let mut stream = raw_accept(&listener);
        raw_handshake(&mut stream);
        let ping = read_frame(&mut stream);
        std::thread::sleep(Duration::from_millis(400));
        // Now it reads again, and answers.
        let mut taken = vec![0; 1 << 20];
        let mut bytes = 0;
        while bytes < 16 << 20 {
            bytes += stream.read(&mut taken).expect("more");
        }
        stream.write_all(&server_frame(PONG, &ping.1)).expect("the socket takes it");
        stream.write_all(&server_frame(0x81, b"alive")).expect("the socket takes it");
        stream
    });
    let (con, seen) = client(addr);
    con.set_backpressure(true);
    con.set_max_send_buffer_size(1000);
    let s = seen.clone();
    con.on_message(move |_, data| s.note(data));
    con.connect();
    turn_until(|| seen.has("open"));
    // The first ping has left; what is sent behind it fills the buffer.
    turn_until(|| con.bytes_written() > 0 && con.latency().is_none() && left_a_ping(con));
    con.send(&vec![0u8; 16 << 20][..]);
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["open", "alive"]);
    con.destroy();
    server.join().expect("the server's own assertions");
}

/// The request has at least 100 bytes, a masked ping at least 6 more.
fn left_a_ping(con: AsyncTcpConnection<Ws>) -> bool {
    thread_local!(static BEFORE: Cell<u64> = const { Cell::new(0) });
    if BEFORE.get() == 0 {
        BEFORE.set(con.bytes_written());
    }
    con.bytes_written() > BEFORE.get()
}

#[test]
fn while_the_ping_waits_in_our_own_buffer_the_stall_limit_judges_instead() {
    let (listener, addr) = raw_listener();
    let server = std::thread::spawn(move || {
        let mut stream = raw_accept(&listener);
        raw_handshake(&mut stream);
        stream
    });
    let (con, seen) = client(addr);
    con.set_limits(Limits::new().send_stall(0.4));
    con.on_websocket_connect(|con, _| con.send(&vec![0u8; 16 << 20][..]));
    let begin = Instant::now();
    con.connect();
    turn_until(|| seen.lines().len() == 2);
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    seen.assert(&["SendFail ClientClosed CLOSING", "close CLOSED"]);
    drop(server.join().expect("the server's own assertions"));
}

#[test]
fn the_deadline_belongs_to_its_session_and_kills_no_later_one() {
    let (listener, addr) = raw_listener();
    let pings = Arc::new(AtomicUsize::new(0));
    let count = pings.clone();
    let server = std::thread::spawn(move || {
        let mut first = raw_accept(&listener);
        raw_handshake(&mut first);
        // A ping is out, and will not be answered.
        assert_eq!(read_frame(&mut first).0, PING);
        drop(first);
        let mut second = raw_accept(&listener);
        raw_handshake(&mut second);
        serve_pings(&mut second, &count, Some(Duration::ZERO));
        listener
    });
    let (con, seen) = client(addr);
    let (s, again) = (seen.clone(), Cell::new(true));
    con.on_close(move |con| {
        s.note("close");
        if again.replace(false) {
            con.reconnect(0);
        }
    });
    con.connect();
    turn_until(|| seen.count("open") == 2);
    // Longer than the first session's deadline would have been.
    turn_for(Duration::from_millis(250));
    assert!(pings.load(Ordering::SeqCst) >= 3);
    seen.assert(&["open", "close", "open"]);
    end(con, server);
}

#[test]
fn latency_is_the_time_from_a_pings_write_to_its_pongs_arrival() {
    const DELAY: Duration = Duration::from_millis(30);
    let (listener, addr) = raw_listener();
    let (_, server) = answering(listener, Some(DELAY));
    let (con, seen) = client(addr);
    con.set_websocket_ping_interval(0.2);
    con.set_websocket_pong_timeout(0);
    con.connect();
    turn_until(|| seen.has("open"));
    assert_eq!(con.latency(), None);
    turn_until(|| con.latency().is_some());
    let latency = con.latency().expect("just seen");
    assert!(latency >= DELAY && latency < 10 * DELAY, "{latency:?}");
    // A ping of the program's own is measured too.
    con.set_websocket_ping_interval(0);
    let pong = Rc::new(Cell::new(false));
    let theirs = pong.clone();
    con.on_websocket_pong(move |_, payload| theirs.set(payload == b"mine"));
    std::thread::sleep(Duration::from_millis(50));
    assert_ne!(con.ping(b"mine"), Sent::Dropped);
    turn_until(|| pong.get());
    let own = con.latency().expect("a second one");
    assert!(own >= DELAY && own < 10 * DELAY && own != latency, "{own:?} after {latency:?}");
    end(con, server);
}

#[test]
fn a_pong_timeout_of_0_turns_the_check_off() {
    let (listener, addr) = raw_listener();
    let (pings, server) = answering(listener, None);
    let (con, seen) = client(addr);
    con.set_websocket_pong_timeout(0);
    con.connect();
    turn_until(|| pings.load(Ordering::SeqCst) >= 10);
    seen.assert(&["open"]);
    end(con, server);
}
