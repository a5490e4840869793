//! What a process holds, and whether that grew.
use std::fmt;

/// What both sides hold at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) resident_kib: usize,
    pub(crate) descriptors: usize,
    pub(crate) places: usize,
    pub(crate) timers: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { resident_kib, descriptors, places, timers } = self;
        write!(f, "{resident_kib} KiB, {descriptors} descriptors, {places} places, {timers} timers")
    }
}

impl Held {
    /// `loop_holds`: places and timers, as the process itself says.
    pub(crate) fn by(process: u32, loop_holds: (usize, usize)) -> Held {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let resident = line.trim().trim_end_matches(" kB").parse().expect("a number");
        let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
        Held {
            resident_kib: resident,
            descriptors: open.count(),
            places: loop_holds.0,
            timers: loop_holds.1,
        }
    }

    fn most(all: &[Held]) -> Held {
        all.iter().fold(Held::default(), |most, held| Held {
            resident_kib: most.resident_kib.max(held.resident_kib),
            descriptors: most.descriptors.max(held.descriptors),
            places: most.places.max(held.places),
            timers: most.timers.max(held.timers),
        })
    }
}

/// Processor time that a process has used, in seconds.
pub(crate) fn used(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let behind_name = stat.rsplit(") ").next().expect("fields");
    let fields: Vec<&str> = behind_name.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    // utime and stime; a tick is a hundredth of a second on every Linux that Rust knows.
    (ticks(11) + ticks(12)) / 100.0
}

/// The first quarter warms up; the last may not hold more than the second did, but for 1 MiB and a
/// fiftieth of memory, and for `swing` connections that happen to be open.
pub(crate) fn judge(side: &str, samples: &[Held], swing: usize) {
    let quarter = samples.len() / 4;
    assert!(quarter > 0, "too few samples: {}", samples.len());
    let second = Held::most(&samples[quarter..2 * quarter]);
    let last = Held::most(&samples[samples.len() - quarter..]);
    println!("-- soak: {side}, second quarter: {second}");
    println!("-- soak: {side}, last quarter: {last}");
    let memory = second.resident_kib + second.resident_kib / 50 + 1024;
    assert!(last.resident_kib <= memory, "{side}: memory grows: {second}, then {last}");
    assert!(last.descriptors <= second.descriptors + swing, "{side}: {second}, then {last}");
    assert!(last.places <= second.places + swing, "{side}: {second}, then {last}");
    assert!(last.timers <= second.timers + swing, "{side}: {second}, then {last}");
}
