//! A slab whose keys are never taken for another's: a generation stands beside each place.
//!
//! Keys are reused by the `slab` crate as soon as a place is free. Here a key also carries the
//! generation that its place had when the key was given out, and removal raises it: a stale key
//! finds nobody, never the newcomer.
use slab::Slab;
use std::rc::Rc;

/// Generations start at 1, so that a key of zeros is nobody's.
const FIRST: u32 = 1;
/// Never given out: a place that comes so far is retired, and the poller may use tokens made of
/// it for sources of its own.
pub(crate) const RETIRED: u32 = u32::MAX;

/// The name of one entry, for ever: eight bytes, `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Key {
    /// Generations begin at 1.
    pub(crate) const NOBODY: Key = Key { index: 0, generation: 0 };

    /// For a poller's token: the generation above, the index below.
    #[inline]
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Undoes [`to_u64`](Key::to_u64).
    #[inline]
    pub(crate) fn from_u64(token: u64) -> Self {
        Key { index: token as u32, generation: (token >> 32) as u32 }
    }
}

/// Shared values by [`Key`]. Look one up, clone the `Rc`, release the slab, then work.
#[derive(Debug)]
pub(crate) struct GenerationalSlab<T: ?Sized> {
    /// `None`: a place that was retired, kept occupied so that nobody gets it.
    places: Slab<Option<Rc<T>>>,
    /// Of each place that was ever used, free ones too.
    generations: Generations,
    retired: usize,
}

impl<T: ?Sized> GenerationalSlab<T> {
    pub(crate) fn new() -> Self {
        GenerationalSlab { places: Slab::new(), generations: Generations::default(), retired: 0 }
    }

    #[cfg(test)]
    pub(crate) fn insert(&mut self, value: Rc<T>) -> Key {
        self.insert_with(|_| value)
    }

    /// For values that know their own key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> Rc<T>) -> Key {
        let vacant = self.places.vacant_entry();
        let (index, generation) = self.generations.of_vacant(vacant.key());
        let key = Key { index, generation };
        vacant.insert(Some(make(key)));
        key
    }

    /// `None` for a stale key.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<&Rc<T>> {
        // A retired place holds nothing, so its generation needs no look.
        if self.generations.0.get(key.index as usize) != Some(&key.generation) {
            return None;
        }
        self.places.get(key.index as usize)?.as_ref()
    }

    /// The value is handed out, so that the caller can drop it outside any borrow.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Rc<T>> {
        if !self.generations.hold(key.index, key.generation) {
            return None;
        }
        let index = key.index as usize;
        let value = self.places.get_mut(index)?.take();
        if self.generations.raise(key.index) {
            self.places.remove(index);
        } else {
            self.retired += 1;
        }
        value
    }

    /// In the order of places, which says nothing about age.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Rc<T>)> {
        self.places.iter().filter_map(|(index, value)| {
            let generation = self.generations.at(index);
            Some((Key { index: index as u32, generation }, value.as_ref()?))
        })
    }

    /// Retired places are not counted.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.retired
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves a free or occupied place close to its end, for tests of retirement.
    #[cfg(test)]
    pub(crate) fn age(&mut self, index: u32, generation: u32) {
        self.generations.set(index, generation);
    }
}

/// The generation of each place, beside a slab: four bytes a place, kept while it is free.
#[derive(Debug, Default)]
pub(crate) struct Generations(Vec<u32>);

impl Generations {
    /// Index and generation for what is about to be put into `place`.
    ///
    /// # Panics
    /// At four billion entries.
    pub(crate) fn of_vacant(&mut self, place: usize) -> (u32, u32) {
        let index = u32::try_from(place).expect("fewer than four billion entries");
        if place >= self.0.len() {
            self.0.resize(place + 1, FIRST);
        }
        (index, self.0[place])
    }

    #[inline]
    pub(crate) fn hold(&self, index: u32, generation: u32) -> bool {
        self.0.get(index as usize) == Some(&generation) && generation != RETIRED
    }

