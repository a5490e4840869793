//! One of our endpoints and a peer that is a bare socket, both on this thread: the peer writes a
//! piece, the loop turns until our side has read it, so it shows at which octet what came.
use crate::support::endpoint::{Ours, frame_to};
use crate::support::{accept_head, raw_listener};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{FailureKind, Limits, Phase};

/// What a play may wait for at any one place.
const PATIENCE: Duration = Duration::from_secs(20);

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

#[derive(Clone, Copy)]
enum Con {
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
struct Here {
    heard: RefCell<Heard>,
    acts: RefCell<Vec<Act>>,
    con: Cell<Option<Con>>,
    fed: Cell<usize>,
    ended: Cell<bool>,
    set_server: RefCell<Option<SetServer>>,
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
    fn is_open(&self, con: Con) {
        self.heard.borrow_mut().opened = true;
        for act in self.acts.take() {
            con.act(&act);
        }
    }
}

/// A worker and a listener of this thread, for one play after the other.
pub(crate) struct Bench {
    worker: Worker<Websocket>,
    addr: SocketAddr,
    listener: TcpListener,
    now: Rc<RefCell<Rc<Here>>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("it listens");
        let now: Rc<RefCell<Rc<Here>>> = Rc::default();
        let current = now.clone();
        worker.on_connect(move |con| {
            let here = current.borrow().clone();
            here.con.set(Some(Con::Server(con)));
            watch!(con, here);
            let set = here.set_server.borrow().clone();
            if let Some(set) = set {
                con.on_websocket_connect(move |con, request| set(con, request));
            }
            con.on_websocket_connected(move |con, _| here.is_open(Con::Server(con)));
        });
        Worker::turn(0).expect("the first turn");
        let addr = worker.local_addr().expect("it is bound");
        let (listener, _) = raw_listener();
        listener.set_nonblocking(true).expect("non-blocking");
        Bench { worker, addr, listener, now }
    }

    pub(crate) fn worker(&self) -> Worker<Websocket> {
        self.worker
    }

    /// What our client asks for where the address ends like this.
    pub(crate) fn target_of(&self, end: &str) -> Result<String, String> {
        let addr = self.listener.local_addr().expect("its address");
        let made = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}{end}"));
        let con = made.map_err(|e| e.to_string())?;
        con.connect();
        let mut play = self.accept(&Script::new(Ours::Client, WHOLE), Rc::default())?;
        play.await_head()?;
        con.destroy();
        let mut words = play.head.split(' ');
        words.nth(1).map(String::from).ok_or_else(|| "no request".into())
    }

    fn accept(&self, script: &Script, here: Rc<Here>) -> Result<Play, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Ok(Play::new(script, here, stream)),
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => turn(),
                Err(e) => return Err(format!("no client connected: {e}")),
            }
        }
    }

    /// Plays it to the end of the connection.
    pub(crate) fn play(&self, script: &Script) -> Result<Heard, String> {
        let mut play = self.open(script)?;
        if play.is_refused {
            return play.finish();
        }
        play.feed(&script.says, script.cut)?;
        match script.leave {
            Leave::Goodbye => {
                play.feed(&frame_to(script.ours, 0x88, &1000u16.to_be_bytes()), WHOLE)?;
            }
            Leave::Waits => {}
            Leave::Fin => play.shut(),
        }
        play.finish()
    }

    /// Up to the handshake's end.
    pub(crate) fn open(&self, script: &Script) -> Result<Play, String> {
        let here = Rc::new(Here::default());
        here.acts.replace(script.acts.clone());
        here.set_server.replace(script.set_server.clone());
        self.now.replace(here.clone());
        match script.ours {
            Ours::Client => self.open_client(script, here),
            Ours::Server => self.open_server(script, here),
        }
    }

    fn open_client(&self, script: &Script, here: Rc<Here>) -> Result<Play, String> {
        let addr = self.listener.local_addr().expect("its address");
        let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{addr}/chat?room=1"))
            .map_err(|e| e.to_string())?;
        here.con.set(Some(Con::Client(con)));
        con.set_limits(script.limits.clone());
        watch!(con, here);
        let h = here.clone();
        con.on_websocket_connect(move |con, _| h.is_open(Con::Client(con)));
        if let Some(set) = &script.set_client {
            set(con);
        }
        con.connect();
        let mut play = self.accept(script, here)?;
        play.await_head()?;
        if script.late {
            play.pass(Duration::from_millis(100));
            if !play.unread.is_empty() || !play.frames.is_empty() {
                return Err("something came before the 101".into());
            }
        }
        let answer = match &script.opens {
            Some(opens) => opens(&play.head),
            None => accept_head(&play.head).into_bytes(),
        };
        play.feed(&answer, script.cut)?;
        play.await_opening()?;
        Ok(play)
    }

    fn open_server(&self, script: &Script, here: Rc<Here>) -> Result<Play, String> {
        self.worker.set_limits(script.limits.clone());
        let stream = TcpStream::connect(self.addr).map_err(|e| e.to_string())?;
        let mut play = Play::new(script, here, stream);
        let request = match &script.opens {
            Some(opens) => opens(""),
            None => usual_request().into_bytes(),
        };
        play.feed(&request, script.cut)?;
        play.await_head()?;
        play.await_opening()?;
        Ok(play)
    }
}

pub(crate) fn usual_request() -> String {
    "GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .into()
}

/// One that is on.
pub(crate) struct Play {
    ours: Ours,
    here: Rc<Here>,
    stream: TcpStream,
    head: String,
    is_refused: bool,
    /// Everything the peer has written.
    written: usize,
    /// The handshake's part of it.
    opening: usize,
    unread: Vec<u8>,
    frames: Vec<Frame>,
    is_over: bool,
    is_shut: bool,
}

impl Play {
    fn new(script: &Script, here: Rc<Here>, stream: TcpStream) -> Self {
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

    fn await_head(&mut self) -> Result<(), String> {
        self.until("our side's handshake", |play| {
            play.is_over || play.unread.windows(4).any(|four| four == b"\r\n\r\n")
        })?;
        let at = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
        let length = at.map_or(self.unread.len(), |at| at + 4);
        let head: Vec<u8> = self.unread.drain(..length).collect();
        self.head = String::from_utf8(head).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn await_opening(&mut self) -> Result<(), String> {
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

fn turn() {
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
