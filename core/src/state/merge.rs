//! Merging layers of a table into one.

use super::StateLayer;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::Timestamp;
use crate::time::Watermark;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat, concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// One layer that says the same as these, oldest first, of one table: the last row of each key. `complete` says that no layer lies
/// below them, so that keys that went need not be remembered, nor rows that the watermark has killed. Rows are in the order in which their
/// keys last changed.
///
/// # Errors
/// `Corrupt` if the layers are of different shapes, `Internal` without any layer.
pub fn merge(layers: &[StateLayer], complete: bool, watermark: Watermark) -> Result<StateLayer> {
    let first = layers.first().ok_or_else(|| Error::internal("merging no layers of state"))?;
    if layers.iter().any(|layer| layer.table != first.table || layer.rows.schema() != first.rows.schema()) {
        return Err(Error::corrupt(format!("layers of the state table '{}' have different shapes", first.table.name)));
    }
    let merging = || format!("merging the state table '{}'", first.table.name);
    let rows = concat_batches(&first.rows.schema(), layers.iter().map(|layer| &layer.rows)).or_error(ErrorKind::Internal, merging)?;
    let flags: Vec<&dyn Array> = layers.iter().map(|layer| &layer.removed as &dyn Array).collect();
    let removed = BooleanArray::from(concat(&flags).or_error(ErrorKind::Internal, merging)?.to_data());
    let last = last_of_each_key(&rows, first.table.key_columns)?;
    let expires = first.table.expires.and_then(|column| rows.column(column).as_primitive_opt::<TimestampMicrosecondType>());
    let is_dead = |row: usize| {
        let expired = expires.is_some_and(|times| times.is_valid(row) && Watermark::At(Timestamp(times.value(row))) <= watermark);
        expired || removed.value(row)
    };
    let kept: Vec<u64> = last.into_iter().filter(|&row| !(complete && is_dead(row as usize))).collect();
    let removed = kept.iter().map(|&row| Some(removed.value(row as usize))).collect();
    let rows = take_record_batch(&rows, &UInt64Array::from(kept)).or_error(ErrorKind::Internal, merging)?;
    Ok(StateLayer { table: first.table.clone(), rows, removed })
}

/// The index of the last row of each key, ascending.
fn last_of_each_key(rows: &RecordBatch, key_columns: usize) -> Result<Vec<u64>> {
    let count = rows.num_rows() as u64;
    if key_columns == 0 {
        return Ok(count.checked_sub(1).into_iter().collect());
    }
    let keys = &rows.columns()[..key_columns];
    let fields = keys.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).or_error(ErrorKind::Internal, || "a column of this type can't be a key".into())?;
    let encoded = converter.convert_columns(keys).or_error(ErrorKind::Internal, || "encoding keys".into())?;
    let mut seen: HashTable<(u64, usize)> = HashTable::with_capacity(rows.num_rows());
    let mut last = Vec::with_capacity(rows.num_rows());
    // From the end, the first of each key is its last.
    for index in (0..rows.num_rows()).rev() {
        let key = encoded.row(index);
        let hash = xxh3_64(key.as_ref());
        let is_same = |(other_hash, other): &(u64, usize)| *other_hash == hash && encoded.row(*other) == key;
        if seen.find(hash, is_same).is_none() {
            seen.insert_unique(hash, (hash, index), |(hash, _)| *hash);
            last.push(index as u64);
        }
    }
    last.reverse();
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateTable;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn layer(changes: &[(&str, Option<i64>)]) -> StateLayer {
        let keys: ArrayRef = Arc::new(changes.iter().map(|(key, _)| Some(*key)).collect::<StringArray>());
        let values: ArrayRef = Arc::new(changes.iter().map(|(_, value)| *value).collect::<Int64Array>());
        let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, false), ("v", values, true)]).unwrap();
        let removed = changes.iter().map(|(_, value)| Some(value.is_none())).collect();
        StateLayer { table: StateTable::new("t", 1), rows, removed }
    }

    fn content(layer: &StateLayer) -> BTreeMap<String, Option<i64>> {
        let keys = layer.rows.column(0).as_string::<i32>();
        let values = layer.rows.column(1).as_primitive::<Int64Type>();
        let row = |i: usize| (keys.value(i).to_owned(), (!layer.removed.value(i)).then(|| values.value(i)));
        (0..layer.rows.num_rows()).map(row).collect()
    }

    #[test]
    fn the_last_change_of_a_key_wins() {
        let layers = [layer(&[("a", Some(1)), ("b", Some(2))]), layer(&[("a", None), ("c", Some(3))]), layer(&[("b", Some(4))])];
        let part = content(&merge(&layers, false, Watermark::Unknown).unwrap());
        assert_eq!(part, BTreeMap::from([("a".into(), None), ("b".into(), Some(4)), ("c".into(), Some(3))]));
        let whole = content(&merge(&layers, true, Watermark::Unknown).unwrap());
        assert_eq!(whole, BTreeMap::from([("b".into(), Some(4)), ("c".into(), Some(3))]));
    }

    #[test]
    fn merging_by_parts_gives_the_same() {
        let layers = [layer(&[("a", Some(1))]), layer(&[("a", None)]), layer(&[("b", Some(2))]), layer(&[("a", Some(5))])];
        let halves = [merge(&layers[..2], true, Watermark::Unknown).unwrap(), merge(&layers[2..], false, Watermark::Unknown).unwrap()];
        assert_eq!(
            content(&merge(&halves, true, Watermark::Unknown).unwrap()),
            content(&merge(&layers, true, Watermark::Unknown).unwrap())
        );
    }
}
