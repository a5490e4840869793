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
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Events</title>
<style>
  body { font: 16px/1.5 sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }
  small { color: #666; font-weight: normal }
  b { font-size: 1.5em; font-variant-numeric: tabular-nums }
</style>
<h1>Events <small id="state">not connected</small></h1>
<p>The server has been up for <b id="up">0</b> s.
<p>Looking at this page: <b id="viewers">0</b>
<script>
  const of = id => document.getElementById(id);
  // It connects again by itself.
  const events = new EventSource("/events");
  events.onopen = () => of("state").textContent = "connected";
  events.onerror = () => of("state").textContent = "not connected";
  events.onmessage = event => of("up").textContent = event.data;
  events.addEventListener("viewers", event => of("viewers").textContent = event.data);
</script>
"#;

fn main() -> Result {
    let port = std::env::args().nth(1).unwrap_or("2347".into());
    let worker = Worker::<Http>::listen(&format!("http://127.0.0.1:{port}"))?;
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
            // A browser that has lost the connection is back after a second.
            con.send(ServerSentEvent::default().retry(1));
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
    worker.on_worker_start(move |worker| {
        let port = worker.local_addr().map_or(0, |addr| addr.port());
        println!("http://127.0.0.1:{port}/");
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
