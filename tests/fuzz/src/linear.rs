//! Promise: twice the bytes take about twice the work and twice the memory, in whatever pieces
//! they come, and however damaged they are. `tests/fuzz/linear` builds and runs it.
#[path = "../../support/counting.rs"]
mod counting;
mod streams;

use counting::{peak_of_thread, volume_of_thread};
use std::process::ExitCode;
use streams::{Stream, streams};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Bytes of the shorter stream, about.
const LENGTH: usize = 4 << 10;

/// How much more than double is still "about".
const MORE: f64 = 1.2;

/// What a few calls cost whatever they hear: branches, bytes at once, bytes in all.
const BESIDE: [u64; 3] = [5_000, 8 << 10, 16 << 10];

static mut BRANCHES: u64 = 0;

/// The compiler has each branch call this; functions of such a name have no branches counted.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_pc() {
    // SAFETY: there is one thread.
    unsafe { BRANCHES += 1 }
}

/// Branches taken; the most bytes that were allocated at once; the bytes of all allocations, which
/// copies of copies would show.
#[derive(Clone, Copy, Debug)]
struct Cost([u64; 3]);

impl Cost {
    fn of(who: &str, bytes: &[u8], cut: usize) -> Cost {
        // SAFETY: there is one thread.
        let (branches, volume) = (unsafe { BRANCHES }, volume_of_thread());
        let peak = peak_of_thread(|| workerman::fuzzing::hear(who, bytes, cut));
        let volume = volume_of_thread() - volume;
        // SAFETY: as above.
        Cost([unsafe { BRANCHES } - branches, peak as u64, volume as u64])
    }

    /// The larger of each.
    fn or(self, other: Cost) -> Cost {
        Cost([0, 1, 2].map(|i| self.0[i].max(other.0[i])))
    }

    /// Whether that is about twice `half` at most.
    fn is_double(self, half: Cost) -> bool {
        let most = |i: usize| (half.0[i] as f64 * 2.0 * MORE) as u64 + BESIDE[i];
        (0..3).all(|i| self.0[i] <= most(i))
    }
}

/// Plays one stream in all ways. The lines say what was not linear.
fn play(stream: &Stream, faults: &mut Vec<String>) -> usize {
    let mut played = 0;
    let (short, long) = (stream.of(LENGTH), stream.of(2 * LENGTH));
    for cut in [usize::MAX, 1] {
        let right = Cost::of(stream.who, &short.whole(), cut);
        let mut judge = |what: &dyn std::fmt::Debug, half: Cost, bytes: &[u8]| {
            let twice = Cost::of(stream.who, bytes, cut);
            played += 1;
            if !twice.is_double(half) {
                let pieces = if cut == 1 { "byte by byte" } else { "whole" };
                let name = format!("{}, {}", stream.who, stream.name);
                faults.push(format!("{name}, {what:?}, {pieces}: {half:?}, of twice {twice:?}"));
            }
        };
        judge(&"right", right, &long.whole());
        for damage in streams::DAMAGES {
            // Damage may make a cheap stream of a dear one; no dearer than the right one's double.
            let half = Cost::of(stream.who, &short.damaged(damage), cut);
            judge(&damage, half.or(right), &long.damaged(damage));
        }
    }
    played
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |s: &Stream| wanted.is_empty() || wanted.iter().any(|who| who == s.who);
    let (mut played, mut faults) = (0, Vec::new());
    for stream in streams().iter().filter(|stream| is_wanted(stream)) {
        played += play(stream, &mut faults);
    }
    // SAFETY: there is one thread.
    let branches = unsafe { BRANCHES };
    faults.iter().for_each(|fault| println!("not linear: {fault}"));
    println!("-- linear: {played} streams, {} not; {branches} branches", faults.len());
    if faults.is_empty() && played > 0 && branches > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
