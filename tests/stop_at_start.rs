//! Promise: a stop that is asked for before the run, or as it starts, is remembered and ends it at
//! once.
use std::time::{Duration, Instant};
use workerman::prelude::*;

#[track_caller]
fn ends_at_once() {
    let begin = Instant::now();
    Worker::run_all().expect("a stop is no error");
    let passed = begin.elapsed();
    assert!(passed < Duration::from_secs(1), "{passed:?}");
}

#[test]
fn in_on_worker_start() {
    Worker::new().on_worker_start(|_| Worker::stop_all());
    ends_at_once();
}

#[test]
fn before_the_run() {
    Worker::new();
    Worker::stop_all();
    ends_at_once();
}

#[test]
fn in_on_worker_start_of_a_worker_that_listens() {
    let worker = Worker::<Text>::listen("text://127.0.0.1:0").expect("a good address");
    worker.on_worker_start(|_| Worker::stop_all());
    ends_at_once();
}
