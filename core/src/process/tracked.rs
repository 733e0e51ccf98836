//! The entries of all keys of a state, and which of them the next checkpoint tells.
//!
//! A key has a slot, a small number, from its first entry to the first checkpoint at which it has none. A row finds the slot by the bytes of
//! its key; all else goes by slots. What changed is a list, in whatever order: it is sorted by key and place when it is asked for.

use super::entries::Entries;
use super::keys::KeyRef;
use crate::error::Result;
use crate::interned::Interned;
use std::collections::BTreeSet;

/// All keys of a state have one owner: the state.
const STATE: u32 = 0;

/// A key's place in the tables of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

pub(super) struct Entry<T> {
    pub(super) value: T,
    /// None lives until it is removed.
    pub(super) expires: Option<i64>,
    /// Whether the last checkpoint has the place.
    is_stored: bool,
    is_changed: bool,
}

/// See the [module](self).
pub(super) struct Tracked<P, T> {
    keys: Interned,
    free: Vec<Slot>,
    /// By slot.
    entries: Vec<Entries<P, Entry<T>>>,
    /// Entries that changed since the last checkpoint, each perhaps more than once, and perhaps gone.
    changed: Vec<(Slot, P)>,
    /// Places that the last checkpoint has, and that are free now.
    removed: BTreeSet<(Slot, P)>,
}

impl<P: Ord + Clone, T> Tracked<P, T> {
    pub(super) fn new() -> Self {
        Self { keys: Interned::default(), free: Vec::new(), entries: Vec::new(), changed: Vec::new(), removed: BTreeSet::new() }
    }

    /// The slot of a key, if it has one.
    pub(super) fn find(&self, key: KeyRef<'_>) -> Option<Slot> {
        self.keys.find(STATE, key.0).map(Slot)
    }

    /// The slot of a key, which is about to get an entry.
    ///
    /// # Errors
    /// `BadData` for a key of 4 GiB or more.
    pub(super) fn slot(&mut self, key: KeyRef<'_>) -> Result<Slot> {
        let (free, slots) = (&mut self.free, self.entries.len());
        let (slot, _) = self.keys.intern(STATE, key.0, || free.pop().map_or(slots as u32, |slot| slot.0))?;
        if slot as usize == slots {
            self.entries.push(Entries::None);
        }
        Ok(Slot(slot))
    }

    /// The entries of a slot that was found.
    pub(super) fn of(&self, slot: Slot) -> &Entries<P, Entry<T>> {
        &self.entries[slot.0 as usize]
    }

    fn of_mut(&mut self, slot: Slot) -> &mut Entries<P, Entry<T>> {
        &mut self.entries[slot.0 as usize]
    }

    pub(super) fn set(&mut self, slot: Slot, place: P, value: T, expires: Option<i64>) {
        if let Some(entry) = self.of_mut(slot).get_mut(&place) {
            (entry.value, entry.expires) = (value, expires);
            if !std::mem::replace(&mut entry.is_changed, true) {
                self.changed.push((slot, place));
            }
            return;
        }
        let is_stored = !self.removed.is_empty() && self.removed.remove(&(slot, place.clone()));
        self.changed.push((slot, place.clone()));
        self.of_mut(slot).insert(place, Entry { value, expires, is_stored, is_changed: true });
    }

    pub(super) fn remove(&mut self, slot: Slot, place: &P) -> Option<Entry<T>> {
        let entry = self.of_mut(slot).remove(place)?;
        if entry.is_stored {
            self.removed.insert((slot, place.clone()));
        }
        Some(entry)
    }

    /// Takes an entry back that a checkpoint has.
    ///
    /// # Errors
    /// As [`slot`](Self::slot).
    pub(super) fn restore(&mut self, key: KeyRef<'_>, place: P, value: T, expires: Option<i64>) -> Result<Slot> {
        let slot = self.slot(key)?;
        let of_key = self.of_mut(slot);
        of_key.remove(&place);
        of_key.insert(place, Entry { value, expires, is_stored: true, is_changed: false });
        Ok(slot)
    }

