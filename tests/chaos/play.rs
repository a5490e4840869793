//! One run: a client and a server as a plan says, the network between them, and the oracle.
use crate::http;
use crate::oracle::{Oracle, Who, message};
use crate::plan::{Attempt, End, Fault, Kind, Plan};
use crate::proxy::{self, SharedLink};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use workerman::prelude::*;
use workerman::{AnyConnection, Frame, Limits, Role, Serve};

/// Nothing in a plan takes so long: limits end it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A turn that takes longer may meet deadlines before what came ahead of them.
const SLOW: Duration = Duration::from_millis(100);

/// What lives as long as its thread: listeners, and the run that is on.
pub(crate) struct World {
    run: Current,
    tcp: Net,
    unix: Net,
    wss: Option<Worker<Websocket>>,
    http: Worker<Http>,
    /// Of the unix sockets.
    folder: PathBuf,
    /// Places and timers of a loop where nothing happens.
    held: Cell<(usize, usize)>,
}

/// What listens in one family of addresses.
struct Net {
    ws: Worker<Websocket>,
    text: Worker<Text>,
    frame: Worker<Frame>,
    proxies: Vec<Worker<Tcp>>,
    /// Where the unix sockets are.
    folder: Option<PathBuf>,
}

impl Net {
    fn new(folder: Option<&Path>, run: &Current) -> Net {
        fn listen<P: Serve + Default>(folder: Option<&Path>, name: &str) -> Worker<P> {
            let address = match folder {
                Some(folder) => format!("unix://{}", folder.join(name).display()),
                None => format!("{}://127.0.0.1:0", P::NAME),
            };
            Worker::listen(&address).expect("an address")
        }
        let (ws, text) = (listen(folder, "websocket"), listen(folder, "text"));
        let frame = listen(folder, "frame");
        serve_websocket(ws, run);
        serve_stream(text, run);
        serve_stream(frame, run);
        let proxies = (0..3).map(|number| {
            let proxy = listen::<Tcp>(folder, &format!("proxy{number}"));
            let run = run.clone();
            proxy.on_connect(move |con| {
                let run = run.borrow().clone();
                match run {
                    Some(run) => run.link(number, con),
                    None => con.destroy(),
                }
            });
            proxy
        });
        let proxies = proxies.collect();
        Net { ws, text, frame, proxies, folder: folder.map(Path::to_owned) }
    }

    /// Where a worker listens, for a client of raw bytes.
    fn address<P: Serve>(&self, worker: Worker<P>, name: &str) -> String {
        match &self.folder {
            Some(folder) => format!("unix://{}", folder.join(name).display()),
            None => format!("tcp://{}", worker.local_addr().expect("it listens")),
        }
    }

    fn served(&self) -> usize {
        let text = self.text.connections().len() + self.frame.connections().len();
        self.ws.connections().len() + text
    }
}

pub(crate) type Current = Rc<RefCell<Option<Rc<Run>>>>;

pub(crate) struct Run {
    plan: Plan,
    pub(crate) oracle: Oracle,
    target: String,
    /// Of each client, which of its attempts is on.
    attempts: RefCell<Vec<usize>>,
    /// Of each proxy, how many have come.
    accepted: RefCell<Vec<usize>>,
    links: RefCell<Vec<SharedLink>>,
    done: Cell<usize>,
}

/// Small, so that a black hole ends soon.
fn limits() -> Limits {
    Limits::new()
        .opening(0.5)
        .closing(0.3)
        .send_stall(0.4)
        .idle(0.7)
        .partial_package(0.4)
        .body_idle(0.4)
}

