//! What a format can hold: columns, asked before anything is staged, and values, looked at while rows are encoded.

use super::encode::encoder;
use super::options::FileOptions;
use crate::format::Format;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// # Errors
/// `Config` if the format can't hold a column; the message names it.
pub(super) fn check(format: Format, schema: &SchemaRef, options: &FileOptions) -> Result<()> {
    for field in schema.fields() {
        write_a_null(format, field, options).map_err(|cause| {
            let (name, kind, word) = (field.name(), field.data_type(), format.extension().to_uppercase());
            Error::config(format!("column '{name}' is {kind}, which {word} can't hold; cast it or take it apart in the query"))
                .caused_by(cause)
        })?;
    }
    Ok(())
}

/// A library says what it can't write only when it is asked to write it.
fn write_a_null(format: Format, field: &Field, options: &FileOptions) -> Result<()> {
    let field = field.clone().with_nullable(true);
    let column = new_null_array(field.data_type(), 1);
    let schema = Arc::new(Schema::new(vec![field]));
    let row = RecordBatch::try_new(Arc::clone(&schema), vec![column]).or_error(ErrorKind::Internal, || "making a row".into())?;
    let (mut encoder, mut out) = (encoder(format, &schema, options, usize::MAX)?, Vec::new());
    encoder.rows(&row, &mut out)?;
    encoder.finish(&mut out)
}

/// Whether arrow may have written an error message in place of a value that has no text, such as a date beyond its calendar. To look for
/// it costs next to nothing; whether it is one, and not a text that speaks of errors, only the values tell.
pub(super) fn may_hold_errors(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"ERROR: ").is_some()
}

/// # Errors
/// `BadData` if a value has no text; the message names the column.
pub(super) fn every_value_has_a_text(rows: &RecordBatch) -> Result<()> {
    let options = FormatOptions::new().with_display_error(false);
    let schema = rows.schema_ref();
    for (field, column) in schema.fields().iter().zip(rows.columns()).filter(|(field, _)| may_have_no_text(field.data_type())) {
        let failed = || format!("a value of column '{}' can't be written as text; cast or filter it in the query", field.name());
        let formatter = ArrayFormatter::try_new(column, &options).or_error(ErrorKind::Internal, failed)?;
        for row in 0..rows.num_rows() {
            formatter.value(row).try_to_string().or_error(ErrorKind::BadData, failed)?;
        }
    }
    Ok(())
}

/// Whether there are times in it.
fn may_have_no_text(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            may_have_no_text(item.data_type())
        }
        DataType::FixedSizeList(item, _) | DataType::Map(item, _) => may_have_no_text(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| may_have_no_text(field.data_type())),
        DataType::Dictionary(_, value) => may_have_no_text(value),
        _ => kind.is_temporal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{IntervalUnit, UnionFields, UnionMode};
    use waterclock_core::options::Options;

    fn refused(format: Format, kind: DataType) -> Option<String> {
        let schema = Arc::new(Schema::new(vec![Field::new("good", DataType::Int64, false), Field::new("odd", kind, false)]));
        let options = FileOptions::take(format, &mut Options::new("t", [])).unwrap();
        check(format, &schema, &options).err().map(|error| {
            assert_eq!(error.kind(), ErrorKind::Config);
            error.to_string()
        })
    }

    #[test]
    fn a_column_that_the_format_cannot_hold_is_named() {
        let list = DataType::new_list(DataType::Int64, true);
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let union = DataType::Union(UnionFields::try_new([0], [Field::new("a", DataType::Int64, true)]).unwrap(), UnionMode::Sparse);
        for (format, kind) in [(Format::Csv, list.clone()), (Format::Parquet, interval.clone()), (Format::Json, union)] {
            let error = refused(format, kind).unwrap();
            assert!(error.contains("'odd'") && error.contains(&format.extension().to_uppercase()), "{error}");
        }
        for (format, kind) in [(Format::Json, list), (Format::Json, interval.clone()), (Format::Arrow, interval)] {
            assert_eq!(refused(format, kind), None);
        }
    }

    #[test]
    fn what_can_be_held_is_not_refused_for_its_nulls() {
        let required = |name: &str, kind| Field::new(name, kind, false);
        let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
        let window = DataType::Struct(vec![required("start", time.clone()), required("end", time)].into());
        let entry = DataType::Struct(vec![required("key", DataType::Utf8), required("value", DataType::Int64)].into());
        let kinds = [
            window.clone(),
            DataType::new_list(window, false),
            DataType::Map(Arc::new(required("entries", entry)), false),
            DataType::new_fixed_size_list(DataType::Float64, 3, false),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::Utf8View,
            DataType::Binary,
            DataType::Decimal128(38, 10),
            DataType::Null,
        ];
        for kind in kinds {
            for format in [Format::Json, Format::Parquet, Format::Arrow, Format::Csv] {
                let nested = kind.is_nested() && !matches!(kind, DataType::Dictionary(..));
                assert_eq!(refused(format, kind.clone()).is_some(), format == Format::Csv && nested, "{format} {kind}");
            }
        }
    }
}
