//! Groups of a few rows, made where the rows come from, before these are divided among the tasks of the operator.
//!
//! What flows in: some rows. What flows out: a row per group and pane, in the order in which the groups came up, with the state of each
//! aggregate and how many rows it stands for. So a key that most rows have does not make one task do most of the work. Nothing is kept,
//! and nothing can fail: where a row can't be taken, all go on as they are, and the operator says why.
//!
//! Only aggregates take part whose states add up to what the rows would have given, bit for bit. (A sum of integers may then fit where it
//! would have overflowed on its way.)

use super::calls::inputs_in_turn;
use super::groups::Groups;
use super::rows::{Rows, by_pane};
use super::slots::Slots;
use super::spare::Spare;
use super::spec::{Aggregate, GroupTime, evaluate, state_rows, times};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::operator::Combiner;
use crate::window::{WindowSpec, check_times};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// By how many of the first rows it is judged whether keys repeat.
const SAMPLE: usize = 4096;
/// By how many it is judged again where keys repeat too seldom among those, but all rows are many: of 20,000 keys hardly any repeats
/// among 4,096 rows, and each does among 300,000.
const LARGE_SAMPLE: usize = 1 << 15;
/// How many times as many rows there must be.
const LEAST_LARGE_SAMPLES: usize = 4;
/// How many rows a group must stand for, on average, to be worth its making.
const LEAST_ROWS_PER_GROUP: usize = 2;
/// The same for a pane, which has tables of its own.
const LEAST_ROWS_PER_PANE: usize = 16;
/// For how many groups room is kept for the next rows.
const SPARE_GROUPS: usize = 1 << 18;

/// Combines rows for an [`Aggregate`].
#[derive(Debug)]
pub(super) struct LocalGroups {
    spec: Aggregate,
    key_types: Vec<DataType>,
    spare: Mutex<Spare>,
}

/// Groups by their panes, or all in one part.
#[derive(Default)]
struct Parts {
    parts: BTreeMap<Option<i64>, Part>,
}

/// Groups of one pane.
struct Part {
    groups: Groups,
    /// How many rows each group stands for.
    counts: Vec<i64>,
}

impl LocalGroups {
    /// None if these aggregates can't be combined, or not by panes.
    pub(super) fn of(spec: &Aggregate) -> Option<Self> {
        let is_session = matches!(spec.time, GroupTime::Window { spec: WindowSpec::Session { .. }, .. });
        if is_session || !Slots::new(&spec.calls).ok()?.are_exact() {
            return None;
        }
        Some(Self { key_types: spec.key_types().ok()?, spec: spec.clone(), spare: Mutex::new(Spare::new(SPARE_GROUPS)) })
    }

    /// Adds the rows from one to another to groups. Returns false if a row has no time, or if there are too many panes.
    fn gather(&self, parts: &mut Parts, batches: &[RecordBatch], rows: Range<usize>) -> Result<bool> {
        for batch in &part(batches, &rows) {
            let inputs = inputs_in_turn(&self.spec.calls, batch, 0)?;
            let of_batch = Rows { keys: self.spec.key_columns(batch)?, inputs, count: batch.num_rows() };
            let GroupTime::Window { spec, time, .. } = &self.spec.time else {
                parts.take(self, None, &of_batch)?;
                continue;
            };
            let time = evaluate(time, batch)?;
            let times = times(&time)?;
            check_times(times)?;
            let panes = by_pane(*spec, times);
            if times.null_count() > 0 || parts.parts.len().max(panes.len()) * LEAST_ROWS_PER_PANE > rows.end {
                return Ok(false);
            }
            panes.iter().try_for_each(|(pane, members)| parts.take(self, Some(*pane), &of_batch.part(members)?))?;
        }
        Ok(true)
    }

    /// Adds as many of the first rows to groups as it takes to judge whether the groups of all are worth making. Returns how many; none if
    /// they are not.
    fn judge(&self, parts: &mut Parts, batches: &[RecordBatch], all: usize) -> Result<Option<usize>> {
        if all <= 2 * SAMPLE {
            return Ok(Some(0));
        }
        if !self.gather(parts, batches, 0..SAMPLE)? {
            return Ok(None);
        }
        let groups = parts.groups();
        if are_worth_making(SAMPLE, groups) {
            return Ok(Some(SAMPLE));
        }
        if !may_be_worth_making(SAMPLE, groups, all) || !self.gather(parts, batches, SAMPLE..LARGE_SAMPLE)? {
            return Ok(None);
        }
        let new = parts.groups() - groups;
        Ok(are_worth_making(LARGE_SAMPLE - SAMPLE, new).then_some(LARGE_SAMPLE))
    }

