//! The tables in which groups are stored.
//!
//! One table holds the groups: their keys, the bounds of their unit where that is a window, when they expire, and the state of each
//! aggregate. Each DISTINCT call has one more, for the values that it has seen: the same key with a value.

use super::super::groups::Groups;
use super::super::spec::{GroupTime, expiries, state_rows, times};
use super::{WHOLE, Windowed};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::state::{StateLayer, StateTable};
use crate::window::Window;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat, take_record_batch};
use std::collections::BTreeMap;
use std::sync::Arc;

const GROUPS: &str = "groups";
/// What the tables of DISTINCT calls are called, before the call's number.
const DISTINCT: &str = "distinct-";

impl Windowed {
    /// What the batch changed of the groups.
    pub(super) fn changed_groups(&self) -> Result<Option<StateLayer>> {
        self.groups(Groups::changed)
    }

    /// All groups.
    pub(super) fn all_groups(&self) -> Result<Option<StateLayer>> {
        self.groups(Groups::held)
    }

    /// Some groups of each unit.
    fn groups(&self, slots: impl Fn(&Groups) -> Vec<u32>) -> Result<Option<StateLayer>> {
        let mut parts = Vec::new();
        let mut states = 0;
        for (unit, groups) in &self.units {
            let slots = slots(groups);
            if slots.is_empty() {
                continue;
            }
            let mut columns = self.columns(*unit, groups, &slots, None)?;
            let state = groups.state(&slots)?;
            states = state.len();
            columns.extend(state);
            if columns.is_empty() {
                columns.push(Arc::new(BooleanArray::from(vec![true; slots.len()])));
            }
            parts.push(columns);
        }
        let mut names = self.names(None);
        names.extend((0..states).map(|index| format!("state_{index}")));
        if names.is_empty() {
            names.push("exists".into());
        }
        self.change(self.table(GROUPS.into(), 0), names, parts)
    }

    /// The values that the batch added to DISTINCT calls.
    pub(super) fn changed_values(&mut self) -> Result<Vec<StateLayer>> {
        let mut added = Vec::new();
        for (unit, groups) in &mut self.units {
            added.extend(groups.take_added()?.into_iter().map(|(call, slots, values)| (*unit, call, slots, values)));
        }
        let mut parts: BTreeMap<usize, Vec<Vec<ArrayRef>>> = BTreeMap::new();
        for (unit, call, slots, values) in added.into_iter().filter(|(_, _, slots, _)| !slots.is_empty()) {
            parts.entry(call).or_default().push(self.columns(unit, &self.units[&unit], &slots, Some(values))?);
        }
        let change = |(call, parts)| self.change(self.table(format!("{DISTINCT}{call}"), 1), self.names(Some("value")), parts);
        parts.into_iter().filter_map(|part| change(part).transpose()).collect()
    }

    fn change(&self, table: StateTable, names: Vec<String>, parts: Vec<Vec<ArrayRef>>) -> Result<Option<StateLayer>> {
        let Some(width) = parts.first().map(Vec::len) else { return Ok(None) };
        let column = |index: usize| {
            let arrays: Vec<&dyn Array> = parts.iter().map(|part| part[index].as_ref()).collect();
            concat(&arrays).or_error(ErrorKind::Internal, || "gathering changed groups".into())
        };
        let columns = (0..width).map(column).collect::<Result<Vec<_>>>()?;
        Ok(Some(StateLayer::upserts(table, state_rows(names, columns)?)))
    }

    /// A table whose key is the group's, with more columns behind it.
    fn table(&self, name: String, more: usize) -> StateTable {
        let key_columns = self.key_width() + more;
        let table = StateTable::new(name, key_columns);
        if self.has_expiry() && !self.spec.keeps_all() { table.expiring(key_columns) } else { table }
    }

    /// How many columns tell groups apart: their keys and the bounds of their unit.
    fn key_width(&self) -> usize {
        self.key_types.len() + if self.is_windowed() { 2 } else { 0 }
    }

    /// Whether a column says when groups expire.
    fn has_expiry(&self) -> bool {
        !matches!(self.spec.time, GroupTime::Unbounded)
    }

