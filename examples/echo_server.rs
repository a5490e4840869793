//! A WebSocket server that sends back what comes, text as text and bytes as bytes.
//!
//!     cargo run --example echo_server [PORT or ADDRESS]
//!
//! ADDRESS is `127.0.0.1:9001` (the default) or `websocket://0.0.0.0:9001`. Its limits are raised
//! to what the Autobahn test suite sends: 16 MiB, and 65 536 pieces with an empty one behind them.
//! Clients that offer compression get it, for the smallest messages too, so that the suite sees it.
use workerman::Limits;
use workerman::prelude::*;

fn main() -> Result {
    let address = match std::env::args().nth(1) {
        None => "127.0.0.1:9001".into(),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => format!("127.0.0.1:{port}"),
        Some(address) => address,
    };
    let address = if address.contains("://") { address } else { format!("websocket://{address}") };
    let worker = Worker::<Websocket>::listen(&address)?;
    worker.set_limits(Limits::new().message_bytes(16 << 20).fragments(65_537));
    #[cfg(feature = "deflate")]
    worker.set_websocket_deflate(workerman::Deflate::new().threshold(0));
    worker.on_message(|con, data| con.send(data));
    Worker::run_all()
}
