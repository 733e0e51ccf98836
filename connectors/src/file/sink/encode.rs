//! Rows into the bytes of a file.

use super::fits::{every_value_has_a_text, may_hold_errors};
use super::options::{CsvOptions, FileOptions};
use super::parquet::Parquet;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Turns rows into bytes of one file. Bytes come out when they are ready, not with every call.
pub(super) trait Encode: Send {
    /// Takes rows; appends what is ready.
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()>;

    /// Appends the rest.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

/// An encoder for a file of a format.
pub(super) fn encoder(format: Format, schema: &SchemaRef, options: &FileOptions, group_bytes: usize) -> Result<Box<dyn Encode>> {
    Ok(match format {
        Format::Json => Box::new(Json),
        Format::Text => return Err(Error::internal("lines of text are not written")),
        Format::Csv => Box::new(Csv { header: options.csv.has_header, options: options.csv.clone() }),
        Format::Parquet => Box::new(Parquet::new(schema, options, group_bytes)),
        Format::Arrow => Box::new(Ipc::new(schema)?),
    })
}

pub(super) fn failed(format: Format) -> impl FnOnce() -> String {
    move || format!("writing rows as {format}")
}

/// One object per line; nulls are left out.
struct Json;

impl Encode for Json {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let before = out.len();
        let mut writer = arrow_json::LineDelimitedWriter::new(&mut *out);
        writer.write(rows).and_then(|()| writer.finish()).or_error(ErrorKind::Internal, failed(Format::Json))?;
        if may_hold_errors(&out[before..]) { every_value_has_a_text(rows) } else { Ok(()) }
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

struct Csv {
    /// Whether the header is still to be written.
    header: bool,
    options: CsvOptions,
}

impl Encode for Csv {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let header = std::mem::take(&mut self.header);
        let builder = WriterBuilder::new().with_header(header).with_delimiter(self.options.delimiter).with_quote(self.options.quote);
        let mut writer = builder.with_null(self.options.null.clone()).build(out);
        writer.write(rows).or_else(|cause| {
            every_value_has_a_text(rows)?;
            Err(cause).or_error(ErrorKind::Internal, failed(Format::Csv))
        })
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

struct Ipc(Option<FileWriter<Vec<u8>>>);

impl Ipc {
    fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(Self(Some(FileWriter::try_new(Vec::new(), schema).or_error(ErrorKind::Config, failed(Format::Arrow))?)))
    }
}

impl Encode for Ipc {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let Some(writer) = &mut self.0 else { return Err(Error::internal("rows behind the end of a file")) };
        writer.write(rows).or_error(ErrorKind::Internal, failed(Format::Arrow))?;
        out.append(writer.get_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let Some(mut writer) = self.0.take() else { return Ok(()) };
        writer.finish().or_error(ErrorKind::Internal, failed(Format::Arrow))?;
        out.append(writer.get_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use arrow::error::ArrowError;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;
    use std::io::Cursor;
    use std::sync::Arc;
    use waterclock_core::options::Options;

    const FORMATS: [Format; 4] = [Format::Json, Format::Csv, Format::Parquet, Format::Arrow];

    /// A value of every column; nulls in between.
    type Row = ((Option<i64>, Option<f64>, Option<bool>, Option<String>), (Option<i64>, Option<i32>, Option<i128>, Option<Vec<i64>>));

    fn row() -> impl Strategy<Value = Row> {
        use proptest::option::of;
        let double = prop_oneof![any::<f64>().prop_filter("JSON and CSV have no NaN", |value| value.is_finite()), Just(-0.0)];
        let text = "[a-zA-Z0-9äλ\u{1F600}\"\\\\,;|\\n\t ]{1,8}";
        let micros = -2_208_988_800_000_000i64..7_289_654_400_000_000;
        let days = -25_000..80_000i32;
        let decimal = -99_999_999_999_999_999_999i128..99_999_999_999_999_999_999;
        let list = proptest::collection::vec(any::<i64>(), 0..4);
        ((of(any::<i64>()), of(double), of(any::<bool>()), of(text)), (of(micros), of(days), of(decimal), of(list)))
    }

    fn batch(rows: &[Row], nested: bool) -> RecordBatch {
        fn column<'a, T: 'a, A: FromIterator<T> + arrow::array::Array + 'static>(values: impl Iterator<Item = T> + 'a) -> ArrayRef {
            Arc::new(values.collect::<A>())
        }
        let decimals = rows.iter().map(|row| row.1.2).collect::<Decimal128Array>().with_precision_and_scale(20, 4).unwrap();
        let int: ArrayRef = column::<_, Int64Array>(rows.iter().map(|row| row.0.0));
        let text: ArrayRef = column::<_, StringArray>(rows.iter().map(|row| row.0.3.clone()));
        let mut columns = vec![
            ("int", Arc::clone(&int)),
            ("double", column::<_, Float64Array>(rows.iter().map(|row| row.0.1))),
            ("flag", column::<_, BooleanArray>(rows.iter().map(|row| row.0.2))),
            ("text, of \"all\" kinds", Arc::clone(&text)),
            ("time", column::<_, TimestampMicrosecondArray>(rows.iter().map(|row| row.1.0))),
            ("day", column::<_, Date32Array>(rows.iter().map(|row| row.1.1))),
            ("decimal", Arc::new(decimals)),
        ];
        if nested {
            let lists = rows.iter().map(|row| row.1.3.clone().map(|list| list.into_iter().map(Some).collect::<Vec<_>>()));
            columns.push(("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))));
            let fields = ["i", "t"].iter().zip([&int, &text]).map(|(name, column)| {
                (Arc::new(arrow::datatypes::Field::new(*name, column.data_type().clone(), true)), Arc::clone(column))
            });
            columns.push(("struct", Arc::new(StructArray::from(fields.collect::<Vec<_>>()))));
        }
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
    }

    fn options(format: Format) -> FileOptions {
        let csv = if format == Format::Csv { vec![("null_value".to_owned(), "NULL".to_owned())] } else { Vec::new() };
        FileOptions::take(format, &mut Options::new("t", csv)).unwrap()
    }

    fn encode(format: Format, schema: &SchemaRef, pieces: &[RecordBatch], group_bytes: usize) -> Vec<u8> {
        let mut encoder = encoder(format, schema, &options(format), group_bytes).unwrap();
        let (mut file, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            encoder.rows(piece, &mut out).unwrap();
            // What was handed over is gone.
            file.append(&mut out);
        }
        encoder.finish(&mut out).unwrap();
        file.append(&mut out);
        file
    }

    fn decode(format: Format, schema: &SchemaRef, file: Vec<u8>) -> RecordBatch {
        let file = bytes::Bytes::from(file);
        let batches: Result<Vec<RecordBatch>, ArrowError> = match format {
            Format::Json => arrow_json::ReaderBuilder::new(Arc::clone(schema)).build(Cursor::new(file)).unwrap().collect(),
            Format::Csv => {
                let nulls = "^NULL$".parse().unwrap();
                let reader = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).with_header(true).with_null_regex(nulls);
                reader.build(Cursor::new(file)).unwrap().collect()
            }
            Format::Parquet => ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().collect(),
            _ => arrow::ipc::reader::FileReader::try_new(Cursor::new(file), None).unwrap().collect(),
        };
        concat_batches(schema, &batches.unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The oracle is the identity: what a reader of the format gets is what was written, in whatever pieces.
        #[test]
        fn what_is_written_is_read(rows in proptest::collection::vec(row(), 1..40), cut in 0usize..40, group_bytes in 1usize..4096) {
            for format in FORMATS {
                let batch = batch(&rows, format != Format::Csv);
                let cut = cut.min(rows.len());
                let pieces = [batch.slice(0, cut), batch.slice(cut, rows.len() - cut)];
                let file = encode(format, &batch.schema(), &pieces, group_bytes);
                prop_assert_eq!(decode(format, &batch.schema(), file), batch, "{}", format);
            }
        }
    }

    #[test]
    fn json_has_numbers_where_sql_has_and_no_nan() {
        let decimals = Decimal128Array::from(vec![1_2500, -5000]).with_precision_and_scale(10, 4).unwrap();
        let columns: [(&str, ArrayRef); 4] = [
            ("big", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            ("decimal", Arc::new(decimals)),
            ("double", Arc::new(Float64Array::from(vec![f64::NAN, -0.0]))),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![1_436_918_400_000_100, 0]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        let text = String::from_utf8(encode(Format::Json, &rows.schema(), std::slice::from_ref(&rows), 0)).unwrap();
        assert_eq!(
            text,
            "{\"big\":9223372036854775807,\"decimal\":1.2500,\"double\":null,\"time\":\"2015-07-15T00:00:00.000100\"}\n\
             {\"decimal\":-0.5000,\"double\":-0.0,\"time\":\"1970-01-01T00:00:00\"}\n"
        );
    }

    #[test]
    fn row_groups_are_cut_by_size() {
        let rows = batch(&vec![((Some(1), Some(1.5), None, Some("a".into())), (None, None, None, None)); 1000], false);
        for (group_bytes, groups) in [(1, 3), (usize::MAX, 1)] {
            let file = encode(Format::Parquet, &rows.schema(), &vec![rows.clone(); 3], group_bytes);
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
            assert_eq!(reader.metadata().num_row_groups(), groups);
        }
    }

    #[test]
    fn a_date_beyond_the_calendar_is_refused_where_it_has_no_text() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![0, i32::MAX]));
        let field = Arc::new(arrow::datatypes::Field::new("d", days.data_type().clone(), true));
        let inside: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&days))]));
        for (format, column) in [(Format::Json, &days), (Format::Csv, &days), (Format::Json, &inside)] {
            let rows = RecordBatch::try_from_iter([("when", Arc::clone(column))]).unwrap();
            let mut encoder = encoder(format, &rows.schema(), &options(format), 0).unwrap();
            let error = encoder.rows(&rows, &mut Vec::new()).unwrap_err();
            assert!(error.kind() == ErrorKind::BadData && error.to_string().contains("'when'"), "{error}");
        }
        let rows = RecordBatch::try_from_iter([("when", days)]).unwrap();
        let read = decode(Format::Parquet, &rows.schema(), encode(Format::Parquet, &rows.schema(), std::slice::from_ref(&rows), 0));
        assert_eq!(read.column(0).as_primitive::<arrow::datatypes::Date32Type>().value(1), i32::MAX);
    }

    #[test]
    fn a_text_that_speaks_of_errors_is_a_text() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["ERROR: Cast error"]));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
        let rows = RecordBatch::try_from_iter([("log", texts), ("at", times)]).unwrap();
        for format in [Format::Json, Format::Csv] {
            let file = encode(format, &rows.schema(), std::slice::from_ref(&rows), 0);
            assert!(String::from_utf8(file).unwrap().contains("ERROR: Cast error"));
        }
    }
}
