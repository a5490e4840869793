//! What a process of its own does, for `processes.rs`: signals, `process::exit`, threads that end.
use crate::support::own_host;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use workerman::prelude::*;
use workerman::{LoopHandle, on_readable, on_signal};

/// The environment variable that makes a test process a scenario.
pub(crate) const WHICH: &str = "WORKERMAN_TEST_SCENARIO";

/// A line that the parent reads.
pub(crate) fn say(line: impl std::fmt::Display) {
    println!("| {line}");
}

#[test]
fn a_scenario_when_the_environment_asks_for_one() {
    let Ok(which) = std::env::var(WHICH) else { return };
    // Signals are for a loop on the thread of this name.
    let main = std::thread::Builder::new().name("main".into()).spawn(move || play(&which));
    let ended = main.expect("a thread").join();
    say(if ended.is_ok() { "thread ended" } else { "thread panicked" });
    std::process::exit(if ended.is_ok() { 0 } else { 101 });
}

fn play(which: &str) {
    match which {
        "serve" => serve(),
        "serve twice" => {
            serve();
            serve();
        }
        "hang" => hang(false),
        "hang while stopping" => hang(true),
        "run and linger" => {
            Timer::delay(0, Worker::stop_all);
            Worker::run_all().expect("a run");
            ready_for_ever();
        }
        "spawned" => {
            let server = workerman::spawn(|| {
                Worker::new();
                Ok(())
            });
            let _server = server.expect("it starts");
            ready_for_ever();
        }
        "turns" => {
            Worker::new();
            Timer::delay(0, || say("ready"));
            while Worker::turn(0.01).expect("a turn") {}
        }
        "takes SIGTERM" => {
            on_signal(15, |_| say("mine")).expect("it can be caught");
            serve();
        }
        "thread ends" => thread_ends(),
        _ => match which.strip_prefix("exit in ") {
            Some(place) => exit_in(place),
            None => panic!("no such scenario: {which}"),
        },
    }
}

fn ready_for_ever() {
    say("ready");
    loop {
        std::thread::park();
    }
}

/// Serves lines until it is stopped.
fn serve() {
    let worker = Worker::<Text>::listen(&format!("text://{}:0", own_host())).expect("an address");
    worker.on_worker_start(|worker| {
        say(format!("listens {}", worker.local_addr().expect("it does")));
        Timer::delay(0, || say("ready"));
    });
    worker.on_connect(|_| say("connect"));
    worker.on_message(|con, line| con.send(line));
    worker.on_worker_stop(|worker| say(format!("stop {}", worker.connections().len())));
    worker.on_close(|_| say("close"));
    let ended = Worker::run_all();
    say(format!("ended {ended:?}"));
}

/// A callback that never returns: the one that stops, or one before it.
fn hang(stopping: bool) {
    let for_ever = || loop {
        std::thread::park();
    };
    Worker::new().on_worker_stop(move |_| {
        say("stop");
        for_ever();
    });
    Timer::delay(0, move || {
        say("ready");
        if !stopping {
            for_ever();
        }
    });
    Worker::run_all().expect("a run");
}

// ---------------------------------------------------------------- the end of a thread's locals

thread_local! {
    /// Torn down with this thread's other locals, before or after the library's.
    static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    static EXITING: Cell<bool> = const { Cell::new(false) };
}

