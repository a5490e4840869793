//! The wheel against a sorted map.
use super::super::slab::RETIRED;
use super::*;
use std::collections::{BTreeMap, HashMap};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

fn fired<T: Copy>(wheel: &mut Wheel<T>, now: Instant) -> Vec<T> {
    let mut due = Vec::new();
    wheel.expire(now, &mut due);
    due.iter().filter_map(|&key| wheel.value(key).copied()).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Lengths of every size, many of them equal.
    fn length(&mut self) -> Duration {
        match self.below(8) {
            0 => Duration::ZERO,
            1 => Duration::from_nanos(self.below(5_000_000)),
            2 => MS * self.below(20) as u32,
            3 => MS * (self.below(40) * 100) as u32,
            4 => Duration::from_secs(self.below(120)),
            5 => Duration::from_secs(self.below(100_000)),
            6 => DAY * self.below(400) as u32,
            _ => {
                let bits = self.below(50);
                Duration::from_nanos(self.below(1 << bits))
            }
        }
    }
}

#[test]
fn it_fires_at_the_nanosecond_and_never_early() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let at = start + Duration::from_nanos(7_654_321);
    wheel.insert(Some(at), 1);
    assert_eq!(wheel.next(), Some(at));
    assert_eq!(fired(&mut wheel, at - Duration::from_nanos(1)), []);
    assert_eq!(wheel.next(), Some(at));
    assert_eq!(fired(&mut wheel, at), [1]);
    assert_eq!(wheel.next(), None);
}

#[test]
fn equal_deadlines_are_first_in_first_out_over_all_levels() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let at = start + Duration::from_secs(300);
    for n in 0..100 {
        // Armed from further and further on, so that the first ones have been moved down before.
        fired(&mut wheel, start + Duration::from_secs(3) * n);
        wheel.insert(Some(at), n);
    }
    assert_eq!(fired(&mut wheel, at), (0..100).collect::<Vec<_>>());
}

#[test]
fn within_a_tick_the_deadline_decides_and_then_the_order_of_arming() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    for (n, ns) in [300, 100, 300, 200, 100].into_iter().enumerate() {
        wheel.insert(Some(start + Duration::from_nanos(ns)), n);
    }
    assert_eq!(fired(&mut wheel, start + Duration::from_nanos(250)), [1, 4, 3]);
    assert_eq!(fired(&mut wheel, start + MS), [0, 2]);
}

#[test]
fn rearming_counts_as_armed_anew() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let at = Some(start + MS);
    let first = wheel.insert(at, 1);
    wheel.insert(at, 2);
    assert!(wheel.rearm(first, at));
    assert_eq!(fired(&mut wheel, start + MS), [2, 1]);
}

#[test]
fn a_fired_timer_keeps_value_and_deadline_until_rearmed_or_removed() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let key = wheel.insert(Some(start + MS), "a");
    assert_eq!(fired(&mut wheel, start + 5 * MS), ["a"]);
    assert_eq!(fired(&mut wheel, start + DAY), [""; 0]);
    assert_eq!(wheel.deadline(key), Some(start + MS));
    assert!(wheel.rearm(key, Some(start + DAY + MS)));
    assert_eq!(wheel.next(), Some(start + DAY + MS));
    assert_eq!(fired(&mut wheel, start + DAY + MS), ["a"]);
    assert_eq!(wheel.remove(key), Some("a"));
    assert_eq!(wheel.remove(key), None);
    assert!(!wheel.rearm(key, None) && wheel.is_empty());
}

#[test]
fn what_is_armed_for_the_past_is_due_at_once() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start + DAY);
    wheel.insert(Some(start), 1);
    assert_eq!(fired(&mut wheel, start + DAY), [1]);
    fired(&mut wheel, start + 2 * DAY);
    let late = start + DAY + MS;
    let key = wheel.insert(Some(late), 2);
    assert_eq!((wheel.next(), wheel.deadline(key)), (Some(late), Some(late)));
    assert_eq!(fired(&mut wheel, start + 2 * DAY), [2]);
}

