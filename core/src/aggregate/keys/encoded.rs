//! Keys of any types, as bytes.

use super::{KeyTable, missing};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::interned::Interned;
use crate::state::canonical_key;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};

/// All keys of a table have one owner: the table.
const TABLE: u32 = 0;

pub(super) struct EncodedKeys {
    converter: RowConverter,
    slots: Interned,
}

impl EncodedKeys {
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        let fields: Vec<SortField> = types.iter().map(|column| SortField::new(column.clone())).collect();
        let converter = RowConverter::new(fields).or_error(ErrorKind::Config, || "a column of this type can't be grouped by".into())?;
        Ok(Self { converter, slots: Interned::default() })
    }
}

impl KeyTable for EncodedKeys {
    fn intern(&mut self, columns: &[ArrayRef], _: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        let columns = columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
        let encoded = self.converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding keys".into())?;
        encoded.iter().map(|key| Ok(self.slots.intern(TABLE, key.as_ref(), &mut *allocate)?.0)).collect()
    }

    fn remove(&mut self, slot: u32) {
        self.slots.remove(slot);
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn contains(&self, slot: u32) -> bool {
        self.slots.get(slot).is_some()
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn slots(&self) -> Vec<u32> {
        self.slots.numbers().collect()
    }

    fn sort(&self, slots: &mut [u32]) {
        slots.sort_unstable_by(|one, other| self.slots.get(*one).cmp(&self.slots.get(*other)));
    }

    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let key = |slot: &u32| self.slots.get(*slot).map(|key| parser.parse(key)).ok_or_else(missing);
        let rows = slots.iter().map(key).collect::<Result<Vec<_>>>()?;
        self.converter.convert_rows(rows).or_error(ErrorKind::Internal, || "decoding keys".into())
    }
}
