//! An echo server and the manual's client in one process: what you see is what to expect.
//!
//!     cargo run --example quickstart
//!
//! The client greets and measures the latency, the server goes away and comes back, the client
//! reconnects and greets again. It ends by itself after a few seconds.
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use workerman::Running;
use workerman::prelude::*;

/// A server on a loop of its own, in a thread of its own.
fn echo_server(address: SocketAddr) -> Result<Running> {
    workerman::spawn(move || {
        let worker = Worker::<Websocket>::listen(&format!("websocket://{address}"))?;
        worker.on_message(|con, data| con.send(data));
        Ok(())
    })
}

fn client(server: Running) -> Result {
    let address = server.addr();
    let server = RefCell::new(Some(server));
    let door = server.borrow().as_ref().map(Running::handle);
    let greetings = Rc::new(Cell::new(0));

    let con = AsyncTcpConnection::<Ws>::new(&format!("ws://{address}"))?;
    con.on_connect(|_| println!("tcp connected"));
    con.on_websocket_connect(|con, response| {
        print!("{response}");
        con.send("hello")
    });
    let count = greetings.clone();
    con.on_message(move |con, data| {
        println!("recv: {data}");
        count.set(count.get() + 1);
        match count.get() {
            1 => drop(con.ping(b"how far?")),
            _ => Worker::stop_all(),
        }
    });
    con.on_websocket_pong(move |con, _| {
        if let Some(latency) = con.latency() {
            println!("latency: {latency:?}");
        }
        // Asks the server's loop to stop, from here, and does not wait for it.
        if let Some(door) = &door {
            door.stop();
        }
    });
    con.on_error(|_, _, message| println!("error: {message}"));
    con.on_close(move |con| {
        if greetings.get() > 1 {
            return Ok(()); // The second session was closed by `stop_all`.
        }
        println!("connection closed and try to reconnect");
        if let Some(old) = server.take() {
            old.stop()?;
            server.replace(Some(echo_server(address)?));
        }
        con.reconnect(1);
        Ok(())
    });
    con.connect();
    Ok(())
}

fn main() -> Result {
    let worker = Worker::new();
    worker.on_worker_start(|_| {
        let server = echo_server(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        client(server)
    });
    Worker::run_all()
}
