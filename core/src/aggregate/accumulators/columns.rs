//! The columns that accumulators are given and give.

use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use std::sync::Arc;

/// A column of this type.
pub(super) fn typed<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    array.as_primitive_opt::<T>().ok_or_else(|| Error::internal(format!("an aggregate was given {}", array.data_type())))
}

/// An argument, or a part of a state.
pub(super) fn column(arrays: &[ArrayRef], index: usize) -> Result<&ArrayRef> {
    arrays.get(index).ok_or_else(|| Error::internal("an aggregate was given too few columns"))
}

/// Calls for each value that is not null.
pub(super) fn each<T: ArrowPrimitiveType>(
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

/// The values of slots that have seen one, and null for the others.
pub(super) fn gathered<T: ArrowPrimitiveType>(slots: &[u32], values: &[T::Native], seen: &[bool], data_type: &DataType) -> ArrayRef {
    let has = |slot: &u32| seen[*slot as usize];
    let mut all = true;
    let value = |slot: &u32| {
        all &= has(slot);
        if has(slot) { values[*slot as usize] } else { T::default_value() }
    };
    let values: Vec<T::Native> = slots.iter().map(value).collect();
    let nulls = (!all).then(|| NullBuffer::from_iter(slots.iter().map(has)));
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type.clone()))
}

/// The flags of slots, as a column of a state.
pub(super) fn flags(flags: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(flags.collect::<Vec<_>>()))
}
