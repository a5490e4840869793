//! Timers by deadline: add, remove and re-arm in constant time, whatever the number.
//!
//! Eight levels of 64 slots. A slot of the lowest level is one tick wide (2²⁰ ns, about a
//! millisecond), one of the next level 64 ticks, and so on up to 584 years. An entry stands on
//! the level of the highest group of six bits in which its tick differs from the current one. So
//! level and slot follow from its deadline and need no memory, and the first occupied slot of the
//! lowest occupied level holds the earliest deadline of all.
//!
//! When time reaches a slot of a higher level, its entries move down, in order. All entries with
//! one deadline are in one slot at any time, and each slot is in the order of arming: that is
//! what makes equal deadlines first in, first out, without a number in each entry.
//!
//! Ticks only sort: each entry keeps its deadline to the nanosecond and fires never earlier.
use super::slab::Generations;
use slab::Slab;
use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

const TICK_BITS: u32 = 20;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Enough for all of the 44 bits that a `u64` of nanoseconds has above a tick.
const LEVELS: usize = 8;
/// Nanoseconds that no deadline has.
const NEVER: u64 = u64::MAX;
/// As many entries of a slot are looked at to tell the exact next deadline.
const LOOK: usize = 32;

/// The name of one timer, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimerKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl TimerKey {
    /// Nobody's.
    pub(crate) const NONE: TimerKey = TimerKey { index: u32::MAX, generation: 0 };
}

/// Values with a deadline each; see the module's page.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    entries: Slab<Entry<T>>,
    generations: Generations,
    retired: usize,
    start: Instant,
    /// The tick that the slots are relative to; it lags behind the clock while nothing is due.
    tick: u64,
    /// Nanoseconds that `expire` has seen at most.
    now: u64,
    /// Which levels have an occupied slot, and which slots of each.
    levels: u8,
    slots: [u64; LEVELS],
    heads: [[Option<Link>; SLOTS]; LEVELS],
    /// What `next` answers, while it is known.
    next: Cell<Known>,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    /// Nanoseconds; [`NEVER`] where nothing is armed.
    At(u64),
    No,
}

/// One timer. The links of a slot form a ring, so that its end is found from its head.
#[derive(Debug)]
struct Entry<T> {
    /// `None`: a place that was retired.
    value: Option<T>,
    /// Nanoseconds since the wheel's start.
    deadline: u64,
    next: Link,
    /// `UNLINKED` where the timer is in no slot: it has fired, or it never will.
    previous: Link,
}

/// A place in the slab, plus one: the spare value makes the slab's own tag free of charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(NonZeroU32);

const UNLINKED: Link = Link(NonZeroU32::MAX);

