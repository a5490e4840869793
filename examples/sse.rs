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
<meta name="viewport" content="width=device-width">
<style>
  body { font: 18px/1.5 system-ui, sans-serif; max-width: 32em; margin: 3em auto; padding: 0 1em;
         color: #222; background: #f6f7f9 }
  main { display: flex; gap: 1em }
  section { flex: 1; padding: 1em; border-radius: .5em; background: #fff;
            box-shadow: 0 1px 4px #0002; text-align: center }
  b { display: block; font-size: 3em; line-height: 1.2 }
</style>
<h1>Events</h1>
<p>The server tells this page what it shows; open it twice.
<main>
  <section><b id="up">?</b> seconds up</section>
  <section><b id="viewers">?</b> looking</section>
</main>
<p id="state">Connecting …
<script>
  const events = new EventSource("/events");
  const state = document.getElementById("state");
  events.onopen = () => state.textContent = "Connected.";
  events.onerror = () => state.textContent = "The server is gone; trying again …";
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
