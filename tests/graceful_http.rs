//! Promise: after SIGQUIT an http connection ends behind its next answer, which says so; an answer
//! that is owed is still given. Handlers are installed on the main thread only: a test without the
//! harness, whose threads are others.
mod support;

use std::io::Write;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;
use support::http::get;
use support::peers::read_to_end;
use support::{raw_connect, read_bytes, read_head};
use workerman::prelude::*;

fn main() -> Result {
    let (listens, addr) = channel();
    let (owed, is_owed) = channel();
    let worker = Worker::<Http>::listen("http://127.0.0.1:0")?;
    worker.on_worker_start(move |worker| {
        listens.send(worker.local_addr().expect("it listens")).expect("the client waits");
        Timer::delay(20, || panic!("it does not end"));
        Ok(())
    });
    worker.on_message(move |con, request| {
        if request.path() == "/late" {
            owed.send(()).expect("the client waits");
            Timer::delay(0.3, move || {
                con.send("late");
            });
        } else {
            con.send("at once");
        }
    });
    let client = std::thread::spawn(move || {
        let addr = addr.recv_timeout(Duration::from_secs(20)).expect("it starts");
        let (mut idle, mut waits) = (raw_connect(addr), raw_connect(addr));
        idle.write_all(get("/", "").as_bytes()).expect("a request");
        assert!(!read_head(&mut idle).contains("Connection: close"));
        assert_eq!(read_bytes(&mut idle, 7), b"at once");
        waits.write_all(get("/late", "").as_bytes()).expect("a request");
        is_owed.recv_timeout(Duration::from_secs(20)).expect("it was delivered");
        let own = std::process::id().to_string();
        Command::new("kill").args(["-QUIT", &own]).status().expect("a shell's tools");
        let late = String::from_utf8(read_to_end(&mut waits)).expect("text");
        assert!(late.contains("Connection: close\r\n") && late.ends_with("late"), "{late}");
        // Between two requests: the next one is still answered.
        idle.write_all(get("/", "").as_bytes()).expect("another request");
        let next = String::from_utf8(read_to_end(&mut idle)).expect("text");
        assert!(next.contains("Connection: close\r\n") && next.ends_with("at once"), "{next}");
    });
    Worker::run_all()?;
    client.join().expect("the client's part");
    println!("test graceful_http ... ok");
    Ok(())
}
