//! The manual's WebSocket client: greets, prints what comes, reconnects for ever.
//!
//!     cargo run --example ws_client [URL]
//!
//! Default: ws://127.0.0.1:1234
use workerman::prelude::*;

fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:1234".into());
    let worker = Worker::new();
    // When the process starts
    worker.on_worker_start(move |_| {
        let con = AsyncTcpConnection::<Ws>::new(&address)?;
        // Ping the server every 55 seconds (optional)
        con.set_websocket_ping_interval(55);
        // HTTP headers (optional)
        con.set_headers([
            ("Cookie", "PHPSID=82u98fjhakfusuanfnahfi; token=2hf9a929jhfihaf9i"),
            ("OtherKey", "values"),
        ])?;
        // Text or binary messages (optional)
        con.set_websocket_type(Ws::BINARY_TYPE_BLOB);
        // The TCP connection stands (optional)
        con.on_connect(|_| println!("tcp connected"));
        // The WebSocket handshake is complete (optional)
        con.on_websocket_connect(|con, response| {
            print!("{response}");
            con.send("hello")
        });
        con.on_message(|_, data| println!("recv: {data}"));
        con.on_error(|_, _, message| println!("error: {message}"));
        // Reconnect one second after a close (optional)
        con.on_close(|con| {
            println!("connection closed and try to reconnect");
            con.reconnect(1);
        });
        con.connect();
        Ok(())
    });
    Worker::run_all()
}
