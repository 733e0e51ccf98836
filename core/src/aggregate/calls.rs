//! Calls of aggregate functions: arguments, FILTER, DISTINCT; and the slots of all calls of an operator.
//!
//! [DISTINCT](super::distinct) is a set of values per slot in front of the function, which sees each value once.

use super::accumulators::{Accumulator, accumulator, takes_arrival};
use super::distinct::DistinctSets;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, filter, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use rayon::prelude::*;
use std::sync::Arc;

/// A call of an aggregate function, over the columns of the operator's input.
#[derive(Debug, Clone)]
pub struct CallSpec {
    /// The function with its arguments and order; never DISTINCT.
    pub function: Arc<AggregateFunctionExpr>,
    /// The columns that the arguments are computed from.
    pub schema: SchemaRef,
    /// Whether each value of the argument counts once.
    pub distinct: bool,
    /// Which rows count.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The call in words, down to the columns of the tables.
    pub origin: String,
}

impl CallSpec {
    /// # Errors
    /// `Config` if the function can't be computed for these arguments.
    pub(crate) fn check(&self) -> Result<()> {
        let mut slots = Slots::new(std::slice::from_ref(self))?;
        let slot = slots.allocate();
        slots.evaluate(&[slot]).map(|_| ())
    }

    /// What its state means, in words.
    pub(super) fn meaning(&self) -> String {
        let data_type = |argument: &Arc<dyn PhysicalExpr>| argument.data_type(&self.schema).unwrap_or(DataType::Null).to_string();
        let arguments: Vec<String> = self.function.expressions().iter().map(data_type).collect();
        format!("{} of {}: {}", self.origin, arguments.join(", "), self.function.field().data_type())
    }
}

/// Whether calls are worked on side by side for so many rows: where few groups, or one, take all rows, nothing else could be.
fn is_worth_dividing(rows: usize, calls: usize) -> bool {
    calls > 1 && rows * calls >= 1 << 15
}

/// The arguments of calls for rows, which are numbered from `sequence` by arrival.
pub(super) fn inputs(calls: &[CallSpec], rows: &RecordBatch, sequence: i64) -> Result<Vec<CallInput>> {
    if is_worth_dividing(rows.num_rows(), calls.len()) {
        return calls.par_iter().map(|call| call.input(rows, sequence)).collect();
    }
    calls.iter().map(|call| call.input(rows, sequence)).collect()
}

/// What a call is given by some rows.
#[derive(Clone)]
pub(super) struct CallInput {
    arguments: Vec<ArrayRef>,
    mask: Option<BooleanArray>,
}

impl CallSpec {
    /// Whether its result is another one after every row: it counts all of them.
    pub(super) fn changes_with_every_row(&self) -> bool {
        let is_constant =
            |argument: &Arc<dyn PhysicalExpr>| argument.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null());
        self.function.fun().name() == "count"
            && !self.distinct
            && self.filter.is_none()
            && self.function.expressions().iter().all(is_constant)
    }

    fn input(&self, rows: &RecordBatch, sequence: i64) -> Result<CallInput> {
        let evaluate = |expression: &Arc<dyn PhysicalExpr>| {
            let value = expression.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
            value.or_error(ErrorKind::BadData, || format!("computing {expression} for {}", self.function.name()))
        };
        let mut arguments: Vec<ArrayRef> = Vec::new();
        let counts_rows = self.function.fun().name() == "count" && !self.distinct;
        for expression in self.function.expressions() {
            let is_literal = expression.is::<Literal>();
            let array = if counts_rows && is_literal { literal(&expression, rows)? } else { Some(evaluate(&expression)?) };
            arguments.extend(array);
        }
        let arrival = || Arc::new(Int64Array::from_iter_values(sequence..sequence + rows.num_rows() as i64)) as ArrayRef;
        for order in self.function.order_bys() {
            arguments.push(if is_arrival(&order.expr) { arrival() } else { evaluate(&order.expr)? });
        }
        if takes_arrival(&self.function) {
            arguments.push(arrival());
        }
        let mask = self.filter.as_ref().map(&evaluate).transpose()?;
        let mask = mask.map(|mask| {
            let mask = mask.as_boolean_opt().ok_or_else(|| Error::internal("a FILTER is not a boolean"))?;
            Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
        });
        Ok(CallInput { arguments, mask: mask.transpose()? })
    }
}

/// The name of the column behind all others that holds the number of each row by arrival.
const ARRIVAL: &str = "__arrival";

/// An order by arrival, the last of all, for rows that are equal by the others; and the columns with that of the numbers. Without it the
/// order of such rows would be that in which batches are merged.
pub(crate) fn by_arrival(columns: &SchemaRef) -> (SchemaRef, PhysicalSortExpr) {
    let mut fields: Vec<FieldRef> = columns.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ARRIVAL, DataType::Int64, false)));
    let expr = Arc::new(Column::new(ARRIVAL, columns.fields().len()));
    (Arc::new(Schema::new(fields)), PhysicalSortExpr { expr, options: SortOptions { descending: false, nulls_first: false } })
}

pub(super) fn is_arrival(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.downcast_ref::<Column>().is_some_and(|column| column.name() == ARRIVAL)
}

/// A constant that is counted: nothing to look at unless it is null.
fn literal(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<Option<ArrayRef>> {
    let value = expression.evaluate(rows).or_error(ErrorKind::Internal, || "a constant".into())?;
    let array = value.into_array(rows.num_rows()).or_error(ErrorKind::Internal, || "a constant".into())?;
    Ok((array.logical_null_count() > 0).then_some(array))
}

impl CallInput {
    /// The same for some of the rows.
    pub(super) fn take(&self, rows: &UInt32Array) -> Result<Self> {
        let taking = || "dividing rows among windows".to_owned();
        let arguments = self.arguments.iter().map(|argument| take(argument, rows, None)).collect::<Result<_, _>>();
        let mask = self.mask.as_ref().map(|mask| take(mask, rows, None)).transpose().or_error(ErrorKind::Internal, taking)?;
        Ok(Self { arguments: arguments.or_error(ErrorKind::Internal, taking)?, mask: mask.map(|mask| mask.as_boolean().clone()) })
    }
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
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(specs: &[CallSpec]) -> Result<Self> {
        let call = |spec: &CallSpec| {
            let distinct = spec.distinct.then(|| DistinctSets::new(&spec.function, &spec.schema)).transpose()?;
            Ok(Call { accumulator: accumulator(&spec.function, &spec.schema)?, distinct })
        };
        Ok(Self { calls: specs.iter().map(call).collect::<Result<_>>()?, used: 0, free: Vec::new() })
    }

    /// An empty slot.
    pub(super) fn allocate(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = self.used as u32;
        self.used += 1;
        let room = self.used.next_power_of_two();
        if self.used == 1 || self.used.is_power_of_two() || room / 2 + 1 == self.used {
            self.resize(room);
        }
        slot
    }

    fn resize(&mut self, room: usize) {
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

    /// The state of the calls without DISTINCT, in columns.
    pub(super) fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for call in self.calls.iter().filter(|call| call.distinct.is_none()) {
            columns.extend(call.accumulator.state(slots)?);
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
