//! One turn of the loop; [`super`] says in which order.
use super::poller::{Poller, Seen};
use super::slab::Key;
use super::wheel::TimerKey;
use super::{Alarm, Loop, Readiness, clock, flag};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, mem};

impl Loop {
    /// One turn: waits at most so long, delivers all that happened.
    pub(crate) fn turn(self: &Rc<Self>, at_most: Option<Duration>) -> io::Result<()> {
        self.prepare()?;
        self.turn_number.set(self.turn_number.get().wrapping_add(1));
        self.deliveries.set(0);
        let was_stopping = self.is_stopping();
        self.deliver_queued();
        self.flush_dirty();
        let again = mem::take(&mut *self.ready.borrow_mut());
        // A stop that was remembered has begun right now: there may be nothing to wait for.
        let stops = self.is_stopping() && !was_stopping;
        let busy = stops || !again.is_empty() || self.has_queued() || self.inbox.has_mail();
        let wait = if busy { Some(Duration::ZERO) } else { self.wait_for(at_most) };
        let Some(mut poller) = self.poller.take() else {
            return Err(io::Error::other("the poll is in use"));
        };
        let waited = poller.wait(wait);
        self.read_clock();
        // The poller goes back before anything runs that may register a socket; what it saw is read
        // out of it one by one.
        self.serve(poller, waited)?;
        self.serve_again(again);
        self.flush_dirty();
        Ok(())
    }

    /// Until the next timer, at most `at_most`.
    fn wait_for(&self, at_most: Option<Duration>) -> Option<Duration> {
        let next = self.wheel.borrow().next();
        match (next, at_most) {
            (None, at_most) => at_most,
            (Some(at), None) => Some(at.saturating_duration_since(clock())),
            (Some(at), Some(most)) => Some(at.saturating_duration_since(clock()).min(most)),
        }
    }

    fn serve(self: &Rc<Self>, poller: Poller, waited: io::Result<()>) -> io::Result<()> {
        let mut sockets = mem::take(&mut *self.pool.borrow_mut().seen());
        let (mut signals, mut woken) = (false, false);
        sockets.extend(poller.seen().filter_map(|seen| match seen {
            Seen::Endpoint(key, readiness) => Some((key, readiness)),
            Seen::Signals => {
                signals = true;
                None
            }
            Seen::Woken => {
                woken = true;
                None
            }
        }));
        *self.poller.borrow_mut() = Some(poller);
        waited?;
        if signals {
            self.signals.deliver(self);
        }
        if woken || self.inbox.has_mail() {
            self.inbox.deliver(self);
            self.deliver_resolved();
        }
        self.fire_timers();
        for &(key, readiness) in &sockets {
            if let Some(endpoint) = self.find(key) {
                endpoint.handle_ready(self, readiness);
                self.after_callback();
            }
        }
        sockets.clear();
        *self.pool.borrow_mut().seen() = sockets;
        Ok(())
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
    pub(crate) fn flush_dirty(self: &Rc<Self>) {
        loop {
            let next = self.dirty.borrow_mut().pop();
            let Some(key) = next else { return };
            if let Some(endpoint) = self.find(key) {
                endpoint.handle_dirty(self);
                self.after_callback();
            }
        }
    }

    /// Collect what is due, re-arm, then call: a timer may delete itself or others.
    fn fire_timers(self: &Rc<Self>) {
        let now = self.now.get();
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