    /// The names of the columns before the state.
    fn names(&self, value: Option<&str>) -> Vec<String> {
        let unit: &[&str] = if self.is_windowed() { &["_start", "_end"] } else { &[] };
        let expiry = self.has_expiry().then_some("_expires");
        let others = unit.iter().copied().chain(value).chain(expiry).map(ToOwned::to_owned);
        self.spec.key_names().into_iter().chain(others).collect()
    }

    /// The columns before the state, for groups of a unit.
    fn columns(&self, unit: Window, groups: &Groups, slots: &[u32], value: Option<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let constant = |time: i64| Arc::new(TimestampMicrosecondArray::from(vec![time; slots.len()])) as ArrayRef;
        let mut columns = groups.key_columns(slots)?;
        let expiry = match self.spec.time {
            GroupTime::Unbounded => None,
            GroupTime::Window { spec, .. } => Some(constant(self.last_end(spec, unit))),
            GroupTime::Key { index, .. } => {
                Some(Arc::new(expiries(&columns[index])?.into_iter().collect::<TimestampMicrosecondArray>()) as ArrayRef)
            }
        };
        if self.is_windowed() {
            columns.extend([constant(unit.start), constant(unit.end)]);
        }
        columns.extend(value.into_iter().chain(expiry));
        Ok(columns)
    }

    /// # Errors
    /// `Corrupt` if one is none of these tables.
    pub(super) fn restore_tables(&mut self, parts: &[StateLayer]) -> Result<()> {
        let (groups, others): (Vec<&StateLayer>, Vec<&StateLayer>) = parts.iter().partition(|part| part.table.name == GROUPS);
        let groups = groups.into_iter().map(|part| self.by_unit(&part.rows)).collect::<Result<Vec<_>>>()?;
        self.restore_groups(groups.into_iter().flatten().collect())?;
        for part in others {
            let name = &part.table.name;
            match name.strip_prefix(DISTINCT).and_then(|call| call.parse().ok()) {
                Some(call) => self.restore_values(call, &part.rows)?,
                None => return Err(Error::corrupt(format!("the state table '{name}' is not known"))),
            }
        }
        Ok(())
    }

    fn restore_groups(&mut self, parts: Vec<(Window, RecordBatch)>) -> Result<()> {
        let keys = self.key_types.len();
        let first_state = self.key_width() + usize::from(self.has_expiry());
        let mut sizes: BTreeMap<Window, usize> = BTreeMap::new();
        for (unit, rows) in &parts {
            *sizes.entry(*unit).or_default() += rows.num_rows();
        }
        for (unit, groups) in sizes {
            let of_unit = self.unit(unit)?;
            // The values of DISTINCT calls may have come before.
            of_unit.reserve(groups.saturating_sub(of_unit.len()));
        }
        for (unit, rows) in parts {
            let columns = rows.columns();
            let state = if self.spec.calls.is_empty() { &[] } else { &columns[first_state.min(columns.len())..] };
            let slots = self.unit(unit)?.restore(&columns[..keys], rows.num_rows(), state)?;
            self.note_expiries(&slots)?;
        }
        Ok(())
    }

    fn restore_values(&mut self, call: usize, rows: &RecordBatch) -> Result<()> {
        let (keys, value) = (self.key_types.len(), self.key_width());
        for (unit, rows) in self.by_unit(rows)? {
            let values = Arc::clone(rows.column(value));
            self.unit(unit)?.restore_values(call, &rows.columns()[..keys], values)?;
        }
        Ok(())
    }

    /// The rows of a stored table, by the unit of their groups.
    fn by_unit(&self, rows: &RecordBatch) -> Result<Vec<(Window, RecordBatch)>> {
        if !self.is_windowed() {
            return Ok(vec![(WHOLE, rows.clone())]);
        }
        let keys = self.key_types.len();
        let (starts, ends) = (times(rows.column(keys))?, times(rows.column(keys + 1))?);
        let mut units: BTreeMap<Window, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            units.entry(Window { start: starts.value(row), end: ends.value(row) }).or_default().push(row as u32);
        }
        let take = |(unit, members): (Window, Vec<u32>)| {
            let rows = take_record_batch(rows, &UInt32Array::from(members)).or_error(ErrorKind::Internal, || "restoring groups".into())?;
            Ok((unit, rows))
        };
        units.into_iter().map(take).collect()
    }
}
