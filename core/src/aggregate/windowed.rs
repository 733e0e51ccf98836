//! Groups in units of time: one table of groups per unit.
//!
//! A unit is a pane where results come out when windows close, for then overlapping windows share their panes, and a closing window adds up
//! those that it holds. Elsewhere a unit is a window, because each change of each window is to be seen. Closing drops whole units. Groups
//! that are bounded by a key of theirs, or not at all, are one unit.
//!
//! Groups that close come out in the order of their ends, and then of their keys: what is built on them must not depend on which slots they
//! were given, for a restored operator gives others.

use super::calls::{CallInput, CallSpec, inputs};
use super::groups::{Groups, Remember};
use super::spec::{Aggregate, Emit, GroupTime, evaluate, expiries, state_rows, times};
use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::operator::{Operator, Output, Port};
use crate::state::{StateChange, StateLayer, StateTable};
use crate::time::{Timestamp, Watermark};
use crate::window::{Window, WindowSpec, check_times};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat, filter_record_batch, take};
use arrow::datatypes::DataType;
use std::collections::BTreeMap;
use std::sync::Arc;

const GROUPS: &str = "groups";
/// The unit of groups that are in no window.
const WHOLE: Window = Window { start: 0, end: 0 };

pub(super) struct Windowed {
    spec: Arc<Aggregate>,
    key_types: Vec<DataType>,
    units: BTreeMap<Window, Groups>,
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
        Ok(Self { spec, key_types, units, windows, by_expiry, watermark: Watermark::Unknown, sequence: 0 })
    }

    fn window_spec(&self) -> Option<WindowSpec> {
        match self.spec.time {
            GroupTime::Window { spec, .. } => Some(spec),
            _ => None,
        }
    }

    fn units_are_panes(&self) -> bool {
        self.spec.emit == Emit::Closed
    }

    fn is_closed(&self, end: i64) -> bool {
        !self.spec.keeps_all() && Watermark::At(Timestamp(end)) <= self.watermark
    }

    /// The units that rows of a pane go to: those in which something is open.
    fn open_units(&self, spec: WindowSpec, pane: i64) -> Vec<Window> {
        let mut open = spec.windows_of(pane).filter(|window| !self.is_closed(window.end));
        if self.units_are_panes() {
            open.next().map(|_| Window { start: pane, end: pane + spec.pane().unwrap_or(0) }).into_iter().collect()
        } else {
            open.collect()
        }
    }

    fn update(&mut self, unit: Window, keys: &[ArrayRef], rows: usize, inputs: &[CallInput]) -> Result<()> {
        let new = self.unit(unit)?.update(keys, rows, inputs)?;
        if let GroupTime::Key { index, .. } = self.spec.time {
            self.note_expiries(index, &new)?;
        }
        Ok(())
    }

    /// The groups of a unit, which is begun if it is new.
    fn unit(&mut self, unit: Window) -> Result<&mut Groups> {
        use std::collections::btree_map::Entry;
        if let Some(spec) = self.window_spec().filter(|_| self.units_are_panes())
            && !self.units.contains_key(&unit)
        {
            for window in spec.windows_of(unit.start).filter(|window| Watermark::At(Timestamp(window.end)) > self.watermark) {
                self.windows.insert(window.end, window.start);
            }
        }
        match self.units.entry(unit) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let compares = self.spec.emit == Emit::Updated && !self.spec.calls.iter().any(CallSpec::changes_with_every_row);
                let remember = if compares { Remember::Results } else { Remember::Nothing };
                Ok(entry.insert(Groups::new(&self.key_types, &self.spec.calls, remember)?))
            }
        }
    }

    fn note_expiries(&mut self, key: usize, new: &[u32]) -> Result<()> {
        let Some(groups) = self.units.get(&WHOLE) else { return Ok(()) };
        let columns = groups.key_columns(new)?;
        for (slot, expiry) in new.iter().zip(expiries(&columns[key])?) {
            if let Some(expiry) = expiry {
                self.by_expiry.entry(expiry).or_default().push(*slot);
            }
        }
        Ok(())
    }

    /// Rows whose window is over a time: to the units of their panes.
    fn process_windows(&mut self, spec: WindowSpec, rows: &RecordBatch, time: &ArrayRef, output: &mut Output) -> Result<()> {
        let keys = self.spec.key_columns(rows)?;
        let inputs = self.inputs(rows)?;
        let mut panes: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let times = times(time)?;
        check_times(times)?;
        output.count_late(times.null_count() as u64);
        for row in 0..rows.num_rows() {
            if times.is_valid(row) {
                panes.entry(spec.pane_of(times.value(row))).or_default().push(row as u32);
            }
        }
        for (pane, members) in panes {
            let units = self.open_units(spec, pane);
            if units.is_empty() && spec.windows_of(pane).next().is_some() {
                output.count_late(members.len() as u64);
            }
            if units.is_empty() {
                continue;
            }
            if members.len() == rows.num_rows() {
                units.into_iter().try_for_each(|unit| self.update(unit, &keys, members.len(), &inputs))?;
                continue;
            }
            let members = UInt32Array::from(members);
            let dividing = || "dividing rows among windows".to_owned();
            let keys: Vec<ArrayRef> =
                keys.iter().map(|key| take(key, &members, None)).collect::<Result<_, _>>().or_error(ErrorKind::Internal, dividing)?;
            let inputs = inputs.iter().map(|input| input.take(&members)).collect::<Result<Vec<_>>>()?;
            units.into_iter().try_for_each(|unit| self.update(unit, &keys, members.len(), &inputs))?;
        }
        Ok(())
    }

    fn inputs(&mut self, rows: &RecordBatch) -> Result<Vec<CallInput>> {
        let sequence = self.sequence;
        self.sequence += rows.num_rows() as i64;
        inputs(&self.spec.calls, rows, sequence)
    }

    /// Leaves out rows whose group has closed.
    fn in_time(&self, key: usize, rows: RecordBatch, output: &mut Output) -> Result<RecordBatch> {
        let expiries = expiries(&evaluate(&self.spec.keys[key], &rows)?)?;
        let open: BooleanArray = expiries.iter().map(|expiry| Some(!expiry.is_some_and(|expiry| self.is_closed(expiry)))).collect();
        let late = open.false_count();
        if late == 0 {
            return Ok(rows);
        }
        output.count_late(late as u64);
        filter_record_batch(&rows, &open).or_error(ErrorKind::Internal, || "leaving out late rows".into())
    }

    fn emit_slots(&self, window: Window, groups: &Groups, slots: &[u32], output: &mut Output) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.spec.emit(groups.key_columns(slots)?, &vec![window; slots.len()], groups.results(slots)?, output)
    }

    /// Emits what has changed, is new, or is there at all.
    fn emit_units(&self, output: &mut Output) -> Result<()> {
        for (unit, groups) in &self.units {
            let slots = match self.spec.emit {
                Emit::Updated => groups.updated()?,
                Emit::New => groups.new_slots().to_vec(),
                Emit::All => groups.all(),
                Emit::Closed => Vec::new(),
            };
            self.emit_slots(*unit, groups, &slots, output)?;
        }
        Ok(())
    }

    /// Emits windows that have closed, in the order of their ends and keys.
    fn close_windows(&mut self, output: &mut Output) -> Result<()> {
        let pane = self.window_spec().and_then(WindowSpec::pane).unwrap_or(1);
        while let Some((&end, &start)) = self.windows.first_key_value()
            && self.is_closed(end)
        {
            self.windows.remove(&end);
            let window = Window { start, end };
            let held = self.units.range(Window { start, end: i64::MIN }..Window { start: end - pane + 1, end: i64::MIN });
            let held: Vec<&Groups> = held.map(|(_, groups)| groups).collect();
            match held.as_slice() {
                [] => {}
                [one] => self.emit_slots(window, one, &one.all(), output)?,
                several => {
                    let mut sum = Groups::new(&self.key_types, &self.spec.calls, Remember::Nothing)?;
                    several.iter().try_for_each(|groups| sum.absorb(groups))?;
                    self.emit_slots(window, &sum, &sum.all(), output)?;
                }
            }
        }
        Ok(())
    }

    /// Drops units in which everything has closed.
    fn drop_units(&mut self) {
        let Some(spec) = self.window_spec() else { return };
        let panes = self.units_are_panes();
        let last_end =
            |unit: &Window| if panes { spec.windows_of(unit.start).last().map_or(unit.end, |window| window.end) } else { unit.end };
        let closed: Vec<Window> = self.units.keys().copied().filter(|unit| self.is_closed(last_end(unit))).collect();
        for unit in closed {
            self.units.remove(&unit);
        }
    }

    /// Emits and forgets groups that a key of theirs has closed.
    fn close_keys(&mut self, output: &mut Output) -> Result<()> {
        while let Some((&expiry, _)) = self.by_expiry.first_key_value()
            && self.is_closed(expiry)
        {
            let slots = self.by_expiry.remove(&expiry).unwrap_or_default();
            if self.spec.emit == Emit::Closed
                && let Some(groups) = self.units.get(&WHOLE)
            {
                self.emit_slots(WHOLE, groups, &groups.by_key(slots.clone()), output)?;
            }
            match self.units.get_mut(&WHOLE) {
                // A day that ends takes all groups along.
                Some(groups) if groups.len() == slots.len() => drop(self.units.remove(&WHOLE)),
                Some(groups) => slots.into_iter().for_each(|slot| groups.remove(slot)),
                None => {}
            }
        }
        Ok(())
    }

    fn is_windowed(&self) -> bool {
        self.window_spec().is_some()
    }

    /// The columns behind a key: the unit, for windows; and when the row expires.
    fn time_columns(&self, unit: Window, keys: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let constant = |time: i64| Arc::new(TimestampMicrosecondArray::from(vec![time; rows])) as ArrayRef;
        match (&self.spec.time, self.window_spec()) {
            (GroupTime::Key { index, .. }, _) => {
                Ok(vec![Arc::new(expiries(&keys[*index])?.into_iter().collect::<TimestampMicrosecondArray>())])
            }
            (_, Some(spec)) => {
                let last = if self.units_are_panes() { spec.windows_of(unit.start).last() } else { None };
                Ok(vec![constant(unit.start), constant(unit.end), constant(last.map_or(unit.end, |window| window.end))])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn time_names(&self) -> Vec<String> {
        let names: &[&str] = match (&self.spec.time, self.is_windowed()) {
            (GroupTime::Key { .. }, _) => &["_expires"],
            (_, true) => &["_start", "_end", "_expires"],
            _ => &[],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A table whose key is the group's, with more key columns between the group's and the times.
    fn table(&self, name: String, more: usize) -> StateTable {
        let unit = if self.is_windowed() { 2 } else { 0 };
        let key_columns = self.key_types.len() + unit + more;
        let table = StateTable::new(name, key_columns);
        match self.spec.time {
            GroupTime::Unbounded => table,
            _ if self.spec.keeps_all() => table,
            _ => table.expiring(key_columns),
        }
    }

    fn change(&self, table: StateTable, names: Vec<String>, parts: Vec<Vec<ArrayRef>>) -> Result<Option<StateChange>> {
        let Some(width) = parts.first().map(Vec::len) else { return Ok(None) };
        let column = |index: usize| {
            let arrays: Vec<&dyn Array> = parts.iter().map(|part| part[index].as_ref()).collect();
            concat(&arrays).or_error(ErrorKind::Internal, || "gathering changed groups".into())
        };
        let columns = (0..width).map(column).collect::<Result<Vec<_>>>()?;
        Ok(Some(StateLayer::upserts(table, state_rows(names, columns)?)))
    }

    fn changed_groups(&self) -> Result<Option<StateChange>> {
        let mut parts = Vec::new();
        let mut states = 0;
        for (unit, groups) in &self.units {
            let slots = groups.changed();
            if slots.is_empty() {
                continue;
            }
            let mut columns = groups.key_columns(&slots)?;
            columns.extend(self.time_columns(*unit, &columns, slots.len())?);
            let state = groups.state(&slots)?;
            states = state.len();
            columns.extend(state);
            if columns.is_empty() {
                columns.push(Arc::new(BooleanArray::from(vec![true; slots.len()])));
            }
            parts.push(columns);
        }
        let mut names = self.spec.key_names();
        names.extend(self.time_names());
        names.extend((0..states).map(|index| format!("state_{index}")));
        if names.is_empty() {
            names.push("exists".into());
        }
        self.change(self.table(GROUPS.into(), 0), names, parts)
    }

    fn changed_values(&mut self) -> Result<Vec<StateChange>> {
        let mut parts: BTreeMap<usize, Vec<Vec<ArrayRef>>> = BTreeMap::new();
        let mut units = std::mem::take(&mut self.units);
        for (unit, groups) in &mut units {
            for (call, slots, values) in groups.take_added()? {
                if slots.is_empty() {
                    continue;
                }
                let mut columns = groups.key_columns(&slots)?;
                let mut times = self.time_columns(*unit, &columns, slots.len())?;
                let expires = if times.is_empty() { None } else { times.pop() };
                columns.extend(times);
                columns.push(values);
                columns.extend(expires);
                parts.entry(call).or_default().push(columns);
            }
        }
        self.units = units;
        let mut changes = Vec::new();
        for (call, parts) in parts {
            let mut names = self.spec.key_names();
            let mut times = self.time_names();
            let expires = times.pop();
            names.extend(times);
            names.push("value".into());
            names.extend(expires);
            changes.extend(self.change(self.table(format!("distinct-{call}"), 1), names, parts)?);
        }
        Ok(changes)
    }

    /// The rows of a stored table, by unit. Units in which everything has closed are left out.
    fn restored(&self, rows: &RecordBatch) -> Result<Vec<(Window, RecordBatch)>> {
        let keys = self.key_types.len();
        if !self.is_windowed() {
            return Ok(vec![(WHOLE, rows.clone())]);
        }
        let (starts, ends) = (times(rows.column(keys))?, times(rows.column(keys + 1))?);
        let mut units: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            units.entry(Window { start: starts.value(row), end: ends.value(row) }).or_default().push(row as u32);
        }
        let take = |(unit, members): (Window, Vec<u32>)| {
            let rows = arrow::compute::take_record_batch(rows, &UInt32Array::from(members));
            Ok((unit, rows.or_error(ErrorKind::Internal, || "restoring groups".into())?))
        };
        units.into_iter().map(take).collect()
    }

    fn restore_groups(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = self.key_types.len();
        let first_state = keys + self.time_names().len();
        for (unit, rows) in self.restored(rows)? {
            let columns = rows.columns();
            let state = if self.spec.calls.is_empty() { &[] } else { &columns[first_state.min(columns.len())..] };
            let key_columns = columns[..keys].to_vec();
            let slots = self.unit(unit)?.restore(&key_columns, rows.num_rows(), state)?;
            if let GroupTime::Key { index, .. } = self.spec.time {
                self.note_expiries(index, &slots)?;
            }
        }
        Ok(())
    }

    fn restore_values(&mut self, call: usize, rows: &RecordBatch) -> Result<()> {
        let keys = self.key_types.len();
        let value = keys + if self.is_windowed() { 2 } else { 0 };
        for (unit, rows) in self.restored(rows)? {
            let values = Arc::clone(rows.column(value));
            let key_columns = rows.columns()[..keys].to_vec();
            self.unit(unit)?.restore_values(call, &key_columns, values)?;
        }
        Ok(())
    }
}

impl Operator for Windowed {
    fn process(&mut self, _port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        match &self.spec.time {
            GroupTime::Window { spec, time, .. } => {
                let (spec, time) = (*spec, evaluate(time, &rows)?);
                self.process_windows(spec, &rows, &time, output)
            }
            GroupTime::Key { index, .. } => {
                let rows = self.in_time(*index, rows, output)?;
                let (keys, inputs) = (self.spec.key_columns(&rows)?, self.inputs(&rows)?);
                self.update(WHOLE, &keys, rows.num_rows(), &inputs)
            }
            GroupTime::Unbounded => {
                let (keys, inputs) = (self.spec.key_columns(&rows)?, self.inputs(&rows)?);
                self.update(WHOLE, &keys, rows.num_rows(), &inputs)
            }
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

    fn checkpoint(&mut self) -> Result<Vec<StateChange>> {
        let mut changes: Vec<StateChange> = self.changed_groups()?.into_iter().collect();
        changes.extend(self.changed_values()?);
        self.units.values_mut().for_each(Groups::forget_changes);
        Ok(changes)
    }

    fn restore(&mut self, tables: &[StateLayer], watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        for table in tables {
            match table.table.name.strip_prefix("distinct-") {
                _ if table.table.name == GROUPS => self.restore_groups(&table.rows)?,
                Some(call) => {
                    let call = call.parse().map_err(|_| Error::corrupt(format!("the state table '{}' is not known", table.table.name)))?;
                    self.restore_values(call, &table.rows)?;
                }
                None => return Err(Error::corrupt(format!("the state table '{}' is not known", table.table.name))),
            }
        }
        self.units.values_mut().for_each(Groups::forget_changes);
        self.sequence = self.units.values().map(Groups::latest_arrival).max().map_or(0, |latest| latest + 1);
        self.drop_units();
        Ok(())
    }
}
