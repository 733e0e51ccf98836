//! Merging layers of a table into one: the last row of each key wins. What it gives depends on the layers alone, and is written or read
//! like any other layer.
//!
//! A layer has one row per key, so a row stays unless a newer layer has its key: layers are looked through newest first
//! ([`NewerKeys`]). That goes by the keys alone, so large layers can be looked through and then taken part by part, and their rows are never
//! in memory together: see [`LayerMerge`].

use super::newer::{KeyShare, NewerKeys};
use super::{LayerWriter, StateLayer, StateTable};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::{Timestamp, Watermark};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{FilterBuilder, FilterPredicate, concat};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use std::sync::Arc;

/// One layer that says the same as these, oldest first, of one table: the last row of each key. `complete` says that no layer lies
/// below them, so that keys that went need not be remembered, nor rows that have expired by the watermark. Rows are in the order in which
/// their keys last changed; the columns have the names of the newest layer.
///
/// # Errors
/// `Corrupt` if the layers are of different shapes, `Internal` without any layer.
pub fn merge(layers: &[StateLayer], complete: bool, watermark: Watermark) -> Result<StateLayer> {
    debug_assert!(layers.iter().all(|layer| have_distinct_keys(std::slice::from_ref(layer))), "a layer has a key twice");
    let rows: Vec<u64> = layers.iter().map(|layer| layer.rows.num_rows() as u64).collect();
    let mut merge = LayerMerge::new(&rows, complete, watermark, KeyShare::whole());
    let stay = layers.iter().enumerate().rev().map(|(index, layer)| merge.look_at(layer, index == 0));
    let mut stay = stay.collect::<Result<Vec<_>>>()?;
    stay.reverse();
    gather(layers, &stay, merge.shape()?)
}

/// What counts of a layer, or a part of one, below which lies no other: not the keys that went, nor rows that have expired by the
/// watermark.
///
/// # Errors
/// `Internal` if its columns can't be filtered.
pub fn live(layer: &StateLayer, watermark: Watermark) -> Result<StateLayer> {
    match gone(layer, watermark) {
        Some(gone) => LayerShape::of(layer).take(layer, &!&gone),
        None => Ok(layer.clone()),
    }
}

/// The rows that stay of all layers.
fn gather(layers: &[StateLayer], stay: &[BooleanBuffer], LayerShape { table, schema }: &LayerShape) -> Result<StateLayer> {
    let parts = layers.iter().map(|layer| with_names(layer, table, schema)).collect::<Result<Vec<_>>>()?;
    let rows = stay.iter().map(BooleanBuffer::count_set_bits).sum();
    let kept: Vec<Option<FilterPredicate>> = stay.iter().map(predicate).collect();
    let column = |arrays: Vec<&dyn Array>| gather_column(&arrays, &kept).or_error(ErrorKind::Internal, || merging(table));
    let columns = (0..schema.fields().len()).map(|index| column(parts.iter().map(|part| part.column(index).as_ref()).collect()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let removed = column(layers.iter().map(|layer| &layer.removed as &dyn Array).collect())?.as_boolean().clone();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).or_error(ErrorKind::Internal, || merging(table))?;
    Ok(StateLayer { table: table.clone(), rows, removed })
}

/// Whether these parts of a layer have each key once.
pub(super) fn have_distinct_keys(parts: &[StateLayer]) -> bool {
    let mut merge = LayerMerge::new(&[], false, Watermark::Unknown, KeyShare::whole());
    parts.iter().all(|part| {
        let kept = merge.look_at(part, false);
        kept.is_ok_and(|kept| kept.count_set_bits() == kept.len() && (part.table.key_columns > 0 || kept.len() <= 1))
    })
}

/// [`merge`] part by part. All layers are looked at, newest first; what stays of a part can be taken at once, or when it is read again. Of
/// large layers, which can be read several times, one such merge can look for each share of the keys: what stays for all of them stays.
pub struct LayerMerge {
    complete: bool,
    watermark: Watermark,
    expected_keys: usize,
    share: KeyShare,
    /// Since the first part.
    seen: Option<(LayerShape, NewerKeys)>,
}

impl LayerMerge {
    /// Of layers of so many rows, oldest first. `complete` and `watermark` are as for [`merge`]; rows of other shares stay.
    pub fn new(rows: &[u64], complete: bool, watermark: Watermark, share: KeyShare) -> Self {
        let newer: u64 = rows.iter().skip(1).sum();
        // What changes are mostly rows that the oldest layer has.
        let expected = newer.min(rows.first().copied().unwrap_or(0));
        Self { complete, watermark, expected_keys: usize::try_from(expected).unwrap_or(0), share, seen: None }
    }

    /// Which rows of the next part of a layer stay. `is_oldest` says that no layer follows.
    ///
    /// # Errors
    /// `Corrupt` if it is of another shape than those before.
    pub fn look_at(&mut self, part: &StateLayer, is_oldest: bool) -> Result<BooleanBuffer> {
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => {
                let shape = LayerShape::of(part);
                let newer = NewerKeys::new(&shape.key_types(), self.expected_keys, self.share.clone())?;
                (shape, newer)
            }
        };
        let (LayerShape { table, schema }, newer) = self.seen.insert(seen);
        same_shape(part, table, schema)?;
        let stay = newer.lack(&part.rows.columns()[..table.key_columns], part.rows.num_rows(), !is_oldest)?;
        let gone = if self.complete { gone(part, self.watermark) } else { None };
        Ok(match gone {
            Some(gone) => &stay & &!&gone,
            None => stay,
        })
    }

    /// What the merged layer looks like.
    ///
    /// # Errors
    /// `Internal` if nothing was looked at.
    pub fn shape(&self) -> Result<&LayerShape> {
        self.seen.as_ref().map(|(shape, _)| shape).ok_or_else(nothing)
    }
}

