//! Workers of datagrams: what they deliver, answer and refuse.
use super::*;
use crate::support::log::{keep_log, logged, logged_with};
use crate::support::{Transcript, run_all_in_time, turn_for};
use std::cell::Cell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::rc::Rc;
use workerman::{Context, Error, Frame, Input, Limits, Protocol, Violation};

#[test]
fn a_datagram_is_delivered_with_its_sender_and_answered() {
    let (worker, to) = listening::<Tcp>();
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, data| {
        assert_eq!(con.to_string(), format!("{con:?}"));
        s.note(format!("{data} {con:?}"));
        assert_eq!(con.remote_address(), con.remote_addr().to_string());
        assert_eq!(
            (con.remote_ip(), con.remote_port()),
            (con.remote_addr().ip(), con.remote_addr().port())
        );
        assert!(con.remote_ip().is_ipv4());
        assert_eq!(con.local_addr(), Some(to));
        assert_eq!((con.local_ip(), con.local_port()), (Some(to.ip()), to.port()));
        assert_eq!(con.local_address(), to.to_string());
        let sent = con.send(data);
        assert_eq!(sent, Sent::Flushed);
        sent
    });
    let peer = peer();
    peer.send_to(b"hello", to).expect("the kernel takes it");
    turn_until(|| !seen.lines().is_empty());
    let own = peer.local_addr().expect("its address");
    seen.assert(&[&format!("hello udp {own}")]);
    assert_eq!(next(&peer), b"hello");
}

#[test]
fn an_empty_datagram_is_a_message_without_a_protocol_and_none_with_one() {
    let (plain, to_plain) = listening::<Tcp>();
    let (lines, to_lines) = listening::<Text>();
    plain.on_message(|con, data| {
        assert!(data.as_bytes().is_empty());
        con.send(data)
    });
    lines.on_message(|con, line| con.send(line));
    let peer = peer();
    peer.send_to(b"", to_lines).expect("the kernel takes it");
    peer.send_to(b"line\n", to_lines).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"line\n");
    peer.send_to(b"", to_plain).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"");
}

#[test]
fn several_packages_in_a_datagram_are_several_messages_and_an_incomplete_tail_is_dropped() {
    keep_log();
    let (worker, to) = listening::<Text>();
    worker.on_message(|con, line| con.send(line));
    let peer = peer();
    peer.send_to(b"one\ntwo\nthr", to).expect("the kernel takes it");
    peer.send_to(b"ee\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    for expected in ["one\n", "two\n", "ee\n"] {
        assert_eq!(next(&peer), expected.as_bytes());
    }
    nothing_for(&peer);
    assert_eq!(logged_with("DEBUG", "its last 3 bytes are no whole package"), 1, "{:?}", logged());
}

