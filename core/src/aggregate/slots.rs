//! The state of all calls of an operator: a slot per group, under which each call keeps what it is to compute.
//!
//! [DISTINCT](super::distinct) is a set of values per slot in front of the function, which sees each value once.

use super::accumulators::{Accumulator, accumulator};
use super::calls::{CallInput, CallSpec};
use super::distinct::DistinctSets;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter;
use rayon::prelude::*;
use std::sync::Arc;

/// Whether calls are worked on side by side for so many rows: where few groups, or one, take all rows, nothing else could be.
pub(super) fn is_worth_dividing(rows: usize, calls: usize) -> bool {
    calls > 1 && rows * calls >= 1 << 15
}

/// One call's state for all slots.
struct Call {
    accumulator: Box<dyn Accumulator>,
    distinct: Option<DistinctSets>,
}

impl Call {
    fn update(&mut self, slots: &[u32], input: &CallInput) -> Result<()> {
        match &input.mask {
            None => self.update_all(slots, &input.arguments),
            Some(mask) => {
                let (slots, arguments) = filtered(slots, &input.arguments, mask)?;
                self.update_all(&slots, &arguments)
            }
        }
    }

    fn update_all(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        match &mut self.distinct {
            None => self.accumulator.update(slots, arguments),
            Some(sets) => {
                let value = arguments.first().ok_or_else(|| Error::internal("DISTINCT of nothing"))?;
                let new = sets.insert(slots, value)?;
                let (slots, arguments) = filtered(slots, arguments, &new)?;
                self.accumulator.update(&slots, &arguments)
            }
        }
    }

    /// Takes values of sets of this call.
    fn update_values(&mut self, slots: &[u32], values: &ArrayRef) -> Result<()> {
        match &self.distinct {
            Some(sets) => {
                let arguments = sets.arguments(values)?;
                self.update_all(slots, &arguments)
            }
            None => Err(Error::internal("values for an aggregate without DISTINCT")),
        }
    }
}

fn filtered(slots: &[u32], arguments: &[ArrayRef], mask: &BooleanArray) -> Result<(Vec<u32>, Vec<ArrayRef>)> {
    let kept = mask.values().set_indices().map(|row| slots[row]).collect();
    let arguments = arguments.iter().map(|argument| filter(argument, mask)).collect::<Result<_, _>>();
    Ok((kept, arguments.or_error(ErrorKind::Internal, || "filtering the rows of an aggregate".into())?))
}

/// The state of all calls, for all slots.
pub(super) struct Slots {
    calls: Vec<Call>,
    used: usize,
    /// How many slots the calls have room for.
    room: usize,
    /// The most that ever was. Memory is kept for so many.
    most_room: usize,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(specs: &[CallSpec]) -> Result<Self> {
        let call = |spec: &CallSpec| {
            let distinct = spec.distinct.then(|| DistinctSets::new(&spec.function, &spec.schema)).transpose()?;
            Ok(Call { accumulator: accumulator(&spec.function, &spec.schema)?, distinct })
        };
        Ok(Self { calls: specs.iter().map(call).collect::<Result<_>>()?, used: 0, room: 0, most_room: 0, free: Vec::new() })
    }

    /// Whether states of these calls can be merged into what their rows would have given.
    pub(super) fn are_exact(&self) -> bool {
        self.calls.iter().all(|call| call.distinct.is_none() && call.accumulator.is_exact())
    }

    /// An empty slot.
    pub(super) fn allocate(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = self.used as u32;
        self.used += 1;
        if self.used > self.room {
            // Not much more than there are: what is filled with empty states takes memory.
            self.resize(self.used + self.used / 8 + 7);
        }
        slot
    }

    /// Makes room for so many more slots.
    pub(super) fn reserve(&mut self, slots: usize) {
        if self.used + slots > self.room {
            self.resize(self.used + slots);
        }
    }

    /// For how many slots memory is kept.
    pub(super) fn most_room(&self) -> usize {
        self.most_room
    }

    /// How many slots were used at once.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Forgets all slots, and keeps the room that they took. For calls that [are exact](Self::are_exact): those hold nothing but their slots.
    pub(super) fn clear(&mut self) {
        self.resize(0);
        self.used = 0;
        self.free.clear();
    }

    fn resize(&mut self, room: usize) {
        self.room = room;
        self.most_room = self.most_room.max(room);
        for call in &mut self.calls {
            call.accumulator.resize(room);
            if let Some(distinct) = &mut call.distinct {
                distinct.resize(room);
            }
        }
    }

    /// Gives a slot back.
    pub(super) fn release(&mut self, slot: u32) {
        for call in &mut self.calls {
            call.accumulator.clear(slot);
            if let Some(distinct) = &mut call.distinct {
                distinct.clear(slot);
            }
        }
        self.free.push(slot);
    }

    pub(super) fn update(&mut self, slots: &[u32], inputs: &[CallInput]) -> Result<()> {
        if is_worth_dividing(slots.len(), self.calls.len()) {
            return self.calls.par_iter_mut().zip(inputs).try_for_each(|(call, input)| call.update(slots, input));
        }
        self.update_in_turn(slots, inputs)
    }

    /// The same, one call after the other: where others do the like side by side.
    pub(super) fn update_in_turn(&mut self, slots: &[u32], inputs: &[CallInput]) -> Result<()> {
        self.calls.iter_mut().zip(inputs).try_for_each(|(call, input)| call.update(slots, input))
    }

