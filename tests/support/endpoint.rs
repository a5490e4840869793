//! One of our endpoints against a peer that knows only bytes: what the program hears, and what
//! stands on the wire. For the tables of `tests/rfc*.rs`.
use super::{PATIENCE, accept_head, read_head, turn_until, with_deadline};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use workerman::prelude::*;

/// Who of the two is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    Client,
    Server,
}

pub(crate) const BOTH: [Ours; 2] = [Ours::Client, Ours::Server];

/// How the peer writes what it has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Whole,
    Bytewise,
}

pub(crate) const CUTS: [Cut; 2] = [Cut::Whole, Cut::Bytewise];

/// What both sides do.
pub(crate) struct Play<'a> {
    pub(crate) ours: Ours,
    pub(crate) cut: Cut,
    /// Lines of the peer's handshake beside the necessary ones, each with its line end.
    pub(crate) lines: &'a str,
    /// What the peer sends behind the handshake.
    pub(crate) says: Vec<u8>,
    /// What our program sends as soon as it may: text.
    pub(crate) sends: &'a [&'a str],
    pub(crate) client: &'a dyn Fn(AsyncTcpConnection<Ws>),
    pub(crate) server: &'a dyn Fn(Worker<Websocket>),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Of our program: `text abc`, `binary [1, 2]`, `error ...`, `refused ...`.
    pub(crate) events: Vec<String>,
    /// What our side said for a handshake: the request, or the answer.
    pub(crate) head: String,
    /// The frames behind it.
    pub(crate) frames: Vec<Wire>,
}

impl Heard {
    /// The code of our close frame; 0 where there was none.
    pub(crate) fn code(&self) -> u16 {
        match self.frames.last() {
            Some((0x88, payload)) if payload.len() >= 2 => {
                u16::from_be_bytes([payload[0], payload[1]])
            }
            _ => 0,
        }
    }

    /// The value of our handshake's header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Play<'_> {
    /// Plays it on this thread's loop. A peer that was not broken off says goodbye with 1000.
    pub(crate) fn run(&self) -> Heard {
        let events: Rc<RefCell<Vec<String>>> = Rc::default();
        let ended = Rc::new(Cell::new(false));
        let peer = match self.ours {
            Ours::Client => self.run_client(&events, &ended),
            Ours::Server => self.run_server(&events, &ended),
        };
        turn_until(|| ended.get() && peer.is_finished());
        let (head, frames) = peer.join().expect("the peer's own assertions hold");
        Heard { events: events.take(), head, frames }
    }

    fn run_client(&self, events: &Rc<RefCell<Vec<String>>>, ended: &Rc<Cell<bool>>) -> Thread {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}")).expect("a client");
        let sends: Vec<String> = self.sends.iter().map(|text| text.to_string()).collect();
        con.on_websocket_connect(move |con, _| {
            for text in &sends {
                con.send(text);
            }
        });
        let to = events.clone();
        con.on_message(move |_, data| to.borrow_mut().push(line_of(data)));
        let to = events.clone();
        con.on_error(move |_, _, failure| to.borrow_mut().push(format!("error {failure}")));
        let end = ended.clone();
        con.on_close(move |_| end.set(true));
        (self.client)(con);
        con.connect();
        let (lines, says, cut) = (self.lines.to_owned(), self.says.clone(), self.cut);
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("it connects");
            let mut stream = with_deadline(stream);
            let head = read_head(&mut stream);
            let answer = accept_head(&head).replace("\r\n\r\n", &format!("\r\n{lines}\r\n"));
            let says = [answer.as_bytes(), &says, &goodbye(Ours::Client)].concat();
            say(&mut stream, &says, cut);
            (head, frames_of(&rest_of(stream)))
        })
    }

    fn run_server(&self, events: &Rc<RefCell<Vec<String>>>, ended: &Rc<Cell<bool>>) -> Thread {
        let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("it listens");
        let sends: Vec<String> = self.sends.iter().map(|text| text.to_string()).collect();
        worker.on_websocket_connected(move |con, _| {
            for text in &sends {
                con.send(text);
            }
        });
        let to = events.clone();
        worker.on_message(move |_, data| to.borrow_mut().push(line_of(data)));
        let to = events.clone();
        worker.on_error(move |_, _, failure| to.borrow_mut().push(format!("error {failure}")));
        let end = ended.clone();
        worker.on_close(move |_| {
            end.set(true);
            worker.unlisten();
        });
        (self.server)(worker);
        turn_until(|| worker.local_addr().is_some());
        let addr = worker.local_addr().expect("it listens");
        let (lines, says, cut) = (self.lines.to_owned(), self.says.clone(), self.cut);
        std::thread::spawn(move || {
            let mut stream = with_deadline(TcpStream::connect(addr).expect("it listens"));
            let request = format!(
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
            );
            say(&mut stream, request.as_bytes(), cut);
            let head = read_head(&mut stream);
            if head.starts_with("HTTP/1.1 101 ") {
                say(&mut stream, &[&says[..], &goodbye(Ours::Server)].concat(), cut);
                return (head, frames_of(&rest_of(stream)));
            }
            rest_of(stream);
            (head, Vec::new())
        })
    }
}