impl World {
    /// `identity`: certificate and key, where there is TLS.
    pub(crate) fn new(identity: Option<&std::path::Path>) -> World {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("workerman-chaos-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let run: Current = Rc::default();
        let (tcp, unix) = (Net::new(None, &run), Net::new(Some(&folder), &run));
        let wss = identity.map(|identity| {
            let wss = Worker::<Websocket>::listen("websocket://127.0.0.1:0").expect("a port");
            tls::serve(wss, identity);
            serve_websocket(wss, &run);
            wss
        });
        let http = Worker::<Http>::listen("http://127.0.0.1:0").expect("a port");
        http::serve_http(http, &run);
        Worker::turn(0).expect("the first turn");
        let held = Cell::new(Worker::held());
        World { run, tcp, unix, wss, http, folder, held }
    }

    /// What was wrong, and all that happened.
    pub(crate) fn play(&self, plan: Plan) -> Oracle {
        let net = if plan.unix { &self.unix } else { &self.tcp };
        let target = match plan.kind {
            Kind::Ws => net.address(net.ws, "websocket"),
            Kind::Wss => net.address(self.wss.unwrap_or(net.ws), "websocket"),
            Kind::Text => net.address(net.text, "text"),
            Kind::Frame => net.address(net.frame, "frame"),
            Kind::Http => net.address(self.http, "http"),
        };
        let clients = plan.clients.len();
        let run = Rc::new(Run {
            target,
            attempts: RefCell::new(vec![0; clients]),
            accepted: RefCell::new(vec![0; clients]),
            oracle: Oracle::default(),
            links: RefCell::default(),
            done: Cell::new(0),
            plan,
        });
        self.run.replace(Some(run.clone()));
        run.tell_the_oracle();
        for client in 0..clients {
            let name = format!("proxy{client}");
            run.start(client, &net.address(net.proxies[client], &name));
        }
        let served = || {
            let tls = self.wss.map_or(0, |wss| wss.connections().len());
            net.served() + tls + self.http.connections().len()
        };
        if !run.turn_until(|| run.done.get() == clients && served() == 0) {
            let (done, served) = (run.done.get(), served());
            run.fault(format!("it hangs: {done} of {clients} are done, {served} are served"));
        }
        for link in run.links.take() {
            let what = proxy::befallen(&link);
            run.oracle.with(|state| *state.met.entry(what).or_default() += 1);
            proxy::tear_down(&link);
        }
        if !run.turn_until(|| Worker::held() == self.held.get()) {
            // What is left accuses this run, not those that follow.
            let before = self.held.replace(Worker::held());
            let held = self.held.get();
            run.fault(format!("{held:?} places and timers are held, not {before:?}"));
        }
        run.oracle.judge();
        self.run.replace(None);
        // Who connected and left before it was accepted is no connection of the next run.
        for _ in 0..2 {
            Worker::turn(0).expect("a turn");
        }
        run.oracle.clone()
    }

    /// False: something that was left keeps the loop from ending.
    pub(crate) fn end(self) -> bool {
        Worker::stop_all();
        let _ = std::fs::remove_dir_all(&self.folder);
        let end = Instant::now() + PATIENCE;
        while Worker::turn(0.1).expect("a turn") {
            if Instant::now() > end {
                return false;
            }
        }
        true
    }
}

impl Run {
    fn turn_until(&self, done: impl Fn() -> bool) -> bool {
        let end = Instant::now() + PATIENCE;
        while !done() {
            let begin = Instant::now();
            if begin > end || !Worker::turn(Duration::from_millis(20)).expect("a turn") {
                return false;
            }
            if begin.elapsed() > SLOW {
                self.oracle.with(|state| state.slow = true);
            }
        }
        true
    }

    fn fault(&self, fault: String) {
        self.oracle.with(|state| state.faults.push(fault));
    }

    fn attempt(&self, client: usize, number: usize) -> &Attempt {
        &self.plan.clients[client][number]
    }

    fn tell_the_oracle(&self) {
        for (client, attempts) in self.plan.clients.iter().enumerate() {
            for (number, attempt) in attempts.iter().enumerate() {
                let corrupt = attempt.link.fault == Fault::Corrupt && self.plan.kind != Kind::Wss;
                let calm = attempt.link.fault == Fault::None && attempt.server_ends.is_none();
                let who = name(client, number).1;
                self.oracle.with(|state| {
                    state.corrupt.insert(who, corrupt);
                    state.calm.insert(who, calm);
                });
            }
        }
    }

