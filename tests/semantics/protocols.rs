//! Protocols of the program's own call the library from their methods; a callback acts on its own
//! connection.
use crate::support::{Transcript, raw_connect, read_bytes, turn_until};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{AnyConnection, Context, Dial, Input, Payload, Sent, Serve, Violation};

fn turn() {
    assert!(Worker::turn(Duration::ZERO).expect("a turn"), "the loop ended");
}

fn listening<P: Serve + Default>(scheme: &str) -> (Worker<P>, SocketAddr) {
    let worker = Worker::<P>::listen(&format!("{scheme}://127.0.0.1:0")).expect("an address");
    turn();
    (worker, worker.local_addr().expect("it listens"))
}

fn peer_of<P: Serve>(worker: Worker<P>, addr: SocketAddr) -> (TcpStream, TcpConnection<P>) {
    let before = worker.connections().len();
    let peer = raw_connect(addr);
    turn_until(|| worker.connections().len() > before);
    (peer, *worker.connections().last().expect("it came"))
}

/// Gets the name of a method.
type Hook = Rc<dyn Fn(&'static str)>;

thread_local! {
    /// Called in each method of `Meddler`, with its name.
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

fn hook(method: &'static str) {
    let hook = HOOK.try_with(|hook| hook.borrow().clone()).ok().flatten();
    if let Some(hook) = hook {
        hook(method);
    }
}

/// Lines, whose every method may call the library.
#[derive(Default)]
struct Meddler(Text);

impl Protocol for Meddler {
    const NAME: &'static str = "meddler";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        hook("input");
        if buffer.starts_with(b"!") {
            return Err(Violation::new("an exclamation"));
        }
        self.0.input(buffer, cx)
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        hook("decode");
        cx.set_deadline(Some(cx.now()));
        self.0.decode(package, scratch, cx)
    }

    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        hook("encode");
        self.0.encode(message, out, cx)
    }

    fn on_connect(&mut self, _: &mut Context) {
        hook("on_connect");
    }

    fn on_timer(&mut self, _: &mut Context) -> Result<(), Violation> {
        hook("on_timer");
        Ok(())
    }

    fn on_writable(&mut self, _: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        hook("on_writable");
        Ok(())
    }

    fn on_eof<'a>(
        &mut self,
        _: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        hook("on_eof");
        Ok(None)
    }

    fn on_closing(&mut self, _: &mut Vec<u8>, _: &mut Context) -> bool {
        hook("on_closing");
        false
    }

    fn on_violation(&mut self, _: &Violation, _: &mut Vec<u8>, _: &mut Context) {
        hook("on_violation");
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        hook("drop");
    }
}

impl Serve for Meddler {}
impl Dial for Meddler {}

/// Every method once: a message with an answer, a timer, a violation or the end, and a close.
fn walk(worker: Worker<Meddler>, addr: SocketAddr) {
    for last in [&b"!"[..], b"", b"close\n"] {
        let mut peer = raw_connect(addr);
        peer.write_all(b"hello\n").expect("the socket takes it");
        turn_until(|| worker.connections().first().is_some_and(|con| con.bytes_written() == 6));
        turn();
        assert_eq!(read_bytes(&mut peer, 6), b"hello\n");
        peer.write_all(last).expect("the socket takes it");
        peer.shutdown(Shutdown::Write).expect("our end");
        turn_until(|| worker.connections().is_empty());
    }
}

const METHODS: [&str; 10] = [
    "on_connect",
    "input",
    "decode",
    "encode",
    "on_timer",
    "on_writable",
    "on_eof",
    "on_closing",
    "on_violation",
    "drop",
];

