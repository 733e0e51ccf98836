//! Parquet: row groups that the statistics don't rule out, the projected columns of them, in the declared types.
//!
//! A local file is read by the worker, column chunk by column chunk. Of a remote one the fetch brings the projected column chunks of
//! the split's row groups. Bad bytes are an error that names the file: there is no telling which row they belong to.

use super::conform::Conform;
use super::directory::RemoteFile;
use super::prune::RowGroups;
use super::version::{FileVersion, Range};
use super::{Shared, failed_reading};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::{Buf, Bytes};
use datafusion_common::ScalarValue;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;
use waterclock_core::source::{Morsel, Morsels, Origin, Positions, Scan, Skipped};
use waterclock_core::time::Timestamp;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// The bytes of a file that are at hand.
#[derive(Debug)]
pub(super) enum Input {
    /// A local file: all of it.
    File(File),
    /// Pieces of a remote file, each with its position, ascending; and the file's size.
    Pieces(Vec<(u64, Bytes)>, u64),
}

impl Length for Input {
    fn len(&self) -> u64 {
        match self {
            Input::File(file) => Length::len(file),
            Input::Pieces(_, size) => *size,
        }
    }
}

impl ChunkReader for Input {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        match self {
            Input::File(file) => {
                let reader: BufReader<File> = file.get_read(start)?;
                Ok(Box::new(reader))
            }
            Input::Pieces(pieces, _) => Ok(Box::new(piece_from(pieces, start, 0)?.reader())),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Input::File(file) => file.get_bytes(start, length),
            Input::Pieces(pieces, _) => Ok(piece_from(pieces, start, length)?.slice(..length)),
        }
    }
}

/// What is at hand from a position on, at least so many bytes.
fn piece_from(pieces: &[(u64, Bytes)], start: u64, length: usize) -> ParquetResult<Bytes> {
    let index = pieces.partition_point(|(position, _)| *position <= start).checked_sub(1);
    let piece = index.map(|index| &pieces[index]).and_then(|(position, bytes)| {
        let skip = usize::try_from(start - position).ok().filter(|skip| *skip <= bytes.len())?;
        Some(bytes.slice(skip..)).filter(|bytes| bytes.len() >= length)
    });
    piece.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} lie outside of the file or its column chunks")))
}

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

/// What a split reads of a file.
struct Reading {
    runs: VecDeque<Run>,
    skipped: Skipped,
    all: Columns,
    /// All but the event time, where the watermark alone needs that and statistics tell the latest.
    timeless: Columns,
}

/// Row groups that follow each other.
#[derive(Debug, Default)]
struct Run {
    groups: Vec<usize>,
    /// The rows to pass over at their start, and how many rows to read.
    offset: u64,
    rows: u64,
    /// The number of its first row, from 0.
    first: u64,
    /// The latest event time, if the column itself is not read.
    latest: Option<Timestamp>,
}

/// The columns that are read of a row group, and what they become.
struct Columns {
    conform: Conform,
    mask: ProjectionMask,
}

impl Columns {
    fn new(conform: Conform, metadata: &ArrowReaderMetadata) -> Self {
        Self { mask: ProjectionMask::roots(metadata.parquet_schema(), conform.needed()), conform }
    }
}

fn plan(shared: &Shared, name: &Arc<str>, metadata: &ArrowReaderMetadata, range: Range) -> Result<Reading> {
    let Scan { projection, event_time, watermark_only, .. } = shared.layout.scan.as_ref();
    let conform = Conform::new(&shared.layout.projected, metadata.schema(), name)?;
    let time = event_time.and_then(|time| projection.iter().position(|column| *column == time));
    let timeless = time.map_or_else(|| conform.clone(), |time| conform.clone().without(time));
    let (all, timeless) = (Columns::new(conform, metadata), Columns::new(timeless, metadata));
    let mut statistics = RowGroups::new(metadata, &shared.layout.schema);
    let mut reading = Reading { runs: VecDeque::new(), skipped: Skipped::default(), all, timeless };
    let mut group_start = 0;
    for (group, end) in ends(metadata).into_iter().enumerate() {
        let (from, to) = (range.start().max(group_start), range.end().min(end));
        if from < to {
            let is_whole = from == group_start && to == end;
            match skippable(shared, &mut statistics, group, is_whole) {
                Some(latest) => {
                    reading.skipped.rows += to - from;
                    reading.skipped.latest = reading.skipped.latest.max(latest);
                }
                None => {
                    let latest = if *watermark_only && is_whole { known_latest(shared, &mut statistics, group) } else { None };
                    reading.add(Run { groups: vec![group], offset: from - group_start, rows: to - from, first: from, latest });
                }
            }
        }
        group_start = end;
    }
    Ok(reading)
}

