//! Keys of one or two numbers.

use super::fixed::{FixedKey, FixedKeys};
use super::{KeyTable, missing};
use crate::error::Result;
use crate::state::{NumberKey, number_columns, number_keys};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

pub(super) struct NumberTable<const N: usize> {
    types: Vec<DataType>,
    /// The tag has a bit per number that is null.
    keys: FixedKeys<N>,
}

impl<const N: usize> NumberTable<N> {
    pub(super) fn new(types: &[DataType]) -> Self {
        Self { types: types.to_vec(), keys: FixedKeys::default() }
    }

    fn get(&self, slot: u32) -> Option<NumberKey<N>> {
        self.keys.get(slot).map(|key| NumberKey { nulls: key.tag, values: key.words.map(|word| word as i64) })
    }
}

impl<const N: usize> KeyTable for NumberTable<N> {
    fn intern(&mut self, columns: &[ArrayRef], _: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        let fixed = |key: &NumberKey<N>| FixedKey { tag: key.nulls, words: key.values.map(|value| value as u64) };
        Ok(self.keys.intern_all(&number_keys::<N>(columns)?, fixed, allocate))
    }

    fn reserve(&mut self, keys: usize) {
        self.keys.reserve(keys);
    }

    fn remove(&mut self, slot: u32) {
        self.keys.remove(slot);
    }

    fn clear(&mut self) {
        self.keys.clear();
    }

    fn contains(&self, slot: u32) -> bool {
        self.keys.get(slot).is_some()
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn slots(&self) -> Vec<u32> {
        self.keys.slots()
    }

    fn sort(&self, slots: &mut [u32]) {
        let mut keyed = Vec::with_capacity(slots.len());
        keyed.extend(slots.iter().filter_map(|slot| self.get(*slot).filter(|key| key.nulls == 0).map(|key| (key.values, *slot))));
        if keyed.len() < slots.len() {
            return slots.sort_unstable_by_key(|slot| self.get(*slot));
        }
        // To look keys up whenever they are compared takes twice the time.
        keyed.sort_unstable();
        slots.iter_mut().zip(keyed).for_each(|(slot, (_, sorted))| *slot = sorted);
    }

    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut keys = Vec::with_capacity(slots.len());
        for slot in slots {
            keys.push(self.get(*slot).ok_or_else(missing)?);
        }
        number_columns(&keys, &self.types)
    }
}