#[test]
fn what_a_protocol_sends_to_its_own_connection_is_dropped_and_to_another_is_sent() {
    let (plain, plain_addr) = listening::<Text>("text");
    let (mut other_peer, other) = peer_of(plain, plain_addr);
    let (worker, addr) = listening::<Meddler>("meddler");
    worker.on_message(|con, line| match line.as_bytes() {
        b"close" => con.close(),
        _ => drop(con.send(line)),
    });
    let (seen, wrong) = (Transcript::new(), Transcript::new());
    let (s, w, sent) = (seen.clone(), wrong.clone(), Rc::new(Cell::new(0)));
    let count = sent.clone();
    HOOK.set(Some(Rc::new(move |method| {
        if !s.has(method) {
            s.note(method);
        }
        let own: Option<AnyConnection> = worker.any().connections().first().copied();
        for con in own.into_iter().chain(worker.connections().first().map(|con| con.any())) {
            if con.send("to myself") != Sent::Dropped || con.send_raw(b"raw") != Sent::Dropped {
                w.note(format!("{method} sent to its own connection"));
            }
        }
        if other.send(method) == Sent::Dropped {
            w.note(format!("{method} could not send to another"));
        }
        count.set(count.get() + method.len() + 1);
        let _ = (own.map(|con| (con.id(), con.status())), worker.connections());
        if Worker::turn(0).is_ok() {
            w.note(format!("{method} began a turn"));
        }
    })));
    walk(worker, addr);
    HOOK.set(None);
    wrong.assert(&[]);
    for method in METHODS {
        assert!(seen.has(method), "{method} was never called");
    }
    turn();
    let told = read_bytes(&mut other_peer, sent.get());
    assert!(told.starts_with(b"on_connect\n"));
}

#[test]
fn a_protocol_may_close_or_destroy_its_own_connection_in_any_method() {
    for destroys in [false, true] {
        for method in METHODS {
            let (worker, addr) = listening::<Meddler>("meddler");
            let seen = Transcript::new();
            let s = seen.clone();
            worker.on_connect(move |_| s.note("connect"));
            worker.on_message(|con, line| match line.as_bytes() {
                b"close" => con.close(),
                _ => drop(con.send(line)),
            });
            let s = seen.clone();
            worker.on_close(move |_| s.note("close"));
            HOOK.set(Some(Rc::new(move |called| {
                for con in worker.any().connections() {
                    if called == method {
                        if destroys { con.destroy() } else { con.close() }
                    }
                }
            })));
            for last in [&b"!"[..], b"", b"close\n"] {
                let mut peer = raw_connect(addr);
                peer.write_all(b"hello\n").expect("the socket takes it");
                peer.write_all(last).expect("the socket takes it");
                peer.shutdown(Shutdown::Write).expect("our end");
                let before = seen.count("close");
                turn_until(|| seen.count("close") > before);
                // The end, and perhaps a reset, never more than was answered.
                let mut got = Vec::new();
                let _ = peer.read_to_end(&mut got);
                assert!(got.is_empty() || got == b"hello\n", "{method}: {got:?}");
            }
            HOOK.set(None);
            assert!(worker.connections().is_empty());
            let opened = seen.count("connect");
            assert!(opened <= 3 && seen.count("close") == 3, "{method}: {:?}", seen.lines());
            worker.unlisten();
        }
    }
}

#[test]
fn encoding_ahead_of_a_session_drops_what_it_sends_to_its_own_connection() {
    let (worker, addr) = listening::<Text>("text");
    worker.on_message(|con, line| con.send(line));
    let client = AsyncTcpConnection::<Meddler>::new(&format!("tcp://{addr}")).expect("made");
    let seen = Transcript::new();
    let s = seen.clone();
    HOOK.set(Some(Rc::new(move |method| {
        if method == "encode" {
            s.note(format!("{:?}", client.send("nested")));
        }
    })));
    assert_eq!(client.send("ahead"), Sent::Buffered);
    HOOK.set(None);
    let s = seen.clone();
    client.on_message(move |con, line| {
        s.note(line);
        con.close();
    });
    client.connect();
    turn_until(|| seen.lines().len() == 2);
    seen.assert(&["Dropped", "ahead"]);
}

#[test]
fn a_connection_destroyed_while_it_encodes_leaves_nothing_to_its_next_session() {
    let (worker, addr) = listening::<Text>("text");
    let heard = Transcript::new();
    let s = heard.clone();
    worker.on_message(move |_, line| s.note(line));
    let client = AsyncTcpConnection::<Meddler>::new(&format!("tcp://{addr}")).expect("made");
    let again = Cell::new(true);
    client.on_close(move |con| {
        if again.replace(false) {
            con.reconnect(0);
        }
    });
    let sessions = Rc::new(Cell::new(0));
    let theirs = sessions.clone();
    client.on_connect(move |con| {
        theirs.set(theirs.get() + 1);
        if theirs.get() == 1 {
            HOOK.set(Some(Rc::new(move |method| {
                if method == "encode" {
                    con.destroy();
                }
            })));
            con.send("of the first session");
            HOOK.set(None);
        } else {
            con.send("of the second");
        }
    });
    client.connect();
    turn_until(|| !heard.lines().is_empty());
    heard.assert(&["of the second"]);
}

// ---------------------------------------------------------------- on its own connection

