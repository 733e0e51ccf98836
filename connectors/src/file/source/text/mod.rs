//! Newline-delimited JSON, CSV and plain lines.
//!
//! What flows in: a stream of text and the part of it to read. What flows out: morsels with a byte position for each row. Records are
//! decoded in groups; when a group fails it is halved until the bad records stand alone, so that one bad record spoils none of its
//! neighbours and a clean group costs nothing extra.

pub(crate) mod compression;
mod csv;
mod exact;
mod json;
mod lines;
mod marks;
mod nulls;
pub(crate) mod records;
mod scan;

pub(super) use csv::{check_columns as check_csv_columns, infer as infer_csv};
pub(crate) use lines::{check_columns, default_columns};

use super::Layout;
use super::version::Range;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use records::{Chunk, Chunks, Record};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops;
use std::sync::Arc;
use waterclock_core::source::{BadRow, Morsel, Morsels, Origin, Place, Position, Positions, Skipped};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Turns records into rows of all declared columns.
trait Decode: Send {
    /// The rows of these records: as many rows as records, or an error if any of them is bad.
    fn decode(&mut self, chunk: &Chunk<'_>, records: &[Record]) -> Result<RecordBatch, ArrowError>;
}

/// A stream of text and where its first byte stands.
pub(crate) struct TextInput {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) position: u64,
}

/// A local file from a position on, up to the size that it had when it was listed: what is appended later is not of this version.
pub(super) fn local_reader(mut file: File, position: u64, size: u64, name: &str) -> Result<Box<dyn Read + Send>> {
    file.seek(SeekFrom::Start(position)).or_error(ErrorKind::Unavailable, || format!("can't read {name}"))?;
    Ok(Box::new(file.take(size.saturating_sub(position))))
}

/// Where a reader of a part of a plain file must begin: lines are looked for from the byte before the part.
pub(super) fn first_byte(layout: &Layout, range: Range) -> u64 {
    match range {
        Range::Bytes(start, _) if layout.needs_records() => start,
        Range::Bytes(start, _) => start.saturating_sub(1),
        _ => 0,
    }
}

/// The rows of a part of a file of text.
pub(super) fn open(layout: &Arc<Layout>, name: Arc<str>, range: Range, input: TextInput) -> Result<Box<dyn Morsels>> {
    let end = if let Range::Bytes(_, end) = range { end } else { u64::MAX };
    let mut chunks = Chunks::new(input.reader, input.position, layout, Arc::clone(&name)).until(end);
    let starts_file = !matches!(range, Range::Bytes(1.., _));
    if !starts_file && !layout.needs_records() {
        chunks.skip_line()?;
    }
    let (skip, rows_left) = match range {
        Range::Rows(start, end) => (start, end.saturating_sub(start)),
        _ => (0, u64::MAX),
    };
    let part = Part { end, header: starts_file && layout.has_header(), skip, rows_left };
    Ok(Box::new(TextMorsels::new(layout, name, chunks, part)?))
}

/// The rows of a text that begins with a record, or a header and then a record, and is read to its end.
pub(crate) fn open_all(layout: &Arc<Layout>, name: Arc<str>, header: bool, input: TextInput) -> Result<Box<dyn Morsels>> {
    let chunks = Chunks::new(input.reader, input.position, layout, Arc::clone(&name));
    let part = Part { end: u64::MAX, header, skip: 0, rows_left: u64::MAX };
    Ok(Box::new(TextMorsels::new(layout, name, chunks, part)?))
}

/// Which records of a stream are read.
struct Part {
    /// Records that begin here or later are not of this part.
    end: u64,
    /// Whether the next record names the columns.
    header: bool,
    /// Records to pass over.
    skip: u64,
    rows_left: u64,
}

struct TextMorsels {
    layout: Arc<Layout>,
    name: Arc<str>,
    chunks: Chunks,
    decoder: Box<dyn Decode>,
    part: Part,
    /// Which records of the newest chunk are of this part and not yet decoded.
    pending: ops::Range<usize>,
}

impl Morsels for TextMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        while self.pending.is_empty() {
            if !self.read()? {
                return Ok(None);
            }
        }
        let first = self.pending.start;
        let last = self.pending.end.min(first + self.layout.settings.sizes.rows);
        self.pending.start = last;
        let chunk = self.chunks.current();
        let records = &chunk.records()[first..last];
        decode_group(&self.layout, &self.name, self.decoder.as_mut(), &chunk, records).map(Some)
    }
}