impl Link {
    fn to(index: u32) -> Self {
        Link(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl<T> Wheel<T> {
    /// Deadlines before `start` count as `start`.
    pub(crate) fn new(start: Instant) -> Self {
        Wheel {
            entries: Slab::new(),
            generations: Generations::default(),
            retired: 0,
            start,
            tick: 0,
            now: 0,
            levels: 0,
            slots: [0; LEVELS],
            heads: [[None; SLOTS]; LEVELS],
            next: Cell::new(Known::At(NEVER)),
        }
    }

    /// `None`, and what lies centuries ahead: never fires, until it is re-armed.
    pub(crate) fn insert(&mut self, at: Option<Instant>, value: T) -> TimerKey {
        let deadline = self.nanoseconds(at);
        let vacant = self.entries.vacant_entry();
        let (index, generation) = self.generations.of_vacant(vacant.key());
        vacant.insert(Entry { value: Some(value), deadline, next: UNLINKED, previous: UNLINKED });
        self.link(index);
        TimerKey { index, generation }
    }

    /// Also for a timer that has fired. The value is handed out, to be dropped outside any borrow.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        if !self.generations.hold(key.index, key.generation) {
            return None;
        }
        self.unlink(key.index);
        let value = self.entries[key.index as usize].value.take();
        if self.generations.raise(key.index) {
            self.entries.remove(key.index as usize);
        } else {
            self.retired += 1;
        }
        value
    }

    /// Also for a timer that has fired. Counts as armed anew among those of one deadline.
    /// False: there is no such timer.
    pub(crate) fn rearm(&mut self, key: TimerKey, at: Option<Instant>) -> bool {
        if !self.generations.hold(key.index, key.generation) {
            return false;
        }
        self.unlink(key.index);
        self.entries[key.index as usize].deadline = self.nanoseconds(at);
        self.link(key.index);
        true
    }

    /// Appends what is due, by deadline, equal ones in the order of arming; each rests then, with
    /// its value and deadline, until it is re-armed or removed.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<TimerKey>) {
        self.now = self.now.max(self.nanoseconds(Some(now)).min(NEVER - 1));
        if let Known::At(next) = self.next.get()
            && self.now < next
        {
            return;
        }
        let (until, first) = (self.now >> TICK_BITS, due.len());
        while let Some((level, slot, begin)) = self.first_slot()
            && begin <= until
        {
            self.tick = begin;
            if level > 0 {
                self.move_down(level, slot);
                continue;
            }
            self.take_due(slot, due);
            if begin == until {
                break;
            }
        }
        self.tick = self.tick.max(until);
        self.next.set(Known::No);
        self.sort(&mut due[first..]);
    }

    /// When to call `expire`: the next deadline, or earlier by less than a slot's width where
    /// very many wait in one slot; never later. `None`: nothing is armed.
    pub(crate) fn next(&self) -> Option<Instant> {
        let at = match self.next.get() {
            Known::At(at) => at,
            Known::No => {
                let at = self.find_next();
                self.next.set(Known::At(at));
                at
            }
        };
        self.instant(at)
    }

    pub(crate) fn value(&self, key: TimerKey) -> Option<&T> {
        self.entry(key)?.value.as_ref()
    }

