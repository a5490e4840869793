//! Promise: out of descriptors, accepting pauses, the log says so, nothing spins, and those who wait
//! come in later. In a process of its own, whose limit it lowers.
#[path = "support/mod.rs"]
mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::log::{keep_log, logged_with};
use support::turn_until;
use workerman::prelude::*;

fn allow(descriptors: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(descriptors), maximum };
    setrlimit(Resource::Nofile, limit).expect("a lower limit");
}

#[test]
fn out_of_descriptors_accepting_pauses_and_goes_on() {
    keep_log();
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a worker");
    Worker::turn(0).expect("a turn");
    let addr = worker.local_addr().expect("it listens");
    let peer = || TcpStream::connect(addr).expect("the kernel takes it");
    let mut peers: Vec<TcpStream> = (0..10).map(|_| peer()).collect();
    let open = std::fs::read_dir("/dev/fd").expect("a list").count() as u64;
    allow(open + 2);
    let said = || logged_with("ERROR", "accepting pauses for 100ms");

    let (begin, mut turns) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(450) {
        Worker::turn(0.05).expect("a turn");
        turns += 1;
        if turns == 2 {
            // A newcomer's event is no reason to try, and to say it, again.
            peers.pop();
            peers.push(peer());
        }
    }
    assert!((1..8).contains(&worker.connections().len()), "{}", worker.connections().len());
    assert!((1..=5).contains(&said()), "{} lines", said());
    assert!(turns < 30, "{turns} turns: it spins");
    assert_eq!(
        logged_with("ERROR", "raise the limit (ulimit -n), or set Limits::connections"),
        said()
    );

    allow(open + 20);
    turn_until(|| worker.connections().len() >= 10);
}