#[test]
fn never_is_never_and_can_be_taken_back() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let never = wheel.insert(None, 1);
    let far = start.checked_add(DAY * 365 * 1000);
    let beyond = wheel.insert(far, 2);
    assert_eq!((wheel.next(), wheel.deadline(never), wheel.deadline(beyond)), (None, None, None));
    assert_eq!(fired(&mut wheel, start + DAY * 365 * 500), []);
    assert_eq!(wheel.len(), 2);
    assert!(wheel.rearm(never, Some(start)));
    assert_eq!(fired(&mut wheel, start), [1]);
}

#[test]
fn centuries_pass_in_one_step() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let year = DAY * 365;
    for n in (0..500u32).rev() {
        wheel.insert(Some(start + year * n), n);
    }
    assert_eq!(fired(&mut wheel, start + year * 250), (0..=250).collect::<Vec<_>>());
    assert_eq!(wheel.next(), Some(start + year * 251));
    assert_eq!(fired(&mut wheel, start + year * 501), (251..500).collect::<Vec<_>>());
}

#[test]
fn removing_the_earliest_tells_the_next_one() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let first = wheel.insert(Some(start + MS), 1);
    wheel.insert(Some(start + 70 * MS), 2);
    assert_eq!(wheel.next(), Some(start + MS));
    wheel.remove(first);
    assert_eq!(wheel.next(), Some(start + 70 * MS));
}

#[test]
fn draining_hands_out_the_chosen_values_and_makes_their_keys_stale() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let keys: Vec<_> = (0..10).map(|n| wheel.insert(Some(start + MS * n), n)).collect();
    assert_eq!(wheel.drain_if(|n| n % 2 == 0), [0, 2, 4, 6, 8]);
    assert_eq!(wheel.len(), 5);
    assert_eq!((wheel.value(keys[0]), wheel.value(keys[1])), (None, Some(&1)));
    assert_eq!(wheel.drain_all(), [1, 3, 5, 7, 9]);
    assert!(wheel.is_empty() && wheel.next().is_none());
    assert_eq!(fired(&mut wheel, start + DAY), []);
}

#[test]
fn a_place_whose_generations_are_used_up_is_retired() {
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    let first = wheel.insert(Some(start), 1);
    wheel.age(first.index, RETIRED - 1);
    let last = TimerKey { generation: RETIRED - 1, ..first };
    assert_eq!(wheel.remove(last), Some(1));
    assert!(wheel.is_empty() && wheel.iter().next().is_none());
    let next = wheel.insert(Some(start), 2);
    assert_ne!(next.index, first.index);
    assert_eq!(wheel.value(TimerKey { generation: RETIRED, ..first }), None);
    assert!(!wheel.rearm(TimerKey { generation: RETIRED, ..first }, None));
    assert_eq!(fired(&mut wheel, start), [2]);
}

#[test]
fn an_entry_is_small_and_the_slab_adds_nothing_to_it() {
    // What the slab keeps for each place.
    #[allow(dead_code)]
    enum Place<T> {
        Vacant(usize),
        Occupied(T),
    }
    type Value = std::rc::Rc<()>;
    assert_eq!(size_of::<Entry<Value>>(), 24);
    assert_eq!(size_of::<Place<Entry<Value>>>(), 24);
    assert_eq!(size_of::<TimerKey>(), 8);
    assert!(size_of::<Wheel<Value>>() < 2304, "{}", size_of::<Wheel<Value>>());
}

/// The map that the wheel must agree with: by deadline, then by order of arming.
struct Model {
    armed: BTreeMap<(Instant, u64), TimerKey>,
    place: HashMap<TimerKey, Option<(Instant, u64)>>,
    armings: u64,
}

impl Model {
    fn arm(&mut self, key: TimerKey, at: Option<Instant>) {
        self.disarm(key);
        self.armings += 1;
        let place = at.map(|at| (at, self.armings));
        self.place.insert(key, place);
        if let Some(place) = place {
            self.armed.insert(place, key);
        }
    }

