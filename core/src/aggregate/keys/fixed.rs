//! Keys of a few words of 64 bits, and a byte beside them that says what the words mean.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The byte of a slot that has no key here; no key has it.
const FREE: u8 = u8::MAX;
/// So many keys are looked up side by side.
const BLOCK: usize = 512;
/// No slot.
const NONE: u32 = u32::MAX;

/// A key. Equal if all of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FixedKey<const N: usize> {
    pub(super) tag: u8,
    pub(super) words: [u64; N],
}

/// From keys to slots, and back. A key takes its words and a byte, and six to eleven bytes for being found.
#[derive(Default)]
pub(super) struct FixedKeys<const N: usize> {
    hasher: RandomState,
    /// Slots, by the hashes of their keys.
    table: HashTable<u32>,
    /// By slot.
    words: Vec<[u64; N]>,
    tags: Vec<u8>,
}

impl<const N: usize> FixedKeys<N> {
    /// The slot of a key; a new one gets one from `allocate`.
    // A call would pass the key through memory, and wait for it there: two thirds more time per key.
    #[expect(clippy::inline_always, reason = "it is the innermost step of every grouping")]
    #[inline(always)]
    pub(super) fn intern(&mut self, key: FixedKey<N>, allocate: &mut dyn FnMut() -> u32) -> u32 {
        let hash = hash(&self.hasher, key);
        let is_same = |slot: &u32| self.words[*slot as usize] == key.words && self.tags[*slot as usize] == key.tag;
        match self.table.find(hash, is_same) {
            Some(slot) => *slot,
            None => self.insert(key, hash, allocate()),
        }
    }

    /// The slots of keys, the same as one after the other. In a table that is larger than the caches most of the time goes into waiting for
    /// memory: so the table is asked for many keys before any slot's key is compared, and many waits become one.
    pub(super) fn intern_all<K>(&mut self, keys: &[K], key: impl Fn(&K) -> FixedKey<N>, allocate: &mut dyn FnMut() -> u32) -> Vec<u32> {
        let mut slots = Vec::with_capacity(keys.len());
        let (mut hashes, mut likely) = ([0; BLOCK], [NONE; BLOCK]);
        for block in keys.chunks(BLOCK) {
            hashes.iter_mut().zip(block).for_each(|(hash, of)| *hash = self::hash(&self.hasher, key(of)));
            for (slot, hash) in likely.iter_mut().zip(&hashes[..block.len()]) {
                // The first entry with these bits of the hash, which is nearly always the key's.
                *slot = self.table.find(*hash, |_| true).copied().unwrap_or(NONE);
            }
            slots.extend(block.iter().zip(likely).map(|(of, slot)| {
                let key = key(of);
                let is_it = self.words.get(slot as usize) == Some(&key.words) && self.tags[slot as usize] == key.tag;
                if is_it { slot } else { self.intern(key, &mut *allocate) }
            }));
        }
        slots
    }

    /// Makes room for so many more keys.
    pub(super) fn reserve(&mut self, keys: usize) {
        let Self { hasher, table, words, tags } = self;
        table.reserve(keys, |slot| hash(hasher, FixedKey { tag: tags[*slot as usize], words: words[*slot as usize] }));
        words.reserve(keys);
        tags.reserve(keys);
    }

    #[inline(never)]
    fn insert(&mut self, key: FixedKey<N>, hash: u64, slot: u32) -> u32 {
        let Self { hasher, table, words, tags } = self;
        if tags.len() <= slot as usize {
            words.resize(slot as usize + 1, [0; N]);
            tags.resize(slot as usize + 1, FREE);
        }
        words[slot as usize] = key.words;
        tags[slot as usize] = key.tag;
        let hash_of = |slot: &u32| self::hash(hasher, FixedKey { tag: tags[*slot as usize], words: words[*slot as usize] });
        table.insert_unique(hash, slot, hash_of);
        slot
    }

    /// The key of a slot.
    pub(super) fn get(&self, slot: u32) -> Option<FixedKey<N>> {
        let tag = self.tags.get(slot as usize).copied().filter(|tag| *tag != FREE)?;
        Some(FixedKey { tag, words: self.words[slot as usize] })
    }

    /// Forgets the key of a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(key) = self.get(slot) else { return };
        if let Ok(entry) = self.table.find_entry(hash(&self.hasher, key), |other| *other == slot) {
            entry.remove();
        }
        self.tags[slot as usize] = FREE;
    }

    /// Forgets all keys, and keeps the room that they took.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.words.clear();
        self.tags.clear();
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The slots in use, ascending.
    pub(super) fn slots(&self) -> Vec<u32> {
        let mut slots = Vec::with_capacity(self.len());
        slots.extend((0u32..).zip(&self.tags).filter(|(_, tag)| **tag != FREE).map(|(slot, _)| slot));
        slots
    }
}

#[inline]
fn hash<const N: usize>(hasher: &RandomState, key: FixedKey<N>) -> u64 {
    match key.words.as_slice() {
        [one] => hasher.hash_one((*one, key.tag)),
        [one, other] => hasher.hash_one((*one, other.wrapping_add(u64::from(key.tag) << 56))),
        words => hasher.hash_one((words, key.tag)),
    }
}