#[test]
fn a_violation_drops_the_rest_of_its_datagram_and_no_other() {
    keep_log();
    let (worker, to) = listening::<Text>();
    worker.set_limits(Limits::new().message_bytes(4));
    worker.on_message(|con, line| con.send(line));
    let peer = peer();
    peer.send_to(b"ab\nabcdefgh\ncd\n", to).expect("the kernel takes it");
    peer.send_to(b"ef\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"ab\n");
    assert_eq!(next(&peer), b"ef\n");
    nothing_for(&peer);
    assert_eq!(logged_with("DEBUG", "longer than 4 bytes"), 1, "{:?}", logged());

    let (worker, to) = listening::<Frame>();
    worker.on_message(|con, data| con.send(data));
    for bad in [&b"\0\0\0\x03"[..], b"\xff\xff\xff\xff", b"\0\0", b"\0\0\0\x07ab"] {
        peer.send_to(bad, to).expect("the kernel takes it");
    }
    peer.send_to(b"\0\0\0\x07abc", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"\0\0\0\x07abc");
    nothing_for(&peer);
}

#[test]
fn a_handle_is_copied_compared_hashed_and_kept_while_the_worker_listens() {
    let (worker, to) = listening::<Tcp>();
    let (first, second) = (peer(), peer());
    let one = handle_of(worker, &first, to);
    let again = handle_of(worker, &first, to);
    let other = handle_of(worker, &second, to);
    assert!(one == again && one != other);
    assert_eq!(HashSet::from([one, again, other]).len(), 2);
    turn();
    assert_eq!(one.send("later"), Sent::Flushed);
    assert_eq!(next(&first), b"later");
    let (elsewhere, to) = listening::<Tcp>();
    assert!(handle_of(elsewhere, &first, to) != one, "another worker's is another");
    nothing_for(&second);
}

#[test]
fn a_stale_handle_is_quiet_and_reaches_no_newcomer() {
    let (worker, to) = listening::<Tcp>();
    let peer = peer();
    let con = handle_of(worker, &peer, to);
    worker.unlisten();
    assert_eq!(worker.local_addr(), None);
    let (_newcomer, _) = listening::<Tcp>();
    assert_eq!((con.send("lost"), con.send_raw(b"lost")), (Sent::Dropped, Sent::Dropped));
    assert_eq!((con.local_addr(), con.local_port()), (None, 0));
    assert_eq!(con.local_address(), "");
    assert_eq!(con.remote_addr(), peer.local_addr().expect("its address"));
    nothing_for(&peer);
    worker.unlisten();
    let free = UdpSocket::bind(to);
    assert!(free.is_ok(), "the port is free again: {free:?}");
}

#[test]
fn send_raw_is_the_datagram_itself() {
    let (worker, to) = listening::<Text>();
    worker.on_message(|con, line| {
        con.send_raw(line.as_bytes());
        con.send(line)
    });
    let peer = peer();
    peer.send_to(b"x\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"x");
    assert_eq!(next(&peer), b"x\n");
}

#[test]
fn a_received_datagram_above_the_limit_is_dropped_whole_and_warned_of_once_a_second() {
    keep_log();
    let (worker, to) = listening::<Tcp>();
    worker.set_limits(Limits::new().datagram_bytes(100));
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, data| {
        s.note(data.as_bytes().len());
        con.send(data)
    });
    let peer = peer();
    for length in [101, 1000, 60_000, 100] {
        peer.send_to(&vec![7; length], to).expect("the kernel takes it");
    }
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), vec![7; 100]);
    seen.assert(&["100"]);
    assert_eq!(logged_with("WARN", "Limits::datagram_bytes"), 1, "{:?}", logged());
    assert_eq!(logged_with("WARN", "a datagram of 101 bytes is longer than 100"), 1);
}

#[test]
fn the_longest_datagram_comes_and_goes_whole_and_a_longer_answer_is_dropped() {
    keep_log();
    let (worker, to) = listening::<Tcp>();
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, data| {
        let longer = vec![1; data.as_bytes().len() + 1];
        s.note(format!("{:?} {:?}", con.send(&longer), con.send(data)));
    });
    let peer = peer();
    let longest: Vec<u8> = (0..65_507_u32).map(|n| (n >> 3) as u8).collect();
    peer.send_to(&longest, to).expect("the kernel takes it");
    turn_until(|| !seen.lines().is_empty());
    seen.assert(&["Dropped Flushed"]);
    assert_eq!(next(&peer), longest);
    nothing_for(&peer);
    assert_eq!(logged_with("WARN", "not sent to"), 1, "{:?}", logged());
    assert_eq!(logged_with("WARN", "of 65508 bytes is longer than 65507"), 1, "{:?}", logged());

    // Where the program allows more than the system does, the system says so.
    worker.set_limits(Limits::new().datagram_bytes(1 << 20));
    keep_log();
    let con = handle_of(worker, &peer, to);
    turn_for(Duration::from_millis(1100));
    assert_eq!(con.send(vec![0; 70_000]), Sent::Dropped);
    assert_eq!(logged_with("WARN", "not sent to"), 1, "{:?}", logged());
}

