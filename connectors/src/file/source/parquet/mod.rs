//! Parquet: row groups that the statistics don't rule out, the projected columns of them, in the declared types.
//!
//! A local file is read by the worker, column chunk by column chunk. Of a remote one the fetch brings the projected column chunks of
//! the split's row groups. Bad bytes are an error that names the file: there is no telling which row they belong to.
//!
//! - [`reading`]: which row groups and columns a split reads. [`mod@fetch`]: what is fetched for it. [`input`]: the bytes at hand.

mod fetch;
mod input;
mod reading;

pub(super) use fetch::fetch;
pub(super) use input::Input;

use self::input::SharedInput;
use self::reading::{Reading, Run, plan};
use super::version::{FileVersion, Range};
use super::{Shared, failed_reading};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use std::sync::Arc;
use waterclock_core::source::{Morsel, Morsels, Origin, Positions, Skipped};
use waterclock_core::time::Timestamp;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// Reads a file's metadata on the driver's thread, waiting on storage.
pub(super) fn metadata_now(shared: &Shared, file: &FileVersion) -> Result<ArrowReaderMetadata> {
    let directory = shared.directory()?;
    let name = shared.display(&file.path);
    if directory.is_local() {
        load(shared, &directory.open_local(file)?, &name)
    } else {
        load(shared, &directory.open_remote(file)?, &name)
    }
}

fn load<T: ChunkReader>(shared: &Shared, reader: &T, name: &Arc<str>) -> Result<ArrowReaderMetadata> {
    let metadata = ArrowReaderMetadata::load(reader, ArrowReaderOptions::new()).map_err(|error| broken(error, name))?;
    Ok(in_declared_text(&shared.layout.schema, &metadata).unwrap_or(metadata))
}

/// The same metadata, with columns of text in the declared type of text: the decoder builds that as fast as the one that the file
/// was written from, and a cast would copy. None if that is what they have.
fn in_declared_text(declared: &Schema, metadata: &ArrowReaderMetadata) -> Option<ArrowReaderMetadata> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let field = |field: &Arc<Field>| match declared.field_with_name(field.name()) {
        Ok(wanted) if is_text(wanted.data_type()) && is_text(field.data_type()) => {
            Arc::new(field.as_ref().clone().with_data_type(wanted.data_type().clone()))
        }
        _ => Arc::clone(field),
    };
    let schema = metadata.schema();
    let fields: Vec<Arc<Field>> = schema.fields().iter().map(field).collect();
    if fields[..] == schema.fields()[..] {
        return None;
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), ArrowReaderOptions::new().with_schema(schema)).ok()
}

/// An error of the Parquet reader: bad data, unless it passes on an error of ours.
fn broken(error: ParquetError, name: &str) -> waterclock_core::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<waterclock_core::Error>() {
            Ok(error) => *error,
            Err(cause) => match cause.downcast::<std::io::Error>() {
                Ok(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => failed_reading(name, "a Parquet file", error),
                Ok(error) => waterclock_core::Error::unavailable(format!("can't read {name}")).caused_by(error),
                Err(cause) => failed_reading(name, "a Parquet file", cause),
            },
        },
        error => failed_reading(name, "a Parquet file", error),
    }
}

/// Where each row group of a file ends, in rows.
pub(super) fn row_group_ends(shared: &Shared, file: &FileVersion) -> Result<Vec<u64>> {
    Ok(ends(&metadata_now(shared, file)?))
}

fn ends(metadata: &ArrowReaderMetadata) -> Vec<u64> {
    let mut total = 0;
    let mut end = |rows: i64| {
        total += rows.max(0) as u64;
        total
    };
    metadata.metadata().row_groups().iter().map(|group| end(group.num_rows())).collect()
}

/// The parts of a range of rows that one split each reads: whole row groups of about so many stored bytes.
pub(super) fn divide(metadata: &ArrowReaderMetadata, range: Range, size: u64) -> Vec<Range> {
    let mut parts = Vec::new();
    let (mut start, mut held) = (range.start(), 0);
    for (group, end) in metadata.metadata().row_groups().iter().zip(ends(metadata)) {
        if end <= range.start() {
            continue;
        }
        held += group.compressed_size().max(0) as u64;
        if held >= size || end >= range.end() {
            let end = end.min(range.end());
            parts.push(Range::Rows(start, end));
            (start, held) = (end, 0);
        }
        if end >= range.end() {
            return parts;
        }
    }
    if held > 0 {
        parts.push(Range::Rows(start, range.end()));
    }
    parts
}

/// The rows of a part of a file.
pub(super) fn open(
    shared: &Arc<Shared>,
    name: Arc<str>,
    range: Range,
    input: Input,
    metadata: Option<ArrowReaderMetadata>,
) -> Result<Box<dyn Morsels>> {
    let metadata = match metadata {
        Some(metadata) => metadata,
        None => load(shared, &input, &name)?,
    };
    let reading = plan(shared, &name, &metadata, range)?;
    Ok(Box::new(ParquetMorsels { shared: Arc::clone(shared), name, input: Arc::new(input), metadata, reading, current: None, row: 0 }))
}

struct ParquetMorsels {
    shared: Arc<Shared>,
    name: Arc<str>,
    input: Arc<Input>,
    metadata: ArrowReaderMetadata,
    reading: Reading,
    current: Option<(Run, ParquetRecordBatchReader)>,
    /// The number of the next row, from 0.
    row: u64,
}

impl Morsels for ParquetMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        let skipped = std::mem::take(&mut self.reading.skipped);
        if skipped.rows > 0 {
            let none = RecordBatch::new_empty(Arc::clone(&self.shared.layout.projected));
            return Ok(Some(Morsel { skipped, ..self.morsel(none, None) }));
        }
        loop {
            if let Some((run, batch)) = self.current.as_mut().and_then(|(run, reader)| Some((run, reader.next()?))) {
                let batch = batch.map_err(|error| failed_reading(&self.name, "a Parquet file", error))?;
                let rows = self.reading.columns(run).conform.apply(&batch)?;
                let latest = run.latest;
                return Ok(Some(self.morsel(rows, latest)));
            }
            let Some(run) = self.reading.runs.pop_front() else { return Ok(None) };
            self.row = run.first;
            let reader = self.begin(&run)?;
            self.current = Some((run, reader));
        }
    }
}

impl ParquetMorsels {
    fn begin(&self, run: &Run) -> Result<ParquetRecordBatchReader> {
        let count = |number: u64| usize::try_from(number).or_error(ErrorKind::BadData, || format!("{} has too many rows", self.name));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(SharedInput(Arc::clone(&self.input)), self.metadata.clone());
        let sizes = self.shared.layout.settings.sizes;
        let builder = builder.with_batch_size(sizes.rows).with_projection(self.reading.columns(run).mask.clone());
        let builder = builder.with_row_groups(run.groups.clone()).with_offset(count(run.offset)?).with_limit(count(run.rows)?);
        builder.build().map_err(|error| broken(error, &self.name))
    }

    fn morsel(&mut self, rows: RecordBatch, latest: Option<Timestamp>) -> Morsel {
        let origin = Origin { input: Arc::clone(&self.name), positions: Positions::Rows(self.row + 1) };
        self.row += rows.num_rows() as u64;
        Morsel { rows, latest, origin, bad: Vec::new(), skipped: Skipped::default() }
    }
}