    fn disarm(&mut self, key: TimerKey) {
        if let Some(Some(place)) = self.place.remove(&key) {
            self.armed.remove(&place);
        }
    }

    fn expire(&mut self, now: Instant) -> Vec<TimerKey> {
        let later = self.armed.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.armed, later).into_values().collect()
    }
}

fn agrees_with_a_map(seed: u64, steps: u32) {
    let start = Instant::now();
    let (mut random, mut now) = (Random(seed), start);
    let mut wheel = Wheel::new(start);
    let mut model = Model { armed: BTreeMap::new(), place: HashMap::new(), armings: 0 };
    let (mut keys, mut due) = (Vec::<TimerKey>::new(), Vec::new());
    for step in 0..steps {
        let context = format!("seed {seed:#x}, step {step}");
        let at = (random.below(50) != 0).then(|| now + random.length());
        let pick = |random: &mut Random| random.below(keys.len().max(1) as u64) as usize;
        match random.below(10) {
            0..4 if keys.len() < 2000 => {
                let key = wheel.insert(at, step);
                model.arm(key, at);
                keys.push(key);
            }
            4..6 if !keys.is_empty() => {
                let key = keys.swap_remove(pick(&mut random));
                assert!(wheel.remove(key).is_some() && wheel.remove(key).is_none(), "{context}");
                model.disarm(key);
            }
            6..8 if !keys.is_empty() => {
                let key = keys[pick(&mut random)];
                assert!(wheel.rearm(key, at), "{context}");
                assert_eq!(wheel.deadline(key), at, "{context}");
                model.arm(key, at);
            }
            _ => {
                now += random.length() / (1 + random.below(20) as u32);
                due.clear();
                wheel.expire(now, &mut due);
                assert_eq!(due, model.expire(now), "{context}");
                for &key in &due {
                    // As a repeating timer does; some rest, and are armed or removed later.
                    model.place.insert(key, None);
                    if random.below(3) == 0 {
                        let at = Some(now + random.length());
                        assert!(wheel.rearm(key, at), "{context}");
                        model.arm(key, at);
                    }
                }
            }
        }
        assert_eq!(wheel.len(), keys.len(), "{context}");
        let first = model.armed.first_key_value().map(|(&(at, _), _)| at);
        let next = wheel.next();
        assert_eq!(next.is_some(), first.is_some(), "{context}");
        assert!(next <= first, "{context}: wakes too late");
        if keys.len() <= LOOK {
            assert_eq!(next, first, "{context}: exact where few wait");
        }
    }
}

#[test]
fn random_operations_agree_with_a_sorted_map() {
    for seed in [0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d, 42, u64::MAX, 0xdead_beef] {
        agrees_with_a_map(seed, if cfg!(miri) { 100 } else { 100_000 });
    }
    for seed in 1..if cfg!(miri) { 3 } else { 200 } {
        agrees_with_a_map(seed, 200);
    }
}

#[test]
#[cfg_attr(miri, ignore = "thousands of alarms are too many for Miri")]
fn an_early_waking_is_followed_by_progress() {
    // A slot with more than is looked at: `next` may tell the slot's begin, but never again and
    // again the same, else a loop would spin.
    let start = Instant::now();
    let mut wheel = Wheel::new(start);
    for n in 0..1000u32 {
        wheel.insert(Some(start + DAY + MS * n), n);
    }
    let (mut wakings, mut due) = (0, Vec::new());
    while let Some(at) = wheel.next() {
        wheel.expire(at, &mut due);
        wakings += 1;
        assert!(wakings <= 1100, "{wakings} wakings, {} due", due.len());
    }
    assert_eq!(due.len(), 1000);

    // Many within one tick: the second waking is exact.
    let at = start + 2 * DAY + Duration::from_nanos(900);
    for n in 0..1000u32 {
        wheel.insert(Some(at), n);
    }
    fired(&mut wheel, start + 2 * DAY);
    assert_eq!(wheel.next(), Some(at));
}