    /// The results of each call.
    pub(super) fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.calls.iter().map(|call| call.accumulator.evaluate(slots)).collect()
    }

    /// Adds slots of other calls of the same kind to slots of these.
    pub(super) fn absorb(&mut self, slots: &[u32], other: &Self, of_other: &[u32]) -> Result<()> {
        for (call, theirs) in self.calls.iter_mut().zip(&other.calls) {
            match &theirs.distinct {
                None => call.accumulator.merge(slots, &theirs.accumulator.state(of_other)?)?,
                Some(sets) => {
                    let (lengths, values) = sets.sorted(of_other)?;
                    let to = slots.iter().zip(lengths).flat_map(|(&slot, length)| std::iter::repeat_n(slot, length));
                    call.update_values(&to.collect::<Vec<_>>(), &values)?;
                }
            }
        }
        Ok(())
    }

    /// Moves one slot into another of the same calls, and gives it back.
    pub(super) fn merge_slot(&mut self, into: u32, from: u32) -> Result<()> {
        for call in &mut self.calls {
            match &call.distinct {
                None => {
                    let state = call.accumulator.state(&[from])?;
                    call.accumulator.merge(&[into], &state)?;
                }
                Some(sets) => {
                    let (_, values) = sets.sorted(&[from])?;
                    call.update_values(&vec![into; values.len()], &values)?;
                }
            }
        }
        self.release(from);
        Ok(())
    }

    /// The state of the calls without DISTINCT, in columns. `results` are the results of these slots, if they are known: most states are
    /// nothing else.
    pub(super) fn state(&self, slots: &[u32], results: Option<&[ArrayRef]>) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for (index, call) in self.calls.iter().enumerate().filter(|(_, call)| call.distinct.is_none()) {
            match (call.accumulator.parts(slots)?, results) {
                (Some(parts), _) => columns.extend(parts),
                (None, Some(results)) => columns.push(Arc::clone(&results[index])),
                (None, None) => columns.push(call.accumulator.evaluate(slots)?),
            }
        }
        Ok(columns)
    }

    /// Takes back what [`state`](Self::state) gave.
    pub(super) fn restore(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let mut rest = columns;
        for call in self.calls.iter_mut().filter(|call| call.distinct.is_none()) {
            let width = call.accumulator.state(&[])?.len();
            if width > rest.len() {
                return Err(Error::corrupt("a table of state lacks columns of an aggregate"));
            }
            let (own, others) = rest.split_at(width);
            call.accumulator.merge(slots, own)?;
            rest = others;
        }
        Ok(())
    }

    /// For each call with DISTINCT, its index, and the values that were added since the last time, with the slot of each;
    /// slots that are gone are left out.
    pub(super) fn take_added(&mut self, is_live: impl Fn(u32) -> bool) -> Result<Vec<(usize, Vec<u32>, ArrayRef)>> {
        let mut all = Vec::new();
        for (index, call) in self.calls.iter_mut().enumerate() {
            if let Some(sets) = &mut call.distinct {
                let (slots, values) = sets.take_added(&is_live)?;
                all.push((index, slots, values));
            }
        }
        Ok(all)
    }

    /// Takes back what [`take_added`](Self::take_added) gave.
    pub(super) fn restore_values(&mut self, index: usize, slots: &[u32], values: ArrayRef) -> Result<()> {
        let call = self.calls.get_mut(index).filter(|call| call.distinct.is_some());
        let call = call.ok_or_else(|| Error::corrupt("a table of state belongs to no DISTINCT aggregate"))?;
        call.update_values(slots, &values)?;
        if let Some(sets) = &mut call.distinct {
            sets.forget_added();
        }
        Ok(())
    }

    /// The state of all calls, in columns; that of a call with DISTINCT is a list of its values.
    pub(super) fn whole_state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for call in &self.calls {
            match &call.distinct {
                None => columns.extend(call.accumulator.state(slots)?),
                Some(sets) => columns.push(sets.lists(slots)?),
            }
        }
        Ok(columns)
    }

    /// Takes back what [`whole_state`](Self::whole_state) gave.
    pub(super) fn restore_whole(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let lacks = || Error::corrupt("a table of state lacks columns of an aggregate");
        let mut rest = columns;
        for call in &mut self.calls {
            let width = if call.distinct.is_some() { 1 } else { call.accumulator.state(&[])?.len() };
            let (own, others) = rest.split_at_checked(width).ok_or_else(lacks)?;
            rest = others;
            if call.distinct.is_none() {
                call.accumulator.merge(slots, own)?;
                continue;
            }
            let lists = own[0].as_list_opt::<i32>().ok_or_else(lacks)?;
            for (row, &slot) in slots.iter().enumerate() {
                let values = lists.value(row);
                call.update_values(&vec![slot; values.len()], &values)?;
            }
        }
        self.forget_added();
        Ok(())
    }

    /// What was added to sets is checkpointed.
    pub(super) fn forget_added(&mut self) {
        self.calls.iter_mut().filter_map(|call| call.distinct.as_mut()).for_each(DistinctSets::forget_added);
    }

    /// The greatest number of a row, by arrival, that the state holds.
    pub(super) fn latest_arrival(&self) -> i64 {
        self.calls.iter().map(|call| call.accumulator.latest_arrival()).max().unwrap_or(0)
    }
}