    /// Of a timer that has fired: the deadline that it had. `None`: never, or no such timer.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Instant> {
        self.instant(self.entry(key)?.deadline)
    }

    /// Armed ones, fired ones and those that never fire.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.retired
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order of places, which says nothing about age or deadline.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TimerKey, &T)> {
        self.entries.iter().filter_map(|(index, entry)| {
            let generation = self.generations.at(index);
            Some((TimerKey { index: index as u32, generation }, entry.value.as_ref()?))
        })
    }

    /// Removes those that `chosen` is true of, and hands out their values.
    pub(crate) fn drain_if(&mut self, mut chosen: impl FnMut(&T) -> bool) -> Vec<T> {
        let keys: Vec<TimerKey> =
            self.iter().filter(|&(_, value)| chosen(value)).map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(crate) fn drain_all(&mut self) -> Vec<T> {
        self.drain_if(|_| true)
    }

    fn entry(&self, key: TimerKey) -> Option<&Entry<T>> {
        if !self.generations.hold(key.index, key.generation) {
            return None;
        }
        self.entries.get(key.index as usize)
    }

    fn nanoseconds(&self, at: Option<Instant>) -> u64 {
        let Some(at) = at else { return NEVER };
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER)
    }

    fn instant(&self, nanoseconds: u64) -> Option<Instant> {
        if nanoseconds == NEVER {
            return None;
        }
        self.start.checked_add(Duration::from_nanos(nanoseconds))
    }

    /// Level and slot of a deadline. One that has passed stands in the current slot.
    fn place(&self, deadline: u64) -> (usize, usize) {
        let tick = (deadline >> TICK_BITS).max(self.tick);
        let level = (tick ^ self.tick | 1).ilog2() / SLOT_BITS;
        (level as usize, (tick >> (level * SLOT_BITS)) as usize % SLOTS)
    }

    /// Puts an unlinked entry last into the slot of its deadline.
    fn link(&mut self, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        if deadline == NEVER {
            return;
        }
        let (level, slot) = self.place(deadline);
        let this = Link::to(index);
        let (previous, next) = match self.heads[level][slot] {
            Some(head) => (self.entries[head.index()].previous, head),
            None => {
                self.heads[level][slot] = Some(this);
                self.slots[level] |= 1 << slot;
                self.levels |= 1 << level;
                (this, this)
            }
        };
        self.entries[index as usize].previous = previous;
        self.entries[index as usize].next = next;
        self.entries[previous.index()].next = this;
        self.entries[next.index()].previous = this;
        if let Known::At(at) = self.next.get() {
            self.next.set(Known::At(at.min(deadline)));
        }
    }

    /// Does nothing to an entry that is in no slot.
    fn unlink(&mut self, index: u32) {
        let Entry { deadline, next, previous, .. } = self.entries[index as usize];
        if previous == UNLINKED {
            return;
        }
        let (level, slot) = self.place(deadline);
        if next == Link::to(index) {
            self.empty(level, slot);
        } else {
            self.entries[previous.index()].next = next;
            self.entries[next.index()].previous = previous;
            if self.heads[level][slot] == Some(Link::to(index)) {
                self.heads[level][slot] = Some(next);
            }
        }
        self.entries[index as usize].previous = UNLINKED;
        if let Known::At(at) = self.next.get()
            && deadline <= at
        {
            self.next.set(Known::No);
        }
    }

    fn empty(&mut self, level: usize, slot: usize) -> Option<Link> {
        self.slots[level] &= !(1 << slot);
        if self.slots[level] == 0 {
            self.levels &= !(1 << level);
        }
        self.heads[level][slot].take()
    }

    /// Level, slot and first tick of the earliest occupied slot.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros();
        // Nothing stands before the current slot, so the lowest bit is the earliest.
        let slot = self.slots[level as usize].trailing_zeros();
        let below = level * SLOT_BITS;
        let block = self.tick >> below >> SLOT_BITS << SLOT_BITS;
        Some((level as usize, slot as usize, (block | u64::from(slot)) << below))
    }

    fn find_next(&self) -> u64 {
        let Some((level, slot, begin)) = self.first_slot() else { return NEVER };
        let Some(head) = self.heads[level][slot] else { return NEVER };
        // Once time is within the slot, only the exact answer lets the loop sleep.
        let look = if begin == self.tick { usize::MAX } else { LOOK };
        let (mut at, mut earliest) = (head, NEVER);
        for _ in 0..look {
            let entry = &self.entries[at.index()];
            earliest = earliest.min(entry.deadline);
            at = entry.next;
            if at == head {
                return earliest;
            }
        }
        earliest.min(begin << TICK_BITS)
    }

    /// Spreads a slot that time has reached over the levels below.
    fn move_down(&mut self, level: usize, slot: usize) {
        let Some(head) = self.empty(level, slot) else { return };
        let mut at = head;
        loop {
            let next = self.entries[at.index()].next;
            self.link(at.index() as u32);
            at = next;
            if at == head {
                return;
            }
        }
    }

    /// Takes what is due out of a slot of the lowest level.
    fn take_due(&mut self, slot: usize, due: &mut Vec<TimerKey>) {
        let Some(head) = self.heads[0][slot] else { return };
        let last = self.entries[head.index()].previous;
        let mut at = head;
        loop {
            let Entry { deadline, next, .. } = self.entries[at.index()];
            if deadline <= self.now {
                let index = at.index() as u32;
                self.unlink(index);
                // Free until it is armed again: here it remembers the order of arming.
                self.entries[index as usize].next = Link::to(due.len() as u32);
                due.push(TimerKey { index, generation: self.generations.at(at.index()) });
            }
            if at == last {
                return;
            }
            at = next;
        }
    }

    fn sort(&self, due: &mut [TimerKey]) {
        due.sort_unstable_by_key(|key| {
            let entry = &self.entries[key.index as usize];
            (entry.deadline, entry.next.0)
        });
    }

    #[cfg(test)]
    fn age(&mut self, index: u32, generation: u32) {
        self.generations.set(index, generation);
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