#[test]
fn pausing_leaves_datagrams_in_the_kernel_and_resuming_delivers_them_in_order() {
    let (worker, to) = listening::<Tcp>();
    worker.on_message(|con, data| con.send(data));
    worker.pause_accept();
    let peer = peer();
    for text in ["one", "two"] {
        peer.send_to(text.as_bytes(), to).expect("the kernel takes it");
    }
    turn_for(Duration::from_millis(20));
    nothing_for(&peer);
    worker.resume_accept();
    turn_for(Duration::from_millis(20));
    assert_eq!((next(&peer), next(&peer)), (b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_address_and_the_remedy() {
    let holder = peer();
    let to = holder.local_addr().expect("its address");
    let address = format!("udp://{to}");
    Worker::<Udp>::listen(&address).expect("an address");
    let error = run_all_in_time().expect_err("the port is taken").to_string();
    assert!(error.contains(&address) && error.contains("choose another port"), "{error}");

    // In a running loop `listen` itself says it, and leaves no worker behind.
    let other = Worker::new();
    let a = address.clone();
    other.on_worker_start(move |_| {
        let error = Worker::<Udp>::listen(&a).expect_err("the port is taken");
        assert!(
            matches!(&error, Error::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse)
        );
        Worker::stop_all();
    });
    run_all_in_time().expect("it stops");
    let error = Worker::<Udp>::listen("tcp://127.0.0.1:1").expect_err("a stream's address");
    assert!(error.to_string().contains("udp://127.0.0.1:1"), "{error}");
    let error = Worker::<Text>::listen("udp://127.0.0.1:1").expect_err("a stream's worker");
    assert!(error.to_string().contains("Worker::<Udp>"), "{error}");
    let error = Worker::<Udp<Http>>::listen("udp://127.0.0.1:1").expect_err("no datagrams");
    assert!(error.to_string().contains("http needs a connection"), "{error}");
}

#[test]
fn a_worker_made_in_a_running_loop_receives_at_once_and_a_spawned_one_says_where() {
    let server = workerman::spawn(|| {
        let starter = Worker::<Udp<Text>>::listen("text://127.0.0.1:0")?;
        starter.set_name("lines");
        starter.on_message(|con, _| {
            let inner = Worker::<Udp>::listen("udp://127.0.0.1:0")?;
            inner.on_message(|con, data| con.send(data));
            con.send(inner.local_addr().ok_or("it does not listen")?.port());
            Ok(())
        });
        Ok(())
    })
    .expect("it listens");
    assert_eq!(server.addr_of("lines"), Some(server.addr()));
    let peer = peer();
    peer.send_to(b"go\n", server.addr()).expect("the kernel takes it");
    let port: u16 = String::from_utf8(next(&peer)).expect("text").trim().parse().expect("a port");
    peer.send_to(b"echo", (server.addr().ip(), port)).expect("the kernel takes it");
    assert_eq!(next(&peer), b"echo");
    server.stop().expect("it stops");
}

#[test]
fn datagrams_over_ipv6_are_answered() {
    let Ok(peer) = UdpSocket::bind("[::1]:0") else { return };
    peer.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let worker = Worker::<Udp>::listen("udp://[::1]:0").expect("an address");
    turn();
    worker.on_message(|con, data| {
        assert!(con.remote_ip().is_ipv6() && con.remote_address().starts_with("[::1]:"));
        con.send(data)
    });
    peer.send_to(b"six", worker.local_addr().expect("it listens")).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"six");

    let con = client::<Tcp>(worker.local_addr().expect("it listens"));
    let seen = Transcript::new();
    let s = seen.clone();
    con.on_message(move |con, data| {
        s.note(format!("{data} {}", con.remote_address().starts_with("[::1]:")));
        con.close();
    });
    con.send("six by us");
    turn_until(|| con.id() == 0);
    seen.assert(&["six by us true"]);

    // One that listens on everything hears IPv4, too, and answers it.
    let all = Worker::<Udp>::listen("udp://[::]:0").expect("an address");
    all.on_message(|con, _| con.send(con.remote_ip().to_canonical().to_string()));
    let port = all.local_addr().expect("it listens").port();
    let four = super::peer();
    four.send_to(b"four", ("127.0.0.1", port)).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&four), b"127.0.0.1");
}

#[test]
fn a_burst_is_delivered_within_a_budget_and_others_are_served_between() {
    let (worker, to) = listening::<Tcp>();
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |_, _| s.note("burst"));
    let (other, to_other) = listening::<Tcp>();
    let s = seen.clone();
    other.on_message(move |_, _| s.note("other"));
    let peer = peer();
    // As many as the kernel keeps for certain: its buffer is 200 KiB and more.
    for _ in 0..200 {
        peer.send_to(b"x", to).expect("the kernel takes it");
    }
    peer.send_to(b"y", to_other).expect("the kernel takes it");
    turn();
    assert_eq!((seen.count("burst"), seen.count("other")), (64, 1));
    turn();
    assert_eq!(seen.count("burst"), 128);
    turn_until(|| seen.count("burst") == 200);
}

