//! To which units rows go, and which are late.

use super::super::calls::inputs;
use super::super::combine::Combined;
use super::super::rows::{Rows, by_pane};
use super::super::spec::{evaluate, expiries, times};
use super::{WHOLE, Windowed};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::operator::Output;
use crate::window::{Window, WindowSpec, check_times};
use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

impl Windowed {
    /// Rows whose window is over a time: to the units of their panes.
    pub(super) fn process_windows(
        &mut self,
        spec: WindowSpec,
        time: &Arc<dyn PhysicalExpr>,
        rows: &RecordBatch,
        output: &mut Output,
    ) -> Result<()> {
        let time = evaluate(time, rows)?;
        let rows = self.rows(rows)?;
        let times = times(&time)?;
        check_times(times)?;
        output.count_late(times.null_count() as u64);
        for (pane, members) in by_pane(spec, times) {
            let units = self.open_units(spec, pane);
            if !units.is_empty() {
                let of_pane = rows.part(&members)?;
                units.into_iter().try_for_each(|unit| self.update(unit, &of_pane))?;
            } else if spec.windows_of(pane).next().is_some() {
                output.count_late(members.len() as u64);
            }
        }
        Ok(())
    }

    /// Groups of panes, with how many rows they stand for.
    pub(super) fn merge_windows(&mut self, spec: WindowSpec, combined: &Combined, output: &mut Output) -> Result<()> {
        for (pane, groups) in combined.by_pane()? {
            let units = self.open_units(spec, pane);
            if units.is_empty() && spec.windows_of(pane).next().is_some() {
                output.count_late(groups.rows()?);
            }
            units.into_iter().try_for_each(|unit| self.merge(unit, &groups))?;
        }
        Ok(())
    }

    /// Groups that are in no window. Those of which a key has closed them are late.
    pub(super) fn merge_whole(&mut self, key: Option<usize>, combined: Combined, output: &mut Output) -> Result<()> {
        let Some(key) = key else { return self.merge(WHOLE, &combined) };
        let closed: Vec<bool> =
            expiries(&combined.keys[key])?.into_iter().map(|expiry| expiry.is_some_and(|at| self.is_closed(at))).collect();
        let (late, open): (Vec<u32>, Vec<u32>) = (0..closed.len() as u32).partition(|&group| closed[group as usize]);
        if late.is_empty() {
            return self.merge(WHOLE, &combined);
        }
        output.count_late(combined.take(late)?.rows()?);
        self.merge(WHOLE, &combined.take(open)?)
    }

    fn merge(&mut self, unit: Window, groups: &Combined) -> Result<()> {
        let new = self.unit(unit)?.merge(&groups.keys, groups.counts.len(), &groups.state)?;
        self.note_expiries(&new)
    }

    /// Rows of groups that are in no window.
    pub(super) fn process_whole(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = self.rows(rows)?;
        self.update(WHOLE, &rows)
    }

    /// Leaves out rows whose group has closed.
    pub(super) fn in_time(&self, key: usize, rows: RecordBatch, output: &mut Output) -> Result<RecordBatch> {
        let expiries = expiries(&evaluate(&self.spec.keys[key], &rows)?)?;
        let open: BooleanArray = expiries.iter().map(|expiry| Some(!expiry.is_some_and(|expiry| self.is_closed(expiry)))).collect();
        let late = open.false_count();
        if late == 0 {
            return Ok(rows);
        }
        output.count_late(late as u64);
        filter_record_batch(&rows, &open).or_error(ErrorKind::Internal, || "leaving out late rows".into())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Rows> {
        let keys = self.spec.key_columns(rows)?;
        let (sequence, count) = (self.sequence, rows.num_rows());
        self.sequence += count as i64;
        Ok(Rows { keys, inputs: inputs(&self.spec.calls, rows, sequence)?, count })
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

    fn update(&mut self, unit: Window, rows: &Rows) -> Result<()> {
        let new = self.unit(unit)?.update(&rows.keys, rows.count, &rows.inputs)?;
        self.note_expiries(&new)
    }
}
