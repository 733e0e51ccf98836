//! From keys to slots.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::canonical_key;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// The keys of a table, each with a slot. Null equals null, and negative zero equals zero.
pub(super) struct KeyTable {
    /// None without key columns: there is one key.
    converter: Option<RowConverter>,
    table: HashTable<u32>,
    /// By slot; empty for a slot without a key.
    keys: Vec<Option<(u64, Box<[u8]>)>>,
}

impl KeyTable {
    pub(super) fn new(columns: &[DataType]) -> Result<Self> {
        let fields: Vec<SortField> = columns.iter().map(|column| SortField::new(column.clone())).collect();
        let converter = (!fields.is_empty()).then(|| RowConverter::new(fields)).transpose();
        let converter = converter.or_error(ErrorKind::Config, || "a column of this type can't be grouped by".into())?;
        Ok(Self { converter, table: HashTable::new(), keys: Vec::new() })
    }

    /// The slot of each row's key; a new key gets one from `allocate`.
    pub(super) fn intern(&mut self, columns: &[ArrayRef], rows: usize, mut allocate: impl FnMut() -> u32) -> Result<Vec<u32>> {
        let Some(converter) = &self.converter else {
            let slot = match self.keys.iter().position(Option::is_some) {
                Some(slot) => slot as u32,
                None if rows == 0 => return Ok(Vec::new()),
                None => self.insert(0, &[], allocate()),
            };
            return Ok(vec![slot; rows]);
        };
        let columns = columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
        let encoded = converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding keys".into())?;
        let mut slots = Vec::with_capacity(rows);
        for row in &encoded {
            let key = row.as_ref();
            let hash = xxh3_64(key);
            let keys = &self.keys;
            let is_same = |slot: &u32| keys[*slot as usize].as_ref().is_some_and(|(_, other)| other.as_ref() == key);
            let found = self.table.find(hash, is_same).copied();
            slots.push(match found {
                Some(slot) => slot,
                None => self.insert(hash, key, allocate()),
            });
        }
        Ok(slots)
    }

    fn insert(&mut self, hash: u64, key: &[u8], slot: u32) -> u32 {
        if self.keys.len() <= slot as usize {
            self.keys.resize_with(slot as usize + 1, || None);
        }
        self.keys[slot as usize] = Some((hash, key.into()));
        let keys = &self.keys;
        self.table.insert_unique(hash, slot, |other| keys[*other as usize].as_ref().map_or(0, |(hash, _)| *hash));
        slot
    }

    /// Forgets the key of a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        if let Some((hash, _)) = self.keys[slot as usize].take()
            && let Ok(entry) = self.table.find_entry(hash, |other| *other == slot)
        {
            entry.remove();
        }
    }

    /// Whether the slot has a key.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.keys.get(slot as usize).is_some_and(Option::is_some)
    }

    /// The slots in use, ascending.
    pub(super) fn slots(&self) -> Vec<u32> {
        (0u32..).zip(&self.keys).filter(|(_, key)| key.is_some()).map(|(slot, _)| slot).collect()
    }

    /// The key columns of slots.
    pub(super) fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let parser = converter.parser();
        let missing = || Error::internal("a slot has no key");
        let key = |slot: &u32| self.keys[*slot as usize].as_ref().map(|(_, key)| parser.parse(key)).ok_or_else(missing);
        let rows = slots.iter().map(key).collect::<Result<Vec<_>>>()?;
        converter.convert_rows(rows).or_error(ErrorKind::Internal, || "decoding keys".into())
    }
}
