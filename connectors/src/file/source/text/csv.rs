//! CSV, decoded by arrow-csv.
//!
//! arrow-csv would cut off the digits of a DECIMAL that its scale does not hold. So decimals are decoded as texts first, and then as
//! what they are, if they can be held.

use super::Decode;
use super::exact::{check_number, is_decimal};
use super::nulls::{check_nulls, nullable};
use super::records::{Chunk, Record};
use crate::file::source::Layout;
use crate::file::source::settings::CsvSettings;
use arrow::array::{ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::{Decoder, Format};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::io::Read;
use std::sync::Arc;
use waterclock_core::{Error, Result};

/// # Errors
/// `Config` if a column has a type that CSV has no text for.
pub(crate) fn check_columns(schema: &SchemaRef) -> Result<()> {
    match schema.fields().iter().find(|field| !is_readable(field.data_type())) {
        Some(field) => Err(Error::config(format!(
            "the column '{}' is {}, which can't be read from CSV; declare it VARCHAR and take it apart in the query, or use another format",
            field.name(),
            field.data_type()
        ))),
        None => Ok(()),
    }
}

fn is_readable(data_type: &DataType) -> bool {
    let is_text = matches!(data_type, DataType::Utf8 | DataType::Utf8View);
    is_text || matches!(data_type, DataType::Null | DataType::Boolean) || data_type.is_numeric() || is_time(data_type)
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..))
}

pub(super) struct CsvDecoder {
    schema: SchemaRef,
    /// The columns as arrow-csv decodes them.
    texts: SchemaRef,
    rows: usize,
    settings: CsvSettings,
}

impl CsvDecoder {
    pub(super) fn new(layout: &Layout) -> Self {
        let (schema, rows) = (layout.schema.clone(), layout.settings.sizes.rows);
        let fields = nullable(&schema).fields().clone();
        let texts = fields.iter().map(|field| match is_decimal(field.data_type()) {
            true => field.as_ref().clone().with_data_type(DataType::Utf8),
            false => field.as_ref().clone(),
        });
        let texts = Arc::new(Schema::new(texts.collect::<Vec<_>>()));
        Self { schema, texts, rows, settings: layout.settings.csv.clone() }
    }

    fn build(&self) -> Decoder {
        let builder = ReaderBuilder::new(self.texts.clone()).with_header(false).with_batch_size(self.rows);
        let builder = builder.with_delimiter(self.settings.delimiter).with_quote(self.settings.quote);
        let builder = match self.settings.escape {
            Some(escape) => builder.with_escape(escape),
            None => builder,
        };
        match &self.settings.null {
            Some(null) => builder.with_null_regex(null.clone()),
            None => builder,
        }
        .build_decoder()
    }
}

impl Decode for CsvDecoder {
    fn decode(&mut self, chunk: &Chunk<'_>, records: &[Record]) -> Result<RecordBatch, ArrowError> {
        // A parser that has seen the end of its input takes no other, so each group has its own.
        let mut decoder = self.build();
        let mut text = chunk.text(records);
        while !text.is_empty() && decoder.capacity() > 0 {
            let read = decoder.decode(text).map_err(without_line)?;
            text = &text[read..];
        }
        if decoder.capacity() > 0 {
            // The last record of a file may lack its line break: an empty input ends it.
            decoder.decode(&[]).map_err(without_line)?;
        }
        let trailing = text.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        match decoder.flush().map_err(without_line)? {
            Some(batch) if batch.num_rows() == records.len() && !trailing => {
                let columns = self.schema.fields().iter().zip(batch.columns()).map(|(field, column)| declared(field, column));
                check_nulls(&self.schema, columns.collect::<Result<_, _>>()?, batch.num_rows())
            }
            _ => Err(ArrowError::CsvError("a quote is not closed on its line".into())),
        }
    }
}

/// A column in its declared type.
fn declared(field: &Field, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match field.data_type() {
        DataType::Decimal32(precision, scale) => decimals::<Decimal32Type>(field, column, *precision, *scale),
        DataType::Decimal64(precision, scale) => decimals::<Decimal64Type>(field, column, *precision, *scale),
        DataType::Decimal128(precision, scale) => decimals::<Decimal128Type>(field, column, *precision, *scale),
        DataType::Decimal256(precision, scale) => decimals::<Decimal256Type>(field, column, *precision, *scale),
        _ => Ok(Arc::clone(column)),
    }
}

fn decimals<T: DecimalType>(field: &Field, texts: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef, ArrowError> {
    let decimal = |text: &str| {
        check_number(field, text).map_err(ArrowError::CsvError)?;
        parse_decimal::<T>(text, precision, scale)
    };
    let values = texts.as_string::<i32>().iter().map(|text| text.map(decimal).transpose());
    let values: PrimitiveArray<T> = values.collect::<Result<_, _>>()?;
    Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
}

/// The error without the line number in its text, which counts from the start of the group.
fn without_line(error: ArrowError) -> ArrowError {
    let (ArrowError::CsvError(text) | ArrowError::ParseError(text)) = &error else { return error };
    let text = text.split(" at line ").next().unwrap_or(text);
    let counted = text.find(" for line ").and_then(|start| Some((start, start + text[start..].find(',')?)));
    ArrowError::CsvError(counted.map_or_else(|| text.to_owned(), |(start, end)| format!("{}{}", &text[..start], &text[end..])))
}

/// The fields of a record.
fn fields(settings: &CsvSettings, record: &[u8]) -> Vec<String> {
    let (mut text, mut ends) = (vec![0; record.len() + 1], vec![0; record.len() + 2]);
    let mut parser = settings.parser();
    let (_, _, mut written, mut count) = parser.read_record(record, &mut text, &mut ends);
    let (_, _, more, fields) = parser.read_record(&[], &mut text[written..], &mut ends[count..]);
    written += more;
    count += fields;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let field = |(start, end): (usize, &usize)| String::from_utf8_lossy(&text[start..(*end).min(written)]).trim().to_owned();
    starts.zip(&ends[..count]).map(field).collect()
}

/// The first record of a file must name the declared columns, in their order; case does not count.
pub(super) fn check_header(layout: &Layout, name: &str, record: &[u8]) -> Result<()> {
    let found = fields(&layout.settings.csv, record);
    let declared: Vec<&str> = layout.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let same = found.len() == declared.len() && found.iter().zip(&declared).all(|(a, b)| a.eq_ignore_ascii_case(b));
    if same {
        return Ok(());
    }
    Err(Error::bad_data(format!(
        "{name} has the header ({}), but the table has the columns ({}); correct the file or the table, or set 'has_header' to 'false' \
         if the first line is data",
        found.join(", "),
        declared.join(", ")
    )))
}

/// A schema inferred from the first rows of a stream.
pub(crate) fn infer(reader: Box<dyn Read + Send>, settings: &CsvSettings, name: &str, rows: usize) -> Result<Schema> {
    let mut format = Format::default().with_header(settings.has_header).with_delimiter(settings.delimiter).with_quote(settings.quote);
    if let Some(escape) = settings.escape {
        format = format.with_escape(escape);
    }
    if let Some(null) = &settings.null {
        format = format.with_null_regex(null.clone());
    }
    let inferred = format.infer_schema(reader, Some(rows));
    inferred.map(|(schema, _)| schema).map_err(|error| Error::bad_data(format!("can't infer columns from {name}")).caused_by(error))
}
