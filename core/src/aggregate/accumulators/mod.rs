//! Aggregate functions in columns: the state of many groups side by side, one slot per group.
//!
//! All are deterministic in the order of their rows, and can be merged: two states of one group, as arrays, give that of all its rows.
//! Nothing here takes rows back.

mod adapter;
mod arg_min;
mod average;
mod columns;
mod count;
mod min_max;
mod sum;
mod variance;

use crate::error::Result;
use crate::pipeline::config_error;
use adapter::Adapter;
use arg_min::ArgMin;
use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use average::Average;
use count::Count;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use min_max::MinMax;
use std::sync::Arc;
use sum::Sum;
use variance::Variance;

/// The state of one aggregate function for all groups of a table.
pub(super) trait Accumulator: Send {
    /// Makes room for so many slots. New ones are empty.
    fn resize(&mut self, slots: usize);

    /// Empties a slot.
    fn clear(&mut self, slot: u32);

    /// Takes rows: for each its slot, and its arguments.
    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()>;

    /// Takes states of the same function: for each its slot. A slot may occur several times only if the function [is
    /// exact](Self::is_exact).
    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()>;

    /// Whether merging states gives what the rows give, bit for bit, however they are divided and whenever they came.
    fn is_exact(&self) -> bool {
        false
    }

    /// The states of slots where they are more than their results; none if the state is the result.
    fn parts(&self, _slots: &[u32]) -> Result<Option<Vec<ArrayRef>>> {
        Ok(None)
    }

    /// The states of slots.
    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match self.parts(slots)? {
            Some(parts) => Ok(parts),
            None => Ok(vec![self.evaluate(slots)?]),
        }
    }

    /// The greatest number of a row, by arrival, that any state holds.
    fn latest_arrival(&self) -> i64 {
        0
    }

    /// The results of slots.
    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef>;
}

/// Whether the function goes by the order in which rows arrive, and needs their number as its last argument.
pub(super) fn takes_arrival(function: &AggregateFunctionExpr) -> bool {
    matches!(function.fun().name(), "first_value" | "last_value")
}

/// An accumulator without slots, for a function over columns of this schema.
pub(super) fn accumulator(function: &Arc<AggregateFunctionExpr>, schema: &Schema) -> Result<Box<dyn Accumulator>> {
    let output = function.field().data_type().clone();
    let input = function.expressions().first().map(|argument| argument.data_type(schema)).transpose();
    let input = input.ok().flatten().unwrap_or(DataType::Null);
    let own: Option<Box<dyn Accumulator>> = match function.fun().name() {
        "count" => Some(Box::new(Count::default())),
        "sum" if input.is_null() || sum_type(&input, &output) => sum(&output),
        "avg" if output == DataType::Float64 && input == DataType::Float64 => Some(Box::new(Average::default())),
        name @ ("stddev" | "stddev_pop" | "var" | "var_pop") if input == DataType::Float64 => {
            Some(Box::new(Variance::new(!name.ends_with("_pop"), name.starts_with("stddev"))))
        }
        name @ ("min" | "max") if input == output => Some(match min_or_max(&output, name == "max") {
            Some(own) => own,
            None => Box::new(ArgMin::min_or_max(output, name == "max")?),
        }),
        name @ ("first_value" | "last_value") => Some(Box::new(first_or_last(function, schema, name == "last_value", output)?)),
        _ => None,
    };
    match own {
        Some(own) => Ok(own),
        None => Ok(Box::new(Adapter::new(Arc::clone(function)))),
    }
}

/// The sum's type has room for more digits than its argument's; the values are alike.
fn sum_type(input: &DataType, output: &DataType) -> bool {
    let is_wider = matches!((input, output), (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) if a == b)
        || matches!((input, output), (DataType::Decimal256(_, a), DataType::Decimal256(_, b)) if a == b);
    input == output || is_wider
}

fn sum(output: &DataType) -> Option<Box<dyn Accumulator>> {
    Some(match output {
        DataType::Int64 => Box::new(Sum::<Int64Type>::new(output)),
        DataType::UInt64 => Box::new(Sum::<UInt64Type>::new(output)),
        DataType::Float64 => Box::new(Sum::<Float64Type>::new(output)),
        DataType::Decimal128(precision, _) => Box::new(Sum::<Decimal128Type>::of_decimals(output, *precision)),
        DataType::Decimal256(precision, _) => Box::new(Sum::<Decimal256Type>::of_decimals(output, *precision)),
        DataType::Duration(TimeUnit::Second) => Box::new(Sum::<DurationSecondType>::new(output)),
        DataType::Duration(TimeUnit::Millisecond) => Box::new(Sum::<DurationMillisecondType>::new(output)),
        DataType::Duration(TimeUnit::Microsecond) => Box::new(Sum::<DurationMicrosecondType>::new(output)),
        DataType::Duration(TimeUnit::Nanosecond) => Box::new(Sum::<DurationNanosecondType>::new(output)),
        _ => return None,
    })
}

fn min_or_max(output: &DataType, max: bool) -> Option<Box<dyn Accumulator>> {
    macro_rules! of {
        ($($pattern:pat => $type:ty),* $(,)?) => {
            match output { $($pattern => Some(Box::new(MinMax::<$type>::new(output, max)) as Box<dyn Accumulator>),)* _ => None }
        };
    }
    of! {
        DataType::Int8 => Int8Type, DataType::Int16 => Int16Type, DataType::Int32 => Int32Type, DataType::Int64 => Int64Type,
        DataType::UInt8 => UInt8Type, DataType::UInt16 => UInt16Type, DataType::UInt32 => UInt32Type, DataType::UInt64 => UInt64Type,
        DataType::Float32 => Float32Type, DataType::Float64 => Float64Type, DataType::Decimal128(..) => Decimal128Type,
        DataType::Date32 => Date32Type, DataType::Date64 => Date64Type,
        DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType,
        DataType::Duration(TimeUnit::Microsecond) => DurationMicrosecondType,
    }
}

/// By the order that the call states, then by arrival.
fn first_or_last(function: &AggregateFunctionExpr, schema: &Schema, last: bool, value: DataType) -> Result<ArgMin> {
    let mut order = Vec::new();
    for sort in function.order_bys() {
        let data_type = sort.expr.data_type(schema).map_err(config_error)?;
        let options = SortOptions { descending: sort.options.descending != last, nulls_first: sort.options.nulls_first != last };
        order.push((data_type, options));
    }
    order.push((DataType::Int64, SortOptions { descending: last, nulls_first: false }));
    ArgMin::ordered(value, order, function.ignore_nulls())
}
