//! A WebSocket client over TLS; otherwise the manual's.
//!
//!     cargo run --example wss_client URL [--ca FILE] [--cert FILE --key FILE]
//!                                        [--danger-accept-any-certificate]
//!
//! `--ca`: trust these roots (PEM) instead of the public ones. `--cert` and `--key`: a certificate
//! of our own, for servers that ask for one.
use std::process::exit;
use workerman::prelude::*;

const USAGE: &str = "usage: wss_client URL [--ca FILE] [--cert FILE --key FILE] \
                     [--danger-accept-any-certificate]";

fn usage(complaint: &str) -> ! {
    eprintln!("{complaint}\n{USAGE}");
    exit(2)
}

/// The address and how to meet it, from the command line.
fn settings() -> (String, Tls) {
    let mut tls = Tls::new();
    let (mut url, mut cert, mut key) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut file =
            || arguments.next().unwrap_or_else(|| usage(&format!("{argument} needs a file")));
        match argument.as_str() {
            "--ca" => tls = tls.ca_file(file()),
            "--cert" => cert = Some(file()),
            "--key" => key = Some(file()),
            "--danger-accept-any-certificate" => tls = tls.danger_accept_invalid_certs(),
            _ if argument.starts_with('-') => usage(&format!("unknown option {argument}")),
            _ if url.is_some() => usage("more than one URL"),
            _ => url = Some(argument),
        }
    }
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => tls.identity_files(cert, key),
        (Some(both), None) => tls.identity(both),
        (None, Some(_)) => usage("--key without --cert"),
        (None, None) => tls,
    };
    (url.unwrap_or_else(|| usage("the URL is missing")), tls)
}

fn main() -> Result {
    let (url, tls) = settings();
    let worker = Worker::new();
    worker.on_worker_start(move |_| {
        let con = AsyncTcpConnection::<Ws>::new(&url)?;
        // `ws://host:443` and `wss://host` are both meant.
        con.set_transport(Transport::Ssl);
        con.set_tls(tls.clone())?;
        con.on_connect(|_| println!("tls connected"));
        con.on_websocket_connect(|con, response| {
            print!("{response}");
            con.send("hello")
        });
        con.on_message(|_, data| println!("recv: {data}"));
        con.on_error(|_, _, message| println!("error: {message}"));
        con.on_close(|con| {
            println!("connection closed and try to reconnect");
            con.reconnect(1);
        });
        con.connect();
        Ok(())
    });
    Worker::run_all()
}
