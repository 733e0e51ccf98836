//! Groups: keys with their aggregates, and what a batch changed of them.
//!
//! A group has a slot, a small number under which its key and the states of its aggregates stand. What a batch changed is kept until
//! [`Groups::forget_changes`]: it is emitted first, and checkpointed then.

use super::calls::{CallInput, CallSpec};
use super::keys::{KeyTable, key_table};
use super::reads::comparable;
use super::slots::Slots;
use super::spec::Aggregate;
use crate::error::Result;
use crate::window::Window;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::OwnedRow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// What a batch needs to know of how groups were before it.
#[derive(Debug, Clone)]
pub(super) enum Remember {
    Nothing,
    /// Of groups that it changes, to leave out changes that change nothing, what is read of their rows in this unit.
    Reads(Arc<Aggregate>, Window),
}

pub(super) struct Groups {
    keys: Box<dyn KeyTable>,
    slots: Slots,
    remember: Remember,
    /// Slots that this batch changed, in the order of their first change.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    /// Slots that this batch made, in their order.
    new: Vec<u32>,
    before: HashMap<u32, Option<OwnedRow>>,
    /// The key columns that were last asked for: what a batch changed is emitted, and then checkpointed.
    decoded: RefCell<Option<(Vec<u32>, Vec<ArrayRef>)>>,
    /// The results likewise, for most states are nothing else.
    evaluated: RefCell<Option<(Vec<u32>, Vec<ArrayRef>)>>,
    /// Whether this batch removed a slot.
    has_removed: bool,
}

impl Groups {
    pub(super) fn new(key_types: &[DataType], calls: &[CallSpec], remember: Remember) -> Result<Self> {
        Ok(Self {
            keys: key_table(key_types)?,
            slots: Slots::new(calls)?,
            remember,
            changed: Vec::new(),
            is_changed: Vec::new(),
            new: Vec::new(),
            before: HashMap::new(),
            decoded: RefCell::new(None),
            evaluated: RefCell::new(None),
            has_removed: false,
        })
    }

    /// The slot of each row's key, for rows that are about to be taken; `note` is told those that are new.
    fn intern(&mut self, keys: &[ArrayRef], rows: usize, mut note: impl FnMut(u32)) -> Result<Vec<u32>> {
        self.evaluated.take();
        let slots = &mut self.slots;
        self.keys.intern(keys, rows, &mut || {
            let slot = slots.allocate();
            note(slot);
            slot
        })
    }

    /// Takes rows. Returns the slots that are new.
    pub(super) fn update(&mut self, keys: &[ArrayRef], rows: usize, inputs: &[CallInput]) -> Result<Vec<u32>> {
        self.take(keys, rows, |slots, of_rows| slots.update(of_rows, inputs))
    }

    /// Takes groups with the states of their aggregates, a group several times only if these are exact. Returns the slots that are new.
    pub(super) fn merge(&mut self, keys: &[ArrayRef], rows: usize, state: &[ArrayRef]) -> Result<Vec<u32>> {
        self.take(keys, rows, |slots, of_rows| slots.restore(of_rows, state))
    }

    /// Takes rows into groups that are made for nothing else. Returns the slot of each row; the first is 0.
    pub(super) fn gather(&mut self, keys: &[ArrayRef], rows: usize, inputs: &[CallInput]) -> Result<Vec<u32>> {
        let slots = self.intern(keys, rows, |_| ())?;
        self.slots.update_in_turn(&slots, inputs)?;
        Ok(slots)
    }

    fn take(&mut self, keys: &[ArrayRef], rows: usize, give: impl FnOnce(&mut Slots, &[u32]) -> Result<()>) -> Result<Vec<u32>> {
        let mut new = Vec::new();
        let slots = self.intern(keys, rows, |slot| new.push(slot))?;
        let before = self.changed.len();
        self.touch(&slots);
        if let Remember::Reads(spec, unit) = self.remember.clone() {
            let fresh: std::collections::HashSet<u32> = new.iter().copied().collect();
            let old: Vec<u32> = self.changed[before..].iter().copied().filter(|slot| !fresh.contains(slot)).collect();
            let reads = self.reads(&spec, unit, &old)?;
            self.before.extend(old.into_iter().zip(reads));
        }
        self.new.extend(&new);
        give(&mut self.slots, &slots)?;
        Ok(new)
    }

    /// Marks slots as changed.
    fn touch(&mut self, slots: &[u32]) {
        for &slot in slots {
            if self.is_changed.len() <= slot as usize {
                self.is_changed.resize(slot as usize + 1, false);
            }
            if !std::mem::replace(&mut self.is_changed[slot as usize], true) {
                self.changed.push(slot);
            }
        }
    }