/// Calls the library when it is dropped.
struct Late(&'static str, AsyncTcpConnection<Text>, Worker<Text>, Timer, LoopHandle);

impl Drop for Late {
    fn drop(&mut self) {
        let Late(name, con, worker, timer, door) = self;
        if EXITING.try_with(Cell::get) != Ok(true) {
            return;
        }
        con.send("too late");
        con.set(7u8);
        con.on_message(|_, _| say("a callback"));
        con.with(|_: &mut u8| ());
        con.reconnect(0);
        con.close();
        con.destroy();
        let _ = (con.id(), con.status(), con.remote_addr(), con.get::<u8>(), format!("{con:?}"));
        let _ = (worker.name(), worker.connections(), worker.local_addr(), format!("{worker:?}"));
        worker.on_connect(|_| say("a callback"));
        worker.unlisten();
        timer.del();
        Timer::add(0, |_| say("a callback"));
        Timer::del_all();
        door.defer(|| say("a callback"));
        LoopHandle::current().defer(|| say("a callback"));
        Worker::new().on_worker_start(|_| say("a callback"));
        let _ = Worker::<Text>::listen("text://127.0.0.1:0");
        let _ = AsyncTcpConnection::<Text>::new("text://127.0.0.1:1").map(|con| con.connect());
        let _ = on_signal(10, |_| say("a callback"));
        let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two ends");
        drop(on_readable(theirs, |_| say("a callback")));
        Worker::stop_all();
        let _ = (Worker::is_running(), Worker::status(), con.token().get());
        say(format!("dropped {name}"));
    }
}

impl Late {
    fn new(name: &'static str, con: AsyncTcpConnection<Text>, worker: Worker<Text>) -> Late {
        Late(name, con, worker, Timer::add(600, |_| ()), LoopHandle::current())
    }
}

/// A client and a worker that know one another, with user data everywhere.
fn company() -> (AsyncTcpConnection<Text>, Worker<Text>) {
    // The first local of this thread, so torn down after the library's or before: whatever comes.
    EARLY.set(None);
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("an address");
    assert!(Worker::turn(0).expect("a turn"));
    let addr = worker.local_addr().expect("it listens");
    let con = AsyncTcpConnection::<Text>::new(&format!("text://{addr}")).expect("an address");
    EARLY.set(Some(Late::new("a local", con, worker)));
    LATE.set(Some(Late::new("another local", con, worker)));
    con.set(Late::new("data of a connection", con, worker));
    worker.set(Late::new("data of a worker", con, worker));
    let own = Late::new("a timer's", con, worker);
    Timer::add(600, move |_| {
        say(format!("{:?}", {
            let own = &own;
            own.0
        }))
    });
    let own = Late::new("a callback's", con, worker);
    con.on_buffer_full(move |_| {
        say(format!("{:?}", {
            let own = &own;
            own.0
        }))
    });
    (con, worker)
}

/// A thread that drives turns and ends without a stop.
fn thread_ends() {
    let (con, worker) = company();
    worker.on_close(|_| say("a callback"));
    con.on_close(|_| say("a callback"));
    con.connect();
    while worker.connections().is_empty() {
        assert!(Worker::turn(0.01).expect("a turn"));
    }
    say("ending");
    EXITING.set(true);
}

fn exit() {
    say("exiting");
    EXITING.set(true);
    std::process::exit(7);
}

/// `process::exit(7)` at this moment; nothing of the program's runs after it.
fn exit_in(place: &str) {
    let (con, worker) = company();
    let place: Rc<str> = place.into();
    let at = move |here: &str| {
        if *place == *here {
            exit();
        }
    };
    let here = at.clone();
    worker.on_connect(move |con| {
        here("on_connect");
        con.set(OnDrop(Rc::new(here.clone())));
        con.with(|_: &mut u32| here("with"));
    });
    let here = at.clone();
    worker.on_message(move |con, _| {
        here("on_message");
        con.close();
    });
    let here = at.clone();
    worker.on_close(move |_| here("on_close"));
    let here = at.clone();
    worker.on_worker_stop(move |_| here("on_worker_stop"));
    con.send("hello");
    con.connect();
    let here = at.clone();
    con.on_close(move |_| {
        let here = here.clone();
        Timer::delay(0, move || {
            here("a timer");
            Worker::stop_all();
        });
    });
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while Worker::turn(0.01).expect("a turn") {
        assert!(std::time::Instant::now() < end, "it never came to that");
    }
    at("between two runs");
    say("never exited");
}

/// Exits from a destructor of user data.
struct OnDrop(Rc<dyn Fn(&str)>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if !EXITING.get() {
            (self.0)("a destructor");
        }
    }
}
