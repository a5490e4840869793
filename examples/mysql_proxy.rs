//! A proxy in front of MySQL, or of any other TCP server: bytes go to and fro unchanged.
//!
//!     cargo run --example mysql_proxy [LISTEN] [TARGET] [by-hand]
//!
//! LISTEN is `127.0.0.1:4406` and TARGET `127.0.0.1:3306` where nothing is said. `pipe` does all of
//! it; with `by-hand` the same is done by callbacks, for those who want to look into what passes.
use workerman::prelude::*;
use workerman::{Connection, Role};

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or("127.0.0.1:4406".into());
    let target = arguments.next().unwrap_or("127.0.0.1:3306".into());
    let by_hand = arguments.next().is_some_and(|word| word == "by-hand");

    let proxy = Worker::<Tcp>::listen(&format!("tcp://{listen}"))?;
    let to = target.clone();
    proxy.on_worker_start(move |proxy| {
        let address = proxy.local_addr().ok_or("it does not listen")?;
        println!("tcp://{address} leads to tcp://{to}");
        Ok(())
    });
    proxy.on_connect(move |client| {
        let mysql = AsyncTcpConnection::<Tcp>::new(&format!("tcp://{target}"))?;
        // One side may have said all while the other still answers: `printf x | nc -N`.
        client.set_half_open(true);
        mysql.set_half_open(true);
        if by_hand {
            forward(client, mysql);
            forward(mysql, client);
        } else {
            client.pipe(mysql);
            mysql.pipe(client);
        }
        mysql.on_error(|mysql, _, failure| println!("{}: {failure}", mysql.remote_address()));
        // What the client sends meanwhile waits for the connection.
        mysql.connect();
        Ok(())
    });
    Worker::run_all()
}

/// What `from.pipe(to)` does. Handles are numbers, so each closure owns both.
fn forward<R: Role, S: Role>(from: Connection<Tcp, R>, to: Connection<Tcp, S>) {
    from.on_message(move |_, data| to.send(data));
    from.on_end(move |_| to.shutdown_write());
    from.on_close(move |_| to.close());
    // A side that reads slowly slows down the one that sends: nothing piles up here.
    to.on_buffer_full(move |_| from.pause_recv());
    to.on_buffer_drain(move |_| from.resume_recv());
}
