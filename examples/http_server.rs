//! The smallest web server: answers everything with the same words.
//!
//!     cargo run --release --example http_server [PORT]
//!     curl http://127.0.0.1:2345/
use workerman::prelude::*;

fn main() -> Result {
    let port = std::env::args().nth(1).unwrap_or("2345".into());
    let worker = Worker::<Http>::listen(&format!("http://0.0.0.0:{port}"))?;
    worker.on_message(|con, _request| con.send("Hello, world!"));
    Worker::run_all()
}