    /// Adds all rows to groups, unless the first ones show that it does not pay. Returns whether the groups are worth making.
    fn gather_all(&self, parts: &mut Parts, batches: &[RecordBatch]) -> Result<bool> {
        let all = batches.iter().map(RecordBatch::num_rows).sum();
        let Some(judged) = self.judge(parts, batches, all)? else { return Ok(false) };
        Ok(self.gather(parts, batches, judged..all)? && are_worth_making(all, parts.groups()))
    }

    /// Keeps the room of groups for others.
    fn let_go(&self, parts: Parts) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        parts.parts.into_values().for_each(|part| spare.give(part.groups));
    }

    fn try_combine(&self, batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
        let mut parts = Parts::default();
        let columns = match self.gather_all(&mut parts, batches)? {
            true => parts.parts.iter().map(|(pane, part)| part.columns(*pane)).collect::<Result<Vec<_>>>()?,
            false => Vec::new(),
        };
        self.let_go(parts);
        let Some(width) = columns.first().map(Vec::len) else { return Ok(None) };
        let column = |index: usize| {
            let arrays: Vec<&dyn Array> = columns.iter().map(|part| part[index].as_ref()).collect();
            concat(&arrays).or_error(ErrorKind::Internal, || "gathering groups".into())
        };
        let columns = (0..width).map(column).collect::<Result<Vec<_>>>()?;
        state_rows((0..width).map(|index| format!("combined_{index}")).collect(), columns).map(Some)
    }
}

/// Some of the rows of batches.
fn part(batches: &[RecordBatch], rows: &Range<usize>) -> Vec<RecordBatch> {
    let mut before = 0;
    let of_batch = |batch: &RecordBatch| {
        let first = before;
        before += batch.num_rows();
        let (start, end) = (rows.start.max(first), rows.end.min(before));
        (start < end).then(|| batch.slice(start - first, end - start))
    };
    batches.iter().filter_map(of_batch).collect()
}

/// Whether groups stand for enough rows.
fn are_worth_making(rows: usize, groups: usize) -> bool {
    groups * LEAST_ROWS_PER_GROUP <= rows
}

/// Whether all rows may come to few groups, though some of them do not. Were all keys as frequent, then of `keys` many two rows would be
/// of one in a `keys`th of all pairs of rows.
fn may_be_worth_making(rows: usize, groups: usize, all: usize) -> bool {
    let pairs = rows * rows / 2;
    all >= LEAST_LARGE_SAMPLES * LARGE_SAMPLE && (rows - groups) * all >= LEAST_ROWS_PER_GROUP * pairs
}

impl Parts {
    fn take(&mut self, combiner: &LocalGroups, pane: Option<i64>, rows: &Rows) -> Result<()> {
        let Part { groups, counts } = match self.parts.entry(pane) {
            Entry::Occupied(part) => part.into_mut(),
            Entry::Vacant(part) => {
                let mut spare = combiner.spare.lock().unwrap_or_else(PoisonError::into_inner);
                let groups = spare.take(&combiner.key_types, &combiner.spec.calls)?;
                part.insert(Part { groups, counts: Vec::new() })
            }
        };
        let slots = groups.gather(&rows.keys, rows.count, &rows.inputs)?;
        counts.resize(groups.len(), 0);
        slots.into_iter().for_each(|slot| counts[slot as usize] += 1);
        Ok(())
    }

    fn groups(&self) -> usize {
        self.parts.values().map(|part| part.counts.len()).sum()
    }
}

impl Combiner for LocalGroups {
    fn keys(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        (0..self.key_types.len()).map(|key| Arc::new(Column::new(&format!("combined_{key}"), key)) as Arc<dyn PhysicalExpr>).collect()
    }

    fn combine(&self, rows: &[RecordBatch]) -> Option<RecordBatch> {
        // What fails here fails in the operator too, which says of which batch it is.
        self.try_combine(rows).ok().flatten()
    }
}

