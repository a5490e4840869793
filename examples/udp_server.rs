//! Answers every datagram with itself, and prints first where it listens.
//!
//!     cargo run --release --example udp_server [PORT]
//!     echo hello | nc -u -w1 127.0.0.1 9090
use workerman::prelude::*;

fn main() -> Result {
    let port = std::env::args().nth(1).unwrap_or("9090".into());
    let worker = Worker::<Udp>::listen(&format!("udp://0.0.0.0:{port}"))?;
    worker.on_worker_start(|worker| {
        // With port 0 the system chooses.
        println!("udp://{}", worker.local_addr().ok_or("it does not listen")?);
        Ok(())
    });
    worker.on_message(|con, data| con.send(data));
    Worker::run_all()
}
