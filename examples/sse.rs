//! A page that shows the server's clock by server-sent events, and counts who looks at it.
//!
//!     cargo run --example sse [PORT]
//!
//! Open http://127.0.0.1:2347/ in several browsers.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;
use workerman::prelude::*;
use workerman::{ServerSentEvent, TcpConnection};

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Events</title>
<style>body { font: 16px sans-serif; max-width: 40em; margin: 3em auto }</style>
<h1>Events</h1>
<p>Up for <b id="up">?</b> s; <b id="viewers">?</b> looking.
<script>
  const events = new EventSource("/events");
  events.onmessage = e => document.getElementById("up").textContent = e.data;
  events.addEventListener("viewers",
    e => document.getElementById("viewers").textContent = e.data);
</script>
"#;

fn main() -> Result {
    let port = std::env::args().nth(1).unwrap_or("2347".into());
    let worker = Worker::<Http>::listen(&format!("http://127.0.0.1:{port}"))?;
    println!("http://127.0.0.1:{port}/");
    let viewers: Rc<RefCell<Vec<TcpConnection<Http>>>> = Rc::default();

    let of = viewers.clone();
    worker.on_message(move |con, request| match request.path() {
        "/" => {
            con.send(PAGE);
        }
        "/events" => {
            con.send(
                Response::new(200)
                    .with_header("Content-Type", "text/event-stream")
                    .with_header("Cache-Control", "no-store"),
            );
            of.borrow_mut().push(con);
            tell(&of.borrow());
        }
        _ => {
            con.send(Response::new(404).with_body("There is nothing here."));
        }
    });
    let of = viewers.clone();
    worker.on_close(move |con| {
        of.borrow_mut().retain(|viewer| *viewer != con);
        tell(&of.borrow());
    });
    worker.on_worker_start(move |_| {
        let (begun, of) = (Instant::now(), viewers.clone());
        Timer::add(1, move |_| {
            for con in of.borrow().iter() {
                con.send(ServerSentEvent::new(begun.elapsed().as_secs()));
            }
        });
    });
    Worker::run_all()
}

fn tell(viewers: &[TcpConnection<Http>]) {
    for con in viewers {
        con.send(ServerSentEvent::new(viewers.len()).event("viewers"));
    }
}