/// First byte, and payload unmasked.
pub(crate) type Wire = (u8, Vec<u8>);
type Thread = JoinHandle<(String, Vec<Wire>)>;

fn line_of(data: Data) -> String {
    match data {
        Data::Text(text) => format!("text {text}"),
        Data::Binary(bytes) => format!("binary {bytes:?}"),
    }
}

fn goodbye(to: Ours) -> Vec<u8> {
    frame_to(to, 0x88, &1000u16.to_be_bytes())
}

/// Writes until all is said, or nobody listens any more.
fn say(stream: &mut TcpStream, bytes: &[u8], cut: Cut) {
    let pieces = match cut {
        Cut::Whole => bytes.len().max(1),
        Cut::Bytewise => 1,
    };
    for piece in bytes.chunks(pieces) {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
}

fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => rest.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(e) => panic!("our side did not end within {PATIENCE:?}: {e}"),
        }
        // A server waits for nobody behind both close frames, a client for the server's end.
        if frames_of(&rest).iter().any(|(first, _)| *first == 0x88) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    rest
}

/// A frame to the one that is ours, its first byte as wanted; masked to a server.
pub(crate) fn frame_to(to: Ours, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head_to(to, first, payload.len() as u64);
    let key: [u8; 4] = match to {
        Ours::Client => [0; 4],
        Ours::Server => KEY,
    };
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    frame
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The same without a payload, however long that would be.
pub(crate) fn head_to(to: Ours, first: u8, length: u64) -> Vec<u8> {
    let masked = if to == Ours::Server { 0x80 } else { 0 };
    let mut head = vec![first];
    match length {
        0..126 => head.push(masked | length as u8),
        126..=0xffff => {
            head.push(masked | 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(masked | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    if to == Ours::Server {
        head.extend_from_slice(&KEY);
    }
    head
}

/// The whole frames of a stream.
fn frames_of(mut stream: &[u8]) -> Vec<Wire> {
    let mut frames = Vec::new();
    while let Some((frame, behind)) = first_frame(stream) {
        frames.push(frame);
        stream = behind;
    }
    frames
}

fn first_frame(stream: &[u8]) -> Option<(Wire, &[u8])> {
    let (&[first, second], behind) = stream.split_first_chunk()?;
    let (length, behind) = match second & 0x7f {
        126 => {
            let (length, behind) = behind.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), behind)
        }
        127 => {
            let (length, behind) = behind.split_first_chunk()?;
            (u64::from_be_bytes(*length) as usize, behind)
        }
        short => (usize::from(short), behind),
    };
    let (key, behind) = match second & 0x80 {
        0 => ([0; 4], behind),
        _ => {
            let (key, behind) = behind.split_first_chunk()?;
            (*key, behind)
        }
    };
    let (payload, behind) = behind.split_at_checked(length)?;
    let payload = payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
    Some(((first, payload), behind))
}