#[test]
fn close_twice_in_its_own_callback_flushes_then_drops_and_delivers_no_more_packages() {
    let (worker, addr) = listening::<Text>("text");
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, line| {
        s.note(format!("{line}: {:?}", con.send("before")));
        con.close();
        con.close();
        s.note(format!("{:?} {}", con.send("after"), con.status()));
    });
    let s = seen.clone();
    worker.on_close(move |con| s.note(format!("close {:?}", con.send("in on_close"))));
    let mut peer = raw_connect(addr);
    peer.write_all(b"a\nb\nc\n").expect("the socket takes it");
    peer.shutdown(Shutdown::Write).expect("our end");
    turn_until(|| seen.lines().len() == 3);
    seen.assert(&["a: Flushed", "Dropped CLOSING", "close Dropped"]);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).expect("an orderly end");
    assert_eq!(got, b"before\n");
}

#[test]
fn destroy_in_its_own_callback_ends_it_after_the_callback_has_returned() {
    let (worker, addr) = listening::<Text>("text");
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, line| {
        con.send("lost");
        con.destroy();
        s.note(format!("{line} {} {:?}", con.status(), con.send("late")));
        // The handle still answers: on_close is to come.
        s.note(format!("{} {}", con.id(), con.remote_addr().is_some()));
    });
    let s = seen.clone();
    worker.on_close(move |con| s.note(format!("close {}", con.id())));
    let mut peer = raw_connect(addr);
    peer.write_all(b"a\nb\n").expect("the socket takes it");
    turn_until(|| seen.has("close 1"));
    seen.assert(&["a CLOSED Dropped", "1 true", "close 1"]);
}

#[test]
fn a_message_can_be_echoed_while_it_is_borrowed_and_a_callback_set_meanwhile_takes_the_next() {
    let (worker, addr) = listening::<Text>("text");
    worker.on_message(|con, line| {
        con.send(line);
        con.on_message(|con, line| {
            con.send(format!("second {line}"));
            con.on_message(|con, line| con.send(format!("third {line}")));
        });
    });
    let mut peer = raw_connect(addr);
    peer.write_all(b"a\nb\nc\n").expect("the socket takes it");
    turn_until(|| worker.connections().len() == 1);
    turn();
    assert_eq!(read_bytes(&mut peer, 19), b"a\nsecond b\nthird c\n");
}

#[test]
fn a_callback_set_on_a_connection_leaves_those_of_its_worker_and_of_others_alone() {
    let (worker, addr) = listening::<Text>("text");
    worker.on_message(|con, line| {
        con.send(format!("worker's {line}"));
        con.on_message(|con, line| con.send(format!("own {line}")));
    });
    for (mut peer, _) in [peer_of(worker, addr), peer_of(worker, addr)] {
        peer.write_all(b"a\nb\n").expect("the socket takes it");
        turn();
        assert_eq!(read_bytes(&mut peer, 17), b"worker's a\nown b\n");
    }
}

#[test]
fn upgrade_with_makes_the_old_handle_stale_at_once_and_gives_the_rest_to_the_new_protocol() {
    let (worker, addr) = listening::<Text>("text");
    let seen = Transcript::new();
    let s = seen.clone();
    worker.on_message(move |con, line| {
        con.set("of the user".to_string());
        let id = con.id();
        let new = con.upgrade_with(Frame::default());
        s.note(format!("{line}: {:?} {}", con.send("old"), con.status()));
        s.note(format!("{} {:?}", new.id() == id, new.get::<String>()));
        new.send("hello, frames");
        let t = s.clone();
        new.on_message(move |_, data| t.note(format!("frame {data}")));
        let t = s.clone();
        new.on_close(move |_| t.note("close of the new"));
    });
    let s = seen.clone();
    worker.on_close(move |_| s.note("close of the old"));
    let mut peer = raw_connect(addr);
    peer.write_all(b"upgrade\n\0\0\0\x08four\0\0\0\x06").expect("the socket takes it");
    turn_until(|| seen.has("frame four"));
    assert_eq!(read_bytes(&mut peer, 17), b"\0\0\0\x11hello, frames");
    peer.write_all(b"ab").expect("the socket takes it");
    peer.shutdown(Shutdown::Write).expect("our end");
    turn_until(|| worker.any().connections().is_empty());
    seen.assert(&[
        "upgrade: Dropped CLOSED",
        "true Some(\"of the user\")",
        "frame four",
        "frame ab",
        "close of the new",
    ]);
}

