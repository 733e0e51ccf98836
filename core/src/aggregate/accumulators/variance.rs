//! stddev and var, of a sample or of all.

use super::Accumulator;
use super::columns::{column, each, typed};
use crate::error::Result;
use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{Float64Type, Int64Type};
use std::sync::Arc;

/// Variances and standard deviations, of a sample or of all, by Welford's method.
pub(super) struct Variance {
    sample: bool,
    root: bool,
    moments: Vec<Moments>,
}

#[derive(Clone, Copy, Default)]
struct Moments {
    count: i64,
    mean: f64,
    /// The sum of the squared distances from the mean.
    squares: f64,
}

impl Variance {
    pub(super) fn new(sample: bool, root: bool) -> Self {
        Self { sample, root, moments: Vec::new() }
    }

    fn result(&self, moments: Moments) -> Option<f64> {
        let divisor = moments.count - i64::from(self.sample);
        let variance = (divisor > 0).then(|| moments.squares / divisor as f64)?;
        Some(if self.root { variance.sqrt() } else { variance })
    }
}

impl Moments {
    fn and(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        let squares = self.squares + other.squares + distance * distance * self.count as f64 * share;
        Self { count, mean: self.mean + distance * share, squares }
    }
}

impl Accumulator for Variance {
    fn resize(&mut self, slots: usize) {
        self.moments.resize(slots, Moments::default());
    }

    fn clear(&mut self, slot: u32) {
        self.moments[slot as usize] = Moments::default();
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        each(slots, typed::<Float64Type>(column(arguments, 0)?)?, |slot, value| {
            let moments = &mut self.moments[slot];
            moments.count += 1;
            let distance = value - moments.mean;
            moments.mean += distance / moments.count as f64;
            moments.squares += distance * (value - moments.mean);
            Ok(())
        })
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let counts = typed::<Int64Type>(column(state, 0)?)?;
        let (means, squares) = (typed::<Float64Type>(column(state, 1)?)?, typed::<Float64Type>(column(state, 2)?)?);
        for (row, &slot) in slots.iter().enumerate() {
            let theirs = Moments { count: counts.value(row), mean: means.value(row), squares: squares.value(row) };
            let moments = &mut self.moments[slot as usize];
            *moments = moments.and(theirs);
        }
        Ok(())
    }

    fn parts(&self, slots: &[u32]) -> Result<Option<Vec<ArrayRef>>> {
        let own = || slots.iter().map(|&slot| self.moments[slot as usize]);
        let counts: Int64Array = own().map(|moments| Some(moments.count)).collect();
        let means: Float64Array = own().map(|moments| Some(moments.mean)).collect();
        let squares: Float64Array = own().map(|moments| Some(moments.squares)).collect();
        Ok(Some(vec![Arc::new(counts), Arc::new(means), Arc::new(squares)]))
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(slots.iter().map(|&slot| self.result(self.moments[slot as usize])).collect::<Float64Array>()))
    }
}
