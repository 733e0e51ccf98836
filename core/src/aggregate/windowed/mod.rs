//! Groups in units of time: one table of groups per unit.
//!
//! A unit is a pane where results come out when windows close, for then overlapping windows share their panes, and a closing window adds up
//! those that it holds. Elsewhere a unit is a window, because each change of each window is to be seen. Closing drops whole units. Groups
//! that are bounded by a key of theirs, or not at all, are one unit.
//!
//! Groups that close come out in the order of their ends, and then of their keys: what is built on them must not depend on which slots they
//! were given, for a restored operator gives others.
//!
//! - [`input`]: to which units rows go, and which are late. [`closing`]: what comes out with a batch, and what goes. [`checkpoint`]: the
//!   tables in which groups are stored.

mod checkpoint;
mod closing;
mod input;

use super::combine::Combined;
use super::groups::{Groups, Remember};
use super::spare::Spare;
use super::spec::{Aggregate, Emit, GroupTime, expiries};
use crate::batch::BatchContext;
use crate::error::Result;
use crate::operator::{Operator, Output, Port, TableRows};
use crate::state::StateLayer;
use crate::time::{Timestamp, Watermark};
use crate::window::{Window, WindowSpec};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The unit of groups that are in no window.
const WHOLE: Window = Window { start: 0, end: 0 };
/// For how many groups a task keeps room that closed units leave.
const SPARE_GROUPS: usize = 1 << 14;

pub(super) struct Windowed {
    spec: Arc<Aggregate>,
    key_types: Vec<DataType>,
    units: BTreeMap<Window, Groups>,
    spare: Spare,
    /// Windows over the panes that there are, by their end; where units are panes.
    windows: BTreeMap<i64, i64>,
    /// Groups by when they expire; where a key bounds them.
    by_expiry: BTreeMap<i64, Vec<u32>>,
    watermark: Watermark,
    /// The number of the next row by arrival.
    sequence: i64,
}

impl Windowed {
    pub(super) fn new(spec: Arc<Aggregate>) -> Result<Self> {
        let key_types = spec.key_types()?;
        let (units, windows, by_expiry) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let spare = Spare::new(SPARE_GROUPS);
        Ok(Self { spec, key_types, units, spare, windows, by_expiry, watermark: Watermark::Unknown, sequence: 0 })
    }

    fn window_spec(&self) -> Option<WindowSpec> {
        match self.spec.time {
            GroupTime::Window { spec, .. } => Some(spec),
            _ => None,
        }
    }

    fn is_windowed(&self) -> bool {
        self.window_spec().is_some()
    }

    fn units_are_panes(&self) -> bool {
        self.spec.emit == Emit::Closed
    }

    /// Whether the watermark has reached a time at which something closes.
    fn is_closed(&self, end: i64) -> bool {
        !self.spec.keeps_all() && Watermark::At(Timestamp(end)) <= self.watermark
    }

    /// The end of the last window that a unit is part of.
    fn last_end(&self, spec: WindowSpec, unit: Window) -> i64 {
        let last = if self.units_are_panes() { spec.windows_of(unit.start).last() } else { None };
        last.map_or(unit.end, |window| window.end)
    }

    /// The groups of a unit, which is begun if it is new.
    fn unit(&mut self, unit: Window) -> Result<&mut Groups> {
        if self.units_are_panes() && !self.units.contains_key(&unit) {
            self.note_windows(unit);
        }
        match self.units.entry(unit) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let groups = if self.spec.compares() {
                    Groups::new(&self.key_types, &self.spec.calls, Remember::Reads(Arc::clone(&self.spec), unit))?
                } else {
                    self.spare.take(&self.key_types, &self.spec.calls)?
                };
                Ok(entry.insert(groups))
            }
        }
    }

    /// Notes the open windows over a new pane.
    fn note_windows(&mut self, pane: Window) {
        let Some(spec) = self.window_spec() else { return };
        let open: Vec<Window> = spec.windows_of(pane.start).filter(|window| !self.is_closed(window.end)).collect();
        self.windows.extend(open.into_iter().map(|window| (window.end, window.start)));
    }

    /// Notes when new groups expire, if a key of theirs says so.
    fn note_expiries(&mut self, new: &[u32]) -> Result<()> {
        let GroupTime::Key { index, .. } = self.spec.time else { return Ok(()) };
        let Some(groups) = self.units.get(&WHOLE) else { return Ok(()) };
        let columns = groups.key_columns(new)?;
        for (slot, expiry) in new.iter().zip(expiries(&columns[index])?) {
            if let Some(expiry) = expiry {
                self.by_expiry.entry(expiry).or_default().push(*slot);
            }
        }
        Ok(())
    }
}

impl Operator for Windowed {
    fn process(&mut self, _port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        let spec = Arc::clone(&self.spec);
        match &spec.time {
            GroupTime::Window { spec, time, .. } => self.process_windows(*spec, time, &rows, output),
            GroupTime::Key { index, .. } => {
                let rows = self.in_time(*index, rows, output)?;
                self.process_whole(&rows)
            }
            GroupTime::Unbounded => self.process_whole(&rows),
        }
    }

    fn process_combined(&mut self, _port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        let combined = Combined::read(&rows, self.key_types.len(), self.is_windowed())?;
        match self.spec.time {
            GroupTime::Window { spec, .. } => self.merge_windows(spec, &combined, output),
            GroupTime::Key { index, .. } => self.merge_whole(Some(index), combined, output),
            GroupTime::Unbounded => self.merge_whole(None, combined, output),
        }
    }

    fn advance(&mut self, _port: Port, watermark: Watermark, batch: &BatchContext, output: &mut Output) -> Result<Watermark> {
        self.emit_units(output)?;
        self.watermark = self.watermark.max(self.spec.clock_of(watermark, batch.trigger_time));
        if self.units_are_panes() {
            self.close_windows(output)?;
        }
        self.close_keys(output)?;
        self.drop_units();
        Ok(self.watermark)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let ends = self.windows.first_key_value().map(|(end, _)| *end).into_iter();
        self.spec.timer(ends.chain(self.by_expiry.first_key_value().map(|(expiry, _)| *expiry)).min())
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let mut changes: Vec<StateLayer> = self.changed_groups()?.into_iter().collect();
        changes.extend(self.changed_values()?);
        self.units.values_mut().for_each(Groups::forget_changes);
        Ok(changes)
    }

    /// Without what DISTINCT calls have seen: of that only what is added is known.
    fn table_rows(&self) -> Option<TableRows> {
        let mut rows = TableRows::default();
        for groups in self.units.values() {
            rows.held += groups.len();
            rows.changed += groups.changes();
        }
        (!self.spec.calls.iter().any(|call| call.distinct)).then_some(rows)
    }

    fn snapshot(&mut self) -> Result<Vec<StateLayer>> {
        let groups = self.all_groups()?;
        self.units.values_mut().for_each(Groups::forget_changes);
        Ok(groups.into_iter().collect())
    }

    fn restore(&mut self, tables: &[StateLayer], watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        self.restore_tables(tables)?;
        self.units.values_mut().for_each(Groups::forget_changes);
        self.sequence = self.units.values().map(Groups::latest_arrival).max().map_or(0, |latest| latest + 1);
        self.drop_units();
        Ok(())
    }
}