    fn link(&self, number: usize, con: TcpConnection<Tcp>) {
        let which = {
            let accepted = &mut self.accepted.borrow_mut()[number];
            *accepted += 1;
            *accepted - 1
        };
        let Some(attempt) = self.plan.clients[number].get(which) else {
            return self.fault("more connections than attempts".into());
        };
        let (oracle, who) = (self.oracle.clone(), name(number, which).1);
        let tell = Box::new(move |side: usize| oracle.reset(['c', 's'][side], who));
        let link = proxy::lead(con, &self.target, attempt.link.clone(), tell);
        self.links.borrow_mut().push(link);
    }

    fn start(self: &Rc<Self>, client: usize, address: &str) {
        let with = |scheme: &str| address.replace("tcp://", &format!("{scheme}://"));
        let run = self.clone();
        match self.plan.kind {
            Kind::Ws => self.start_ws(client, &with("ws"), false),
            Kind::Wss => self.start_ws(client, &with("wss"), true),
            Kind::Text => {
                let con = self.start_stream::<Text>(client, &with("text"));
                con.on_message(move |_, data| run.client_heard(client, data.as_bytes()));
            }
            Kind::Frame => {
                let con = self.start_stream::<Frame>(client, &with("frame"));
                con.on_message(move |_, data| run.client_heard(client, data.as_bytes()));
            }
            Kind::Http => {
                let con = self.start_stream::<Tcp>(client, address);
                let hears = http::hears(run, client);
                con.on_message(move |con, data| hears(con, data.as_bytes()));
            }
        }
    }

    fn start_ws(self: &Rc<Self>, client: usize, address: &str, secure: bool) {
        let con = AsyncTcpConnection::<Ws>::new(address).expect("an address");
        if secure {
            tls::trust(con);
        }
        con.set_websocket_ping_interval(0.1);
        con.set_websocket_pong_timeout(0.3);
        let run = self.clone();
        con.on_connect(move |_| run.oracle.connect(run.current(client)));
        let run = self.clone();
        con.on_websocket_connect(move |con, _| run.ready(client, con.any()));
        let run = self.clone();
        con.on_websocket_close(move |_, code, _| run.oracle.farewell(run.current(client), code));
        let run = self.clone();
        con.on_close(move |con| {
            if let Some(after) = run.closed(client, con.close_code()) {
                con.reconnect(after);
                run.before(client, con.any());
            }
        });
        self.wire_client(client, con);
        let run = self.clone();
        con.on_message(move |_, data: Data| run.client_heard(client, data.as_bytes()));
        self.before(client, con.any());
        con.connect();
    }

    /// Who has no farewells; the caller says what it hears.
    fn start_stream<P: workerman::Dial + Default>(
        self: &Rc<Self>,
        client: usize,
        address: &str,
    ) -> AsyncTcpConnection<P> {
        let con = AsyncTcpConnection::<P>::new(address).expect("an address");
        let run = self.clone();
        con.on_connect(move |con| {
            run.oracle.connect(run.current(client));
            run.ready(client, con.any());
        });
        let run = self.clone();
        con.on_close(move |con| {
            // A stream without farewells: the plan says whether something befell it.
            let number = run.attempts.borrow()[client];
            let fault = run.attempt(client, number).link.fault;
            let calm = matches!(fault, Fault::None | Fault::Stall(_))
                && run.oracle.saw_the_end(run.current(client));
            if let Some(after) = run.closed(client, calm.then_some(1000)) {
                con.reconnect(after);
                run.before(client, con.any());
            }
        });
        self.wire_client(client, con);
        self.before(client, con.any());
        con.connect();
        con
    }

    fn wire_client<P: Protocol>(self: &Rc<Self>, client: usize, con: AsyncTcpConnection<P>) {
        con.set_limits(limits());
        let run = self.clone();
        con.on_error(move |_, _, failure| run.failed(run.current(client), failure));
    }

    pub(crate) fn current(&self, client: usize) -> Who {
        name(client, self.attempts.borrow()[client])
    }

    fn failed(&self, who: Who, failure: &Failure) {
        self.oracle.error(who, failure.kind(), failure.to_string());
    }

    /// What is sent for a session that does not exist yet.
    fn before(&self, client: usize, con: AnyConnection) {
        let attempt = self.attempt(client, self.attempts.borrow()[client]);
        for _ in 0..attempt.before {
            self.say(self.current(client), con, 20);
        }
    }

