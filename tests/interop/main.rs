//! Promise: this library talks with servers and clients that no one here wrote.
//!
//! Python `websockets`, `aiohttp` and `requests`, Node `ws`, nginx, curl, wrk and Chromium must be installed (`.ci/run` does it); where one is
//! missing its tests fail and say what to install.
mod browser;
mod clients;
#[cfg(feature = "deflate")]
mod compressed;
mod http;
mod peers;
mod programs;
mod pushing;
mod servers;
mod stress;

use std::time::Instant;
use workerman::Worker;

/// Turns this thread's loop until `done`, within the patience of a test.
#[track_caller]
fn turn_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < peers::PATIENCE, "waited in vain: {what}");
        let running = Worker::turn(0.05).expect("no other loop runs in this thread");
        assert!(running || done(), "the loop ended: {what}");
    }
}
