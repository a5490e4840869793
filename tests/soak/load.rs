//! The server, and the clients that load it.
use crate::measure::{Held, judge, used};
use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use workerman::prelude::*;

type Con = AsyncTcpConnection<Ws>;

const ECHOING: usize = 50;
const CHURNING: usize = 16;
/// Samples of a run; a quarter of them must be some.
const SAMPLES: u32 = 40;

/// Echoes; says what it holds where asked.
pub(crate) fn serve() {
    // Whoever started it is gone: so is the server.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let worker = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a port");
    worker.set_backlog(4096);
    worker.on_worker_start(|worker| println!("{}", worker.local_addr().expect("it listens")));
    worker.on_message(|con, data| {
        if data.as_bytes() == b"held?" {
            let (places, timers) = Worker::held();
            con.send(format!("{places} {timers}"))
        } else {
            con.send(data)
        }
    });
    Worker::run_all().expect("it runs");
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let own = std::env::current_exe().expect("a program");
        let mut command = Command::new(own);
        command.arg("server").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the server starts");
        let output = process.stdout.take().expect("its output");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("its address");
        Server { process, address: format!("ws://{}", line.trim()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Load {
    open: Cell<usize>,
    sessions: Cell<u64>,
    echoes: Cell<u64>,
    /// Messages that each echoing connection sends at a tick.
    batch: Cell<usize>,
    over: Cell<bool>,
    server_holds: Cell<Option<(usize, usize)>>,
    handles: RefCell<Vec<Con>>,
}

fn add(to: &Cell<u64>) {
    to.set(to.get() + 1);
}

/// A client that must not fail before all is over.
fn client(address: &str, load: &Rc<Load>) -> Con {
    let con = Con::new(address).expect("an address");
    con.on_error(|_, _, failure| panic!("{failure}"));
    let l = load.clone();
    con.on_websocket_connect(move |_, _| l.open.set(l.open.get() + 1));
    let l = load.clone();
    con.on_close(move |_| {
        assert!(l.over.get(), "a connection closed by itself");
        l.open.set(l.open.get() - 1);
    });
    load.handles.borrow_mut().push(con);
    con
}

/// Connects, has a message echoed, ends, and again.
fn churn(address: &str, load: &Rc<Load>, number: usize) {
    let con = Con::new(address).expect("an address");
    con.on_error(|_, _, failure| panic!("{failure}"));
    con.on_websocket_connect(|con, _| con.send("once"));
    let l = load.clone();
    con.on_message(move |con, data| {
        assert_eq!(data.as_bytes(), b"once");
        add(&l.sessions);
        // A third goes without a word.
        if (l.sessions.get() + number as u64).is_multiple_of(3) {
            con.destroy()
        } else {
            con.close()
        }
    });
    let l = load.clone();
    con.on_close(move |con| {
        if !l.over.get() {
            con.reconnect(0.004);
        }
    });
    con.connect();
}

fn echo(address: &str, load: &Rc<Load>, number: usize) {
    let con = client(address, load);
    let text = "x".repeat(16 + number * 13);
    let (l, expected) = (load.clone(), text.clone());
    con.on_message(move |_, data| {
        assert_eq!(data.as_str(), Some(&*expected));
        add(&l.echoes);
    });
    let l = load.clone();
    con.connect();
    let every = Duration::from_millis(5);
    Timer::add(every, move |timer| {
        if l.over.get() {
            timer.del();
        } else if con.status() == Status::Established {
            for _ in 0..l.batch.get() {
                con.send(&*text);
            }
        }
    });
}

fn number(variable: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return otherwise };
    text.parse().unwrap_or_else(|e| panic!("{variable}={text:?}: {e}"))
}

fn turn_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "it did not happen in a minute: {what}");
        Worker::turn(Duration::from_millis(20)).expect("a turn");
    }
}

fn turn_for(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        Worker::turn(left).expect("a turn");
    }
}

/// As many descriptors as the system lets us have, for the server too.
fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20) as usize
}

/// What the server and this process hold.
fn look(server: &Server, control: Con, load: &Load) -> [Held; 2] {
    load.server_holds.set(None);
    control.send("held?");
    turn_until("the server says what it holds", || load.server_holds.get().is_some());
    let theirs = load.server_holds.get().unwrap_or_default();
    [Held::by(server.process.id(), theirs), Held::by(std::process::id(), Worker::held())]
}

