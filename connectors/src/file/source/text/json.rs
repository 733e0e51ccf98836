//! One JSON object per line, decoded by arrow-json.
//!
//! Unknown fields are ignored, a missing field is null, a number for a TIMESTAMP is microseconds. arrow-json is laxer than that in
//! two ways that are closed here: an object could span lines or share one, and digits that a column can't hold would be cut off.

use super::Decode;
use super::exact::ExactNumbers;
use super::nulls::{check_nulls, nullable};
use super::records::{Chunk, Record};
use crate::file::source::Layout;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use waterclock_core::{ErrorKind, Result, ResultExt};

pub(super) struct JsonDecoder {
    schema: SchemaRef,
    rows: usize,
    numbers: ExactNumbers,
    /// A decoder without rows in it; one that failed is of no more use.
    decoder: Option<Decoder>,
}

impl JsonDecoder {
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        let numbers = ExactNumbers::of(&layout.schema);
        let mut decoder = Self { schema: layout.schema.clone(), rows: layout.settings.sizes.rows, numbers, decoder: None };
        let built = decoder.build().or_error(ErrorKind::Config, || "a column has a type that can't be read from JSON".into())?;
        decoder.decoder = Some(built);
        Ok(decoder)
    }

    fn build(&self) -> Result<Decoder, ArrowError> {
        ReaderBuilder::new(nullable(&self.schema)).with_batch_size(self.rows).build_decoder()
    }
}

impl Decode for JsonDecoder {
    fn decode(&mut self, chunk: &Chunk<'_>, records: &[Record]) -> Result<RecordBatch, ArrowError> {
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => self.build()?,
        };
        for (index, record) in records.iter().enumerate() {
            let line = chunk.text(std::slice::from_ref(record));
            decoder.decode(line)?;
            if decoder.has_partial_record() || decoder.len() != index + 1 || !is_object(line) {
                return Err(ArrowError::JsonError("not one whole JSON object on the line".into()));
            }
        }
        self.numbers.check(chunk.text(records))?;
        let batch = decoder.flush()?.ok_or_else(|| ArrowError::JsonError("no JSON object on the line".into()))?;
        self.decoder = Some(decoder);
        check_nulls(&self.schema, batch.columns().to_vec(), batch.num_rows())
    }
}

fn is_object(line: &[u8]) -> bool {
    line.trim_ascii_start().first() == Some(&b'{')
}