impl Part {
    /// Keys, the pane if there is one, counts, and states.
    fn columns(&self, pane: Option<i64>) -> Result<Vec<ArrayRef>> {
        let slots: Vec<u32> = (0..self.counts.len() as u32).collect();
        let mut columns = self.groups.key_columns(&slots)?;
        columns.extend(pane.map(|pane| Arc::new(TimestampMicrosecondArray::from(vec![pane; slots.len()])) as ArrayRef));
        columns.push(Arc::new(Int64Array::from_iter_values(self.counts.iter().copied())));
        columns.extend(self.groups.state(&slots)?);
        Ok(columns)
    }
}

/// Combined rows, as the operator reads them.
pub(super) struct Combined {
    pub(super) keys: Vec<ArrayRef>,
    /// How many rows each group stands for.
    pub(super) counts: Int64Array,
    pub(super) state: Vec<ArrayRef>,
    panes: Option<ArrayRef>,
}

impl Combined {
    /// # Errors
    /// `Internal` if they are not what a combiner makes of these keys.
    pub(super) fn read(rows: &RecordBatch, keys: usize, is_windowed: bool) -> Result<Self> {
        let state = keys + usize::from(is_windowed) + 1;
        let columns = rows.columns();
        let counts = columns.get(state - 1).and_then(|counts| counts.as_primitive_opt::<Int64Type>());
        let counts = counts.ok_or_else(|| Error::internal("combined rows lack how many they stand for"))?.clone();
        let panes = is_windowed.then(|| Arc::clone(&columns[keys]));
        Ok(Self { keys: columns[..keys].to_vec(), panes, counts, state: columns[state..].to_vec() })
    }

    /// How many rows all groups stand for.
    pub(super) fn rows(&self) -> Result<u64> {
        let rows: i64 = self.counts.values().iter().sum();
        u64::try_from(rows).or_error(ErrorKind::Internal, || "counting combined rows".into())
    }

    /// The groups of each pane, in the order of the panes.
    pub(super) fn by_pane(&self) -> Result<Vec<(i64, Self)>> {
        let panes = times(self.panes.as_ref().ok_or_else(|| Error::internal("combined rows lack their panes"))?)?;
        let mut parts = Vec::new();
        let mut start = 0;
        for run in panes.values().chunk_by(|one, other| one == other) {
            parts.push((run[0], self.slice(start, run.len())));
            start += run.len();
        }
        Ok(parts)
    }

    fn slice(&self, start: usize, length: usize) -> Self {
        let slices = |columns: &[ArrayRef]| columns.iter().map(|column| column.slice(start, length)).collect();
        Self { keys: slices(&self.keys), counts: self.counts.slice(start, length), state: slices(&self.state), panes: None }
    }

    /// Some of the groups.
    pub(super) fn take(&self, groups: Vec<u32>) -> Result<Self> {
        let groups = UInt32Array::from(groups);
        let all = |columns: &[ArrayRef]| {
            let taken = columns.iter().map(|column| take(column, &groups, None)).collect::<Result<Vec<_>, _>>();
            taken.or_error(ErrorKind::Internal, || "leaving out late groups".into())
        };
        let counts = take(&self.counts, &groups, None).or_error(ErrorKind::Internal, || "leaving out late groups".into())?;
        Ok(Self { keys: all(&self.keys)?, counts: counts.as_primitive::<Int64Type>().clone(), state: all(&self.state)?, panes: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However few of them each batch has.
        #[test]
        fn a_part_of_the_rows_is_of_as_many_batches_as_it_takes(
            sizes in prop::collection::vec(0i64..6, 0..8),
            start in 0usize..30,
            count in 0usize..30,
        ) {
            let mut next = 0;
            let batch = |size: i64| {
                let numbers: ArrayRef = Arc::new(Int64Array::from_iter(next..next + size));
                next += size;
                RecordBatch::try_from_iter([("number", numbers)]).unwrap()
            };
            let batches: Vec<RecordBatch> = sizes.into_iter().map(batch).collect();
            let part = part(&batches, &(start..start + count));
            let numbers = part.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            let expected: Vec<i64> = (start as i64..next.min((start + count) as i64)).collect();
            prop_assert_eq!(numbers.collect::<Vec<_>>(), expected);
        }
    }
}