    fn say(&self, who: Who, con: AnyConnection, filler: usize) {
        let (sequence, over) = self.oracle.with(|state| {
            let session = state.sessions.entry(who).or_default();
            (session.sent, session.ended_by_us)
        });
        let mut text = message(self.plan.seed, who, sequence, filler);
        if self.plan.kind == Kind::Http && who.0 == 'c' {
            text = http::request(&text);
        }
        let sent = match sequence % 3 {
            0 => con.send(text.as_bytes()),
            1 => con.send(&*text),
            _ => send_by_kind(con, &text),
        };
        if sent != Sent::Dropped {
            self.oracle.with(|state| state.sessions.entry(who).or_default().sent += 1);
            if over {
                self.fault(format!("{who:?}: taken after our own end: {sent:?}"));
            }
        }
    }

    fn ready(self: &Rc<Self>, client: usize, con: AnyConnection) {
        self.oracle.ready(self.current(client));
        let number = self.attempts.borrow()[client];
        self.go_on(client, number, con, 0);
    }

    /// The client's part from its message `from` on.
    fn go_on(self: &Rc<Self>, client: usize, number: usize, con: AnyConnection, from: usize) {
        let who = name(client, number);
        let over = |session: &crate::oracle::Session| session.closed > 0 || session.ended_by_us;
        if self.oracle.with(|state| state.sessions.get(&who).is_some_and(over)) {
            return;
        }
        let attempt = self.attempt(client, number);
        for next in from..attempt.messages {
            self.say(who, con, (next * 7919) % attempt.longest);
            if attempt.every > 0 {
                return self.later(attempt.every, client, number, con, next + 1);
            }
        }
        if from <= attempt.messages && attempt.end_after > 0 {
            return self.later(attempt.end_after, client, number, con, attempt.messages + 1);
        }
        self.end(who, con, attempt.end);
    }

    fn later(
        self: &Rc<Self>,
        after: usize,
        client: usize,
        number: usize,
        con: AnyConnection,
        next: usize,
    ) {
        let run = self.clone();
        let after = Duration::from_millis(after as u64);
        Timer::delay(after, move || run.go_on(client, number, con, next));
    }

    fn end(&self, who: Who, con: AnyConnection, end: End) {
        if con.status() != Status::Established {
            return;
        }
        self.oracle.note(format!("{}{} ends: {end:?}", who.0, who.1));
        self.oracle.with(|state| {
            let session = state.sessions.entry(who).or_default();
            session.ended_by_us = true;
            session.asked_at = Some(Instant::now());
            session.destroyed = end == End::Destroy;
            session.asked_to_close = (end != End::Destroy).then_some(session.sent);
        });
        match end {
            End::Close => con.close(),
            End::Destroy => con.destroy(),
            End::CloseWithCode => {
                if let Some(con) = con.downcast::<Ws, workerman::Client>() {
                    con.close_websocket(4000, "enough");
                } else if let Some(con) = con.downcast::<Websocket, workerman::Server>() {
                    con.close_websocket(4000, "enough");
                } else {
                    con.close();
                }
            }
        }
        // It is over: nothing more is taken.
        self.say(who, con, 1);
    }

    /// When to try again, if the plan wants that.
    fn closed(&self, client: usize, code: Option<u16>) -> Option<Duration> {
        self.oracle.close(self.current(client), code);
        let number = &mut self.attempts.borrow_mut()[client];
        if *number + 1 == self.plan.clients[client].len() {
            self.done.set(self.done.get() + 1);
            return None;
        }
        *number += 1;
        Some(Duration::from_millis(*number as u64 % 2 * 3))
    }

    pub(crate) fn client_heard(&self, client: usize, bytes: &[u8]) {
        self.oracle.message(self.plan.seed, self.current(client), bytes);
    }