    /// The key of a slot in use.
    pub(super) fn key(&self, slot: Slot) -> KeyRef<'_> {
        KeyRef(self.keys.get(slot.0).unwrap_or_default())
    }

    /// What the next checkpoint tells: entries that are new or changed, and places that are free now. By key, then place.
    pub(super) fn changed(&self) -> Vec<(Slot, P)> {
        let there = self.changed.iter().filter(|(slot, place)| self.of(*slot).get(place).is_some());
        let mut changed: Vec<_> = there.chain(&self.removed).map(|(slot, place)| (self.prefix(*slot), *slot, place.clone())).collect();
        changed.sort_unstable_by(|(prefix, slot, place), (other_prefix, other_slot, other_place)| {
            let by_key = || if slot == other_slot { std::cmp::Ordering::Equal } else { self.key(*slot).cmp(&self.key(*other_slot)) };
            prefix.cmp(other_prefix).then_with(by_key).then_with(|| place.cmp(other_place))
        });
        let mut changed: Vec<(Slot, P)> = changed.into_iter().map(|(_, slot, place)| (slot, place)).collect();
        changed.dedup();
        changed
    }

    /// The first bytes of a key, as a number of the same order: most keys differ in them, and need not be fetched to be compared.
    fn prefix(&self, slot: Slot) -> u128 {
        let (mut prefix, key) = ([0; 16], self.key(slot).0);
        let length = key.len().min(prefix.len());
        prefix[..length].copy_from_slice(&key[..length]);
        u128::from_be_bytes(prefix)
    }

    /// A checkpoint has what changed. Slots without entries are free.
    pub(super) fn forget_changes(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        for (slot, place) in changed.iter().chain(&std::mem::take(&mut self.removed)) {
            if let Some(entry) = self.of_mut(*slot).get_mut(place) {
                (entry.is_stored, entry.is_changed) = (true, false);
            }
            if self.of(*slot).is_empty() && self.keys.get(slot.0).is_some() {
                self.keys.remove(slot.0);
                *self.of_mut(*slot) = Entries::None;
                self.free.push(*slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Step {
        Set(String, u8, u32),
        Remove(String, u8),
        Checkpoint,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Longer than a prefix, and alike in it.
        let key = || prop::sample::select(vec!["", "a", "a key of some length, 1", "a key of some length, 2", "b"]).prop_map(str::to_owned);
        prop_oneof![
            4 => (key(), 0u8..3, 0u32..100).prop_map(|(key, place, value)| Step::Set(key, place, value)),
            3 => (key(), 0u8..3).prop_map(|(key, place)| Step::Remove(key, place)),
            1 => Just(Step::Checkpoint),
        ]
    }

    proptest! {
        /// Whoever applies each checkpoint to those before it has what is there; none tells what it need not.
        #[test]
        fn checkpoints_tell_what_changed(steps in prop::collection::vec(step(), 0..80)) {
            let (mut tracked, mut model) = (Tracked::<u8, u32>::new(), BTreeMap::<(Vec<u8>, u8), u32>::new());
            let (mut stored, mut touched) = (BTreeMap::new(), BTreeSet::new());
            for step in steps.into_iter().chain([Step::Checkpoint]) {
                match step {
                    Step::Set(key, place, value) => {
                        let slot = tracked.slot(KeyRef(key.as_bytes())).unwrap();
                        tracked.set(slot, place, value, None);
                        model.insert((key.clone().into_bytes(), place), value);
                        touched.insert((key.into_bytes(), place));
                    }
                    Step::Remove(key, place) => {
                        let removed = tracked.find(KeyRef(key.as_bytes())).and_then(|slot| tracked.remove(slot, &place));
                        prop_assert_eq!(removed.map(|entry| entry.value), model.remove(&(key.clone().into_bytes(), place)));
                        touched.insert((key.into_bytes(), place));
                    }
                    Step::Checkpoint => {
                        let changed = tracked.changed();
                        let places: Vec<(Vec<u8>, u8)> = changed.iter().map(|(slot, place)| (tracked.key(*slot).0.to_vec(), *place)).collect();
                        prop_assert!(places.is_sorted_by(|one, other| one < other));
                        prop_assert!(places.iter().all(|place| touched.contains(place)));
                        for ((slot, place), name) in changed.iter().zip(places) {
                            match tracked.of(*slot).get(place) {
                                Some(entry) => drop(stored.insert(name, entry.value)),
                                None => prop_assert!(stored.remove(&name).is_some()),
                            }
                        }
                        prop_assert_eq!(&stored, &model);
                        tracked.forget_changes();
                        touched.clear();
                        prop_assert!(tracked.changed().is_empty());
                        let keys: BTreeSet<&Vec<u8>> = model.keys().map(|(key, _)| key).collect();
                        prop_assert_eq!(tracked.keys.len(), keys.len());
                    }
                }
            }
        }
    }
}
