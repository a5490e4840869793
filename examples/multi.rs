//! Several workers in one process: browsers on a WebSocket port, and two inner ports of this machine
//! alone through which other programs push to them, one of lines and one of http.
//!
//!     cargo run --example multi [PORT]
//!
//! A WebSocket client says its user id first. Each line of the inner port is a user id (`*` for
//! all) and a text; the answer is `ok` and how many got it, or `fail`:
//!
//!     printf '* it rains\nanna hello\n' | nc -N 127.0.0.1 2352
//!     curl -d to=anna -d text=hello http://127.0.0.1:2351/push
//!
//! The inner ports ask nobody who he is: whoever has an account on this machine may push. Pages may
//! not, though a browser on this machine would carry their forms to these ports.
use std::collections::BTreeMap;
use workerman::prelude::*;
use workerman::{Limits, Request, Serve};

const ALL: &str = "all";

#[derive(Clone)]
struct Uid(String);

/// The manual's `$worker->uidConnections`: a user may have come by several browsers.
#[derive(Default)]
struct Uids(BTreeMap<String, Vec<TcpConnection<Websocket>>>);

fn main() -> Result {
    let port: u16 = std::env::args().nth(1).map_or(Ok(2350), |port| port.parse())?;
    let next = |n: u16| if port == 0 { 0 } else { port.saturating_add(n) };
    let clients = Worker::<Websocket>::listen(&format!("websocket://0.0.0.0:{port}"))?;
    let page = Worker::<Http>::listen(&format!("http://127.0.0.1:{}", next(1)))?;
    let inner = Worker::<Text>::listen(&format!("text://127.0.0.1:{}", next(2)))?;
    say_where(clients, "clients");
    say_where(page, "page");
    say_where(inner, "inner");

    clients.set_limits(Limits::new().message_bytes(1 << 10));
    clients.on_message(move |con, data| {
        if con.get::<Uid>().is_some() {
            return;
        }
        let uid = data.to_string();
        con.set(Uid(uid.clone()));
        con.subscribe(ALL);
        clients.with(|uids: &mut Uids| uids.0.entry(uid).or_default().push(con));
        con.send("welcome");
    });
    clients.on_close(move |con| {
        let Some(Uid(uid)) = con.get() else { return };
        clients.with(|uids: &mut Uids| {
            if let Some(cons) = uids.0.get_mut(&uid) {
                cons.retain(|other| *other != con);
                if cons.is_empty() {
                    uids.0.remove(&uid);
                }
            }
        });
    });

    inner.on_message(move |con, line| {
        let line = line.to_string();
        // The head of a request: what follows is a page's form, whose lines look like ours.
        if line.contains(" HTTP/") {
            con.close();
            return Sent::Dropped;
        }
        let (to, text) = line.split_once(' ').unwrap_or((&line, ""));
        con.send(answer(push(clients, to, text)))
    });
    page.on_message(move |con, request| match (request.method(), request.path()) {
        ("GET", "/") => con.send(format!("{} clients\n", clients.subscribers(ALL))),
        ("POST", "/push") if is_of_a_page(&request) => {
            con.send(Response::new(403).with_body("Pages may not push.\n"))
        }
        ("POST", "/push") => {
            let (to, text) = (request.post("to"), request.post("text"));
            let count = push(clients, &to.unwrap_or_default(), &text.unwrap_or_default());
            con.send(answer(count) + "\n")
        }
        _ => con.send(Response::new(404).with_body("There is nothing here.\n")),
    });
    Worker::run_all()
}

fn say_where<P: Serve>(worker: Worker<P>, name: &str) {
    worker.set_name(name);
    worker.on_worker_start(|worker| {
        if let Some(addr) = worker.local_addr() {
            println!("{}: {}://{addr}", worker.name(), P::NAME);
        }
    });
}

/// A browser tells of each POST which page it is of; a program does not, unless it wants to.
fn is_of_a_page(request: &Request) -> bool {
    ["Origin", "Sec-Fetch-Site"].iter().any(|name| request.header(name).is_some())
}

/// How many got it.
fn push(clients: Worker<Websocket>, to: &str, text: &str) -> usize {
    if to == "*" {
        return clients.publish(ALL, text);
    }
    let of = clients.with(|uids: &mut Uids| uids.0.get(to).cloned()).flatten().unwrap_or_default();
    of.into_iter().filter(|con| con.send(text) != Sent::Dropped).count()
}

fn answer(count: usize) -> String {
    if count == 0 { "fail".into() } else { format!("ok {count}") }
}
