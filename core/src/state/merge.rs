//! Merging layers of a table into one: the last row of each key wins. What it gives depends on the layers alone, and is written or read
//! like any other layer.
//!
//! A layer has one row per key, so a row stays unless a newer layer has its key. What is held in memory beside the rows: of keys of
//! numbers, where those of a part stand, and one part; of others those of the newer layers, but none of the oldest layer, which is mostly
//! the largest by far.

use super::codec::LayerEncoder;
use super::number_key::{NumberKey, NumberKeys};
use super::{StateLayer, StateTable, are_numbers};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::{Timestamp, Watermark};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{FilterBuilder, FilterPredicate, concat};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Keys of so many rows are looked up among each other, more or less: so many fit into the cache.
const PART: usize = 1 << 16;
/// Into how many parts keys are divided, at most.
const MOST_PARTS: usize = 1 << 8;
/// So many rows of large layers are encoded at a time.
const WRITTEN: usize = 1 << 16;

/// One layer that says the same as these, oldest first, of one table: the last row of each key. `complete` says that no layer lies
/// below them, so that keys that went need not be remembered, nor rows that have expired by the watermark. Rows are in the order in which
/// their keys last changed; the columns have the names of the newest layer.
///
/// # Errors
/// `Corrupt` if the layers are of different shapes, `Internal` without any layer.
pub fn merge(layers: &[StateLayer], complete: bool, watermark: Watermark) -> Result<StateLayer> {
    let (schema, parts) = same_shapes(layers)?;
    let table = layers[0].table.clone();
    let merging = || format!("merging the state table '{}'", table.name);
    let stays = which_stay(layers, &parts, complete, watermark)?;
    let rows = stays.iter().flatten().filter(|stays| **stays).count();
    let kept: Vec<Option<FilterPredicate>> = stays.iter().map(|stays| predicate(stays)).collect();
    let column = |arrays: Vec<&dyn Array>| gather(&arrays, &kept).or_error(ErrorKind::Internal, merging);
    let columns = (0..schema.fields().len()).map(|index| column(parts.iter().map(|part| part.column(index).as_ref()).collect()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let removed = column(layers.iter().map(|layer| &layer.removed as &dyn Array).collect())?.as_boolean().clone();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let rows = RecordBatch::try_new_with_options(schema, columns, &options).or_error(ErrorKind::Internal, merging)?;
    Ok(StateLayer { table, rows, removed })
}

/// A layer as the bytes of an object.
#[derive(Debug)]
pub struct EncodedLayer {
    /// The bytes, in their order.
    pub pieces: Vec<Bytes>,
    /// How many rows it has.
    pub rows: u64,
    /// As [`StateLayer::expires_at`].
    pub expires_at: Option<Timestamp>,
}

/// What [`merge`] gives, encoded: for large layers, each of which goes while its rows are written. Their rows are never in memory twice,
/// but for a few. None if it is told not to go on.
///
/// # Errors
/// As [`merge`].
pub fn merge_encoded(
    layers: Vec<StateLayer>,
    complete: bool,
    watermark: Watermark,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<EncodedLayer>> {
    let (schema, parts) = same_shapes(&layers)?;
    let table = layers[0].table.clone();
    let stays = which_stay(&layers, &parts, complete, watermark)?;
    let removed: Vec<BooleanArray> = layers.into_iter().map(|layer| layer.removed).collect();
    let mut encoder = LayerEncoder::new(&table, &schema)?;
    let (mut pieces, mut rows, mut expiries) = (Vec::new(), 0, Vec::new());
    for ((part, removed), stays) in parts.into_iter().zip(removed).zip(stays) {
        for start in (0..stays.len()).step_by(WRITTEN) {
            if !goes_on() {
                return Ok(None);
            }
            let length = WRITTEN.min(stays.len() - start);
            let written = StateLayer { table: table.clone(), rows: part.slice(start, length), removed: removed.slice(start, length) };
            let written = filtered(written, &stays[start..start + length])?;
            if written.rows.num_rows() > 0 {
                rows += written.rows.num_rows() as u64;
                expiries.push(written.expires_at());
                encoder.write(&written)?;
                pieces.push(encoder.take());
            }
        }
    }
    pieces.push(encoder.finish()?);
    // A row that stays until it is removed keeps the layer.
    let expires_at = if expiries.contains(&None) { None } else { expiries.into_iter().flatten().max() };
    Ok(Some(EncodedLayer { pieces, rows, expires_at }))
}

/// The rows of the layers, under the names of the newest one's columns.
fn same_shapes(layers: &[StateLayer]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let Some(newest) = layers.last() else { return Err(Error::internal("merging no layers of state")) };
    let schema = newest.rows.schema();
    let parts = layers.iter().map(|layer| with_names(layer, &newest.table, &schema)).collect::<Result<Vec<_>>>()?;
    debug_assert!(parts.iter().all(|part| has_distinct_keys(part, newest.table.key_columns)), "a layer has a key twice");
    Ok((schema, parts))
}

/// Which rows of each layer the merged one has.
fn which_stay(layers: &[StateLayer], parts: &[RecordBatch], complete: bool, watermark: Watermark) -> Result<Vec<Vec<bool>>> {
    let mut stays = are_newest(parts, layers[0].table.key_columns)?;
    if complete {
        stays.iter_mut().zip(layers).for_each(|(stays, layer)| leave_out_gone(stays, layer, watermark));
    }
    Ok(stays)
}

/// The rows of a layer that stay.
fn filtered(layer: StateLayer, stays: &[bool]) -> Result<StateLayer> {
    let Some(predicate) = predicate(stays) else { return Ok(layer) };
    let merging = || format!("merging the state table '{}'", layer.table.name);
    let rows = predicate.filter_record_batch(&layer.rows).or_error(ErrorKind::Internal, merging)?;
    let removed = predicate.filter(&layer.removed).or_error(ErrorKind::Internal, merging)?.as_boolean().clone();
    Ok(StateLayer { table: layer.table, rows, removed })
}

/// Of rows that stay, those that expired, and keys that went, need not.
fn leave_out_gone(stays: &mut [bool], layer: &StateLayer, watermark: Watermark) {
    let expires = layer.table.expires.and_then(|column| layer.rows.column(column).as_primitive_opt::<TimestampMicrosecondType>());
    if expires.is_none() && layer.removed.true_count() == 0 {
        return;
    }
    let is_gone = |row: usize| {
        let expired = expires.is_some_and(|times| times.is_valid(row) && Watermark::At(Timestamp(times.value(row))) <= watermark);
        expired || layer.removed.value(row)
    };
    stays.iter_mut().enumerate().filter(|(_, stays)| **stays).for_each(|(row, stays)| *stays = !is_gone(row));
}

/// Which rows of a layer to take; none if all.
fn predicate(stays: &[bool]) -> Option<FilterPredicate> {
    let all = stays.iter().all(|stays| *stays);
    (!all).then(|| FilterBuilder::new(&BooleanArray::from(BooleanBuffer::from(stays))).build())
}

/// The rows that stay of one column of all layers. Column by column, for what is taken of each layer is copied once more.
fn gather(of_layers: &[&dyn Array], kept: &[Option<FilterPredicate>]) -> std::result::Result<ArrayRef, ArrowError> {
    let taken = of_layers.iter().zip(kept).map(|(array, kept)| match kept {
        Some(kept) => kept.filter(*array),
        None => Ok(array.slice(0, array.len())),
    });
    let taken = taken.collect::<std::result::Result<Vec<_>, _>>()?;
    concat(&taken.iter().map(AsRef::as_ref).collect::<Vec<_>>())
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
    let newest = are_newest(&[rows.slice(0, 0), rows.clone()], key_columns);
    newest.is_ok_and(|newest| newest.iter().flatten().all(|newest| *newest) && (key_columns > 0 || rows.num_rows() <= 1))
}

/// For each row of each layer, oldest first, whether no newer layer has its key.
fn are_newest(layers: &[RecordBatch], key_columns: usize) -> Result<Vec<Vec<bool>>> {
    let Some(schema) = layers.first().map(RecordBatch::schema) else { return Ok(Vec::new()) };
    let types = || schema.fields()[..key_columns].iter().map(|field| field.data_type());
    match key_columns {
        0 => Ok(newest_without_key(layers)),
        1 if are_numbers(types()) => newest_numbers::<1>(layers, parts_for(layers)),
        2 if are_numbers(types()) => newest_numbers::<2>(layers, parts_for(layers)),
        _ => {
            let fields = types().map(|data_type| SortField::new(data_type.clone())).collect();
            let converter = RowConverter::new(fields).or_error(ErrorKind::Internal, || "a column of this type can't be a key".into())?;
            newest_encoded(layers, key_columns, &converter)
        }
    }
}

/// A table without a key has one row.
fn newest_without_key(layers: &[RecordBatch]) -> Vec<Vec<bool>> {
    let newest = layers.iter().rposition(|layer| layer.num_rows() > 0);
    layers.iter().enumerate().map(|(index, layer)| vec![Some(index) == newest; layer.num_rows()]).collect()
}

/// How many rows have keys that older ones are looked up among.
fn newer_rows(layers: &[RecordBatch]) -> usize {
    layers.iter().skip(1).map(RecordBatch::num_rows).sum()
}

fn parts_for(layers: &[RecordBatch]) -> usize {
    (newer_rows(layers) / PART).next_power_of_two().min(MOST_PARTS)
}

/// Keys of numbers are looked up part by part, by their hashes, for the table of a part's keys fits into the cache.
fn newest_numbers<const N: usize>(layers: &[RecordBatch], parts: usize) -> Result<Vec<Vec<bool>>> {
    let hasher = RandomState::default();
    let divided = layers.iter().map(|layer| Divided::<N>::of(layer, parts, &hasher)).collect::<Result<Vec<_>>>()?;
    let mut newest: Vec<Vec<bool>> = layers.iter().map(|layer| vec![true; layer.num_rows()]).collect();
    let hashed = |key: NumberKey<N>| (hasher.hash_one(key), key);
    let mut keys: Vec<(u64, NumberKey<N>)> = Vec::new();
    let mut seen: HashTable<NumberKey<N>> = HashTable::with_capacity(newer_rows(layers) / parts);
    for part in 0..parts {
        seen.clear();
        for (index, layer) in divided.iter().enumerate().rev() {
            // Before any is looked up, for what is found can't be foretold, and each wrong guess would wait for a key from memory.
            keys.clear();
            keys.extend(layer.rows(part).iter().map(|&row| hashed(layer.keys.get(row as usize))));
            for (&row, &(hash, key)) in layer.rows(part).iter().zip(&keys) {
                if seen.find(hash, |other| *other == key).is_some() {
                    newest[index][row as usize] = false;
                } else if index > 0 {
                    seen.insert_unique(hash, key, |key| hasher.hash_one(key));
                }
            }
        }
    }
    Ok(newest)
}

/// The rows of a layer by the hashes of their keys.
struct Divided<const N: usize> {
    keys: NumberKeys<N>,
    /// Part by part, ascending within each.
    rows: Vec<u32>,
    /// Where each part ends.
    ends: Vec<usize>,
}

impl<const N: usize> Divided<N> {
    /// `parts` is a power of two, of at most 8 bits.
    fn of(layer: &RecordBatch, parts: usize, hasher: &RandomState) -> Result<Self> {
        let keys = NumberKeys::<N>::of(&layer.columns()[..N])?;
        // The table goes by the lowest bits and the highest ones.
        let part = |row: usize| (hasher.hash_one(keys.get(row)) >> 40) as usize & (parts - 1);
        let part_of: Vec<u8> = (0..layer.num_rows()).map(|row| part(row) as u8).collect();
        let mut ends = vec![0; parts];
        part_of.iter().for_each(|part| ends[usize::from(*part)] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut rows = vec![0; part_of.len()];
        for (row, part) in (0u32..).zip(&part_of) {
            let end = &mut ends[usize::from(*part)];
            rows[*end] = row;
            *end += 1;
        }
        Ok(Self { keys, rows, ends })
    }

    fn rows(&self, part: usize) -> &[u32] {
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        &self.rows[start..self.ends[part]]
    }
}

/// Keys of any types, in arrow's row format.
fn newest_encoded(layers: &[RecordBatch], key_columns: usize, converter: &RowConverter) -> Result<Vec<Vec<bool>>> {
    let encode = |layer: &RecordBatch| converter.convert_columns(&layer.columns()[..key_columns]);
    let encoded = layers.iter().map(encode).collect::<std::result::Result<Vec<_>, _>>();
    let encoded = encoded.or_error(ErrorKind::Internal, || "encoding keys".into())?;
    let hasher = RandomState::default();
    // Which row of which layer.
    let mut seen: HashTable<(usize, usize)> = HashTable::with_capacity(newer_rows(layers));
    let mut newest: Vec<Vec<bool>> = Vec::with_capacity(layers.len());
    for (layer, rows) in encoded.iter().enumerate().rev() {
        let is_newest = rows.iter().enumerate().map(|(row, key)| {
            let hash = hasher.hash_one(key.as_ref());
            let is_newest = seen.find(hash, |(layer, row)| encoded[*layer].row(*row) == key).is_none();
            if is_newest && layer > 0 {
                seen.insert_unique(hash, (layer, row), |(layer, row)| hasher.hash_one(encoded[*layer].row(*row).as_ref()));
            }
            is_newest
        });
        newest.push(is_newest.collect());
    }
    newest.reverse();
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::decode_layer;
    use arrow::array::{Int16Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Int64Type};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

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

    /// Rows of a key that is a number, a time at which they expire, and whether the key went.
    fn expiring(rows: &[(i64, Option<i64>, bool)]) -> StateLayer {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(key, ..)| *key)));
        let expires: ArrayRef = Arc::new(rows.iter().map(|(_, expires, _)| *expires).collect::<TimestampMicrosecondArray>());
        let columns = [("k", keys, false), ("expires", expires, true)];
        StateLayer {
            table: StateTable::new("t", 1).expiring(1),
            rows: RecordBatch::try_from_iter_with_nullable(columns).unwrap(),
            removed: rows.iter().map(|(.., removed)| Some(*removed)).collect(),
        }
    }

    /// What is encoded while layers are merged is what they are merged to.
    fn assert_encoded(layers: &[StateLayer], complete: bool, watermark: Watermark) {
        let merged = merge(layers, complete, watermark).unwrap();
        let encoded = merge_encoded(layers.to_vec(), complete, watermark, &|| true).unwrap().unwrap();
        assert_eq!((encoded.rows, encoded.expires_at), (merged.rows.num_rows() as u64, merged.expires_at()));
        let back = decode_layer(Bytes::from(encoded.pieces.concat())).unwrap();
        assert_eq!((back.table, back.rows, back.removed), (merged.table, merged.rows, merged.removed));
    }

    proptest! {
        #[test]
        fn encoding_while_merging_gives_the_same(
            layers in prop::collection::vec(prop::collection::btree_map(0i64..12, (prop::option::weighted(0.9, 0i64..9), any::<bool>()), 0..9), 1..6),
            complete in any::<bool>(),
            watermark in prop::option::of(0i64..9),
        ) {
            let rows = |layer: BTreeMap<i64, (Option<i64>, bool)>| layer.into_iter().map(|(key, (expires, gone))| (key, expires, gone)).collect::<Vec<_>>();
            let layers: Vec<StateLayer> = layers.into_iter().map(|layer| expiring(&rows(layer))).collect();
            assert_encoded(&layers, complete, watermark.map_or(Watermark::Unknown, |at| Watermark::At(Timestamp(at))));
        }
    }

    #[test]
    fn a_layer_of_several_parts_is_encoded_like_one() {
        let rows = |keys: std::ops::Range<usize>, removed: bool| keys.map(|key| (key as i64, Some(1), removed)).collect::<Vec<_>>();
        let layers = [expiring(&rows(0..2 * WRITTEN + 9, false)), expiring(&rows(5..WRITTEN + 3, true)), expiring(&rows(9..12, false))];
        for complete in [false, true] {
            assert_encoded(&layers, complete, Watermark::Unknown);
        }
        let told = std::cell::Cell::new(0);
        let twice = || told.replace(told.get() + 1) < 2;
        assert!(merge_encoded(layers.to_vec(), true, Watermark::Unknown, &twice).unwrap().is_none());
        assert_eq!(told.get(), 3);
    }

    type TwoNumbers = (Option<i16>, Option<i64>);

    /// Keys of two numbers, each once.
    fn two_numbers(keys: &BTreeSet<TwoNumbers>) -> RecordBatch {
        let first: ArrayRef = Arc::new(keys.iter().map(|(first, _)| *first).collect::<Int16Array>());
        let second: ArrayRef = Arc::new(keys.iter().map(|(_, second)| *second).collect::<Int64Array>());
        RecordBatch::try_from_iter_with_nullable([("a", first, true), ("b", second, true)]).unwrap()
    }

    proptest! {
        /// As their bytes tell, whatever the number of parts.
        #[test]
        fn number_keys_are_told_apart_part_by_part(
            layers in prop::collection::vec(prop::collection::btree_set((prop::option::of(-2i16..2), prop::option::of(-2i64..9)), 0..30), 1..6),
            bits in 0u32..9,
        ) {
            let layers: Vec<RecordBatch> = layers.iter().map(two_numbers).collect();
            let converter = RowConverter::new(vec![SortField::new(DataType::Int16), SortField::new(DataType::Int64)]).unwrap();
            prop_assert_eq!(newest_numbers::<2>(&layers, 1 << bits).unwrap(), newest_encoded(&layers, 2, &converter).unwrap());
        }
    }
}
