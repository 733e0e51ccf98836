//! Keys of one or two numbers.

use super::{KeyTable, missing};
use crate::error::Result;
use crate::state::{NumberKey, number_columns, number_keys};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Of a slot that has no key; else a bit per number that is null.
const FREE: u8 = u8::MAX;

/// A key takes eight bytes for each of its numbers, and six to eleven for being found.
pub(super) struct NumberTable<const N: usize> {
    types: Vec<DataType>,
    hasher: RandomState,
    /// Slots, by the hashes of their keys.
    table: HashTable<u32>,
    /// By slot.
    values: Vec<[i64; N]>,
    nulls: Vec<u8>,
}

impl<const N: usize> NumberTable<N> {
    pub(super) fn new(types: &[DataType]) -> Self {
        Self { types: types.to_vec(), hasher: RandomState::default(), table: HashTable::new(), values: Vec::new(), nulls: Vec::new() }
    }

    fn get(&self, slot: u32) -> Option<NumberKey<N>> {
        let nulls = self.nulls.get(slot as usize).copied().filter(|nulls| *nulls != FREE)?;
        Some(NumberKey { nulls, values: self.values[slot as usize] })
    }

    fn slot(&mut self, key: NumberKey<N>, allocate: &mut dyn FnMut() -> u32) -> u32 {
        let Self { hasher, table, values, nulls, .. } = self;
        let hash = hasher.hash_one(key);
        let is_same = |slot: &u32| values[*slot as usize] == key.values && nulls[*slot as usize] == key.nulls;
        if let Some(slot) = table.find(hash, is_same) {
            return *slot;
        }
        let slot = allocate();
        if nulls.len() <= slot as usize {
            values.resize(slot as usize + 1, [0; N]);
            nulls.resize(slot as usize + 1, FREE);
        }
        values[slot as usize] = key.values;
        nulls[slot as usize] = key.nulls;
        table.insert_unique(hash, slot, |slot| hasher.hash_one(NumberKey { nulls: nulls[*slot as usize], values: values[*slot as usize] }));
        slot
    }
}

impl<const N: usize> KeyTable for NumberTable<N> {
    fn intern(&mut self, columns: &[ArrayRef], _: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        Ok(number_keys::<N>(columns)?.into_iter().map(|key| self.slot(key, allocate)).collect())
    }

    fn remove(&mut self, slot: u32) {
        let Some(key) = self.get(slot) else { return };
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(key), |other| *other == slot) {
            entry.remove();
        }
        self.nulls[slot as usize] = FREE;
    }

    fn contains(&self, slot: u32) -> bool {
        self.nulls.get(slot as usize).is_some_and(|nulls| *nulls != FREE)
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn slots(&self) -> Vec<u32> {
        (0u32..).zip(&self.nulls).filter(|(_, nulls)| **nulls != FREE).map(|(slot, _)| slot).collect()
    }

    fn sort(&self, slots: &mut [u32]) {
        slots.sort_unstable_by_key(|slot| self.get(*slot));
    }

    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys = slots.iter().map(|slot| self.get(*slot).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        number_columns(&keys, &self.types)
    }
}
