//! Key groups: the fixed number of parts into which keys are hashed.

use super::{are_numbers, number_keys};
use crate::error::{ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// Into how many parts keys are hashed. Fixed for ever: a task owns a range of groups, whatever the number of tasks.
pub const KEY_GROUPS: u16 = 256;

/// A part of the keys: a number below [`KEY_GROUPS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// Of a key with this hash. Its upper half decides, for tables of keys go by the lower one, which within a task should differ.
    fn of(hash: u64) -> Self {
        Self(((hash >> 32) % u64::from(KEY_GROUPS)) as u16)
    }

    /// The task that owns it, of so many. Each owns a range of groups, all of nearly the same size.
    pub fn task(self, tasks: usize) -> usize {
        usize::from(self.0) * tasks / usize::from(KEY_GROUPS)
    }
}

/// The column with one value for all that are equal as keys: zero for negative zero, and one NaN for all. Keys are compared as bytes, and
/// bytes tell these apart.
///
/// # Errors
/// `Internal` if a nested column can't be put together again.
pub fn canonical_key(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Float16 => {
            let one = |value: Half| if value.is_nan() { Half::NAN } else { value + Half::ZERO };
            Arc::new(column.as_primitive::<Float16Type>().unary::<_, Float16Type>(one)) as ArrayRef
        }
        DataType::Float32 => {
            let one = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        DataType::Float64 => {
            let one = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Struct(fields) => {
            let rows = column.as_struct();
            let columns = rows.columns().iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
            let made = StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len());
            Arc::new(made.or_error(ErrorKind::Internal, rebuilding)?)
        }
        DataType::List(field) => Arc::new(canonical_lists(column.as_list::<i32>(), field)?),
        DataType::LargeList(field) => Arc::new(canonical_lists(column.as_list::<i64>(), field)?),
        DataType::FixedSizeList(field, size) => {
            let lists = column.as_fixed_size_list();
            let values = canonical_key(lists.values())?;
            let made = FixedSizeListArray::try_new_with_length(Arc::clone(field), *size, values, lists.nulls().cloned(), lists.len());
            Arc::new(made.or_error(ErrorKind::Internal, rebuilding)?)
        }
        DataType::Map(field, is_sorted) => {
            let maps = column.as_map();
            let entries = canonical_key(&(Arc::new(maps.entries().clone()) as ArrayRef))?.as_struct().clone();
            let made = MapArray::try_new(Arc::clone(field), maps.offsets().clone(), entries, maps.nulls().cloned(), *is_sorted);
            Arc::new(made.or_error(ErrorKind::Internal, rebuilding)?)
        }
        _ => Arc::clone(column),
    })
}

fn canonical_lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>, field: &FieldRef) -> Result<GenericListArray<O>> {
    let values = canonical_key(lists.values())?;
    let made = GenericListArray::try_new(Arc::clone(field), lists.offsets().clone(), values, lists.nulls().cloned());
    made.or_error(ErrorKind::Internal, rebuilding)
}

fn rebuilding() -> String {
    "a nested key".into()
}

/// The key group of each row, from the key's columns. Equal keys have equal groups in every process and version; null equals null,
/// and negative zero equals zero. No column at all is group 0.
///
/// # Errors
/// `Config` for a type that can't be a key.
pub fn key_groups(columns: &[ArrayRef], rows: usize) -> Result<Vec<KeyGroup>> {
    if columns.is_empty() {
        return Ok(vec![KeyGroup(0); rows]);
    }
    if are_numbers(columns.iter().map(|column| column.data_type())) {
        return match columns {
            [_] => groups_of_numbers::<1>(columns),
            _ => groups_of_numbers::<2>(columns),
        };
    }
    if let [texts] = columns
        && let Some(texts) = texts.as_string_opt::<i32>()
    {
        let group = |text: Option<&str>| KeyGroup::of(xxh3_64_with_seed(text.unwrap_or("").as_bytes(), u64::from(text.is_none())));
        return Ok(texts.iter().map(group).collect());
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).or_error(ErrorKind::Config, || "a column of this type can't be a key".into())?;
    let columns = columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
    let encoded = converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding keys".into())?;
    Ok(encoded.iter().map(|row| KeyGroup::of(xxh3_64(row.as_ref()))).collect())
}

fn groups_of_numbers<const N: usize>(columns: &[ArrayRef]) -> Result<Vec<KeyGroup>> {
    Ok(number_keys::<N>(columns)?.into_iter().map(|key| KeyGroup::of(key.stable_hash())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float16Array, Int64Array, LargeListArray, ListArray, StringArray};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    #[test]
    fn each_task_owns_a_range_of_groups_all_of_nearly_the_same_size() {
        for tasks in [1, 2, 3, 7, 16, 100, 256] {
            let owners: Vec<usize> = (0..KEY_GROUPS).map(|group| KeyGroup(group).task(tasks)).collect();
            assert!(owners.is_sorted(), "{tasks} tasks");
            let share = usize::from(KEY_GROUPS) / tasks;
            for task in 0..tasks {
                let owned = owners.iter().filter(|owner| **owner == task).count();
                assert!(owned == share || owned == share + 1, "task {task} of {tasks} owns {owned} groups");
            }
        }
    }

    #[test]
    fn groups_do_not_depend_on_the_other_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1), Some(2)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a", "c"]));
        let all = key_groups(&[Arc::clone(&numbers), Arc::clone(&names)], 4).unwrap();
        assert_eq!(all[0], all[2]);
        for (row, group) in all.iter().enumerate() {
            let one = key_groups(&[numbers.slice(row, 1), names.slice(row, 1)], 1).unwrap();
            assert_eq!(one, [*group]);
        }
    }

    #[test]
    fn zeros_are_one_key_and_so_are_all_nans_wherever_they_stand() {
        let doubles: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        let floats: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![0.0, -0.0, f32::NAN, -f32::NAN]));
        let field = |array: &ArrayRef| Arc::new(arrow::datatypes::Field::new("f", array.data_type().clone(), true));
        let within: ArrayRef = Arc::new(StructArray::from(vec![(field(&doubles), Arc::clone(&doubles))]));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 1, 1, 1]);
        let lists: ArrayRef = Arc::new(ListArray::new(field(&within), offsets.clone(), Arc::clone(&within), None));
        let large = arrow::buffer::OffsetBuffer::from_lengths([1, 1, 1, 1]);
        let large: ArrayRef = Arc::new(LargeListArray::new(field(&within), large, Arc::clone(&within), None));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::new(field(&floats), 1, Arc::clone(&floats), None));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a"; 4]));
        let entries = StructArray::from(vec![
            (Arc::new(Field::new("keys", DataType::Utf8, false)), names),
            (Arc::new(Field::new("values", DataType::Float64, true)), Arc::clone(&doubles)),
        ]);
        let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let maps: ArrayRef = Arc::new(MapArray::new(entry, offsets, entries, None, false));
        let halves = Float16Array::from_iter_values([Half::ZERO, Half::NEG_ZERO, Half::NAN, -Half::NAN]);
        for column in [doubles, floats, within, lists, large, fixed, maps, Arc::new(halves)] {
            let same = canonical_key(&column).unwrap();
            assert_eq!(same.slice(0, 1).as_ref(), same.slice(1, 1).as_ref(), "{}", column.data_type());
            assert_eq!(same.slice(2, 1).as_ref(), same.slice(3, 1).as_ref(), "{}", column.data_type());
            let groups = key_groups(&[column], 4).unwrap();
            assert!(groups[0] == groups[1] && groups[2] == groups[3]);
        }
    }
}
