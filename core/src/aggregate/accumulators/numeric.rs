//! Counts, sums, averages, variances, and the least and greatest of numbers and times.

use super::Accumulator;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, DecimalType, Float64Type, Int64Type};
use std::sync::Arc;

fn typed<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    array.as_primitive_opt::<T>().ok_or_else(|| Error::internal(format!("an aggregate was given {}", array.data_type())))
}

fn column(arrays: &[ArrayRef], index: usize) -> Result<&ArrayRef> {
    arrays.get(index).ok_or_else(|| Error::internal("an aggregate was given too few columns"))
}

/// Calls for each value that is not null.
fn each<T: ArrowPrimitiveType>(
    slots: &[u32],
    values: &PrimitiveArray<T>,
    mut visit: impl FnMut(usize, T::Native) -> Result<()>,
) -> Result<()> {
    if values.null_count() == 0 {
        return slots.iter().zip(values.values()).try_for_each(|(&slot, &value)| visit(slot as usize, value));
    }
    let valid = |(&slot, value): (&u32, Option<T::Native>)| value.map(|value| (slot as usize, value));
    slots.iter().zip(values).filter_map(valid).try_for_each(|(slot, value)| visit(slot, value))
}

/// Rows whose arguments are not null.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Count {
    fn taken(&self, slots: &[u32]) -> ArrayRef {
        Arc::new(slots.iter().map(|&slot| Some(self.counts[slot as usize])).collect::<Int64Array>())
    }
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

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.taken(slots)])
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(self.taken(slots))
    }
}

/// Whether a type has room for a value.
type Fits<T> = Box<dyn Fn(<T as ArrowPrimitiveType>::Native) -> bool + Send>;

/// Sums; null without a value. A sum that overflows is an error.
pub(super) struct Sum<T: ArrowPrimitiveType> {
    data_type: DataType,
    /// For types that hold less than their bytes do.
    fits: Option<Fits<T>>,
    sums: Vec<Option<T::Native>>,
}

impl<T: DecimalType> Sum<T> {
    pub(super) fn of_decimals(data_type: &DataType, precision: u8) -> Self {
        let fits = move |sum| T::is_valid_decimal_precision(sum, precision);
        Self { fits: Some(Box::new(fits)), ..Self::new(data_type) }
    }
}

impl<T: ArrowPrimitiveType> Sum<T> {
    pub(super) fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), fits: None, sums: Vec::new() }
    }

    fn too_small(data_type: &DataType) -> String {
        let wider = match data_type {
            DataType::Decimal256(..) => "CAST what is summed to DOUBLE",
            DataType::Duration(_) => "sum a number instead, such as date_part('epoch', ...)",
            _ => "CAST what is summed to a wider type, such as DECIMAL(38, 0) or DOUBLE",
        };
        format!("a sum does not fit into {data_type}; {wider}")
    }

    fn taken(&self, slots: &[u32]) -> ArrayRef {
        let sums: PrimitiveArray<T> = slots.iter().map(|&slot| self.sums[slot as usize]).collect();
        Arc::new(sums.with_data_type(self.data_type.clone()))
    }

    fn add(&mut self, slots: &[u32], values: &ArrayRef) -> Result<()> {
        let data_type = &self.data_type;
        each(slots, typed::<T>(values)?, |slot, value| {
            let sum = match self.sums[slot] {
                Some(sum) => sum.add_checked(value).or_error(ErrorKind::BadData, || Self::too_small(data_type))?,
                None => value,
            };
            if self.fits.as_ref().is_some_and(|fits| !fits(sum)) {
                return Err(Error::new(ErrorKind::BadData, Self::too_small(data_type)));
            }
            self.sums[slot] = Some(sum);
            Ok(())
        })
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Sum<T> {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, None);
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = None;
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        let values = column(arguments, 0)?;
        if values.data_type().is_null() { Ok(()) } else { self.add(slots, values) }
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.add(slots, column(state, 0)?)
    }

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.taken(slots)])
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(self.taken(slots))
    }
}

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

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let own = || slots.iter().map(|&slot| self.sums[slot as usize]);
        let sums: Float64Array = own().map(|(sum, _)| Some(sum)).collect();
        let counts: Int64Array = own().map(|(_, count)| Some(count)).collect();
        Ok(vec![Arc::new(sums), Arc::new(counts)])
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let own = slots.iter().map(|&slot| self.sums[slot as usize]);
        Ok(Arc::new(own.map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect::<Float64Array>()))
    }
}

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

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let own = || slots.iter().map(|&slot| self.moments[slot as usize]);
        let counts: Int64Array = own().map(|moments| Some(moments.count)).collect();
        let means: Float64Array = own().map(|moments| Some(moments.mean)).collect();
        let squares: Float64Array = own().map(|moments| Some(moments.squares)).collect();
        Ok(vec![Arc::new(counts), Arc::new(means), Arc::new(squares)])
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(slots.iter().map(|&slot| self.result(self.moments[slot as usize])).collect::<Float64Array>()))
    }
}

/// The least or greatest value, in Arrow's total order of numbers; null without a value.
pub(super) struct Extreme<T: ArrowPrimitiveType> {
    data_type: DataType,
    max: bool,
    values: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Extreme<T> {
    pub(super) fn new(data_type: &DataType, max: bool) -> Self {
        Self { data_type: data_type.clone(), max, values: Vec::new(), seen: Vec::new() }
    }

    fn taken(&self, slots: &[u32]) -> ArrayRef {
        let value = |&slot: &u32| self.seen[slot as usize].then(|| self.values[slot as usize]);
        Arc::new(slots.iter().map(value).collect::<PrimitiveArray<T>>().with_data_type(self.data_type.clone()))
    }

    fn take(&mut self, slots: &[u32], values: &ArrayRef) -> Result<()> {
        let max = self.max;
        each(slots, typed::<T>(values)?, |slot, value| {
            let current = self.values[slot];
            let better = if max { value.is_gt(current) } else { value.is_lt(current) };
            if better || !self.seen[slot] {
                self.values[slot] = value;
                self.seen[slot] = true;
            }
            Ok(())
        })
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Extreme<T> {
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

    fn state(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.taken(slots)])
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(self.taken(slots))
    }
}

/// The flags of slots, as a column of a state.
pub(super) fn flags(flags: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(flags.collect::<Vec<_>>()))
}
