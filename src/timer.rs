//! Timers: `Timer::add(2.5, ..)`.

/// A timer's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timer {
    index: u32,
}