    /// False: nobody can have sent that, and it is not answered.
    pub(crate) fn server_heard(&self, con: AnyConnection, bytes: &[u8]) -> bool {
        let me = ('s', con.id());
        let from = self.oracle.message(self.plan.seed, me, bytes);
        let Some(((_, attempt), got)) = from else { return false };
        let (client, number) = (attempt as usize / 10, attempt as usize % 10);
        let Some(attempt) = self.plan.clients.get(client).and_then(|all| all.get(number)) else {
            return false;
        };
        // A request has one answer.
        let answers = if self.plan.kind == Kind::Http { 1 } else { attempt.answers };
        for _ in 0..answers {
            self.say(me, con, bytes.len());
        }
        if let Some((after, end)) = attempt.server_ends
            && got as usize >= after
        {
            self.end(me, con, end);
        }
        true
    }
}

/// By a handle that knows its protocol: another way through the library than `AnyConnection`'s.
fn send_by_kind(con: AnyConnection, text: &str) -> Sent {
    if let Some(con) = con.downcast::<Ws, workerman::Client>() {
        con.send(text)
    } else if let Some(con) = con.downcast::<Websocket, workerman::Server>() {
        con.send(text)
    } else if let Some(con) = con.downcast::<Text, workerman::Client>() {
        con.send(text)
    } else if let Some(con) = con.downcast::<Text, workerman::Server>() {
        con.send(text)
    } else if let Some(con) = con.downcast::<Frame, workerman::Client>() {
        con.send(text)
    } else if let Some(con) = con.downcast::<Frame, workerman::Server>() {
        con.send(text)
    } else {
        con.send(text)
    }
}

fn name(client: usize, attempt: usize) -> Who {
    ('c', client as u64 * 10 + attempt as u64)
}

/// What all servers do; the run that is on is asked at each event.
pub(crate) fn serve<P: Serve>(worker: Worker<P>, current: &Current) {
    worker.set_limits(limits());
    let now = current.clone();
    worker.on_error(move |con, _, failure| {
        with_run(&now, |run| run.failed(server(con), failure));
    });
}

pub(crate) fn server<P: Protocol, R: Role>(con: workerman::Connection<P, R>) -> Who {
    ('s', con.id())
}

pub(crate) fn with_run(current: &Current, f: impl FnOnce(&Rc<Run>)) {
    let run = current.borrow().clone();
    if let Some(run) = run {
        f(&run);
    }
}

fn serve_websocket(worker: Worker<Websocket>, current: &Current) {
    serve(worker, current);
    let now = current.clone();
    worker.on_connect(move |con| with_run(&now, |run| run.oracle.connect(server(con))));
    let now = current.clone();
    worker.on_websocket_connected(move |con, _| {
        with_run(&now, |run| run.oracle.ready(server(con)));
    });
    let now = current.clone();
    worker.on_message(move |con, data| {
        with_run(&now, |run| {
            run.server_heard(con.any(), data.as_bytes());
        });
    });
    let now = current.clone();
    worker.on_websocket_close(move |con, code, _| {
        with_run(&now, |run| run.oracle.farewell(server(con), code));
    });
    let now = current.clone();
    worker.on_close(move |con| {
        with_run(&now, |run| run.oracle.close(server(con), con.close_code()));
    });
}

fn serve_stream<P>(worker: Worker<P>, current: &Current)
where
    for<'a> P: Serve + Protocol<Incoming<'a> = Data<'a>>,
{
    serve(worker, current);
    let now = current.clone();
    worker.on_connect(move |con| {
        with_run(&now, |run| {
            run.oracle.connect(server(con));
            run.oracle.ready(server(con));
        });
    });
    let now = current.clone();
    worker.on_message(move |con, data| {
        with_run(&now, |run| {
            run.server_heard(con.any(), data.as_bytes());
        });
    });
    let now = current.clone();
    worker.on_close(move |con| with_run(&now, |run| run.oracle.close(server(con), None)));
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls {
    use super::*;

    pub(super) fn serve(worker: Worker<Websocket>, identity: &std::path::Path) {
        worker.set_transport(Transport::Ssl);
        worker.set_tls(Tls::new().identity(identity)).expect("a certificate");
    }

    pub(super) fn trust(con: AsyncTcpConnection<Ws>) {
        con.set_tls(Tls::new().danger_accept_invalid_certs()).expect("settings");
    }
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
mod tls {
    use super::*;

    pub(super) fn serve(_: Worker<Websocket>, _: &std::path::Path) {}

    pub(super) fn trust(_: AsyncTcpConnection<Ws>) {}
}
