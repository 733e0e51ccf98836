//! CSV, decoded by arrow-csv.

use super::Decode;
use super::records::{Chunk, Record};
use crate::file::source::Layout;
use crate::file::source::settings::CsvSettings;
use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::{Decoder, Format};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use std::io::Read;
use waterclock_core::{Error, Result};

pub(super) struct CsvDecoder {
    schema: SchemaRef,
    rows: usize,
    settings: CsvSettings,
}

impl CsvDecoder {
    pub(super) fn new(layout: &Layout) -> Self {
        let (schema, rows) = (layout.schema.clone(), layout.settings.sizes.rows);
        Self { schema, rows, settings: layout.settings.csv.clone() }
    }

    fn build(&self) -> Decoder {
        let builder = ReaderBuilder::new(self.schema.clone()).with_header(false).with_batch_size(self.rows);
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
            Some(batch) if batch.num_rows() == records.len() && !trailing => Ok(batch),
            _ => Err(ArrowError::CsvError("a quote is not closed on its line".into())),
        }
    }
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
