//! Merging layers of a table into one: the last row of each key wins. What it gives depends on the layers alone, and is written or read
//! like any other layer.
//!
//! A layer has one row per key, so a row stays unless a newer layer has its key. The keys of the newer layers are what is held in memory
//! beside the rows: of the oldest layer, which is mostly the largest by far, none.

use super::number_key::NumberKey;
use super::{StateLayer, StateTable, are_numbers, number_keys};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::{Timestamp, Watermark};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat, concat_batches, filter, filter_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Keys are looked up so many at a time.
const BLOCK: usize = 1 << 14;

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
    debug_assert!(parts.iter().all(|part| has_distinct_keys(part, first.table.key_columns)), "a layer has a key twice");
    let newer = parts.iter().skip(1).map(RecordBatch::num_rows).sum();
    let mut seen = seen(&schema, first.table.key_columns, newer)?;
    let mut kept = Vec::with_capacity(parts.len());
    for (index, (part, layer)) in parts.iter().zip(layers).enumerate().rev() {
        let mut stays = seen.unseen(part, index > 0)?;
        if complete {
            let expires = first.table.expires.and_then(|column| part.column(column).as_primitive_opt::<TimestampMicrosecondType>());
            let is_gone = |row: usize| {
                let expired = expires.is_some_and(|times| times.is_valid(row) && Watermark::At(Timestamp(times.value(row))) <= watermark);
                expired || layer.removed.value(row)
            };
            stays.iter_mut().enumerate().filter(|(_, stays)| **stays).for_each(|(row, stays)| *stays = !is_gone(row));
        }
        let all = stays.iter().all(|stays| *stays);
        let stays = BooleanArray::from(stays);
        kept.push(match all {
            true => (part.clone(), Arc::new(layer.removed.clone()) as ArrayRef),
            false => (
                filter_record_batch(part, &stays).or_error(ErrorKind::Internal, merging)?,
                filter(&layer.removed, &stays).or_error(ErrorKind::Internal, merging)?,
            ),
        });
    }
    kept.reverse();
    let rows = concat_batches(&schema, kept.iter().map(|(rows, _)| rows)).or_error(ErrorKind::Internal, merging)?;
    let removed: Vec<&dyn Array> = kept.iter().map(|(_, removed)| removed.as_ref()).collect();
    let removed = BooleanArray::from(concat(&removed).or_error(ErrorKind::Internal, merging)?.to_data());
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

fn has_distinct_keys(rows: &RecordBatch, key_columns: usize) -> bool {
    let unseen = seen(&rows.schema(), key_columns, rows.num_rows()).and_then(|mut seen| seen.unseen(rows, true));
    unseen.is_ok_and(|unseen| unseen.into_iter().all(|unseen| unseen) && (key_columns > 0 || rows.num_rows() <= 1))
}

/// The keys of layers, the newest first.
trait Seen {
    /// For each row of a layer, whether no layer before had its key. The next ones find the layer's own keys if they are `kept`.
    fn unseen(&mut self, rows: &RecordBatch, kept: bool) -> Result<Vec<bool>>;
}

/// Room for so many keys.
fn seen(schema: &SchemaRef, key_columns: usize, keys: usize) -> Result<Box<dyn Seen>> {
    let types = || schema.fields()[..key_columns].iter().map(|field| field.data_type());
    Ok(match key_columns {
        0 => Box::new(OneKey(false)),
        1 if are_numbers(types()) => Box::new(Numbers::<1>::new(keys)),
        2 if are_numbers(types()) => Box::new(Numbers::<2>::new(keys)),
        _ => {
            let fields = types().map(|data_type| SortField::new(data_type.clone())).collect();
            let converter = RowConverter::new(fields).or_error(ErrorKind::Internal, || "a column of this type can't be a key".into())?;
            let (hasher, table) = (RandomState::default(), HashTable::with_capacity(keys));
            Box::new(Encoded { converter, hasher, table, layers: Vec::new(), key_columns })
        }
    })
}

/// A table without a key has one row.
struct OneKey(bool);

impl Seen for OneKey {
    fn unseen(&mut self, rows: &RecordBatch, _: bool) -> Result<Vec<bool>> {
        let count = rows.num_rows();
        let is_first = !self.0;
        self.0 |= count > 0;
        Ok(vec![is_first; count])
    }
}

struct Numbers<const N: usize> {
    hasher: RandomState,
    table: HashTable<NumberKey<N>>,
}

impl<const N: usize> Numbers<N> {
    fn new(keys: usize) -> Self {
        Self { hasher: RandomState::default(), table: HashTable::with_capacity(keys) }
    }
}

impl<const N: usize> Seen for Numbers<N> {
    fn unseen(&mut self, rows: &RecordBatch, kept: bool) -> Result<Vec<bool>> {
        let Self { hasher, table } = self;
        let mut unseen = Vec::with_capacity(rows.num_rows());
        for start in (0..rows.num_rows()).step_by(BLOCK) {
            let block = rows.slice(start, BLOCK.min(rows.num_rows() - start));
            for key in number_keys::<N>(&block.columns()[..N])? {
                let hash = hasher.hash_one(key);
                let is_new = table.find(hash, |other| *other == key).is_none();
                if is_new && kept {
                    table.insert_unique(hash, key, |key| hasher.hash_one(key));
                }
                unseen.push(is_new);
            }
        }
        Ok(unseen)
    }
}

/// Keys of any types, in arrow's row format.
struct Encoded {
    converter: RowConverter,
    hasher: RandomState,
    /// Which row of which layer.
    table: HashTable<(usize, usize)>,
    layers: Vec<Rows>,
    key_columns: usize,
}

impl Seen for Encoded {
    fn unseen(&mut self, rows: &RecordBatch, kept: bool) -> Result<Vec<bool>> {
        let Self { converter, hasher, table, layers, key_columns } = self;
        let encoded = converter.convert_columns(&rows.columns()[..*key_columns]);
        layers.push(encoded.or_error(ErrorKind::Internal, || "encoding keys".into())?);
        let layer = layers.len() - 1;
        let unseen = (0..rows.num_rows()).map(|row| {
            let key = layers[layer].row(row);
            let hash = hasher.hash_one(key.as_ref());
            let is_new = table.find(hash, |(layer, row)| layers[*layer].row(*row) == key).is_none();
            if is_new && kept {
                table.insert_unique(hash, (layer, row), |(layer, row)| hasher.hash_one(layers[*layer].row(*row).as_ref()));
            }
            is_new
        });
        Ok(unseen.collect())
    }
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