impl std::fmt::Debug for LayerMerge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerMerge").field("complete", &self.complete).field("watermark", &self.watermark).finish_non_exhaustive()
    }
}

/// What layers of a table have in common, as the newest of them calls it.
#[derive(Debug, Clone)]
pub struct LayerShape {
    table: StateTable,
    schema: SchemaRef,
}

impl LayerShape {
    fn of(part: &StateLayer) -> Self {
        Self { table: part.table.clone(), schema: part.rows.schema() }
    }

    fn key_types(&self) -> Vec<DataType> {
        self.schema.fields()[..self.table.key_columns].iter().map(|field| field.data_type().clone()).collect()
    }

    /// Those rows of a part that stay.
    ///
    /// # Errors
    /// `Corrupt` if it is not the part that was looked at, as far as that shows.
    pub fn take(&self, part: &StateLayer, stay: &BooleanBuffer) -> Result<StateLayer> {
        let Self { table, schema } = self;
        let (rows, removed) = (with_names(part, table, schema)?, part.removed.clone());
        if stay.len() != rows.num_rows() {
            return Err(Error::corrupt(format!("a layer of the state table '{}' has changed", table.name)));
        }
        let Some(predicate) = predicate(stay) else { return Ok(StateLayer { table: table.clone(), rows, removed }) };
        let rows = predicate.filter_record_batch(&rows).or_error(ErrorKind::Internal, || merging(table))?;
        let removed = predicate.filter(&removed).or_error(ErrorKind::Internal, || merging(table))?.as_boolean().clone();
        Ok(StateLayer { table: table.clone(), rows, removed })
    }

    /// What encodes the merged layer.
    ///
    /// # Errors
    /// `Internal` if such rows can't be encoded.
    pub fn writer(&self) -> Result<LayerWriter> {
        LayerWriter::new(&self.table, &self.schema)
    }
}

/// The rows of a part that have expired, or whose keys went: without a layer below, they need not be remembered. None if there are none.
fn gone(part: &StateLayer, watermark: Watermark) -> Option<BooleanBuffer> {
    let expires = part.table.expires.and_then(|column| part.rows.column(column).as_primitive_opt::<TimestampMicrosecondType>());
    if expires.is_none() && part.removed.true_count() == 0 {
        return None;
    }
    let has_expired =
        |row: usize| expires.is_some_and(|times| times.is_valid(row) && Watermark::At(Timestamp(times.value(row))) <= watermark);
    Some(BooleanBuffer::collect_bool(part.removed.len(), |row| has_expired(row) || part.removed.value(row)))
}

/// Which rows of a layer to take; none if all.
fn predicate(stay: &BooleanBuffer) -> Option<FilterPredicate> {
    let all = stay.count_set_bits() == stay.len();
    (!all).then(|| FilterBuilder::new(&BooleanArray::from(stay.clone())).build())
}

