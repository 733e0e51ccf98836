//! Keys of one text.

use super::super::interned::Interned;
use super::{KeyTable, missing};
use crate::error::{ErrorKind, Result, ResultExt};
use arrow::array::{ArrayRef, AsArray, StringBuilder};
use std::str::from_utf8;
use std::sync::Arc;

/// Owners of contents: the null has one of its own, so that it is not the empty text.
const NULL: u32 = 0;
const TEXT: u32 = 1;

#[derive(Default)]
pub(super) struct Texts(Interned);

impl KeyTable for Texts {
    fn intern(&mut self, columns: &[ArrayRef], rows: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        let texts = columns[0].as_string::<i32>();
        let mut slots = Vec::with_capacity(rows);
        for text in texts {
            let (owner, content) = text.map_or((NULL, ""), |text| (TEXT, text));
            slots.push(self.0.intern(owner, content.as_bytes(), &mut *allocate)?.0);
        }
        Ok(slots)
    }

    fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    fn contains(&self, slot: u32) -> bool {
        self.0.get(slot).is_some()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn slots(&self) -> Vec<u32> {
        self.0.numbers().collect()
    }

    fn sort(&self, slots: &mut [u32]) {
        let key = |slot: u32| (self.0.owner(slot), self.0.get(slot));
        slots.sort_unstable_by(|one, other| key(*one).cmp(&key(*other)));
    }

    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let bytes = slots.iter().map(|slot| self.0.get(*slot).map_or(0, <[u8]>::len)).sum();
        let mut texts = StringBuilder::with_capacity(slots.len(), bytes);
        for slot in slots {
            let content = self.0.get(*slot).ok_or_else(missing)?;
            match self.0.owner(*slot) {
                Some(TEXT) => texts.append_value(from_utf8(content).or_error(ErrorKind::Internal, || "decoding a key".into())?),
                _ => texts.append_null(),
            }
        }
        Ok(vec![Arc::new(texts.finish())])
    }
}
