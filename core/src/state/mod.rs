//! State: keyed tables whose changes are checkpointed.
//!
//! An operator (or a source) keeps any number of named tables. A table is a set of rows with a key: the first
//! `key_columns` columns. A [`StateLayer`] is what a batch changed in one table: the new rows of the keys that changed, and the
//! keys that went. Layers pile up, and a later one wins over an earlier one, key by key. They can be merged without the operator that wrote
//! them ([`merge()`]), which is how chains are kept short.
//!
//! The first columns of every table of a keyed operator are the operator's key, in the order of its key expressions, whatever else belongs
//! to the table's own key: so a row's owner can be told from the row. A row's key group, a number below [`KEY_GROUPS`], decides which task
//! owns it. It is a function of the key's values alone ([`key_groups`]), so that state can be handed to any number of tasks.

mod codec;
mod key;
mod merge;
mod newer;
mod number_key;
mod parts;

pub use codec::{EncodedLayer, LayerWriter, WrittenLayer, decode_layer, encode_layer, encode_pieces};
pub use key::{KEY_GROUPS, KeyGroup, canonical_key, key_groups};
pub use merge::{LayerMerge, LayerShape, live, merge};
pub use newer::KeyShare;
pub(crate) use number_key::{NumberKey, are_numbers, number_columns, number_keys};
pub use parts::decode_parts;

use crate::time::Timestamp;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::max;
use arrow::datatypes::TimestampMicrosecondType;
use serde::{Deserialize, Serialize};

/// The shape of a table of state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateTable {
    /// The table's name within its operator.
    pub name: String,
    /// How many of the first columns are the key. Zero is a table of at most one row.
    pub key_columns: usize,
    /// The column, a TIMESTAMP in microseconds, at which a row expires: once the operator's watermark has reached it, the row counts no
    /// more and need not be removed. None if rows stay until they are removed. The row of a key that went expires no earlier than those
    /// that it hides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<usize>,
}

impl StateTable {
    /// A table whose rows stay until they are removed.
    pub fn new(name: impl Into<String>, key_columns: usize) -> Self {
        Self { name: name.into(), key_columns, expires: None }
    }

    /// The same table, with rows that expire by the watermark.
    #[must_use]
    pub fn expiring(mut self, column: usize) -> Self {
        self.expires = Some(column);
        self
    }
}

/// What changed in a table, or a table's whole content if it is the first of its layers.
#[derive(Debug, Clone)]
pub struct StateLayer {
    /// The table.
    pub table: StateTable,
    /// One row per key. Where `removed` is true only the key's columns have a meaning.
    pub rows: RecordBatch,
    /// For each row, whether the key went.
    pub removed: BooleanArray,
}

impl StateLayer {
    /// When the last of its rows expires; none if a row stays until it is removed, or if there is no row.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let times = self.rows.column(self.table.expires?).as_primitive_opt::<TimestampMicrosecondType>()?;
        (times.null_count() == 0).then(|| max(times).map(Timestamp)).flatten()
    }

    /// Some of its rows.
    pub(super) fn slice(&self, start: usize, rows: usize) -> Self {
        Self { table: self.table.clone(), rows: self.rows.slice(start, rows), removed: self.removed.slice(start, rows) }
    }

    /// A layer in which no key went.
    pub fn upserts(table: StateTable, rows: RecordBatch) -> Self {
        let removed = BooleanArray::from(BooleanBuffer::new_unset(rows.num_rows()));
        Self { table, rows, removed }
    }
}
