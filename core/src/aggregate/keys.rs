//! From keys to slots.

use super::interned::Interned;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::canonical_key;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};

/// All keys of a table have one owner: the table.
const TABLE: u32 = 0;

/// The keys of a table, each with a slot. Null equals null, and negative zero equals zero.
pub(super) struct KeyTable {
    /// None without key columns: there is one key.
    converter: Option<RowConverter>,
    slots: Interned,
}

impl KeyTable {
    pub(super) fn new(columns: &[DataType]) -> Result<Self> {
        let fields: Vec<SortField> = columns.iter().map(|column| SortField::new(column.clone())).collect();
        let converter = (!fields.is_empty()).then(|| RowConverter::new(fields)).transpose();
        let converter = converter.or_error(ErrorKind::Config, || "a column of this type can't be grouped by".into())?;
        Ok(Self { converter, slots: Interned::default() })
    }

    /// The slot of each row's key; a new key gets one from `allocate`.
    pub(super) fn intern(&mut self, columns: &[ArrayRef], rows: usize, mut allocate: impl FnMut() -> u32) -> Result<Vec<u32>> {
        let Some(converter) = &self.converter else {
            return Ok(if rows == 0 { Vec::new() } else { vec![self.slots.intern(TABLE, &[], allocate).0; rows] });
        };
        let columns = columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
        let encoded = converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding keys".into())?;
        Ok(encoded.iter().map(|key| self.slots.intern(TABLE, key.as_ref(), &mut allocate).0).collect())
    }

    /// Forgets the key of a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        self.slots.remove(slot);
    }

    /// Whether the slot has a key.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.slots.get(slot).is_some()
    }

    /// The slots in use, ascending.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.slots.numbers().collect()
    }

    /// The key columns of slots.
    pub(super) fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let parser = converter.parser();
        let missing = || Error::internal("a slot has no key");
        let key = |slot: &u32| self.slots.get(*slot).map(|key| parser.parse(key)).ok_or_else(missing);
        let rows = slots.iter().map(key).collect::<Result<Vec<_>>>()?;
        converter.convert_rows(rows).or_error(ErrorKind::Internal, || "decoding keys".into())
    }
}
