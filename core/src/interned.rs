//! Byte strings with numbers, found by their content and an owner, in one piece of memory.
//!
//! Groups and the states of functions find their slots by it, and sets their values. A number is chosen by the caller. What is removed
//! leaves a gap; the memory is packed when more than half of it is gaps.

use crate::error::{Error, Result};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Interned {
    table: HashTable<Entry>,
    /// By number.
    spans: Vec<Span>,
    bytes: Vec<u8>,
    /// How many of the bytes belong to no number.
    gaps: usize,
}

/// Small, for a table of them is looked into at random.
struct Entry {
    hash: u32,
    number: u32,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    length: u32,
    owner: u32,
}

impl Span {
    /// Of a number that is not in use.
    const NONE: Self = Self { start: 0, length: u32::MAX, owner: 0 };

    fn is_used(self) -> bool {
        self.length != u32::MAX
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.start + self.length as usize]
    }
}

fn hash_of(owner: u32, content: &[u8]) -> u32 {
    lower_half(xxh3_64_with_seed(content, u64::from(owner)))
}

/// The half of a hash that decides nothing yet: a key's group, which all keys of a task have nearly in common, is of the other one.
fn lower_half(hash: u64) -> u32 {
    hash as u32
}

/// The bits of a hash over the whole width, as a table goes by the highest and the lowest.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Interned {
    /// The number of a content of an owner's, and whether it is new: then it is that of `number`, which must not be in use.
    ///
    /// # Errors
    /// `BadData` for a content of 4 GiB or more.
    pub(crate) fn intern(&mut self, owner: u32, content: &[u8], number: impl FnOnce() -> u32) -> Result<(u32, bool)> {
        let hash = hash_of(owner, content);
        if let Some(number) = self.find_hashed(hash, owner, content) {
            return Ok((number, false));
        }
        let length = u32::try_from(content.len()).ok().filter(|length| *length < u32::MAX);
        let length = length.ok_or_else(|| Error::bad_data("a key or a distinct value is longer than 4 GiB"))?;
        let number = number();
        if self.spans.len() <= number as usize {
            self.spans.resize(number as usize + 1, Span::NONE);
        }
        self.spans[number as usize] = Span { start: self.bytes.len(), length, owner };
        self.bytes.extend_from_slice(content);
        self.table.insert_unique(spread(hash), Entry { hash, number }, |entry| spread(entry.hash));
        Ok((number, true))
    }

    /// The number of a content of an owner's, if it has one.
    pub(crate) fn find(&self, owner: u32, content: &[u8]) -> Option<u32> {
        self.find_hashed(hash_of(owner, content), owner, content)
    }

    fn find_hashed(&self, hash: u32, owner: u32, content: &[u8]) -> Option<u32> {
        let is_same = |entry: &Entry| {
            // The hash first: a span of another content need not be fetched.
            entry.hash == hash && {
                let span = self.spans[entry.number as usize];
                span.owner == owner && span.of(&self.bytes) == content
            }
        };
        self.table.find(spread(hash), is_same).map(|found| found.number)
    }

    fn span(&self, number: u32) -> Option<Span> {
        self.spans.get(number as usize).copied().filter(|span| span.is_used())
    }

    /// The content of a number in use.
    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        self.span(number).map(|span| span.of(&self.bytes))
    }

    /// Whose a number in use is.
    pub(crate) fn owner(&self, number: u32) -> Option<u32> {
        self.span(number).map(|span| span.owner)
    }

    /// How many numbers are in use.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The numbers in use, ascending.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.spans).filter(|(_, span)| span.is_used()).map(|(number, _)| number)
    }

    /// Frees a number.
    pub(crate) fn remove(&mut self, number: u32) {
        let Some(span) = self.span(number) else { return };
        self.spans[number as usize] = Span::NONE;
        let hash = hash_of(span.owner, span.of(&self.bytes));
        if let Ok(entry) = self.table.find_entry(spread(hash), |entry| entry.number == number) {
            entry.remove();
        }
        self.gaps += span.length as usize;
        if self.gaps > self.bytes.len() / 2 {
            self.pack();
        }
    }

    /// Frees all numbers, and keeps the room that they took; not that of their contents, which may be of any length.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.spans.clear();
        (self.bytes, self.gaps) = (Vec::new(), 0);
    }

    fn pack(&mut self) {
        let mut packed = Vec::with_capacity(self.bytes.len() - self.gaps);
        for span in self.spans.iter_mut().filter(|span| span.is_used()) {
            let start = packed.len();
            packed.extend_from_slice(span.of(&self.bytes));
            span.start = start;
        }
        (self.bytes, self.gaps) = (packed, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map_from_contents_to_numbers(steps in prop::collection::vec((0u8..21, 0u32..3, "[ab]{0,3}"), 0..200)) {
            let (mut interned, mut model) = (Interned::default(), BTreeMap::<(u32, String), u32>::new());
            for (step, owner, content) in steps {
                let key = (owner, content.clone());
                if step == 0 {
                    interned.clear();
                    model.clear();
                } else if step > 10 {
                    let free = (0..).find(|number| !model.values().any(|used| used == number)).unwrap_or(0);
                    let known = model.get(&key).copied();
                    prop_assert_eq!(interned.intern(owner, content.as_bytes(), || free).unwrap(), (known.unwrap_or(free), known.is_none()));
                    model.insert(key, known.unwrap_or(free));
                } else if let Some(number) = model.remove(&key) {
                    interned.remove(number);
                    prop_assert_eq!(interned.get(number), None);
                }
                prop_assert_eq!(interned.find(owner, content.as_bytes()), model.get(&(owner, content)).copied());
                for ((owner, content), number) in &model {
                    prop_assert_eq!(interned.get(*number), Some(content.as_bytes()));
                    prop_assert_eq!(interned.find(*owner, content.as_bytes()), Some(*number));
                }
                let mut numbers: Vec<u32> = model.values().copied().collect();
                numbers.sort_unstable();
                prop_assert_eq!(interned.numbers().collect::<Vec<_>>(), numbers);
            }
        }
    }
}
