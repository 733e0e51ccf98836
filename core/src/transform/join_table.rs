//! Rows of a static table by their key, to be looked up by the keys of other rows.
//!
//! Keys are compared as arrow compares them in a condition: floating-point numbers by their total order, so NaN equals NaN, and -0 does
//! not equal 0.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::HashMap;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct JoinTable {
    rows: RecordBatch,
    /// None if there is no key: then all rows are one group.
    converter: Option<RowConverter>,
    nulls_equal: bool,
    groups: HashMap<Vec<u8>, usize>,
    /// Where each group's positions begin, and behind the last one where they all end.
    starts: Vec<usize>,
    /// The positions of the rows, group by group, ascending within each.
    positions: Vec<u32>,
}

impl JoinTable {
    /// The table of rows with these keys. A row whose key has a null is never found, unless nulls are equal.
    ///
    /// # Errors
    /// `Config` if there are too many rows, or a key is of a type that can't be compared.
    pub(super) fn try_new(rows: RecordBatch, keys: &[ArrayRef], nulls_equal: bool) -> Result<Self> {
        let count = u32::try_from(rows.num_rows());
        let count = count.map_err(|_| Error::config(format!("a static table of {} rows is too large to be joined", rows.num_rows())))?;
        let converter = if keys.is_empty() { None } else { Some(converter(keys)?) };
        let mut table = Self { rows, converter, nulls_equal, groups: HashMap::new(), starts: vec![0], positions: Vec::new() };
        match table.encode(keys)? {
            None => {
                table.positions = (0..count).collect();
                table.starts.push(table.positions.len());
            }
            Some(encoded) => table.group(&encoded, count),
        }
        Ok(table)
    }

    /// Divides the rows into groups of one key: counted first, then put in their places.
    fn group(&mut self, encoded: &EncodedKeys, count: u32) {
        let (mut of_row, mut sizes) = (Vec::with_capacity(count as usize), Vec::new());
        for row in 0..count as usize {
            let group = encoded.get(row).map(|key| {
                let next = self.groups.len();
                let group = *self.groups.entry_ref(key).or_insert(next);
                if group == sizes.len() {
                    sizes.push(0);
                }
                sizes[group] += 1;
                group
            });
            of_row.push(group);
        }
        self.starts = std::iter::once(0)
            .chain(sizes.iter().scan(0, |end, size| {
                *end += size;
                Some(*end)
            }))
            .collect();
        let mut next = self.starts.clone();
        self.positions = vec![0; next[sizes.len()]];
        for (row, group) in (0..count).zip(of_row) {
            if let Some(group) = group {
                self.positions[next[group]] = row;
                next[group] += 1;
            }
        }
    }

    /// The rows.
    pub(super) fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Makes keys ready to be looked up.
    pub(super) fn probe(&self, keys: &[ArrayRef]) -> Result<Probe<'_>> {
        Ok(Probe { table: self, keys: self.encode(keys)? })
    }

    fn encode(&self, keys: &[ArrayRef]) -> Result<Option<EncodedKeys>> {
        let Some(converter) = &self.converter else { return Ok(None) };
        let rows = converter.convert_columns(keys).or_error(ErrorKind::Internal, || "the keys of a join".into())?;
        let union = |nulls: Option<NullBuffer>, key: &ArrayRef| NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref());
        let nulls = if self.nulls_equal { None } else { keys.iter().fold(None, union) };
        Ok(Some(EncodedKeys { rows, nulls }))
    }
}

fn converter(keys: &[ArrayRef]) -> Result<RowConverter> {
    let fields: Vec<SortField> = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    RowConverter::new(fields).or_error(ErrorKind::Config, || "a join compares columns of a type that can't be compared".into())
}

/// Keys as bytes.
struct EncodedKeys {
    rows: Rows,
    nulls: Option<NullBuffer>,
}

impl EncodedKeys {
    /// The key of a row; none if it equals no key.
    fn get(&self, row: usize) -> Option<&[u8]> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        (!is_null).then(|| self.rows.row(row).data())
    }
}

/// Keys that are looked up.
pub(super) struct Probe<'a> {
    table: &'a JoinTable,
    keys: Option<EncodedKeys>,
}

impl<'a> Probe<'a> {
    /// The positions of the table's rows that have the key of this row, ascending.
    pub(super) fn find(&self, row: usize) -> &'a [u32] {
        let table = self.table;
        let group = match &self.keys {
            None => Some(0),
            Some(keys) => keys.get(row).and_then(|key| table.groups.get(key)).copied(),
        };
        group.map_or(&[], |group| &table.positions[table.starts[group]..table.starts[group + 1]])
    }
}