    /// After a removal. False: no further generation; nobody may get this place again.
    pub(crate) fn raise(&mut self, index: u32) -> bool {
        let generation = &mut self.0[index as usize];
        *generation = generation.saturating_add(1);
        *generation != RETIRED
    }

    pub(crate) fn at(&self, place: usize) -> u32 {
        self.0[place]
    }

    #[cfg(test)]
    pub(crate) fn set(&mut self, index: u32, generation: u32) {
        self.0[index as usize] = generation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_key_finds_nobody_though_its_place_is_taken_again() {
        let mut slab = GenerationalSlab::<str>::new();
        let old = slab.insert("old".into());
        assert_eq!(slab.remove(old).as_deref(), Some("old"));
        let new = slab.insert("new".into());
        assert_eq!(old.index, new.index);
        assert!(slab.find(old).is_none() && slab.remove(old).is_none());
        assert_eq!(slab.find(new).map(|v| &**v), Some("new"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_key_never_given_out_finds_nobody() {
        let mut slab = GenerationalSlab::<u8>::new();
        let nobody = [0, u64::MAX, u64::MAX << 32, 7 << 32, u64::from(u32::MAX)].map(Key::from_u64);
        assert!(nobody.iter().all(|&key| slab.find(key).is_none()));
        slab.insert(Rc::new(1));
        assert!(nobody.iter().all(|&key| slab.find(key).is_none() && slab.remove(key).is_none()));
    }

    #[test]
    fn a_value_may_know_its_key_and_a_token_carries_it() {
        let mut slab = GenerationalSlab::<Key>::new();
        for _ in 0..3 {
            let key = slab.insert_with(Rc::new);
            assert_eq!(slab.find(key).map(|v| **v), Some(key));
            assert_eq!(Key::from_u64(key.to_u64()), key);
        }
        let key = Key { index: 0xdead_beef, generation: 0x0123_4567 };
        assert_eq!(key.to_u64(), 0x0123_4567_dead_beef);
        assert_eq!(size_of::<Key>(), 8);
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_retired() {
        let mut slab = GenerationalSlab::<u8>::new();
        let first = slab.insert(Rc::new(1));
        slab.age(first.index, RETIRED - 1);
        let last = Key { generation: RETIRED - 1, ..first };
        assert_eq!(slab.remove(last).as_deref(), Some(&1));
        assert!(slab.is_empty() && slab.keys().next().is_none());
        let next = slab.insert(Rc::new(2));
        assert_ne!(next.index, first.index);
        for generation in [0, FIRST, RETIRED - 1, RETIRED] {
            assert!(slab.find(Key { generation, ..first }).is_none());
            assert!(slab.remove(Key { generation, ..first }).is_none());
        }
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn removal_hands_out_the_value_and_keeps_nothing() {
        let mut slab = GenerationalSlab::<u8>::new();
        let value = Rc::new(1);
        let key = slab.insert(value.clone());
        drop(slab.remove(key));
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn random_operations_agree_with_a_map() {
        let seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut state = seed;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut slab = GenerationalSlab::<u64>::new();
        let mut model = HashMap::<Key, u64>::new();
        let mut given = Vec::new();
        for step in 0..if cfg!(miri) { 500 } else { 200_000 } {
            let value = random();
            if random() % 2 == 0 && model.len() < 500 {
                let key = slab.insert(Rc::new(value));
                assert!(model.insert(key, value).is_none(), "seed {seed:#x}, step {step}");
                given.push(key);
            } else if !given.is_empty() {
                let key = given[(random() % given.len() as u64) as usize];
                assert_eq!(slab.find(key).map(|v| **v), model.get(&key).copied());
                let removed = slab.remove(key).map(|v| *v);
                assert_eq!(removed, model.remove(&key), "seed {seed:#x}, step {step}");
            }
            assert_eq!(slab.len(), model.len(), "seed {seed:#x}, step {step}");
            if given.len() > 2000 {
                given.drain(..1000);
                given.extend(model.keys().copied());
            }
        }
        let mut left: Vec<Key> = slab.keys().collect();
        let mut expected: Vec<Key> = model.keys().copied().collect();
        left.sort();
        expected.sort();
        assert_eq!(left, expected);
    }
}
