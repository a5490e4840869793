//! WebSocket clients that send back what comes, or only read it, until the server closes.
//!
//!     cargo run --example echo_client URL [echo|sink] [CONNECTIONS]
//!
//! Prints nothing; ends when the last connection has closed, with 1 where one could not be opened.
use std::cell::Cell;
use std::rc::Rc;
use workerman::prelude::*;
use workerman::{Limits, Phase};

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(url) = arguments.first().cloned() else {
        return Err("usage: echo_client URL [echo|sink] [CONNECTIONS]".into());
    };
    let echo = match arguments.get(1).map(String::as_str) {
        None | Some("echo") => true,
        Some("sink") => false,
        Some(other) => return Err(format!("echo or sink, not {other}").into()),
    };
    let connections = arguments.get(2).map_or(Ok(1), |n| n.parse())?;

    let worker = Worker::new();
    worker.on_worker_start(move |_| {
        let open = Rc::new(Cell::new(connections));
        for _ in 0..connections {
            dial(&url, echo, open.clone())?;
        }
        Ok(())
    });
    Worker::run_all()
}

fn dial(url: &str, echo: bool, open: Rc<Cell<usize>>) -> Result {
    let con = AsyncTcpConnection::<Ws>::new(url)?;
    con.set_limits(Limits::new().message_bytes(16 << 20).fragments(65_537));
    if echo {
        // Read no more while our answers wait: nothing is lost, however fast the server sends.
        con.set_backpressure(true);
        con.on_message(|con, data| con.send(data));
    } else {
        con.on_message(|_, _| {});
    }
    con.on_error(|_, _, failure| {
        if failure.phase() != Phase::Session {
            eprintln!("{failure}");
            std::process::exit(1);
        }
    });
    con.on_close(move |_| {
        open.set(open.get() - 1);
        if open.get() == 0 {
            Worker::stop_all();
        }
    });
    con.connect();
    Ok(())
}
