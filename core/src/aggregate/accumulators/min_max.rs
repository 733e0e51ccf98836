//! min and max of numbers and times.

use super::Accumulator;
use super::columns::{column, each, gathered, typed};
use crate::error::Result;
use arrow::array::{ArrayRef, ArrowNativeTypeOp};
use arrow::datatypes::{ArrowPrimitiveType, DataType};

/// The least or greatest value, in Arrow's total order of numbers; null without a value.
pub(super) struct MinMax<T: ArrowPrimitiveType> {
    data_type: DataType,
    max: bool,
    values: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> MinMax<T> {
    pub(super) fn new(data_type: &DataType, max: bool) -> Self {
        Self { data_type: data_type.clone(), max, values: Vec::new(), seen: Vec::new() }
    }

    fn take(&mut self, slots: &[u32], values: &ArrayRef) -> Result<()> {
        let max = self.max;
        each(slots, typed::<T>(values)?, |slot, value| {
            let current = self.values[slot];
            let is_nearer = if max { value.is_gt(current) } else { value.is_lt(current) };
            if is_nearer || !self.seen[slot] {
                self.values[slot] = value;
                self.seen[slot] = true;
            }
            Ok(())
        })
    }
}

impl<T: ArrowPrimitiveType> Accumulator for MinMax<T> {
    fn resize(&mut self, slots: usize) {
        self.values.resize(slots, T::default_value());
        self.seen.resize(slots, false);
    }

    fn clear(&mut self, slot: u32) {
        self.seen[slot as usize] = false;
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        self.take(slots, column(arguments, 0)?)
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.take(slots, column(state, 0)?)
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(gathered::<T>(slots, &self.values, &self.seen, &self.data_type))
    }
}
