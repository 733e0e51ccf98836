//! count.

use super::Accumulator;
use super::columns::{column, each, typed};
use crate::error::Result;
use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::Int64Type;
use std::sync::Arc;

/// Rows whose arguments are not null.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }

    fn clear(&mut self, slot: u32) {
        self.counts[slot as usize] = 0;
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        if arguments.iter().all(|argument| argument.logical_null_count() == 0) {
            slots.iter().for_each(|&slot| self.counts[slot as usize] += 1);
            return Ok(());
        }
        let nulls: Vec<_> = arguments.iter().filter_map(|argument| argument.logical_nulls()).collect();
        for (row, &slot) in slots.iter().enumerate() {
            self.counts[slot as usize] += i64::from(nulls.iter().all(|nulls| nulls.is_valid(row)));
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        each(slots, typed::<Int64Type>(column(state, 0)?)?, |slot, count| {
            self.counts[slot] += count;
            Ok(())
        })
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|&slot| self.counts[slot as usize]))))
    }
}
