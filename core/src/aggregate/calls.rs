//! Calls of aggregate functions: which function, of which arguments, with FILTER and DISTINCT; and what some rows give them.

use super::accumulators::takes_arrival;
use super::slots::{Slots, is_worth_dividing};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_expr::ColumnarValue;
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

/// The arguments of calls for rows, which are numbered from `sequence` by arrival.
pub(super) fn inputs(calls: &[CallSpec], rows: &RecordBatch, sequence: i64) -> Result<Vec<CallInput>> {
    if is_worth_dividing(rows.num_rows(), calls.len()) {
        return calls.par_iter().map(|call| call.input(rows, sequence)).collect();
    }
    inputs_in_turn(calls, rows, sequence)
}

/// The same, one call after the other: where others do the like side by side.
pub(super) fn inputs_in_turn(calls: &[CallSpec], rows: &RecordBatch, sequence: i64) -> Result<Vec<CallInput>> {
    calls.iter().map(|call| call.input(rows, sequence)).collect()
}

/// What a call is given by some rows.
#[derive(Clone)]
pub(super) struct CallInput {
    pub(super) arguments: Vec<ArrayRef>,
    /// The rows that count; all without it.
    pub(super) mask: Option<BooleanArray>,
}

impl CallInput {
    /// The same for rows that follow each other.
    pub(super) fn slice(&self, start: usize, length: usize) -> Self {
        let arguments = self.arguments.iter().map(|argument| argument.slice(start, length)).collect();
        Self { arguments, mask: self.mask.as_ref().map(|mask| mask.slice(start, length)) }
    }

    /// The same for some of the rows.
    pub(super) fn take(&self, rows: &UInt32Array) -> Result<Self> {
        let taking = || "dividing rows among windows".to_owned();
        let arguments = self.arguments.iter().map(|argument| take(argument, rows, None)).collect::<Result<_, _>>();
        let mask = self.mask.as_ref().map(|mask| take(mask, rows, None)).transpose().or_error(ErrorKind::Internal, taking)?;
        Ok(Self { arguments: arguments.or_error(ErrorKind::Internal, taking)?, mask: mask.map(|mask| mask.as_boolean().clone()) })
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
    if matches!(&value, ColumnarValue::Scalar(scalar) if !scalar.is_null()) {
        return Ok(None);
    }
    let array = value.into_array(rows.num_rows()).or_error(ErrorKind::Internal, || "a constant".into())?;
    Ok((array.logical_null_count() > 0).then_some(array))
}
