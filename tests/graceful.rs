//! Promise: SIGQUIT lets connections end by themselves, and begins no others meanwhile. Handlers are
//! installed on the main thread only: a test without the harness, whose threads are others.
use std::cell::RefCell;
use std::process::Command;
use std::rc::Rc;
use workerman::prelude::*;

fn main() -> Result {
    let short = workerman::spawn(|| {
        let worker = Worker::<Text>::listen("text://127.0.0.1:0")?;
        worker.on_connect(|con| con.close());
        Ok(())
    })?;
    let again = short.addr();
    let seen: Rc<RefCell<Vec<&str>>> = Rc::default();
    let lines = seen.clone();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0")?;
    worker.on_worker_start(move |worker| {
        let addr = worker.local_addr().expect("it listens");
        let long = AsyncTcpConnection::<Text>::new(&format!("text://{addr}"))?;
        let l = lines.clone();
        long.on_close(move |_| l.borrow_mut().push("the long one ends"));
        long.connect();
        let con = AsyncTcpConnection::<Text>::new(&format!("text://{again}"))?;
        let l = lines.clone();
        con.on_connect(move |_| l.borrow_mut().push("connected"));
        let l = lines.clone();
        con.on_close(move |con| {
            l.borrow_mut().push("closed");
            con.reconnect(0.3);
        });
        con.connect();
        Timer::delay(0.1, || {
            let own = std::process::id().to_string();
            Command::new("kill").args(["-QUIT", &own]).status().expect("a shell's tools");
        });
        Timer::delay(0.6, move || long.close());
        Timer::delay(10, || panic!("it does not end"));
        Ok(())
    });
    Worker::run_all()?;
    // A reconnect that waits does not dial while the worker stops.
    assert_eq!(*seen.borrow(), ["connected", "closed", "the long one ends"]);
    println!("test graceful ... ok");
    Ok(())
}