    fn reads(&self, spec: &Aggregate, unit: Window, slots: &[u32]) -> Result<Vec<Option<OwnedRow>>> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let results = self.slots.evaluate(slots)?;
        match &spec.reads {
            None => Ok(comparable(&results)?.into_iter().map(Some).collect()),
            Some(reads) => reads.of(&spec.rows(&self.keys.columns(slots)?, &vec![unit; slots.len()], &results)?),
        }
    }

    /// Slots that this batch made, or of which it changed what is read.
    pub(super) fn updated(&self) -> Result<Vec<u32>> {
        let (false, Remember::Reads(spec, unit)) = (self.before.is_empty(), &self.remember) else { return Ok(self.changed.clone()) };
        let now = self.reads(spec, *unit, &self.changed)?;
        let differs = |(slot, now): (&u32, Option<OwnedRow>)| {
            let is_same = now.is_some() && self.before.get(slot) == Some(&now);
            (!is_same).then_some(*slot)
        };
        Ok(self.changed.iter().zip(now).filter_map(differs).collect())
    }

    /// Slots that this batch changed and that are still there.
    pub(super) fn changed(&self) -> Vec<u32> {
        if !self.has_removed {
            return self.changed.clone();
        }
        self.changed.iter().copied().filter(|slot| self.keys.contains(*slot)).collect()
    }

    /// How many [`changed`](Self::changed).
    pub(super) fn changes(&self) -> usize {
        if self.has_removed { self.changed().len() } else { self.changed.len() }
    }

    /// All slots: in the order of [`changed`](Self::changed) if they are the same, for what was found out of them is kept by it.
    pub(super) fn held(&self) -> Vec<u32> {
        let changed = self.changed();
        if changed.len() == self.len() { changed } else { self.keys.slots() }
    }

    pub(super) fn new_slots(&self) -> &[u32] {
        &self.new
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// All slots, in the order of their keys.
    pub(super) fn all(&self) -> Vec<u32> {
        self.by_key(self.keys.slots())
    }

    /// Slots in the order of their keys.
    pub(super) fn by_key(&self, mut slots: Vec<u32>) -> Vec<u32> {
        self.keys.sort(&mut slots);
        slots
    }

    pub(super) fn key_columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if let Some((of, columns)) = &*self.decoded.borrow()
            && of == slots
        {
            return Ok(columns.clone());
        }
        let columns = self.keys.columns(slots)?;
        self.decoded.replace(Some((slots.to_vec(), columns.clone())));
        Ok(columns)
    }

    pub(super) fn results(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let results = self.slots.evaluate(slots)?;
        self.evaluated.replace(Some((slots.to_vec(), results.clone())));
        Ok(results)
    }

    pub(super) fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let evaluated = self.evaluated.borrow();
        let results = evaluated.as_ref().filter(|(of, _)| of == slots).map(|(_, results)| results.as_slice());
        self.slots.state(slots, results)
    }

    pub(super) fn take_added(&mut self) -> Result<Vec<(usize, Vec<u32>, ArrayRef)>> {
        let keys = &self.keys;
        self.slots.take_added(|slot| keys.contains(slot))
    }

    /// The greatest number of a row, by arrival, that the state holds.
    pub(super) fn latest_arrival(&self) -> i64 {
        self.slots.latest_arrival()
    }

    /// The batch is over.
    pub(super) fn forget_changes(&mut self) {
        for slot in self.changed.drain(..) {
            self.is_changed[slot as usize] = false;
        }
        self.new.clear();
        self.decoded.take();
        self.evaluated.take();
        self.before.clear();
        self.has_removed = false;
    }

    /// Forgets a group. Its slot is used again in the next batch at the earliest.
    pub(super) fn remove(&mut self, slot: u32) {
        self.keys.remove(slot);
        self.decoded.take();
        self.evaluated.take();
        self.has_removed = true;
        self.slots.release(slot);
    }

    /// For how many groups memory is kept, and how many were there at once.
    pub(super) fn room_and_use(&self) -> (usize, usize) {
        (self.slots.most_room(), self.slots.used())
    }

    /// Forgets all groups, and keeps the room that they took. Returns whether nothing of them is left: functions may hold more than the
    /// states of their groups.
    pub(super) fn clear(&mut self) -> bool {
        if !self.slots.are_exact() || !matches!(self.remember, Remember::Nothing) {
            return false;
        }
        self.forget_changes();
        self.is_changed.clear();
        self.keys.clear();
        self.slots.clear();
        true
    }

    /// Makes room for so many groups.
    pub(super) fn reserve(&mut self, groups: usize) {
        self.keys.reserve(groups);
        self.slots.reserve(groups);
    }

    /// Adds all groups of another table of the same shape.
    pub(super) fn absorb(&mut self, other: &Self) -> Result<()> {
        let theirs = other.keys.slots();
        let slots = self.intern(&other.key_columns(&theirs)?, theirs.len(), |_| ())?;
        self.slots.absorb(&slots, &other.slots, &theirs)
    }

    /// Takes groups back. Returns the slot of each row.
    pub(super) fn restore(&mut self, keys: &[ArrayRef], rows: usize, state: &[ArrayRef]) -> Result<Vec<u32>> {
        let slots = self.intern(keys, rows, |_| ())?;
        self.slots.restore(&slots, state)?;
        Ok(slots)
    }

    /// Takes the values of a DISTINCT call back.
    pub(super) fn restore_values(&mut self, call: usize, keys: &[ArrayRef], values: ArrayRef) -> Result<()> {
        let slots = self.intern(keys, values.len(), |_| ())?;
        self.slots.restore_values(call, &slots, values)
    }
}
