//! A server of lines for `telnet` and `nc`: sends each back.
//!
//!     cargo run --example text_server [PORT]
//!
//! Then, from another terminal, `telnet 127.0.0.1 5678`, or `printf 'hello\n' | nc -N 127.0.0.1
//! 5678`. A line `quit` ends the connection.
use workerman::prelude::*;

fn main() -> Result {
    let port = std::env::args().nth(1).unwrap_or("5678".into());
    let worker = Worker::<Text>::listen(&format!("text://127.0.0.1:{port}"))?;
    worker.on_worker_start(|worker| {
        let address = worker.local_addr().ok_or("it does not listen")?;
        println!("text://{address} sends lines back");
        Ok(())
    });
    worker.on_message(|con, line| match line.as_str() {
        Some("quit") => con.close_with("bye"),
        _ => drop(con.send(line)),
    });
    Worker::run_all()
}
