//! avg of doubles.

use super::Accumulator;
use super::columns::{column, each, typed};
use crate::error::Result;
use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{Float64Type, Int64Type};
use std::sync::Arc;

/// Averages of doubles; null without a value.
#[derive(Default)]
pub(super) struct Average {
    sums: Vec<(f64, i64)>,
}

impl Accumulator for Average {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, (0.0, 0));
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = (0.0, 0);
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        each(slots, typed::<Float64Type>(column(arguments, 0)?)?, |slot, value| {
            let (sum, count) = &mut self.sums[slot];
            *sum += value;
            *count += 1;
            Ok(())
        })
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let counts = typed::<Int64Type>(column(state, 1)?)?;
        let sums = typed::<Float64Type>(column(state, 0)?)?;
        for (row, &slot) in slots.iter().enumerate() {
            let (sum, count) = &mut self.sums[slot as usize];
            *sum += sums.value(row);
            *count += counts.value(row);
        }
        Ok(())
    }

    fn parts(&self, slots: &[u32]) -> Result<Option<Vec<ArrayRef>>> {
        let own = || slots.iter().map(|&slot| self.sums[slot as usize]);
        let sums: Float64Array = own().map(|(sum, _)| Some(sum)).collect();
        let counts: Int64Array = own().map(|(_, count)| Some(count)).collect();
        Ok(Some(vec![Arc::new(sums), Arc::new(counts)]))
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let own = slots.iter().map(|&slot| self.sums[slot as usize]);
        Ok(Arc::new(own.map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect::<Float64Array>()))
    }
}
