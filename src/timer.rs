//! `Timer::add(2.5, ..)`: seconds as PHP writes them, or a `Duration`.
use crate::error::Settle;
use crate::events::wheel::TimerKey;
use crate::events::{Callback, Settled, with_loop};
use crate::{Interval, Outcome};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

/// Shorter periods would only keep the loop awake.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

/// A timer's handle: eight bytes, `Copy`, `!Send`. One whose timer has ended is quiet.
///
/// Timers run on the loop of the thread that made them, by the monotonic clock: never early, equal
/// deadlines in the order in which they were made. A repeating timer that is late runs once and
/// keeps its phase. One that is made in a callback fires in a later turn at the earliest. (Manual:
/// Timer.)
///
/// ```
/// use workerman::{Timer, Worker};
///
/// let worker = Worker::new();
/// worker.on_worker_start(|_| {
///     let mut left = 3;
///     Timer::add(0.01, move |timer| {
///         left -= 1;
///         if left == 0 {
///             timer.del();
///             Worker::stop_all();
///         }
///     });
/// });
/// Worker::run_all().unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timer {
    key: TimerKey,
    _not_send: PhantomData<*const ()>,
}

/// `timer#4294967297`: its [`id`](Timer::id).
impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            0 => f.write_str("(timer that was never armed)"),
            id => write!(f, "timer#{id}"),
        }
    }
}

impl Timer {
    fn of(key: TimerKey) -> Timer {
        Timer { key, _not_send: PhantomData }
    }

    /// Calls `f` every so often, first after one interval; at least 1 ms apart. The handle is
    /// passed in, so that `timer.del()` ends it. An error that `f` returns is logged, and the timer
    /// goes on.
    ///
    /// A negative or NaN interval arms nothing: an error line says so, and the handle has ended
    /// already.
    pub fn add<O: Outcome>(
        every: impl Into<Interval>,
        mut f: impl FnMut(Timer) -> O + 'static,
    ) -> Timer {
        let every = every.into();
        arm(every, true, Rc::new(RefCell::new(move |key| Settle::settle(f(Timer::of(key))))))
    }

    /// Calls `f` once: PHP's `Timer::add(.., persistent: false)` and `Timer::delay`.
    pub fn delay<O: Outcome>(after: impl Into<Interval>, f: impl FnOnce() -> O + 'static) -> Timer {
        let mut once = Some(f);
        let call = move |_| match once.take() {
            Some(f) => Settle::settle(f()),
            None => Ok(()),
        };
        arm(after.into(), false, Rc::new(RefCell::new(call)))
    }

    /// A number that no other timer of this loop has while this one lives; 0 for one that was never
    /// armed.
    pub fn id(&self) -> u64 {
        if self.key == TimerKey::NONE {
            return 0;
        }
        (u64::from(self.key.generation) << 32 | u64::from(self.key.index)) + 1
    }

    /// Ends it. False where it had ended already. Inside a callback it takes effect at once, also
    /// for timers that are due.
    pub fn del(self) -> bool {
        with_loop(|lp| lp.delete_timer(self.key)).unwrap_or(false)
    }

    /// Ends all timers that the program made in this loop; the library's own deadlines stay.
    pub fn del_all() {
        with_loop(|lp| lp.delete_program_timers());
    }
}

fn arm(interval: Interval, repeats: bool, call: Callback<dyn FnMut(TimerKey) -> Settled>) -> Timer {
    let Some(length) = interval.checked() else {
        log::error!("a timer with a negative or NaN interval is not armed: give 0 or more seconds");
        return Timer::of(TimerKey::NONE);
    };
    let length = if repeats { length.max(SHORTEST_PERIOD) } else { length };
    let key = with_loop(|lp| lp.add_timer(length, repeats, call));
    Timer::of(key.unwrap_or(TimerKey::NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_prints_as_its_number() {
        let timer = Timer::delay(3600, || ());
        assert_eq!(format!("{timer:?}"), format!("timer#{}", timer.id()));
        let never = Timer::delay(-1, || ());
        assert_eq!(format!("{never:?}"), "(timer that was never armed)");
    }
}
