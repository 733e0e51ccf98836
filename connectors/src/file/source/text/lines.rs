//! Lines as they are, each a row with one column of text.

use super::Decode;
use super::records::{Chunk, Record};
use crate::file::source::Layout;
use crate::file::source::conform::cast;
use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::sync::Arc;
use waterclock_core::{Error, Result};

/// The column of a table of lines that declares none: `value VARCHAR`.
pub(crate) fn default_columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)]))
}

/// # Errors
/// `Config` unless the only column is `value`, of text.
pub(crate) fn check_columns(schema: &SchemaRef) -> Result<()> {
    if let [column] = schema.fields().as_ref()
        && column.name() == "value"
        && column.data_type().is_string()
    {
        return Ok(());
    }
    Err(Error::config("STORED AS TEXT has one column, a line each: declare (value VARCHAR), or no columns"))
}

pub(super) struct LineDecoder {
    schema: SchemaRef,
}

impl LineDecoder {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { schema: Arc::clone(&layout.schema) }
    }
}

impl Decode for LineDecoder {
    fn decode(&mut self, chunk: &Chunk<'_>, records: &[Record]) -> Result<RecordBatch, ArrowError> {
        let text = std::str::from_utf8(chunk.text(records)).map_err(|_| ArrowError::ParseError("the line is not valid UTF-8".into()))?;
        let mut lines = StringBuilder::with_capacity(records.len(), text.len());
        let base = records.first().map_or(0, |record| record.start);
        for record in records {
            // Records end behind a line break, so none of them ends inside a character.
            lines.append_value(without_break(&text[(record.start - base) as usize..(record.end - base) as usize]));
        }
        let lines: ArrayRef = Arc::new(lines.finish());
        RecordBatch::try_new(Arc::clone(&self.schema), vec![cast(&lines, self.schema.field(0).data_type())?])
    }
}

/// A line without `\n` or `\r\n` at its end.
fn without_break(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}
