//! Promise: whatever the network does, there is one open and one close, nothing comes twice, altered
//! or too late, what was sent before an orderly close arrives, and nothing is left behind.
//!
//! Each run follows from a seed. `WORKERMAN_CHAOS=5000 cargo test --release --test chaos` plays so
//! many, `WORKERMAN_CHAOS_SEED=7 cargo test --test chaos` this one, and shows what happened.
#[path = "../support/mod.rs"]
mod support;

mod http;
mod oracle;
mod plan;
mod play;
mod proxy;

use plan::Plan;
use play::World;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A run mostly waits: these share a core or two.
const THREADS: u64 = 12;
const RUNS: u64 = 300;

#[derive(Default)]
struct Found {
    counts: HashMap<String, u64>,
    faults: BTreeMap<u64, String>,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text:?}: {e}")))
}

fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").map_or(0, Iterator::count)
}

#[test]
fn one_open_one_close_and_nothing_lost_or_left_whatever_the_network_does() {
    let seed = number("WORKERMAN_CHAOS_SEED");
    let runs = if seed.is_some() { 1 } else { number("WORKERMAN_CHAOS").unwrap_or(RUNS) };
    let first = seed.unwrap_or(1);
    let identity =
        cfg!(any(feature = "tls", feature = "tls-aws-lc")).then(support::peers::identity);
    let next = AtomicU64::new(first);
    let found = Mutex::new(Found::default());
    let (begin, before) = (Instant::now(), descriptors());
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(runs) {
            scope.spawn(|| {
                let world = World::new(identity.as_ref().map(|identity| identity.path()));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs || enough(&found) {
                        break;
                    }
                    play(&world, seed, runs == 1, &found);
                }
                if !world.end() {
                    let mut found = found.lock().expect("no thread has died");
                    found.faults.insert(0, "a loop does not end".into());
                }
            });
        }
    });
    let found = found.into_inner().expect("no thread has died");
    let counts: BTreeMap<_, _> = found.counts.iter().collect();
    println!("-- chaos: {runs} runs in {:?}: {counts:?}", begin.elapsed());
    let all: Vec<_> = found.faults.values().take(5).map(String::as_str).collect();
    assert!(found.faults.is_empty(), "{} runs failed:\n{}", found.faults.len(), all.join("\n"));
    assert_eq!(left(before), 0, "descriptors are left");
}

/// So many failures tell what there is to tell, and a run that hangs takes long.
fn enough(found: &Mutex<Found>) -> bool {
    found.lock().expect("no thread has died").faults.len() >= 10
}

/// How many more descriptors there are than before, when all that was closing has closed.
fn left(before: usize) -> usize {
    let end = Instant::now() + Duration::from_secs(5);
    while descriptors() > before && Instant::now() < end {
        std::thread::yield_now();
    }
    descriptors().saturating_sub(before)
}

fn play(world: &World, seed: u64, show: bool, found: &Mutex<Found>) {
    support::log::keep_log();
    let plan = Plan::of(seed);
    let shown = format!("{plan:#?}");
    let oracle = world.play(plan);
    let faults = oracle.faults();
    let mut found = found.lock().expect("no thread has died");
    oracle.count(&mut found.counts);
    if show {
        println!("{shown}\n{}", oracle.lines().join("\n"));
    }
    if !faults.is_empty() {
        // Another run of the same plan need not go the same way.
        let lines = oracle.lines();
        let last = &lines[lines.len().saturating_sub(60)..];
        let story = format!(
            "{}\nagain: WORKERMAN_CHAOS_SEED={seed} cargo test --test chaos\n  {}",
            faults.join("\n"),
            last.join("\n  ")
        );
        found.faults.insert(seed, story);
    }
}
