//! A chat: its page and its WebSocket on one port.
//!
//!     cargo run --example chat [PORT]
//!
//! Open http://127.0.0.1:2348/ in several browsers. The first message of a WebSocket is its name,
//! the others go to everyone. What comes from here begins with a letter: `=` and who is here, `+`
//! and `-` for who has come and gone, `:` name, line feed, text, and `!` for what is wrong.
use std::collections::BTreeSet;
use workerman::prelude::*;
use workerman::{Limits, Request, WorkerRef};

const PAGE: &str = include_str!("chat.html");
/// The topic of everyone who has a name.
const ROOM: &str = "room";

#[derive(Clone)]
struct Name(String);

/// Of all who are here.
#[derive(Default)]
struct Names(BTreeSet<String>);

fn main() -> Result {
    let port = std::env::args().nth(1).unwrap_or("2348".into());
    let web = Worker::<Http>::listen(&format!("http://0.0.0.0:{port}"))?;
    web.set_limits(Limits::new().message_bytes(8 << 10));
    web.on_worker_start(|web| {
        let port = web.local_addr().map_or(0, |addr| addr.port());
        println!("chat: http://127.0.0.1:{port}/");
    });
    web.on_message(move |con, request| match request.path() {
        "/" => {
            let page = Response::new(200).with_header("Content-Type", "text/html; charset=utf-8");
            con.send(page.with_body(PAGE));
        }
        "/ws" => enter(web, con, &request),
        _ => {
            con.send(Response::new(404).with_body("There is nothing here."));
        }
    });
    Worker::run_all()
}

fn enter(web: Worker<Http>, con: TcpConnection<Http>, request: &Request) {
    let con = match Websocket::accept(request) {
        Ok(websocket) => con.upgrade_with(websocket),
        Err(refusal) => {
            con.send(refusal);
            return;
        }
    };
    con.on_message(move |con, data| {
        let Some(text) = data.as_str() else { return };
        match con.get() {
            None => named(web, con, text.trim()),
            Some(Name(name)) => {
                con.worker().publish(ROOM, format!(":{name}\n{text}"));
            }
        }
    });
    con.on_close(move |con| {
        if let Some(Name(name)) = con.get() {
            web.with(|names: &mut Names| names.0.remove(&name));
            con.publish(ROOM, format!("-{name}"));
        }
    });
}

fn named(web: Worker<Http>, con: TcpConnection<Websocket>, name: &str) {
    let long = name.chars().count() > 24;
    if name.is_empty() || long || name.chars().any(char::is_control) {
        return con.close_with("!A name has 1 to 24 letters.");
    }
    if web.with(|names: &mut Names| names.0.insert(name.into())) != Some(true) {
        return con.close_with(format!("!{name} is here already: take another name."));
    }
    con.set(Name(name.into()));
    let here = web.with(|names: &mut Names| Vec::from_iter(names.0.clone())).unwrap_or_default();
    con.send(format!("={}", here.join("\n")));
    let room: WorkerRef = con.worker();
    room.publish(ROOM, format!("+{name}"));
    con.subscribe(ROOM);
}
