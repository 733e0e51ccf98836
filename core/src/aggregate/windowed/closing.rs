//! What comes out with a batch, and what goes.

use super::super::groups::Groups;
use super::super::spare::Spare;
use super::super::spec::Emit;
use super::{WHOLE, Windowed};
use crate::error::Result;
use crate::operator::Output;
use crate::window::{Window, WindowSpec};

impl Windowed {
    /// Emits what has changed, is new, or is there at all.
    pub(super) fn emit_units(&self, output: &mut Output) -> Result<()> {
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
    pub(super) fn close_windows(&mut self, output: &mut Output) -> Result<()> {
        let pane = self.window_spec().and_then(WindowSpec::pane).unwrap_or(1);
        let mut spare = std::mem::replace(&mut self.spare, Spare::new(0));
        while let Some((&end, &start)) = self.windows.first_key_value()
            && self.is_closed(end)
        {
            self.windows.remove(&end);
            let held = self.units.range(Window { start, end: i64::MIN }..Window { start: end - pane + 1, end: i64::MIN });
            let held: Vec<&Groups> = held.map(|(_, groups)| groups).collect();
            self.emit_sum(Window { start, end }, &held, &mut spare, output)?;
        }
        self.spare = spare;
        Ok(())
    }

    /// Emits the groups of a window, which has these panes. Their sum is made in a spare table.
    fn emit_sum(&self, window: Window, panes: &[&Groups], spare: &mut Spare, output: &mut Output) -> Result<()> {
        match panes {
            [] => Ok(()),
            [one] => self.emit_slots(window, one, &one.all(), output),
            several => {
                let mut sum = spare.take(&self.key_types, &self.spec.calls)?;
                // Panes beside each other share many of their groups.
                sum.reserve(2 * several.iter().map(|groups| groups.len()).max().unwrap_or(0));
                several.iter().try_for_each(|groups| sum.absorb(groups))?;
                self.emit_slots(window, &sum, &sum.all(), output)?;
                spare.give(sum);
                Ok(())
            }
        }
    }

    /// Emits and forgets groups that a key of theirs has closed.
    pub(super) fn close_keys(&mut self, output: &mut Output) -> Result<()> {
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

    /// Drops units in which everything has closed.
    pub(super) fn drop_units(&mut self) {
        let Some(spec) = self.window_spec() else { return };
        let closed: Vec<Window> = self.units.keys().copied().filter(|unit| self.is_closed(self.last_end(spec, *unit))).collect();
        for unit in closed {
            self.units.remove(&unit).into_iter().for_each(|groups| self.spare.give(groups));
        }
    }

    fn emit_slots(&self, window: Window, groups: &Groups, slots: &[u32], output: &mut Output) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.spec.emit(groups.key_columns(slots)?, &vec![window; slots.len()], groups.results(slots)?, output)
    }
}
