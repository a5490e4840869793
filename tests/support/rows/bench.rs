//! Where plays take place: a worker and a listener of this thread.
use super::play::{Con, Heard, Here, Leave, PATIENCE, Play, Script, Setup, WHOLE, turn};
use crate::support::endpoint::{Ours, frame_to};
use crate::support::{accept_head, raw_listener};
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use workerman::prelude::*;

/// A worker and a listener of this thread, for one play after the other.
pub(crate) struct Bench {
    worker: Cell<(Worker<Websocket>, SocketAddr)>,
    /// What the worker was set up by: nothing is taken back, so another one wants another worker.
    setup: RefCell<Option<Arc<Setup>>>,
    listener: TcpListener,
    now: Rc<RefCell<Rc<Here>>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let now: Rc<RefCell<Rc<Here>>> = Rc::default();
        let worker = Cell::new(listening(&now));
        let (listener, _) = raw_listener();
        listener.set_nonblocking(true).expect("non-blocking");
        Bench { worker, setup: RefCell::default(), listener, now }
    }

    pub(crate) fn worker(&self) -> Worker<Websocket> {
        self.worker.get().0
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
        here.watch(Con::Client(con));
        con.set_limits(script.limits.clone());
        let h = here.clone();
        con.on_websocket_connect(move |con, _| h.is_open(Con::Client(con)));
        if let Some(setup) = &script.setup {
            (setup.client)(con);
        }
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
            None => with_lines(&accept_head(&play.head), script).into_bytes(),
        };
        play.feed(&answer, script.cut)?;
        play.await_opening()?;
        Ok(play)
    }

    fn set_up(&self, setup: Option<&Arc<Setup>>) {
        let is_the_same = match (self.setup.borrow().as_ref(), setup) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if is_the_same {
            return;
        }
        self.worker().unlisten();
        self.worker.set(listening(&self.now));
        if let Some(setup) = setup {
            (setup.worker)(self.worker());
        }
        self.setup.replace(setup.cloned());
    }

    fn open_server(&self, script: &Script, here: Rc<Here>) -> Result<Play, String> {
        self.set_up(script.setup.as_ref());
        let (worker, addr) = self.worker.get();
        worker.set_limits(script.limits.clone());
        let stream = TcpStream::connect(addr).map_err(|e| e.to_string())?;
        let mut play = Play::new(script, here, stream);
        let request = match &script.opens {
            Some(opens) => opens(""),
            None => with_lines(&usual_request(), script).into_bytes(),
        };
        play.feed(&request, script.cut)?;
        play.await_head()?;
        play.await_opening()?;
        Ok(play)
    }
}

fn listening(now: &Rc<RefCell<Rc<Here>>>) -> (Worker<Websocket>, SocketAddr) {
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("it listens");
    let current = now.clone();
    worker.on_connect(move |con| {
        let here = current.borrow().clone();
        here.watch(Con::Server(con));
        let set = here.set_server.borrow().clone();
        if let Some(set) = set {
            con.on_websocket_connect(move |con, request| set(con, request));
        }
        con.on_websocket_connected(move |con, _| here.is_open(Con::Server(con)));
    });
    let end = Instant::now() + PATIENCE;
    loop {
        Worker::turn(0).expect("a turn");
        match worker.local_addr() {
            Some(addr) => return (worker, addr),
            None => assert!(Instant::now() < end, "it listens at once"),
        }
    }
}

/// The peer's handshake with what the setup adds.
fn with_lines(head: &str, script: &Script) -> String {
    let lines = script.setup.as_ref().map_or("", |setup| &setup.lines);
    head.replace("\r\n\r\n", &format!("\r\n{lines}\r\n"))
}

pub(crate) fn usual_request() -> String {
    "GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .into()
}
