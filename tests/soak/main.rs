//! Promise: under echo at half load, idle connections and reconnects without end, neither server nor
//! client grows: memory, descriptors, places and timers stay flat, and go back when all has closed.
//!
//! A few seconds in `cargo test`; `WORKERMAN_SOAK_SECONDS=3600 cargo test --release --test soak` is
//! the hour by hand, with 10 000 idle connections (`WORKERMAN_SOAK_IDLE`). The server is a process
//! of its own, this one with an argument, so that each side is measured alone, from `/proc`.
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod measure;

#[cfg(target_os = "linux")]
fn main() {
    // As of every test, a part of its name asks for it.
    match std::env::args().skip(1).find(|word| !word.starts_with('-')).as_deref() {
        Some("server") => load::serve(),
        Some(other) if !"soak".contains(other) => println!("-- soak: not asked for"),
        _ => load::soak(),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("soak: not done, it measures by /proc");
}
