//! One of our endpoints and a peer that is a bare socket, both on this thread: the peer writes a
//! piece, the loop turns until our side has read it, so it shows at which octet what came.
pub(crate) use super::bench::{Bench, usual_request};
use crate::support::endpoint::Ours;
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{FailureKind, Limits, Phase};

/// What a play may wait for at any one place.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Pieces of this length are the whole.
pub(crate) const WHOLE: usize = usize::MAX;

/// What the program hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The peer's close frame came first.
    Farewell(u16, String),
}

/// What the program does as soon as the session is open.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close,
    CloseWith(u16, String),
    Pause,
    Resume,
}

/// A frame of our side's, as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) key: Option<[u8; 4]>,
    /// Octets of the length: 1, 3 or 9.
    pub(crate) length_octets: usize,
    pub(crate) payload: Vec<u8>,
}

/// How the peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// By a close frame of 1000, and then as the roles want it.
    Goodbye,
    /// What it says is all; it waits for our side's end.
    Waits,
    /// By a FIN and no close frame.
    Fin,
}

/// What both endpoints are besides: how ours is set up, what the peer's handshake has.
pub(crate) struct Setup {
    /// In a word, for the table.
    pub(crate) name: String,
    /// Lines of the peer's handshake beside the necessary ones, each with its line end.
    pub(crate) lines: String,
    pub(crate) client: Box<dyn Fn(AsyncTcpConnection<Ws>) + Send + Sync>,
    pub(crate) worker: Box<dyn Fn(Worker<Websocket>) + Send + Sync>,
}

type SetClient = Rc<dyn Fn(AsyncTcpConnection<Ws>)>;
type SetServer = Rc<dyn Fn(TcpConnection<Websocket>, &Request)>;
type Opens = Rc<dyn Fn(&str) -> Vec<u8>>;

/// What both sides do.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) ours: Ours,
    /// The peer writes pieces of so many octets, each when the one before has been read.
    pub(crate) cut: usize,
    pub(crate) limits: Limits,
    pub(crate) acts: Vec<Act>,
    pub(crate) says: Vec<u8>,
    pub(crate) leave: Leave,
    /// A server answers 0.1 s late, and nothing may have come meanwhile.
    pub(crate) late: bool,
    /// The peer's handshake where it is not the usual one: a server's answer to this request, or a
    /// client's request (to nothing).
    pub(crate) opens: Option<Opens>,
    pub(crate) setup: Option<Arc<Setup>>,
    pub(crate) set_client: Option<SetClient>,
    pub(crate) set_server: Option<SetServer>,
}

