//! Keys of one text. Short ones, which most are, are compared and hashed as two words.

use super::fixed::{FixedKey, FixedKeys};
use super::{KeyTable, missing};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::interned::Interned;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use std::str::from_utf8;
use std::sync::Arc;

/// The longest text that is two words.
const SHORT: usize = 16;
/// The tag of the null key; that of a short text is its length.
const NULL: u8 = u8::MAX - 1;
/// All long texts have one owner: the table.
const TABLE: u32 = 0;

#[derive(Default)]
pub(super) struct Texts {
    short: FixedKeys<2>,
    long: Interned,
}

/// A key, ordered as texts are, the null first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Null,
    Text(TextBytes<'a>),
}

/// The bytes of a text that is short or long.
enum TextBytes<'a> {
    Short([u8; SHORT], usize),
    Long(&'a [u8]),
}

impl TextBytes<'_> {
    fn get(&self) -> &[u8] {
        match self {
            Self::Short(bytes, length) => &bytes[..*length],
            Self::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for TextBytes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for TextBytes<'_> {}

impl PartialOrd for TextBytes<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TextBytes<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.get().cmp(other.get())
    }
}

impl Texts {
    fn key(&self, slot: u32) -> Option<Key<'_>> {
        let Some(FixedKey { tag, words }) = self.short.get(slot) else {
            return self.long.get(slot).map(|bytes| Key::Text(TextBytes::Long(bytes)));
        };
        if tag == NULL {
            return Some(Key::Null);
        }
        let mut bytes = [0; SHORT];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Some(Key::Text(TextBytes::Short(bytes, usize::from(tag))))
    }
}

/// A short text that begins here in a buffer, which mostly goes on behind it: then nothing goes by its length but a mask.
#[inline]
fn short(buffer: &[u8], start: usize, length: usize) -> FixedKey<2> {
    let word = match buffer.get(start..start + SHORT).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => u128::from_le_bytes(bytes) & u128::MAX.checked_shr(8 * (SHORT - length) as u32).unwrap_or(0),
        None => {
            let mut bytes = [0; SHORT];
            bytes[..length].copy_from_slice(&buffer[start..start + length]);
            u128::from_le_bytes(bytes)
        }
    };
    FixedKey { tag: length as u8, words: [word as u64, (word >> 64) as u64] }
}

impl KeyTable for Texts {
    fn intern(&mut self, columns: &[ArrayRef], rows: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        let texts = columns[0].as_string::<i32>();
        let buffer = texts.value_data();
        let mut slots = Vec::with_capacity(rows);
        for (row, ends) in texts.value_offsets().windows(2).enumerate() {
            let (start, length) = (ends[0] as usize, (ends[1] - ends[0]) as usize);
            slots.push(if texts.is_null(row) {
                self.short.intern(FixedKey { tag: NULL, words: [0; 2] }, allocate)
            } else if length <= SHORT {
                self.short.intern(short(buffer, start, length), allocate)
            } else {
                self.long.intern(TABLE, &buffer[start..start + length], &mut *allocate)?.0
            });
        }
        Ok(slots)
    }

    fn remove(&mut self, slot: u32) {
        self.short.remove(slot);
        self.long.remove(slot);
    }

    fn clear(&mut self) {
        self.short.clear();
        self.long.clear();
    }

    fn contains(&self, slot: u32) -> bool {
        self.key(slot).is_some()
    }

    fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    fn slots(&self) -> Vec<u32> {
        let mut slots = self.short.slots();
        slots.extend(self.long.numbers());
        slots.sort_unstable();
        slots
    }

    fn sort(&self, slots: &mut [u32]) {
        slots.sort_unstable_by(|one, other| self.key(*one).cmp(&self.key(*other)));
    }

    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut texts = StringBuilder::with_capacity(slots.len(), slots.len() * SHORT / 2);
        for slot in slots {
            match self.key(*slot).ok_or_else(missing)? {
                Key::Null => texts.append_null(),
                Key::Text(text) => texts.append_value(from_utf8(text.get()).or_error(ErrorKind::Internal, || "decoding a key".into())?),
            }
        }
        Ok(vec![Arc::new(texts.finish())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use proptest::prelude::*;

    proptest! {
        /// Whatever stands before and behind a text in the same buffer.
        #[test]
        fn texts_are_the_same_wherever_they_stand(texts in prop::collection::vec(prop::option::of("[ab\u{0}ä]{0,19}"), 1..40)) {
            let all: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let (mut together, mut alone) = (Texts::default(), Texts::default());
            let mut next = [0..u32::MAX, 0..u32::MAX];
            let [of_all, of_one] = &mut next;
            let slots = together.intern(&[Arc::clone(&all)], texts.len(), &mut || of_all.next().unwrap()).unwrap();
            for (text, slot) in texts.iter().zip(&slots) {
                let one: ArrayRef = Arc::new(StringArray::from(vec![text.clone()]));
                prop_assert_eq!(alone.intern(&[one], 1, &mut || of_one.next().unwrap()).unwrap(), vec![*slot]);
            }
            prop_assert_eq!(&together.columns(&slots).unwrap()[0], &all);
        }
    }
}
