//! Keys of one or two numbers, which most keys are: compared and hashed as they are, without being encoded as bytes.

use crate::error::{ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One or two numbers, any of them null. Ordered by value within the null keys and within the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NumberKey<const N: usize> {
    /// A bit per number that is null; its value is zero.
    pub(crate) nulls: u8,
    pub(crate) values: [i64; N],
}

impl<const N: usize> NumberKey<N> {
    /// The same in every process and version.
    #[inline]
    pub(crate) fn stable_hash(self) -> u64 {
        let mut bytes = [0; 16];
        for (bytes, value) in bytes.chunks_exact_mut(8).zip(self.values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        xxh3_64_with_seed(&bytes, u64::from(self.nulls))
    }
}

/// Whether keys of these types are number keys: whole numbers and times, of which 64 bits hold every value.
pub(crate) fn are_numbers<'a>(mut types: impl ExactSizeIterator<Item = &'a DataType>) -> bool {
    use DataType::{Date32, Date64, Duration, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32};
    let is_number = |data_type: &DataType| {
        matches!(data_type, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Date32 | Date64 | Timestamp(..) | Duration(_))
    };
    (1..=2).contains(&types.len()) && types.all(is_number)
}

/// The key of each row. There must be N columns, of [the types of number keys](are_numbers).
pub(crate) fn number_keys<const N: usize>(columns: &[ArrayRef]) -> Result<Vec<NumberKey<N>>> {
    let mut keys = vec![NumberKey { nulls: 0, values: [0; N] }; columns.first().map_or(0, |column| column.len())];
    for (index, column) in columns.iter().enumerate() {
        let numbers = convert(column, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        for (key, value) in keys.iter_mut().zip(numbers.values()) {
            key.values[index] = *value;
        }
        for row in numbers.nulls().into_iter().flat_map(|nulls| (!nulls.inner()).set_indices().collect::<Vec<_>>()) {
            keys[row].values[index] = 0;
            keys[row].nulls |= 1 << index;
        }
    }
    Ok(keys)
}

/// Columns that keys are made of, in which each row's key can be looked up.
pub(crate) struct NumberKeys<const N: usize>([Int64Array; N]);

impl<const N: usize> NumberKeys<N> {
    /// Of the first N columns, which are of [the types of number keys](are_numbers).
    pub(crate) fn of(columns: &[ArrayRef]) -> Result<Self> {
        let mut numbers = [(); N].map(|()| Int64Array::new_null(0));
        for (numbers, column) in numbers.iter_mut().zip(columns) {
            *numbers = convert(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        }
        Ok(Self(numbers))
    }

    /// The key of a row.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> NumberKey<N> {
        let mut key = NumberKey { nulls: 0, values: [0; N] };
        for (index, numbers) in self.0.iter().enumerate() {
            if numbers.is_null(row) {
                key.nulls |= 1 << index;
            } else {
                key.values[index] = numbers.value(row);
            }
        }
        key
    }
}

/// The columns of these types that keys were made of.
pub(crate) fn number_columns<const N: usize>(keys: &[NumberKey<N>], types: &[DataType]) -> Result<Vec<ArrayRef>> {
    let column = |(index, data_type): (usize, &DataType)| {
        let value = |key: &NumberKey<N>| (key.nulls & 1 << index == 0).then_some(key.values[index]);
        let numbers: ArrayRef = match keys.iter().all(|key| key.nulls == 0) {
            true => Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| key.values[index]))),
            false => Arc::new(keys.iter().map(value).collect::<Int64Array>()),
        };
        convert(&numbers, data_type)
    };
    types.iter().enumerate().map(column).collect()
}

fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    // Between 32-bit dates and 64-bit numbers there is no direct way.
    let column = match (column.data_type(), to) {
        (DataType::Date32, _) | (_, DataType::Date32) => &cast(column, &DataType::Int32).or_error(ErrorKind::Internal, converting)?,
        _ => column,
    };
    cast(column, to).or_error(ErrorKind::Internal, converting)
}

fn converting() -> String {
    "a key of numbers".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use proptest::prelude::*;

    const TYPES: [DataType; 13] = [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::Date32,
        DataType::Date64,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Duration(TimeUnit::Second),
        DataType::Duration(TimeUnit::Microsecond),
    ];

    /// A column of this type, with null where the number does not fit.
    fn column(values: &[Option<i64>], data_type: &DataType) -> ArrayRef {
        convert(&(Arc::new(Int64Array::from(values.to_vec())) as ArrayRef), data_type).unwrap()
    }

    proptest! {
        #[test]
        fn columns_and_keys_are_the_same(
            rows in prop::collection::vec((any::<Option<i64>>(), prop::option::of(-3i64..3)), 0..50),
            first in prop::sample::select(&TYPES[..]), second in prop::sample::select(&TYPES[..]),
        ) {
            let (a, b): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let types = [first, second];
            prop_assert!(are_numbers(types.iter()));
            let columns = vec![column(&a, &types[0]), column(&b, &types[1])];
            let keys = number_keys::<2>(&columns).unwrap();
            let back = number_columns(&keys, &types).unwrap();
            prop_assert_eq!(&back, &columns);
            for (i, key) in keys.iter().enumerate() {
                for (j, other) in keys.iter().enumerate() {
                    let same = columns.iter().all(|column| column.slice(i, 1) == column.slice(j, 1));
                    prop_assert_eq!(key == other, same);
                    prop_assert_eq!(key.stable_hash() == other.stable_hash(), same);
                }
            }
        }
    }

    #[test]
    fn other_types_are_not_numbers() {
        for data_type in [DataType::UInt64, DataType::Float64, DataType::Utf8, DataType::Boolean, DataType::Decimal128(5, 0)] {
            assert!(!are_numbers([data_type].iter()));
        }
        assert!(!are_numbers([].iter()) && !are_numbers([DataType::Int64, DataType::Int64, DataType::Int64].iter()));
    }
}