impl Script {
    pub(crate) fn new(ours: Ours, cut: usize) -> Self {
        Script {
            ours,
            cut,
            limits: Limits::new(),
            acts: Vec::new(),
            says: Vec::new(),
            leave: Leave::Goodbye,
            late: false,
            opens: None,
            setup: None,
            set_client: None,
            set_server: None,
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<Event>,
    pub(crate) failures: Vec<(ErrorCode, FailureKind, Phase, String)>,
    /// So much of what the peer says behind the handshake had been written when that failed.
    pub(crate) failed_at: Option<usize>,
    /// The handshake was completed.
    pub(crate) opened: bool,
    pub(crate) close_code: Option<u16>,
    /// Our side's handshake.
    pub(crate) head: String,
    pub(crate) frames: Vec<Frame>,
}

impl Heard {
    /// The value of our handshake's header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[derive(Clone, Copy)]
pub(super) enum Con {
    Client(AsyncTcpConnection<Ws>),
    Server(TcpConnection<Websocket>),
}

macro_rules! either {
    ($con:expr, $c:ident => $do:expr) => {
        match $con {
            Con::Client($c) => $do,
            Con::Server($c) => $do,
        }
    };
}

impl Con {
    fn bytes_read(self) -> u64 {
        either!(self, c => c.bytes_read())
    }

    fn act(self, act: &Act) {
        either!(self, c => match act {
            Act::Text(text) => drop(c.send(text)),
            Act::Binary(bytes) => drop(c.send(&bytes[..])),
            Act::Ping(payload) => drop(c.ping(payload)),
            Act::Pong(payload) => drop(c.pong(payload)),
            Act::Close => c.close(),
            Act::CloseWith(code, reason) => c.close_websocket(*code, reason),
            Act::Pause => c.pause_recv(),
            Act::Resume => c.resume_recv(),
        });
    }
}

/// What the callbacks of one play share.
#[derive(Default)]
pub(super) struct Here {
    pub(super) heard: RefCell<Heard>,
    pub(super) acts: RefCell<Vec<Act>>,
    con: Cell<Option<Con>>,
    fed: Cell<usize>,
    ended: Cell<bool>,
    pub(super) set_server: RefCell<Option<SetServer>>,
}

macro_rules! watch {
    ($con:expr, $here:expr) => {
        let h = $here.clone();
        $con.on_message(move |_, data: Data| {
            h.heard.borrow_mut().events.push(match data {
                Data::Text(text) => Event::Text(text.into()),
                Data::Binary(bytes) => Event::Binary(bytes.to_vec()),
            });
        });
        let h = $here.clone();
        $con.on_websocket_ping(move |_, payload| {
            h.heard.borrow_mut().events.push(Event::Ping(payload.to_vec()));
        });
        let h = $here.clone();
        $con.on_websocket_pong(move |_, payload| {
            h.heard.borrow_mut().events.push(Event::Pong(payload.to_vec()));
        });
        let h = $here.clone();
        $con.on_websocket_close(move |_, code, reason| {
            h.heard.borrow_mut().events.push(Event::Farewell(code, reason.into()));
        });
        let h = $here.clone();
        $con.on_error(move |_, code, failure| {
            let mut heard = h.heard.borrow_mut();
            heard.failed_at = Some(h.fed.get());
            let told = (code, failure.kind(), failure.phase(), failure.to_string());
            heard.failures.push(told);
        });
        let h = $here.clone();
        $con.on_close(move |con| {
            h.heard.borrow_mut().close_code = con.close_code();
            h.ended.set(true);
        });
    };
}

impl Here {
    /// Hears all that the program can.
    pub(super) fn watch(self: &Rc<Self>, con: Con) {
        self.con.set(Some(con));
        either!(con, c => {
            watch!(c, self);
        });
    }

    pub(super) fn is_open(&self, con: Con) {
        self.heard.borrow_mut().opened = true;
        for act in self.acts.take() {
            con.act(&act);
        }
    }
}

/// One that is on.
pub(crate) struct Play {
    ours: Ours,
    here: Rc<Here>,
    stream: TcpStream,
    pub(super) head: String,
    pub(super) is_refused: bool,
    /// Everything the peer has written.
    written: usize,
    /// The handshake's part of it.
    opening: usize,
    pub(super) unread: Vec<u8>,
    pub(super) frames: Vec<Frame>,
    is_over: bool,
    is_shut: bool,
}

impl Play {
    pub(super) fn new(script: &Script, here: Rc<Here>, stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("non-blocking");
        stream.set_nodelay(true).expect("an option");
        Play {
            ours: script.ours,
            here,
            stream,
            head: String::new(),
            is_refused: false,
            written: 0,
            opening: 0,
            unread: Vec::new(),
            frames: Vec::new(),
            is_over: false,
            is_shut: false,
        }
    }

    pub(super) fn await_head(&mut self) -> Result<(), String> {
        self.until("our side's handshake", |play| {
            play.is_over || play.unread.windows(4).any(|four| four == b"\r\n\r\n")
        })?;
        let at = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
        let length = at.map_or(self.unread.len(), |at| at + 4);
        let head: Vec<u8> = self.unread.drain(..length).collect();
        self.head = String::from_utf8(head).map_err(|e| e.to_string())?;
        Ok(())
    }

    pub(super) fn await_opening(&mut self) -> Result<(), String> {
        self.until("the opening or its refusal", |play| {
            let heard = play.here.heard.borrow();
            heard.opened || play.is_over || !heard.failures.is_empty() || play.here.ended.get()
        })?;
        self.is_refused = !self.here.heard.borrow().opened;
        self.opening = self.written;
        self.here.fed.set(0);
        Ok(())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.here.ended.get()
    }

    /// Our side's FIN or reset has come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(crate) fn act(&self, act: &Act) {
        if let Some(con) = self.here.con.get() {
            con.act(act);
        }
    }

    /// Writes pieces of so many octets; each is read before the next one leaves, unless it is the
    /// whole.
    pub(crate) fn feed(&mut self, bytes: &[u8], cut: usize) -> Result<(), String> {
        for piece in bytes.chunks(cut.min(bytes.len()).max(1)) {
            self.here.fed.set(self.written + piece.len() - self.opening);
            if !self.write(piece)? {
                return Ok(());
            }
            self.written += piece.len();
            if cut == WHOLE {
                turn_briefly();
                self.hear();
            } else {
                self.await_reading()?;
            }
        }
        Ok(())
    }

    /// False: nobody reads any more.
    fn write(&mut self, mut piece: &[u8]) -> Result<bool, String> {
        let end = Instant::now() + PATIENCE;
        while !piece.is_empty() {
            match self.stream.write(piece) {
                Ok(n) => piece = &piece[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= end {
                        return Err("our side does not read".into());
                    }
                    turn();
                    self.hear();
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn await_reading(&mut self) -> Result<(), String> {
        let written = self.written as u64;
        let end = Instant::now() + PATIENCE;
        loop {
            let has_failed = self.here.heard.borrow().failed_at.is_some();
            let con = self.here.con.get();
            if has_failed || self.has_ended() || con.is_some_and(|c| c.bytes_read() >= written) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(format!("our side did not read octet {written}"));
            }
            turn();
        }
    }

    /// Turns until it is so.
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() >= end {
                return Err(format!("{what} did not come within {PATIENCE:?}"));
            }
            turn();
            self.hear();
        }
        Ok(())
    }

    /// Turns for so long.
    pub(crate) fn pass(&mut self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end {
            turn();
            self.hear();
        }
    }

    /// The peer's direction ends.
    pub(crate) fn shut(&mut self) {
        if !self.is_shut {
            self.is_shut = true;
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Takes what our side has written.
    fn hear(&mut self) {
        let mut piece = [0; 16 << 10];
        while !self.is_over {
            match self.stream.read(&mut piece) {
                Ok(0) => self.is_over = true,
                Ok(n) => self.unread.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_over = true,
            }
        }
        if self.head.is_empty() || self.is_refused {
            return;
        }
        let mut at = 0;
        while let Some((frame, length)) = first_frame(&self.unread[at..]) {
            self.frames.push(frame);
            at += length;
        }
        self.unread.drain(..at);
    }

    /// To the end of the connection: the server's side ends the socket, the client's waits for that.
    pub(crate) fn finish(mut self) -> Result<Heard, String> {
        let end = Instant::now() + PATIENCE;
        while !self.is_over {
            if Instant::now() >= end {
                return Err(format!("our side did not end within {PATIENCE:?}"));
            }
            self.hear();
            let said_close = self.frames.iter().any(|frame| frame.first == 0x88);
            if self.ours == Ours::Client && said_close || self.is_refused {
                self.shut();
            }
            turn();
        }
        drop(self.stream);
        while !self.here.ended.get() {
            if Instant::now() >= end {
                return Err(format!("on_close did not come within {PATIENCE:?}"));
            }
            turn();
        }
        if !self.is_refused && !self.unread.is_empty() {
            return Err(format!("our side ended inside a frame: {:x?}", self.unread));
        }
        let mut heard = self.here.heard.take();
        (heard.head, heard.frames) = (self.head, self.frames);
        Ok(heard)
    }
}

pub(super) fn turn() {
    Worker::turn(Duration::from_millis(2)).expect("a turn");
}

fn turn_briefly() {
    Worker::turn(Duration::ZERO).expect("a turn");
}

fn first_frame(stream: &[u8]) -> Option<(Frame, usize)> {
    let (&[first, second], behind) = stream.split_first_chunk()?;
    let (length, length_octets) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*behind.first_chunk()?)), 3),
        127 => (u64::from_be_bytes(*behind.first_chunk()?) as usize, 9),
        short => (usize::from(short), 1),
    };
    let behind = &behind[length_octets - 1..];
    let (key, behind) = match second & 0x80 {
        0 => (None, behind),
        _ => {
            let (key, behind) = behind.split_first_chunk()?;
            (Some(*key), behind)
        }
    };
    let mut payload = behind.get(..length)?.to_vec();
    if let Some(key) = key {
        payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= key[i % 4]);
    }
    let whole = 1 + length_octets + key.map_or(0, |_| 4) + length;
    Some((Frame { first, key, length_octets, payload }, whole))
}