impl Reading {
    fn add(&mut self, next: Run) {
        match self.runs.back_mut() {
            Some(run) if run.first + run.rows == next.first && run.latest.is_some() == next.latest.is_some() => {
                run.groups.extend(next.groups);
                run.rows += next.rows;
                run.latest = run.latest.max(next.latest);
            }
            _ => self.runs.push_back(next),
        }
    }

    fn columns(&self, run: &Run) -> &Columns {
        if run.latest.is_some() { &self.timeless } else { &self.all }
    }
}

/// Whether a row group can be left out, and then its latest event time. With an event time only where all rows of the group are of this
/// batch: the watermark must not depend on what is left out.
fn skippable(shared: &Shared, statistics: &mut RowGroups<'_>, group: usize, is_whole: bool) -> Option<Option<Timestamp>> {
    if shared.layout.scan.filters.is_empty() || statistics.may_pass(&shared.layout.scan.filters, group) {
        return None;
    }
    if shared.layout.scan.event_time.is_none() {
        return Some(None);
    }
    if is_whole { known_latest(shared, statistics, group).map(Some) } else { None }
}

/// The latest event time of a row group, where that is known to be good in every row.
fn known_latest(shared: &Shared, statistics: &mut RowGroups<'_>, group: usize) -> Option<Timestamp> {
    let column = shared.layout.scan.event_time?;
    let known = statistics.known(shared.layout.schema.field(column).name(), group)?;
    let time = |value: Option<ScalarValue>| match value?.cast_to(&Timestamp::DATA_TYPE) {
        Ok(ScalarValue::TimestampMicrosecond(Some(time), _)) => Some(Timestamp(time)).filter(|time| time.is_plausible()),
        _ => None,
    };
    let (_, latest) = (time(known.least)?, time(known.most)?);
    (known.nulls == Some(0)).then_some(latest)
}

/// Fetches what a split reads of a large remote file.
pub(super) async fn fetch(
    shared: &Shared,
    file: &RemoteFile,
    size: u64,
    name: &Arc<str>,
    metadata: &ArrowReaderMetadata,
    range: Range,
) -> Result<Input> {
    let reading = plan(shared, name, metadata, range)?;
    let mut wanted = Vec::new();
    for (run, group) in reading.runs.iter().flat_map(|run| run.groups.iter().map(move |group| (run, group))) {
        for (index, column) in metadata.metadata().row_group(*group).columns().iter().enumerate() {
            if reading.columns(run).mask.leaf_included(index) {
                let (start, length) = column.byte_range();
                wanted.push(start..(start + length).min(size));
            }
        }
    }
    wanted.sort_by_key(|range| range.start);
    let mut pieces = Vec::new();
    for range in coalesced(wanted) {
        pieces.push((range.start, file.range(range).await?));
    }
    Ok(Input::Pieces(pieces, size))
}

/// Ranges that lie close together as one: a request costs more than the bytes between them.
fn coalesced(ranges: Vec<std::ops::Range<u64>>) -> Vec<std::ops::Range<u64>> {
    const GAP: u64 = 256 << 10;
    let mut joined: Vec<std::ops::Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
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

struct SharedInput(Arc<Input>);

impl Length for SharedInput {
    fn len(&self) -> u64 {
        Length::len(self.0.as_ref())
    }
}

impl ChunkReader for SharedInput {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}