#[test]
fn a_stale_handle_is_quiet_and_never_another_connection() {
    let (worker, addr) = listening::<Text>("text");
    let (peer, con) = peer_of(worker, addr);
    drop(peer);
    turn_until(|| worker.connections().is_empty());
    // The newcomer has its place in the slab.
    let (mut next_peer, next) = peer_of(worker, addr);
    assert_ne!(con, next);
    assert_eq!(con.send("to whom?"), Sent::Dropped);
    assert_eq!(con.any().send("to whom?"), Sent::Dropped);
    con.close_with("to whom?");
    con.destroy();
    con.flush();
    con.pause_recv();
    con.on_message(|_, _| panic!("never"));
    con.set(1u8);
    assert_eq!((con.id(), con.status(), con.get::<u8>()), (0, Status::Closed, None));
    assert_eq!((con.remote_address(), con.local_port()), (String::new(), 0));
    assert!(
        con.token().get().is_none() && con.any().downcast::<Text, workerman::Server>().is_none()
    );
    assert_eq!(con.upgrade_with(Frame::default()).status(), Status::Closed);
    assert_eq!(format!("{con:?}"), "(ended connection)");
    assert_eq!(next.status(), Status::Established);
    next.send("me");
    turn();
    assert_eq!(read_bytes(&mut next_peer, 3), b"me\n");
}

/// Sends without end.
#[derive(Default)]
struct Fountain;

impl Protocol for Fountain {
    const NAME: &'static str = "fountain";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, buffer: &mut [u8], _: &mut Context) -> Result<Input, Violation> {
        Ok(Input::Package(buffer.len()))
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        _: &'a mut Vec<u8>,
        _: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        Ok(Some(Data::Binary(package)))
    }

    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        _: &mut Context,
    ) -> Result<(), Violation> {
        out.extend_from_slice(message.as_bytes());
        Ok(())
    }

    fn on_writable(&mut self, out: &mut Vec<u8>, _: &mut Context) -> Result<(), Violation> {
        out.push(b'.');
        Ok(())
    }
}

impl Serve for Fountain {}

#[test]
fn a_close_between_two_pieces_of_a_long_body_ends_the_connection_at_once() {
    let (worker, addr) = listening::<Fountain>("fountain");
    let (mut peer, con) = peer_of(worker, addr);
    con.send("first");
    turn();
    turn();
    assert!(con.bytes_written() > 20, "{}", con.bytes_written());
    con.close();
    let begun = std::time::Instant::now();
    let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
    turn_until(|| reader.is_finished());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// Lines, and who closes waits for the other's end.
#[derive(Debug, Default)]
struct Polite(Text);

impl Protocol for Polite {
    const NAME: &'static str = "polite";
    type Incoming<'a> = Data<'a>;
    type Outgoing<'a> = Payload<'a>;

    fn input(&mut self, buffer: &mut [u8], cx: &mut Context) -> Result<Input, Violation> {
        self.0.input(buffer, cx)
    }

    fn decode<'a>(
        &mut self,
        package: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<Option<Data<'a>>, Violation> {
        self.0.decode(package, scratch, cx)
    }

    fn encode(
        &mut self,
        message: Payload<'_>,
        out: &mut Vec<u8>,
        cx: &mut Context,
    ) -> Result<(), Violation> {
        self.0.encode(message, out, cx)
    }

    fn on_closing(&mut self, out: &mut Vec<u8>, _: &mut Context) -> bool {
        out.extend_from_slice(b"bye\n");
        true
    }
}

impl Serve for Polite {}

#[test]
fn a_protocol_that_goes_on_decoding_behind_its_farewell_delivers_nothing_more() {
    // Built-in ones drop such messages themselves; that a program's need not is the library's part.
    let (worker, addr) = listening::<Polite>("polite");
    let t = Transcript::new();
    let at = t.clone();
    worker.on_message(move |con, line| {
        at.note(format!("{line}"));
        if line.as_bytes() == b"close" {
            con.close();
        }
    });
    let (mut peer, _) = peer_of(worker, addr);
    peer.write_all(b"one\nclose\nin the same read\n").expect("the socket takes it");
    turn_until(|| t.has("close"));
    turn();
    assert_eq!(read_bytes(&mut peer, 4), b"bye\n");
    peer.write_all(b"later\n").expect("the socket takes it");
    peer.shutdown(Shutdown::Write).expect("our end");
    turn_until(|| worker.connections().is_empty());
    t.assert(&["one", "close"]);
}