#[test]
fn the_messages_of_a_datagram_and_of_a_turn_are_bounded() {
    let (worker, to) = listening::<Text>();
    let count = Rc::new(Cell::new(0));
    let c = count.clone();
    worker.on_message(move |_, _| c.set(c.get() + 1));
    let peer = peer();
    // Each of these lines is a callback: what a datagram may hold would be 65 507 of them.
    peer.send_to(&[b'\n'; 5000], to).expect("the kernel takes it");
    peer.send_to(&[b'\n'; 600], to).expect("the kernel takes it");
    turn();
    assert_eq!(count.get(), 1024, "the rest of the datagram is dropped, the next one waits");
    turn();
    assert_eq!(count.get(), 1624);
}

/// A greeting of its own for each package; state that would show in the next datagram.
#[derive(Default)]
struct Polite {
    packages: usize,
}

impl Protocol for Polite {
    const NAME: &'static str = "polite";
    type Incoming<'a> = usize;
    type Outgoing<'a> = String;

    fn input(&mut self, _: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        cx.reply(b"well received");
        cx.close();
        cx.set_deadline(Some(cx.now()));
        Ok(Input::Package(1))
    }

    fn decode<'a>(
        &mut self,
        _: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<usize>, Violation> {
        self.packages += 1;
        Ok(Some(self.packages))
    }

    fn encode(
        &mut self,
        text: String,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        if text == "0" {
            return Err(Violation::new("zero cannot be said"));
        }
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
impl Serve for Polite {}

#[test]
fn a_protocol_is_fresh_for_each_datagram_and_its_reply_is_a_datagram_of_its_own() {
    keep_log();
    let worker = Worker::<Udp<Polite>>::listen_with("polite://127.0.0.1:0", || {
        Udp::new(Polite { packages: 0 })
    })
    .expect("an address");
    turn();
    let to = worker.local_addr().expect("it listens");
    worker.on_message(|con, count| {
        assert_eq!(con.send("0"), Sent::Dropped);
        con.send(count.to_string())
    });
    let peer = peer();
    peer.send_to(b"ab", to).expect("the kernel takes it");
    peer.send_to(b"c", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    for expected in ["1", "well received", "2", "well received", "1", "well received"] {
        assert_eq!(String::from_utf8(next(&peer)).expect("text"), expected);
    }
    assert_eq!(logged_with("WARN", "zero cannot be said"), 1, "{:?}", logged());
}

#[test]
fn random_bytes_do_no_harm_to_any_protocol() {
    let (lines, to_lines) = listening::<Text>();
    let (frames, to_frames) = listening::<Frame>();
    lines.on_message(|_, _| ());
    frames.on_message(|_, _| ());
    let peer = peer();
    let mut state = 1_u64;
    for round in 0..400 {
        let bytes: Vec<u8> = (0..round % 40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                [0, 4, b'\n', 255, (state >> 40) as u8][(state >> 33) as usize % 5]
            })
            .collect();
        peer.send_to(&bytes, to_lines).expect("the kernel takes it");
        peer.send_to(&bytes, to_frames).expect("the kernel takes it");
        turn();
    }
    let (echo, to) = listening::<Text>();
    echo.on_message(|con, line| con.send(line));
    peer.send_to(b"alive\n", to).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    assert_eq!(next(&peer), b"alive\n");
}

fn answer(con: UdpConnection, data: Data) -> Sent {
    con.send(data)
}

fn answer_line(con: UdpConnection<Text>, line: Data) -> Result {
    con.send(line.as_str().ok_or("text only")?.to_uppercase());
    Ok(())
}

fn listen_anew() -> Result<Worker<Udp<Text>>, Error> {
    // What is listened with follows from the type that is asked for.
    Worker::listen("udp://localhost:0")
}

#[test]
fn functions_serve_as_callbacks_and_a_worker_is_told_by_its_type() {
    let (plain, to_plain) = listening::<Tcp>();
    plain.on_message(answer);
    let lines = listen_anew().expect("an address");
    lines.on_message(answer_line);
    assert!(lines.any().connections().is_empty());
    let peer = peer();
    peer.send_to(b"as it is", to_plain).expect("the kernel takes it");
    let to_lines = lines.local_addr().expect("it listens");
    peer.send_to(b"loud\n", to_lines).expect("the kernel takes it");
    turn_for(Duration::from_millis(1));
    let mut got = [next(&peer), next(&peer)];
    got.sort();
    assert_eq!(got, [b"LOUD\n".to_vec(), b"as it is".to_vec()]);
}