impl TextMorsels {
    fn new(layout: &Arc<Layout>, name: Arc<str>, chunks: Chunks, part: Part) -> Result<Self> {
        let decoder: Box<dyn Decode> = match layout.settings.format {
            Format::Csv => Box::new(csv::CsvDecoder::new(layout)),
            Format::Text => Box::new(lines::LineDecoder::new(layout)),
            _ => Box::new(json::JsonDecoder::new(layout)?),
        };
        Ok(Self { layout: Arc::clone(layout), name, chunks, decoder, part, pending: 0..0 })
    }

    /// Reads the next piece of the stream that has records of this part. Returns false at the part's end.
    fn read(&mut self) -> Result<bool> {
        if self.part.rows_left == 0 || self.chunks.position() >= self.part.end {
            return Ok(false);
        }
        let Some(chunk) = self.chunks.next()? else { return Ok(false) };
        let records = chunk.records();
        let mut first = 0;
        if std::mem::take(&mut self.part.header) {
            csv::check_header(&self.layout, &self.name, chunk.text(&records[..1]))?;
            first = 1;
        }
        let skipped = ((records.len() - first) as u64).min(self.part.skip);
        self.part.skip -= skipped;
        first += skipped as usize;
        let inside = &records[first..];
        let most = usize::try_from(self.part.rows_left).unwrap_or(usize::MAX);
        let count = inside.partition_point(|record| record.start < self.part.end).min(most);
        if count < inside.len() {
            self.part.rows_left = count as u64;
        }
        self.part.rows_left -= count as u64;
        self.pending = first..first + count;
        Ok(true)
    }
}

/// What the records of a group gave, in their order.
#[derive(Default)]
struct Decoded {
    batches: Vec<RecordBatch>,
    good: Vec<Record>,
    bad: Vec<BadRow>,
}

fn decode_group(layout: &Layout, name: &Arc<str>, decoder: &mut dyn Decode, chunk: &Chunk<'_>, records: &[Record]) -> Result<Morsel> {
    let mut decoded = Decoded::default();
    decode_halves(name, decoder, chunk, records, &mut decoded);
    let failed = || format!("reading {name}");
    let rows = match decoded.batches.as_slice() {
        [batch] => batch.clone(),
        batches => concat_batches(&layout.schema, batches).or_error(ErrorKind::Internal, failed)?,
    };
    let rows = rows.project(&layout.scan.projection).or_error(ErrorKind::Internal, failed)?;
    let positions = decoded.good.iter().map(|record| Position::Byte(record.start)).collect();
    let origin = Origin { input: Arc::clone(name), positions: Positions::Each(positions) };
    Ok(Morsel { rows, latest: None, origin, bad: decoded.bad, skipped: Skipped::default() })
}

fn decode_halves(name: &Arc<str>, decoder: &mut dyn Decode, chunk: &Chunk<'_>, records: &[Record], decoded: &mut Decoded) {
    if records.is_empty() {
        return;
    }
    match (decoder.decode(chunk, records), records) {
        (Ok(batch), _) => {
            decoded.batches.push(batch);
            decoded.good.extend_from_slice(records);
        }
        (Err(error), [record]) => decoded.bad.push(bad_row(name, *record, chunk.text(records), &error)),
        (Err(_), _) => {
            let (first, second) = records.split_at(records.len() / 2);
            decode_halves(name, decoder, chunk, first, decoded);
            decode_halves(name, decoder, chunk, second, decoded);
        }
    }
}

fn bad_row(name: &Arc<str>, record: Record, text: &[u8], error: &ArrowError) -> BadRow {
    let reason = match error {
        ArrowError::JsonError(reason) | ArrowError::CsvError(reason) | ArrowError::ParseError(reason) => reason.clone(),
        other => other.to_string(),
    };
    let text = String::from_utf8_lossy(text).trim_end_matches(['\r', '\n']).to_owned();
    let place = Place { input: Arc::clone(name), position: Position::Byte(record.start) };
    BadRow { place, reason, text: Some(text) }
}

/// The number of the line that holds this byte, from 1.
pub(super) fn line_of(mut reader: Box<dyn Read + Send>, byte: u64) -> Option<u64> {
    let mut lines = 1;
    let mut left = byte;
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match reader.read(&mut buffer[..wanted]) {
            Ok(0) | Err(_) => return None,
            Ok(read) => {
                lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
                left -= read as u64;
            }
        }
    }
    Some(lines)
}

/// A schema inferred from the first rows of a JSON stream.
pub(super) fn infer_json(reader: Box<dyn Read + Send>, name: &str, rows: usize) -> Result<arrow::datatypes::Schema> {
    let inferred = arrow::json::reader::infer_json_schema(std::io::BufReader::new(reader), Some(rows));
    inferred.map(|(schema, _)| schema).map_err(|error| Error::bad_data(format!("can't infer columns from {name}")).caused_by(error))
}
