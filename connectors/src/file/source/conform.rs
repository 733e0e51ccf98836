//! Columns of a file made to fit the declared ones: found by name, and cast where the cast loses nothing.
//!
//! Text formats are decoded straight into the declared types; Parquet and Arrow files bring types of their own. Timestamps of any
//! unit and zone become microseconds in UTC.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// How a file's columns become the projected ones.
#[derive(Debug, Clone)]
pub(super) struct Conform {
    schema: SchemaRef,
    /// For each projected column, the file's column; none if it is left out.
    columns: Vec<Option<usize>>,
    name: Arc<str>,
}

impl Conform {
    /// # Errors
    /// `BadData` if the file lacks a column or has one of a type that can't become the declared one without loss.
    pub(super) fn new(projected: &SchemaRef, file: &Schema, name: &Arc<str>) -> Result<Self> {
        let find = |field: &Arc<Field>| {
            let Ok(index) = file.index_of(field.name()) else {
                let there = file.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::bad_data(format!("{name} has no column '{}'; its columns are: {there}", field.name())));
            };
            let found = file.field(index).data_type();
            if !is_lossless(found, field.data_type()) {
                let (column, wanted) = (field.name(), field.data_type());
                return Err(Error::bad_data(format!("the column '{column}' of {name} is {found}, which can't be read as {wanted}")));
            }
            Ok(Some(index))
        };
        let columns = projected.fields().iter().map(find).collect::<Result<_>>()?;
        Ok(Self { schema: Arc::clone(projected), columns, name: Arc::clone(name) })
    }

    /// The same, but that a projected column is left out: its values are null.
    pub(super) fn without(mut self, projected: usize) -> Self {
        self.columns[projected] = None;
        self
    }

    /// The file's columns that are needed, ascending, each once.
    pub(super) fn needed(&self) -> Vec<usize> {
        let mut needed: Vec<usize> = self.columns.iter().flatten().copied().collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// The projected columns, out of a batch of the needed ones.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let needed = self.needed();
        let failed = || format!("reading {}", self.name);
        let column = |(field, index): (&Arc<arrow::datatypes::Field>, &Option<usize>)| -> Result<ArrayRef> {
            let Some(index) = index else { return Ok(new_null_array(field.data_type(), batch.num_rows())) };
            let column = batch.column(needed.binary_search(index).unwrap_or_default());
            cast(column, field.data_type()).or_error(ErrorKind::BadData, || format!("the column '{}' of {}", field.name(), self.name))
        };
        let columns = self.schema.fields().iter().zip(&self.columns).map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).or_error(ErrorKind::BadData, failed)
    }
}

/// The same values in another type; a value that does not fit is an error.
pub(super) fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Whether every value of a type has its counterpart in another one (finer timestamps than microseconds are cut off).
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Date32, Date64, Decimal128, Dictionary, FixedSizeList, Float16, Float32, Float64, LargeList, List, Null, Struct, Timestamp,
    };
    let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let binary = |data_type: &DataType| {
        matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
    };
    match (from, to) {
        _ if from == to || (text(from) && text(to)) => true,
        _ if binary(from) && binary(to) => !matches!(to, DataType::FixedSizeBinary(_)),
        _ if from.is_integer() && to.is_integer() => {
            let (signs, widths) = ((from.is_signed_integer(), to.is_signed_integer()), (from.primitive_width(), to.primitive_width()));
            match signs {
                (true, true) | (false, false) => widths.0 <= widths.1,
                (false, true) => widths.0 < widths.1,
                (true, false) => false,
            }
        }
        (Null, _) | (Timestamp(..), Timestamp(..)) | (Date32 | Date64, Date32 | Date64) => true,
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (_, Float64) if from.is_integer() => from.primitive_width() <= Some(4),
        (Decimal128(p, s), Decimal128(to_p, to_s)) => s <= to_s && i16::from(*p) - i16::from(*s) <= i16::from(*to_p) - i16::from(*to_s),
        (Dictionary(_, value), _) => is_lossless(value, to),
        (List(from) | LargeList(from) | FixedSizeList(from, _), List(to) | LargeList(to)) => is_lossless(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(a, b)| a.name() == b.name() && is_lossless(a.data_type(), b.data_type()))
        }
        _ => false,
    }
}

/// A schema of a file as a table's: times in microseconds without zone, dictionaries as their values, every column nullable.
pub(super) fn normalised(schema: &Schema) -> Schema {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Timestamp(..) => Timestamp::DATA_TYPE,
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            DataType::Null => DataType::Utf8,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, TimestampNanosecondArray};
    use arrow::datatypes::TimestampMicrosecondType;

    #[test]
    fn only_casts_that_keep_every_value_are_made() {
        use DataType::*;
        for (from, to) in [(Int32, Int64), (UInt32, Int64), (Float32, Float64), (Utf8, Utf8View), (Int32, Float64)] {
            assert!(is_lossless(&from, &to) && !is_lossless(&to, &from) || (from == Utf8), "{from} {to}");
        }
        for (from, to) in [(Int64, Int32), (Int64, Float64), (UInt64, Int64), (Utf8, Int64), (Float64, Int64), (Int64, Utf8)] {
            assert!(!is_lossless(&from, &to), "{from} {to}");
        }
    }

    #[test]
    fn timestamps_with_a_zone_become_microseconds_in_utc() {
        let column: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_704_067_200_000_001_000]).with_timezone("+02:00"));
        let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("t", Timestamp::DATA_TYPE, true)]));
        let rows = Conform::new(&schema, &batch.schema(), &"x".into()).unwrap().apply(&batch).unwrap();
        assert_eq!(rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_067_200_000_001);
        assert_eq!(rows.column(0).null_count(), 0);
    }
}
