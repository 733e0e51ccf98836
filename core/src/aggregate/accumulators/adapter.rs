//! Every other aggregate function of DataFusion: the rows of a group are aggregated by themselves, and merged into the group's stored
//! state. Its accumulators give their state away when asked for it, so none is kept.

use super::Accumulator;
use crate::aggregate::calls::is_arrival;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, UInt32Array};
use arrow::compute::{SortColumn, lexsort_to_indices, take};
use arrow::datatypes::{Field, FieldRef, Int64Type};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct Adapter {
    function: Arc<AggregateFunctionExpr>,
    /// The state of each slot; none before its first row.
    states: Vec<Option<Vec<ScalarValue>>>,
    latest_arrival: i64,
}

/// Where functions that collect rows by an order keep what the rows are ordered by: a list of structs, in their state.
const ORDERINGS: usize = 1;

impl Adapter {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>) -> Self {
        Self { function, states: Vec::new(), latest_arrival: 0 }
    }

    fn failed(&self) -> String {
        format!("computing {}", self.function.name())
    }

    fn fresh(&self) -> Result<Box<dyn datafusion_expr::Accumulator>> {
        self.function.create_accumulator().or_error(ErrorKind::Config, || self.failed())
    }

    /// The state of rows of one group, in the order that the call states.
    fn partial(&self, arguments: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ScalarValue>> {
        let take = |column: &ArrayRef| take(column, rows, None);
        let mut columns: Vec<ArrayRef> =
            arguments.iter().map(take).collect::<Result<_, _>>().or_error(ErrorKind::Internal, || self.failed())?;
        let orders = self.function.order_bys();
        if !orders.is_empty() {
            let keys = columns[columns.len() - orders.len()..].iter().zip(orders);
            let mut keys: Vec<SortColumn> =
                keys.map(|(values, order)| SortColumn { values: Arc::clone(values), options: Some(order.options) }).collect();
            // Of equal rows, the first to arrive is first.
            keys.push(SortColumn { values: Arc::new(rows.clone()), options: None });
            let sorted = lexsort_to_indices(&keys, None).or_error(ErrorKind::Internal, || self.failed())?;
            columns = columns
                .iter()
                .map(|column| arrow::compute::take(column, &sorted, None))
                .collect::<Result<_, _>>()
                .or_error(ErrorKind::Internal, || self.failed())?;
        }
        let mut accumulator = self.fresh()?;
        accumulator.update_batch(&columns).and_then(|()| accumulator.state()).or_error(ErrorKind::BadData, || self.failed())
    }

    fn merge_into(&mut self, slot: u32, state: Vec<ScalarValue>) -> Result<()> {
        let merged = match self.states[slot as usize].take() {
            None => state,
            Some(before) => {
                let mut accumulator = self.merged(&before)?;
                self.merge_state(accumulator.as_mut(), &state)?;
                accumulator.state().or_error(ErrorKind::BadData, || self.failed())?
            }
        };
        self.states[slot as usize] = Some(merged);
        Ok(())
    }

    /// An accumulator with a state.
    fn merged(&self, state: &[ScalarValue]) -> Result<Box<dyn datafusion_expr::Accumulator>> {
        let mut accumulator = self.fresh()?;
        self.merge_state(accumulator.as_mut(), state)?;
        Ok(accumulator)
    }

    /// One state at a time: some of the library's accumulators (percentile_cont is one) merge the first row of a batch only.
    fn merge_state(&self, accumulator: &mut dyn datafusion_expr::Accumulator, state: &[ScalarValue]) -> Result<()> {
        let columns = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>();
        let columns = columns.or_error(ErrorKind::Internal, || self.failed())?;
        accumulator.merge_batch(&columns).or_error(ErrorKind::BadData, || self.failed())
    }

    /// Whether the state holds what rows are ordered by, the number of their arrival last.
    fn collects_by_arrival(&self) -> bool {
        self.function.order_bys().last().is_some_and(|order| is_arrival(&order.expr))
    }

    /// The state with other names for what rows are ordered by. The function names it by the expressions, and these by the places of
    /// columns, which may be others in the next process.
    fn with_orderings(&self, mut state: Vec<ArrayRef>, name: impl Fn(usize, &Field) -> String) -> Result<Vec<ArrayRef>> {
        if !self.collects_by_arrival() {
            return Ok(state);
        }
        let missing = || Error::corrupt(format!("the state of {} lacks the order of its rows", self.function.name()));
        let column = state.get_mut(ORDERINGS).ok_or_else(missing)?;
        let lists = column.as_list_opt::<i32>().ok_or_else(missing)?;
        let rows = lists.values().as_struct_opt().ok_or_else(missing)?;
        let renamed = |(index, field): (usize, &FieldRef)| field.as_ref().clone().with_name(name(index, field));
        let fields: Vec<Field> = rows.fields().iter().enumerate().map(renamed).collect();
        let rows = StructArray::try_new_with_length(fields.into(), rows.columns().to_vec(), rows.nulls().cloned(), rows.len())
            .or_error(ErrorKind::Internal, || self.failed())?;
        let field = Field::new_list_field(rows.data_type().clone(), true);
        let made = ListArray::try_new(Arc::new(field), lists.offsets().clone(), Arc::new(rows), lists.nulls().cloned());
        *column = Arc::new(made.or_error(ErrorKind::Internal, || self.failed())?);
        Ok(state)
    }

    /// A stored state, as the function names its parts. Notes the arrivals that it holds.
    fn taken(&mut self, state: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        if !self.collects_by_arrival() {
            return Ok(state.to_vec());
        }
        let names: Vec<String> = self.function.order_bys().iter().map(|order| order.expr.to_string()).collect();
        let state = self.with_orderings(state.to_vec(), |index, field| names.get(index).unwrap_or(field.name()).clone())?;
        let rows = state[ORDERINGS].as_list::<i32>().values().as_struct();
        let arrivals = rows.columns().last().and_then(|column| column.as_primitive_opt::<Int64Type>());
        self.latest_arrival = self.latest_arrival.max(arrivals.and_then(arrow::compute::max).unwrap_or(0));
        Ok(state)
    }

    fn state_of(&self, slot: u32) -> Result<Vec<ScalarValue>> {
        match &self.states[slot as usize] {
            Some(state) => Ok(state.clone()),
            None => self.fresh()?.state().or_error(ErrorKind::Internal, || self.failed()),
        }
    }
}

