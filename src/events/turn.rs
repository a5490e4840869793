//! One turn of the loop; [`super`] says in which order.
use super::poller::Seen;
use super::slab::Key;
use super::wheel::TimerKey;
use super::{Alarm, Loop, Readiness, clock, flag};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, mem};

/// What a poll saw beside sockets.
#[derive(Default)]
struct Others {
    signals: bool,
    woken: bool,
}

impl Loop {
    /// Places in use and timers, armed or not.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.endpoints.borrow().len(), self.wheel.borrow().len())
    }

    /// One turn: waits at most so long, delivers all that happened.
    pub(crate) fn turn(self: &Rc<Self>, at_most: Option<Duration>) -> io::Result<()> {
        self.turn_number.set(self.turn_number.get().wrapping_add(1));
        self.deliveries.set(0);
        // A stop that was remembered may begin right now: then there may be nothing to wait for.
        let stops = self.has_queued() && self.begins_to_stop();
        self.flush_dirty();
        let again = self.take_ready();
        let busy = stops || again.is_some() || self.has_queued();
        let timer = self.wheel.borrow().next();
        let wait = if busy { Some(Duration::ZERO) } else { until(timer, at_most) };
        let others = self.wait(wait)?;
        self.now.set(None);
        if others.signals {
            self.signals.deliver(self);
        }
        if others.woken {
            self.inbox.deliver(self);
            self.deliver_resolved();
        }
        if timer.is_some() {
            self.fire_timers();
        }
        let mut next = 0;
        loop {
            let seen = self.seen.borrow().get(next).copied();
            let Some((key, readiness)) = seen else { break };
            next += 1;
            if let Some(endpoint) = self.find(key) {
                endpoint.handle_ready(self, readiness);
                self.after_callback();
            }
        }
        if let Some(again) = again {
            self.serve_again(again);
        }
        self.flush_dirty();
        Ok(())
    }

    /// Delivers what the turn before has left; whether the stop began with it.
    #[inline(never)]
    fn begins_to_stop(self: &Rc<Self>) -> bool {
        let was_stopping = self.is_stopping();
        self.after_callback();
        self.is_stopping() && !was_stopping
    }

    /// The ready list, as it is now: what is listed from here on belongs to the next turn.
    fn take_ready(&self) -> Option<Vec<Key>> {
        let mut ready = self.ready.borrow_mut();
        if ready.is_empty() { None } else { Some(mem::take(&mut *ready)) }
    }

    /// Waits, and notes what was seen. No user code runs here, so the poller stays where it is.
    fn wait(&self, at_most: Option<Duration>) -> io::Result<Others> {
        let mut others = Others::default();
        let mut poller = self.poller.borrow_mut();
        let Some(poller) = poller.as_mut() else {
            return Err(io::Error::other("the loop has no poll"));
        };
        poller.wait(at_most)?;
        let mut sockets = self.seen.borrow_mut();
        sockets.clear();
        for seen in poller.seen() {
            match seen {
                Seen::Endpoint(key, readiness) => sockets.push((key, readiness)),
                Seen::Signals => others.signals = true,
                Seen::Woken => others.woken = true,
            }
        }
        Ok(others)
    }

    fn serve_again(self: &Rc<Self>, mut again: Vec<Key>) {
        for key in again.drain(..) {
            if let Some(endpoint) = self.find(key) {
                endpoint.handle_ready(self, Readiness::AGAIN);
                self.after_callback();
            }
        }
        // Its room serves on, unless the turn has begun a longer list.
        let mut ready = self.ready.borrow_mut();
        if ready.is_empty() && ready.capacity() < again.capacity() {
            *ready = again;
        }
    }

    /// Connections that others wrote to leave in this turn too.
    #[inline]
    fn flush_dirty(self: &Rc<Self>) {
        if self.flags.get() & flag::DIRTY != 0 {
            self.flush_all();
        }
    }

    #[inline(never)]
    fn flush_all(self: &Rc<Self>) {
        loop {
            let next = self.dirty.borrow_mut().pop();
            let Some(key) = next else { break };
            if let Some(endpoint) = self.find(key) {
                endpoint.handle_dirty(self);
                self.after_callback();
            }
        }
        self.set_flag(flag::DIRTY, false);
    }

    /// Collect what is due, re-arm, then call: a timer may delete itself or others.
    fn fire_timers(self: &Rc<Self>) {
        let now = self.now();
        let mut due = self.due.take();
        self.wheel.borrow_mut().expire(now, &mut due);
        for key in due.drain(..) {
            self.fire(key, now);
        }
        self.due.set(due);
    }

    fn fire(self: &Rc<Self>, key: TimerKey, now: Instant) {
        let mut wheel = self.wheel.borrow_mut();
        let at = wheel.deadline(key);
        match wheel.value(key) {
            None => {}
            // A callback of this very turn has put it off.
            Some(_) if at.is_none_or(|at| at > now) => {}
            Some(&Alarm::Endpoint(endpoint)) => {
                drop(wheel);
                if let Some(endpoint) = self.find(endpoint) {
                    endpoint.handle_alarm(self);
                    self.after_callback();
                }
            }
            Some(Alarm::Program { .. }) if self.flags.get() & flag::PROGRAM_TIMERS_OFF != 0 => {}
            Some(Alarm::Program { every, call }) => {
                let (every, call) = (*every, call.clone());
                let ended = match every {
                    Some(every) => {
                        wheel.rearm(key, next_in_phase(at.unwrap_or(now), every, now));
                        None
                    }
                    None => wheel.remove(key),
                };
                drop(wheel);
                if let Err(e) = self.call(|| (call.borrow_mut())(key)) {
                    log::error!("a timer's callback failed: {e}");
                }
                drop(ended);
                self.after_callback();
            }
        }
    }
}

/// How long to wait for a timer, at most `at_most`.
fn until(timer: Option<Instant>, at_most: Option<Duration>) -> Option<Duration> {
    let Some(at) = timer else { return at_most };
    let left = at.saturating_duration_since(clock());
    Some(at_most.map_or(left, |most| most.min(left)))
}

/// When a repeating timer that was due at `at` is due again: later than now, in its own phase.
fn next_in_phase(at: Instant, every: Duration, now: Instant) -> Option<Instant> {
    let next = at.checked_add(every)?;
    if next > now {
        return Some(next);
    }
    let late = now.saturating_duration_since(at).as_nanos();
    let past = late % every.as_nanos().max(1);
    let rest = every.as_nanos() - past;
    now.checked_add(Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX)))
}
