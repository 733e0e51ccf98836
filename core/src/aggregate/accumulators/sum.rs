//! sum of integers, decimals, doubles and durations.

use super::Accumulator;
use super::columns::{column, each, gathered, typed};
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp};
use arrow::datatypes::{ArrowPrimitiveType, DataType, DecimalType};

/// Whether a type has room for a value.
type Fits<T> = Box<dyn Fn(<T as ArrowPrimitiveType>::Native) -> bool + Send>;

/// Sums; null without a value. A sum that overflows is an error.
pub(super) struct Sum<T: ArrowPrimitiveType> {
    data_type: DataType,
    /// For types that hold less than their bytes do.
    fits: Option<Fits<T>>,
    sums: Vec<T::Native>,
    /// Whether there is a value in the sum.
    seen: Vec<bool>,
}

impl<T: DecimalType> Sum<T> {
    pub(super) fn of_decimals(data_type: &DataType, precision: u8) -> Self {
        let fits = move |sum| T::is_valid_decimal_precision(sum, precision);
        Self { fits: Some(Box::new(fits)), ..Self::new(data_type) }
    }
}

impl<T: ArrowPrimitiveType> Sum<T> {
    pub(super) fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), fits: None, sums: Vec::new(), seen: Vec::new() }
    }

    #[cold]
    fn too_small(data_type: &DataType) -> Error {
        let wider = match data_type {
            DataType::Decimal256(..) => "CAST what is summed to DOUBLE",
            DataType::Duration(_) => "sum a number instead, such as date_part('epoch', ...)",
            _ => "CAST what is summed to a wider type, such as DECIMAL(38, 0) or DOUBLE",
        };
        Error::bad_data(format!("a sum does not fit into {data_type}; {wider}"))
    }

    fn add(&mut self, slots: &[u32], values: &ArrayRef) -> Result<()> {
        let data_type = &self.data_type;
        each(slots, typed::<T>(values)?, |slot, value| {
            let sum = match self.seen[slot].then(|| self.sums[slot].add_checked(value)) {
                None => value,
                Some(Ok(sum)) => sum,
                Some(Err(cause)) => return Err(Self::too_small(data_type).caused_by(cause)),
            };
            if self.fits.as_ref().is_some_and(|fits| !fits(sum)) {
                return Err(Self::too_small(data_type));
            }
            self.sums[slot] = sum;
            self.seen[slot] = true;
            Ok(())
        })
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Sum<T> {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, T::default_value());
        self.seen.resize(slots, false);
    }

    fn clear(&mut self, slot: u32) {
        self.seen[slot as usize] = false;
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        let values = column(arguments, 0)?;
        if values.data_type().is_null() { Ok(()) } else { self.add(slots, values) }
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        self.add(slots, column(state, 0)?)
    }

    /// Doubles are rounded with each addition.
    fn is_exact(&self) -> bool {
        !self.data_type.is_floating()
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(gathered::<T>(slots, &self.sums, &self.seen, &self.data_type))
    }
}
