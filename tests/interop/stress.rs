//! Ten thousand reconnects, with nothing left behind.
use crate::peers::{Peer, Process};
use crate::turn_until;
use std::cell::Cell;
use std::fs;
use std::process::Command;
use std::rc::Rc;
use workerman::prelude::*;

const RECONNECTS: u32 = 10_000;
/// The first ones warm up what is kept on purpose.
const WARM: u32 = 1000;
const URL: &str = "WORKERMAN_STRESS_URL";

/// Open descriptors and resident KiB of this process.
fn footprint() -> (usize, u64) {
    let descriptors = fs::read_dir("/proc/self/fd").expect("Linux shows them").count();
    let status = fs::read_to_string("/proc/self/status").expect("Linux shows it");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    (descriptors, resident.expect("a number of KiB"))
}

/// In a process of its own, since other tests open descriptors, too.
#[test]
fn ten_thousand_reconnects_leave_descriptors_and_memory_flat() {
    if let Ok(url) = std::env::var(URL) {
        return reconnect(&url);
    }
    let server = Peer::Python.server(&[]);
    let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
    let name = "stress::ten_thousand_reconnects_leave_descriptors_and_memory_flat";
    command.args(["--exact", name, "--nocapture"]).env(URL, server.url("/die"));
    let mut child = Process::start("reconnecting client", command, "it is this very program");
    let mut lines = Vec::new();
    while let Some(line) = child.next() {
        lines.push(line);
    }
    let status = child.end(crate::peers::PATIENCE);
    assert!(status.success(), "{lines:?}\n{}", child.errors());
    assert!(lines.iter().any(|line| line.contains("reconnects: ")), "{lines:?}");
}

fn reconnect(url: &str) {
    let con = AsyncTcpConnection::<Ws>::new(url).expect("a good address");
    let (opened, closed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let count = opened.clone();
    con.on_websocket_connect(move |con, _| {
        count.set(count.get() + 1);
        con.send("die, please")
    });
    con.on_error(|_, _, failure| panic!("{failure}"));
    let count = closed.clone();
    con.on_close(move |con| {
        count.set(count.get() + 1);
        if count.get() < RECONNECTS {
            con.reconnect(0);
        }
    });
    con.connect();
    let mut warm = None;
    let mut said = 0;
    while closed.get() < RECONNECTS {
        let wanted = (said + 500).min(RECONNECTS);
        turn_until("the next five hundred", || closed.get() >= wanted);
        said = wanted;
        println!("{said}"); // So that whoever waits sees that it goes on.
        if warm.is_none() && said >= WARM {
            warm = Some(footprint());
        }
    }
    let (warm, end) = (warm.expect("more than the warming up"), footprint());
    assert_eq!(opened.get(), RECONNECTS);
    assert!(end.0 <= warm.0, "descriptors: {} then {}", warm.0, end.0);
    assert!(end.1 <= warm.1 + 1024, "KiB resident: {} then {}", warm.1, end.1);
    println!("{RECONNECTS} reconnects: {warm:?} then {end:?}");
}
