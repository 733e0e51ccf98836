//! Merging layers of a table into one: the last row of each key wins. What it gives depends on the layers alone, and is written or read
//! like any other layer.

use super::{StateLayer, StateTable, are_numbers, number_keys};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::{Timestamp, Watermark};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat, concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// One layer that says the same as these, oldest first, of one table: the last row of each key. `complete` says that no layer lies
/// below them, so that keys that went need not be remembered, nor rows that have expired by the watermark. Rows are in the order in which
/// their keys last changed; the columns have the names of the newest layer.
///
/// # Errors
/// `Corrupt` if the layers are of different shapes, `Internal` without any layer.
pub fn merge(layers: &[StateLayer], complete: bool, watermark: Watermark) -> Result<StateLayer> {
    let (Some(first), Some(newest)) = (layers.first(), layers.last()) else { return Err(Error::internal("merging no layers of state")) };
    let merging = || format!("merging the state table '{}'", first.table.name);
    let schema = newest.rows.schema();
    let parts = layers.iter().map(|layer| with_names(layer, &newest.table, &schema)).collect::<Result<Vec<_>>>()?;
    let rows = concat_batches(&schema, &parts).or_error(ErrorKind::Internal, merging)?;
    let flags: Vec<&dyn Array> = layers.iter().map(|layer| &layer.removed as &dyn Array).collect();
    let removed = BooleanArray::from(concat(&flags).or_error(ErrorKind::Internal, merging)?.to_data());
    let last = last_of_each_key(&rows, first.table.key_columns)?;
    let expires = first.table.expires.and_then(|column| rows.column(column).as_primitive_opt::<TimestampMicrosecondType>());
    let is_gone = |row: usize| {
        let expired = expires.is_some_and(|times| times.is_valid(row) && Watermark::At(Timestamp(times.value(row))) <= watermark);
        expired || removed.value(row)
    };
    let kept: Vec<u64> = last.into_iter().filter(|&row| !(complete && is_gone(row as usize))).collect();
    let removed = kept.iter().map(|&row| Some(removed.value(row as usize))).collect();
    let rows = take_record_batch(&rows, &UInt64Array::from(kept)).or_error(ErrorKind::Internal, merging)?;
    Ok(StateLayer { table: first.table.clone(), rows, removed })
}

/// The rows of a layer under the newest names of its columns: a program may call its keys by other names than the one before it.
fn with_names(layer: &StateLayer, table: &StateTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let different = || format!("layers of the state table '{}' have different shapes", table.name);
    let types = |schema: &SchemaRef| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    if layer.table != *table || types(&layer.rows.schema()) != types(schema) {
        return Err(Error::corrupt(different()));
    }
    RecordBatch::try_new(Arc::clone(schema), layer.rows.columns().to_vec()).or_error(ErrorKind::Corrupt, different)
}

/// The index of the last row of each key, ascending.
fn last_of_each_key(rows: &RecordBatch, key_columns: usize) -> Result<Vec<u64>> {
    let keys = &rows.columns()[..key_columns];
    if key_columns == 0 {
        return Ok((rows.num_rows() as u64).checked_sub(1).into_iter().collect());
    }
    if are_numbers(keys.iter().map(|column| column.data_type())) {
        return if key_columns == 1 { last_of_each_number::<1>(keys) } else { last_of_each_number::<2>(keys) };
    }
    let fields = keys.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).or_error(ErrorKind::Internal, || "a column of this type can't be a key".into())?;
    let keys = converter.convert_columns(keys).or_error(ErrorKind::Internal, || "encoding keys".into())?;
    Ok(last_of_each(keys.num_rows(), |row| xxh3_64(keys.row(row).as_ref()), |row, other| keys.row(row) == keys.row(other)))
}

fn last_of_each_number<const N: usize>(keys: &[ArrayRef]) -> Result<Vec<u64>> {
    let keys = number_keys::<N>(keys)?;
    Ok(last_of_each(keys.len(), |row| keys[row].stable_hash(), |row, other| keys[row] == keys[other]))
}

/// The index of the last of the rows that are the same, ascending.
fn last_of_each(rows: usize, hash: impl Fn(usize) -> u64, is_same: impl Fn(usize, usize) -> bool) -> Vec<u64> {
    let mut seen: HashTable<(u64, usize)> = HashTable::with_capacity(rows);
    let mut last = Vec::with_capacity(rows);
    // From the end, the first of each key is its last.
    for row in (0..rows).rev() {
        let hash = hash(row);
        if seen.find(hash, |(other_hash, other)| *other_hash == hash && is_same(row, *other)).is_none() {
            seen.insert_unique(hash, (hash, row), |(hash, _)| *hash);
            last.push(row as u64);
        }
    }
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use std::collections::BTreeMap;

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
    fn columns_may_have_got_other_names_but_not_other_types() {
        let old = layer(&[("a", Some(1)), ("b", Some(2))]);
        let rename = |layer: &StateLayer, name: &str| {
            let columns = layer.rows.columns().iter().cloned();
            RecordBatch::try_from_iter_with_nullable([name, "v"].into_iter().zip(columns).map(|(name, column)| (name, column, true)))
                .unwrap()
        };
        let mut new = layer(&[("b", Some(3))]);
        new.rows = rename(&new, "word");
        let merged = merge(&[old.clone(), new], true, Watermark::Unknown).unwrap();
        assert_eq!(merged.rows.schema().field(0).name(), "word");
        assert_eq!(content(&merged), BTreeMap::from([("a".into(), Some(1)), ("b".into(), Some(3))]));
        let mut other = old.clone();
        other.rows = old.rows.project(&[1, 0]).unwrap();
        assert_eq!(merge(&[old, other], true, Watermark::Unknown).unwrap_err().kind(), ErrorKind::Corrupt);
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