/// The rows that stay of one column of all layers. Column by column, for what is taken of each layer is copied once more.
fn gather_column(of_layers: &[&dyn Array], kept: &[Option<FilterPredicate>]) -> std::result::Result<ArrayRef, ArrowError> {
    let taken = of_layers.iter().zip(kept).map(|(array, kept)| match kept {
        Some(kept) => kept.filter(*array),
        None => Ok(array.slice(0, array.len())),
    });
    let taken = taken.collect::<std::result::Result<Vec<_>, _>>()?;
    concat(&taken.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

/// The rows of a layer under the newest names of its columns: a program may call its keys by other names than the one before it.
fn with_names(layer: &StateLayer, table: &StateTable, schema: &SchemaRef) -> Result<RecordBatch> {
    same_shape(layer, table, schema)?;
    RecordBatch::try_new(Arc::clone(schema), layer.rows.columns().to_vec()).or_error(ErrorKind::Corrupt, || merging(table))
}

fn same_shape(layer: &StateLayer, table: &StateTable, schema: &SchemaRef) -> Result<()> {
    let (columns, expected) = (layer.rows.schema(), schema.fields());
    let is_same = columns.fields().len() == expected.len()
        && columns.fields().iter().zip(expected).all(|(column, expected)| column.data_type() == expected.data_type());
    if layer.table == *table && is_same { Ok(()) } else { Err(different(table)) }
}

fn different(table: &StateTable) -> Error {
    Error::corrupt(format!("layers of the state table '{}' have different shapes", table.name))
}

fn nothing() -> Error {
    Error::internal("merging no layers of state")
}

fn merging(table: &StateTable) -> String {
    format!("merging the state table '{}'", table.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::decode_layer;
    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
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

    fn slices(layer: &StateLayer, rows: usize) -> Vec<StateLayer> {
        let slice = |start: usize| layer.slice(start, rows.min(layer.rows.num_rows() - start));
        // A layer without rows has one part.
        (0..layer.rows.num_rows().max(1)).step_by(rows).map(slice).collect()
    }

    /// What is merged part by part, share by share, and encoded then, or joined, is what is merged as a whole.
    fn assert_same_by_parts(layers: &[StateLayer], rows: usize, shares: usize, complete: bool, watermark: Watermark) {
        let merged = merge(layers, complete, watermark).unwrap();
        let layers: Vec<Vec<StateLayer>> = layers.iter().map(|layer| slices(layer, rows)).collect();
        let sizes: Vec<u64> = layers.iter().map(|layer| layer.len() as u64).collect();
        let mut merges: Vec<_> =
            KeyShare::all(shares).into_iter().map(|share| LayerMerge::new(&sizes, complete, watermark, share)).collect();
        let mut look = |(index, part): (usize, &StateLayer)| {
            merges.iter_mut().map(|merge| merge.look_at(part, index == 0).unwrap()).reduce(|one, other| &one & &other).unwrap()
        };
        let newest_first = layers.iter().enumerate().rev().flat_map(|(index, layer)| layer.iter().map(move |part| (index, part)));
        let stay: Vec<(usize, BooleanBuffer)> = newest_first.map(|part| (part.0, look(part))).collect();
        let stay = (0..layers.len()).flat_map(|index| stay.iter().filter(move |(of, _)| *of == index).map(|(_, stay)| stay));
        let shape = merges[0].shape().unwrap();
        let take = |(part, stay): (&StateLayer, &BooleanBuffer)| shape.take(part, stay).unwrap();
        let parts: Vec<StateLayer> = layers.iter().flatten().zip(stay).map(take).collect();
        let mut writer = shape.writer().unwrap();
        parts.iter().for_each(|part| writer.write(part).unwrap());
        let written = writer.finish().unwrap();
        assert_eq!((written.rows, written.expires_at), (merged.rows.num_rows() as u64, merged.expires_at()));
        let back = decode_layer(written.rest).unwrap();
        assert_eq!((&back.table, &back.rows, &back.removed), (&merged.table, &merged.rows, &merged.removed));
        if complete && let [alone] = layers.as_slice() {
            let live = concat_batches(
                &merged.rows.schema(),
                alone.iter().map(|part| live(part, watermark).unwrap().rows).collect::<Vec<_>>().iter(),
            );
            assert_eq!(live.unwrap(), merged.rows);
        }
    }

    proptest! {
        #[test]
        fn merging_part_by_part_gives_the_same(
            layers in prop::collection::vec(prop::collection::btree_map(0i64..12, (prop::option::weighted(0.9, 0i64..9), any::<bool>()), 0..9), 1..6),
            complete in any::<bool>(),
            watermark in prop::option::of(0i64..9),
            part in 1usize..9,
            shares in 1usize..4,
        ) {
            let rows = |layer: BTreeMap<i64, (Option<i64>, bool)>| layer.into_iter().map(|(key, (expires, gone))| (key, expires, gone)).collect::<Vec<_>>();
            let layers: Vec<StateLayer> = layers.into_iter().map(|layer| expiring(&rows(layer))).collect();
            assert_same_by_parts(&layers, part, shares, complete, watermark.map_or(Watermark::Unknown, |at| Watermark::At(Timestamp(at))));
        }
    }

    #[test]
    fn many_rows_are_merged_part_by_part_like_few() {
        let rows = |keys: std::ops::Range<i64>, removed: bool| keys.map(|key| (key, Some(1), removed)).collect::<Vec<_>>();
        let layers = [expiring(&rows(0..140_000, false)), expiring(&rows(5..70_000, true)), expiring(&rows(9..12, false))];
        for complete in [false, true] {
            assert_same_by_parts(&layers, 66_000, 2, complete, Watermark::Unknown);
        }
    }

    #[test]
    fn a_part_that_was_not_looked_at_is_not_taken() {
        let layers = [expiring(&[(1, None, false)]), expiring(&[(1, None, false), (2, None, false)])];
        let mut merge = LayerMerge::new(&[1, 2], true, Watermark::Unknown, KeyShare::whole());
        let stay = merge.look_at(&layers[1], false).unwrap();
        assert_eq!(merge.shape().unwrap().take(&layers[0], &stay).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