impl Accumulator for Adapter {
    fn resize(&mut self, slots: usize) {
        self.states.resize_with(slots, || None);
    }

    fn clear(&mut self, slot: u32) {
        self.states[slot as usize] = None;
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, &slot) in (0u32..).zip(slots) {
            rows.entry(slot).or_default().push(row);
        }
        for (slot, rows) in rows {
            let state = self.partial(arguments, &UInt32Array::from(rows))?;
            self.merge_into(slot, state)?;
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let state = self.taken(state)?;
        for (row, &slot) in slots.iter().enumerate() {
            let value = |column: &ArrayRef| ScalarValue::try_from_array(column, row);
            let theirs = state.iter().map(value).collect::<Result<Vec<_>, _>>().or_error(ErrorKind::Internal, || self.failed())?;
            self.merge_into(slot, theirs)?;
        }
        Ok(())
    }

    fn parts(&self, slots: &[u32]) -> Result<Option<Vec<ArrayRef>>> {
        let fields = self.function.state_fields().or_error(ErrorKind::Internal, || self.failed())?;
        let states = slots.iter().map(|&slot| self.state_of(slot)).collect::<Result<Vec<_>>>()?;
        let column = |index: usize| {
            if states.is_empty() {
                return Ok(arrow::array::new_empty_array(fields[index].data_type()));
            }
            ScalarValue::iter_to_array(states.iter().map(|state| state[index].clone())).or_error(ErrorKind::Internal, || self.failed())
        };
        let state = (0..fields.len()).map(column).collect::<Result<_>>()?;
        self.with_orderings(state, |index, _| format!("order_{index}")).map(Some)
    }

    fn latest_arrival(&self) -> i64 {
        self.latest_arrival
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut results = Vec::with_capacity(slots.len());
        for &slot in slots {
            let mut accumulator = match &self.states[slot as usize] {
                Some(state) => self.merged(state)?,
                None => self.fresh()?,
            };
            results.push(accumulator.evaluate().or_error(ErrorKind::BadData, || self.failed())?);
        }
        if results.is_empty() {
            return Ok(arrow::array::new_empty_array(self.function.field().data_type()));
        }
        ScalarValue::iter_to_array(results).map_err(|cause| Error::internal(self.failed()).caused_by(cause))
    }
}
