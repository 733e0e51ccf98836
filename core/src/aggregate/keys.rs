//! From keys to slots, and back: the hash table of a table of groups. Keys of one or two numbers are compared as they are, others as bytes.

use super::interned::{Interned, lower_half, spread};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::{NumberKey, are_numbers, canonical_key, number_columns, number_keys};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

/// All keys of a table have one owner: the table.
const TABLE: u32 = 0;

/// The keys of a table, each with a slot. Null equals null, and negative zero equals zero.
pub(super) enum KeyTable {
    /// Without key columns there is one key.
    One(Option<u32>),
    Numbers(NumberTable),
    Bytes(RowConverter, Interned),
}

/// Keys that are numbers.
pub(super) struct NumberTable {
    types: Vec<DataType>,
    /// A hash of each key, and its slot.
    table: HashTable<(u32, u32)>,
    /// By slot.
    keys: Vec<Option<NumberKey>>,
}

impl KeyTable {
    pub(super) fn new(columns: &[DataType]) -> Result<Self> {
        if columns.is_empty() {
            return Ok(Self::One(None));
        }
        if are_numbers(columns.iter()) {
            return Ok(Self::Numbers(NumberTable { types: columns.to_vec(), table: HashTable::new(), keys: Vec::new() }));
        }
        let fields: Vec<SortField> = columns.iter().map(|column| SortField::new(column.clone())).collect();
        let converter = RowConverter::new(fields).or_error(ErrorKind::Config, || "a column of this type can't be grouped by".into())?;
        Ok(Self::Bytes(converter, Interned::default()))
    }

    /// The slot of each row's key; a new key gets one from `allocate`.
    pub(super) fn intern(&mut self, columns: &[ArrayRef], rows: usize, mut allocate: impl FnMut() -> u32) -> Result<Vec<u32>> {
        match self {
            Self::One(_) if rows == 0 => Ok(Vec::new()),
            Self::One(slot) => Ok(vec![*slot.get_or_insert_with(allocate); rows]),
            Self::Numbers(table) => Ok(number_keys(columns)?.into_iter().map(|key| table.intern(key, &mut allocate)).collect()),
            Self::Bytes(converter, slots) => {
                let columns = columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
                let encoded = converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding keys".into())?;
                encoded.iter().map(|key| Ok(slots.intern(TABLE, key.as_ref(), &mut allocate)?.0)).collect()
            }
        }
    }

    /// Forgets the key of a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        match self {
            Self::One(own) => *own = own.filter(|own| *own != slot),
            Self::Numbers(table) => table.remove(slot),
            Self::Bytes(_, slots) => slots.remove(slot),
        }
    }

    /// Whether the slot has a key.
    pub(super) fn contains(&self, slot: u32) -> bool {
        match self {
            Self::One(own) => *own == Some(slot),
            Self::Numbers(table) => table.get(slot).is_some(),
            Self::Bytes(_, slots) => slots.get(slot).is_some(),
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(slot) => usize::from(slot.is_some()),
            Self::Numbers(table) => table.table.len(),
            Self::Bytes(_, slots) => slots.len(),
        }
    }

    /// The slots in use, ascending.
    pub(super) fn slots(&self) -> Vec<u32> {
        match self {
            Self::One(slot) => slot.iter().copied().collect(),
            Self::Numbers(table) => (0u32..).zip(&table.keys).filter(|(_, key)| key.is_some()).map(|(slot, _)| slot).collect(),
            Self::Bytes(_, slots) => slots.numbers().collect(),
        }
    }

    /// Sorts slots by their keys: in an order that is the same whenever and wherever the keys came to their slots.
    pub(super) fn sort(&self, slots: &mut [u32]) {
        match self {
            Self::One(_) => {}
            Self::Numbers(table) => slots.sort_unstable_by_key(|slot| table.get(*slot)),
            Self::Bytes(_, interned) => slots.sort_unstable_by(|one, other| interned.get(*one).cmp(&interned.get(*other))),
        }
    }

    /// The key columns of slots.
    pub(super) fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let missing = || Error::internal("a slot has no key");
        match self {
            Self::One(_) => Ok(Vec::new()),
            Self::Numbers(table) => {
                let keys = slots.iter().map(|slot| table.get(*slot).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
                number_columns(&keys, &table.types)
            }
            Self::Bytes(converter, interned) => {
                let parser = converter.parser();
                let key = |slot: &u32| interned.get(*slot).map(|key| parser.parse(key)).ok_or_else(missing);
                let rows = slots.iter().map(key).collect::<Result<Vec<_>>>()?;
                converter.convert_rows(rows).or_error(ErrorKind::Internal, || "decoding keys".into())
            }
        }
    }
}

impl NumberTable {
    fn intern(&mut self, key: NumberKey, allocate: impl FnOnce() -> u32) -> u32 {
        let (hash, keys) = (lower_half(key.hash()), &mut self.keys);
        if let Some((_, slot)) = self.table.find(spread(hash), |(other, slot)| *other == hash && keys[*slot as usize] == Some(key)) {
            return *slot;
        }
        let slot = allocate();
        if keys.len() <= slot as usize {
            keys.resize(slot as usize + 1, None);
        }
        keys[slot as usize] = Some(key);
        self.table.insert_unique(spread(hash), (hash, slot), |(hash, _)| spread(*hash));
        slot
    }

    fn get(&self, slot: u32) -> Option<NumberKey> {
        self.keys.get(slot as usize).copied().flatten()
    }

    fn remove(&mut self, slot: u32) {
        let Some(key) = self.keys.get_mut(slot as usize).and_then(Option::take) else { return };
        if let Ok(entry) = self.table.find_entry(spread(lower_half(key.hash())), |(_, other)| *other == slot) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray, TimestampMicrosecondArray};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Key = (Option<i32>, Option<i64>);

    /// The same key as numbers, and as bytes.
    fn columns(key: Key, as_bytes: bool) -> Vec<ArrayRef> {
        let first: ArrayRef = match as_bytes {
            true => Arc::new(StringArray::from(vec![key.0.map(|value| value.to_string())])),
            false => Arc::new(Int32Array::from(vec![key.0])),
        };
        vec![first, Arc::new(TimestampMicrosecondArray::from(vec![key.1]))]
    }

    proptest! {
        #[test]
        fn it_is_a_map_from_keys_to_slots(
            steps in prop::collection::vec((prop::option::of(-2i32..2), prop::option::of(-2i64..2), any::<bool>()), 0..120),
            as_bytes in any::<bool>(),
        ) {
            let types: Vec<DataType> = columns((None, None), as_bytes).iter().map(|column| column.data_type().clone()).collect();
            let (mut table, mut model) = (KeyTable::new(&types).unwrap(), BTreeMap::<Key, u32>::new());
            for (first, second, insert) in steps {
                let key = (first, second);
                if insert {
                    let free = (0..).find(|slot| !model.values().any(|used| used == slot)).unwrap_or(0);
                    let expected = *model.entry(key).or_insert(free);
                    prop_assert_eq!(table.intern(&columns(key, as_bytes), 1, || free).unwrap(), vec![expected]);
                } else if let Some(slot) = model.remove(&key) {
                    table.remove(slot);
                    prop_assert!(!table.contains(slot));
                }
                prop_assert_eq!(table.len(), model.len());
                let mut slots: Vec<u32> = model.values().copied().collect();
                slots.sort_unstable();
                prop_assert_eq!(table.slots(), slots);
                for (key, slot) in &model {
                    prop_assert_eq!(table.columns(&[*slot]).unwrap(), columns(*key, as_bytes));
                }
            }
        }
    }
}
