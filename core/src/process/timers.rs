//! Timers: for each clock a set of times with the keys that wait for them. Each set is a table of the checkpoint: a row is a key and a
//! time.

use super::TimeDomain;
use super::keys::{Key, Keys};
use super::table::free_name;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::{StateLayer, StateTable};
use crate::time::Timestamp;
use arrow::array::{AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The tables' names, which no state may have.
pub(super) const TABLES: [&str; 2] = ["event_timers", "processing_timers"];

/// The timers of one clock.
pub(super) struct Timers {
    table: &'static str,
    waiting: BTreeSet<(i64, Key)>,
    /// Whether the last checkpoint holds them, for those that were touched since.
    changed: BTreeMap<(Key, i64), bool>,
}

impl Timers {
    pub(super) fn new(domain: TimeDomain) -> Self {
        let table = match domain {
            TimeDomain::EventTime => TABLES[0],
            TimeDomain::ProcessingTime => TABLES[1],
        };
        Self { table, waiting: BTreeSet::new(), changed: BTreeMap::new() }
    }

    pub(super) fn table(&self) -> &'static str {
        self.table
    }

    pub(super) fn set(&mut self, time: i64, key: Key) {
        let is_new = self.waiting.insert((time, key.clone()));
        self.changed.entry((key, time)).or_insert(!is_new);
    }

    /// Whether there was such a timer.
    pub(super) fn delete(&mut self, time: i64, key: Key) -> bool {
        let was_there = self.waiting.remove(&(time, key.clone()));
        self.changed.entry((key, time)).or_insert(was_there);
        was_there
    }

    /// Those up to a time, in the order of time, then key.
    pub(super) fn due(&self, until: i64) -> impl Iterator<Item = &(i64, Key)> {
        self.waiting.iter().take_while(move |(time, _)| *time <= until)
    }

    /// Deletes the first up to a time, and gives it.
    pub(super) fn take_first(&mut self, until: i64) -> Option<(i64, Key)> {
        let (time, key) = self.due(until).next().cloned()?;
        self.delete(time, key.clone());
        Some((time, key))
    }

    /// The time of the first.
    pub(super) fn next(&self) -> Option<i64> {
        self.waiting.first().map(|(time, _)| *time)
    }

    pub(super) fn checkpoint(&mut self, keys: &Keys) -> Result<Option<StateLayer>> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let is_set = |key: &Key, time: i64| self.waiting.contains(&(time, key.clone()));
        let now = changed.map(|((key, time), stored)| (is_set(&key, time), stored, key, time));
        let changed: Vec<(bool, Key, i64)> =
            now.filter(|(is_set, stored, ..)| is_set != stored).map(|(is_set, _, key, time)| (is_set, key, time)).collect();
        if changed.is_empty() {
            return Ok(None);
        }
        let mut columns = keys.columns(changed.iter().map(|(_, key, _)| key.as_key()))?;
        columns.push(Arc::new(changed.iter().map(|(.., time)| Some(*time)).collect::<TimestampMicrosecondArray>()));
        let mut fields: Vec<Field> = keys.stored().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new(free_name(keys, "time"), Timestamp::DATA_TYPE, true));
        let table = StateTable::new(self.table, fields.len());
        let rows =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).or_error(ErrorKind::Internal, || "writing timers".into())?;
        let removed: BooleanArray = changed.iter().map(|(is_set, ..)| Some(!is_set)).collect();
        Ok(Some(StateLayer { table, rows, removed }))
    }

    pub(super) fn restore(&mut self, layer: &StateLayer, keys: &Keys) -> Result<()> {
        let width = keys.stored().fields().len();
        let times = layer.rows.columns().get(width).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| Error::corrupt(format!("the state table '{}' has no times", self.table)))?;
        let keys = keys.encode(&layer.rows.columns()[..width])?;
        self.waiting.extend(times.values().iter().copied().zip(keys.iter().map(Key::from)));
        Ok(())
    }
}