/// What only the control connection holds, at the beginning and when all has closed.
fn control(server: &Server, load: &Rc<Load>) -> Con {
    let control = client(&server.address, load);
    let l = load.clone();
    control.on_message(move |_, data| {
        let (places, timers) = data.as_str().and_then(|text| text.split_once(' ')).expect("two");
        let numbers = (places.parse().expect("a number"), timers.parse().expect("a number"));
        l.server_holds.set(Some(numbers));
    });
    control.connect();
    turn_until("the server answers", || load.open.get() == 1);
    control
}

pub(crate) fn soak() {
    let seconds = number("WORKERMAN_SOAK_SECONDS", 4);
    let wanted = number("WORKERMAN_SOAK_IDLE", if seconds < 30 { 500 } else { 10_000 }) as usize;
    let idle = wanted.min(raise_descriptors().saturating_sub(500));
    println!("-- soak: {seconds} s, {idle} idle connections (of {wanted})");
    let (server, load) = (Server::start(), Rc::new(Load::default()));
    let control = control(&server, &load);
    let base = look(&server, control, &load);
    fill(&server, &load, idle);
    load.batch.set(1);
    (0..ECHOING).for_each(|number| echo(&server.address, &load, number));
    (0..CHURNING).for_each(|number| churn(&server.address, &load, number));

    let samples = sample(&server, control, &load, seconds);
    let sides: [Vec<Held>; 2] = [0, 1].map(|side| samples.iter().map(|both| both[side]).collect());
    let (sessions, echoes) = (load.sessions.get(), load.echoes.get());
    println!("-- soak: {sessions} sessions and {echoes} echoes");
    judge("server", &sides[0], 4 * CHURNING);
    judge("client", &sides[1], 4 * CHURNING);
    assert!(sessions > 50 * seconds, "only {sessions} sessions");
    assert_eq!(load.open.get(), 1 + ECHOING + idle, "connections have ended by themselves");

    load.over.set(true);
    for con in load.handles.borrow().iter().filter(|con| **con != control) {
        con.close();
    }
    turn_until("all close", || load.open.get() == 1);
    let back = |held: [Held; 2]| {
        let of = |held: Held| (held.descriptors, held.places, held.timers);
        held.map(of) == base.map(of)
    };
    let end = Instant::now() + Duration::from_secs(10);
    let mut now = look(&server, control, &load);
    while !back(now) && Instant::now() < end {
        turn_for(Duration::from_millis(50));
        now = look(&server, control, &load);
    }
    println!("-- soak: server at first: {}; at last: {}", base[0], now[0]);
    println!("-- soak: client at first: {}; at last: {}", base[1], now[1]);
    assert!(back(now), "something is left of what has closed");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// Opens the idle connections, a few hundred at a time: the kernel's queue is not endless.
fn fill(server: &Server, load: &Rc<Load>, idle: usize) {
    let before = load.open.get();
    let mut made = 0;
    while made < idle {
        let more = (idle - made).min(200);
        (0..more).for_each(|_| client(&server.address, load).connect());
        made += more;
        turn_until("idle connections open", || load.open.get() == before + made);
    }
}

/// Keeps the server at half of a core, and looks at intervals.
fn sample(server: &Server, control: Con, load: &Rc<Load>, seconds: u64) -> Vec<[Held; 2]> {
    let every = Duration::from_secs(seconds) / SAMPLES;
    let process = server.process.id();
    let (begin, first) = (Instant::now(), used(process));
    let mut last = (begin, first);
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        turn_for(every);
        samples.push(look(server, control, load));
        let now = (Instant::now(), used(process));
        let share = (now.1 - last.1) / (now.0 - last.0).as_secs_f64();
        last = now;
        let batch = load.batch.get();
        match share {
            ..0.45 if batch < 32 => load.batch.set(batch + 1),
            0.55.. if batch > 1 => load.batch.set(batch - 1),
            _ => {}
        }
    }
    let share = (used(process) - first) / begin.elapsed().as_secs_f64();
    println!("-- soak: the server used {:.0} % of a core", share * 100.0);
    samples
}
