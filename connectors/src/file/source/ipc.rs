//! The Arrow IPC file format: record batches, found through the footer, of which the projected columns are taken.
//!
//! A local file is read by the worker, batch by batch; a remote one is fetched whole.

use super::conform::Conform;
use super::version::{FileVersion, Range};
use super::{Shared, failed_reading};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, read_footer_length};
use arrow::ipc::{root_as_footer, root_as_message};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use waterclock_core::source::{Morsel, Morsels, Origin, Positions, Skipped};
use waterclock_core::{Error, Result};

/// Something that can be read anywhere.
pub(super) trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// The bytes of a file.
pub(super) enum Input {
    /// A local file.
    File(File),
    /// All of a remote file.
    Memory(Bytes),
}

impl Input {
    fn reader(self) -> Box<dyn ReadSeek> {
        match self {
            Input::File(file) => Box::new(BufReader::new(file)),
            Input::Memory(bytes) => Box::new(Cursor::new(bytes)),
        }
    }
}

fn broken(error: ArrowError, name: &str) -> Error {
    failed_reading(name, "an Arrow IPC file", error)
}

/// Where each record batch of a file ends, in rows. Waits on storage: for the driver's thread alone.
pub(super) fn batch_ends(shared: &Shared, file: &FileVersion) -> Result<Vec<u64>> {
    let directory = shared.directory()?;
    let name = shared.display(&file.path);
    let ends = if directory.is_local() {
        ends(&mut BufReader::new(directory.open_local(file)?), file.size)
    } else {
        ends(&mut Cursor::new(directory.open_remote(file)?.range_now(0..file.size)?), file.size)
    };
    ends.map_err(|error| broken(error, &name))
}

/// Reads the footer and the head of each batch, not the batches.
fn ends<R: Read + Seek>(reader: &mut R, size: u64) -> Result<Vec<u64>, ArrowError> {
    let invalid = |what: &str| ArrowError::IpcError(what.to_owned());
    let trailer_start = size.checked_sub(10).ok_or_else(|| invalid("the file is too short"))?;
    let mut trailer = [0; 10];
    reader.seek(SeekFrom::Start(trailer_start))?;
    reader.read_exact(&mut trailer)?;
    let length = read_footer_length(trailer)?;
    let start = trailer_start.checked_sub(length as u64).ok_or_else(|| invalid("the footer does not fit into the file"))?;
    let mut footer = vec![0; length];
    reader.seek(SeekFrom::Start(start))?;
    reader.read_exact(&mut footer)?;
    let footer = root_as_footer(&footer).map_err(|error| invalid(&format!("the footer is broken: {error:?}")))?;
    let mut total = 0;
    let mut all = Vec::new();
    for block in footer.recordBatches().into_iter().flatten() {
        let head = usize::try_from(block.metaDataLength()).ok().filter(|&head| head as u64 <= size);
        let mut head = vec![0; head.ok_or_else(|| invalid("a record batch does not fit into the file"))?];
        reader.seek(SeekFrom::Start(u64::try_from(block.offset()).map_err(|_| invalid("a record batch lies before the file"))?))?;
        reader.read_exact(&mut head)?;
        // Since version 5 of the format the length is led by four bytes of 0xFF.
        let skip = if head.starts_with(&[0xFF; 4]) { 8 } else { 4 };
        let message = head.get(skip..).ok_or_else(|| invalid("a record batch has no head"))?;
        let message = root_as_message(message).map_err(|error| invalid(&format!("a record batch is broken: {error:?}")))?;
        total += message.header_as_record_batch().map_or(0, |batch| batch.length().max(0) as u64);
        all.push(total);
    }
    Ok(all)
}

/// The parts of a range of rows that one split each reads: whole record batches of about so many stored bytes.
pub(super) fn divide(ends: &[u64], file_size: u64, range: Range, size: u64) -> Vec<Range> {
    let per_batch = (file_size / (ends.len() as u64).max(1)).max(1);
    let (mut start, mut held) = (range.start(), 0);
    let mut parts = Vec::new();
    for &end in ends.iter().filter(|&&end| end > range.start()) {
        held += per_batch;
        let end = end.min(range.end());
        if held >= size || end == range.end() || Some(&end) == ends.last() {
            parts.push(Range::Rows(start, end));
            (start, held) = (end, 0);
        }
        if end == range.end() {
            break;
        }
    }
    parts.retain(|part| part.start() < part.end());
    parts
}

/// The rows of a part of a file. `ends` are those of its record batches, if they are known.
pub(super) fn open(shared: &Arc<Shared>, name: Arc<str>, range: Range, input: Input, ends: Option<&[u64]>) -> Result<Box<dyn Morsels>> {
    let reader = FileReader::try_new(input.reader(), None).map_err(|error| broken(error, &name))?;
    let conform = Conform::new(&shared.layout.projected, &reader.schema(), &name)?;
    let needed = conform.needed();
    let mut input = reader;
    let (first, row) = ends.map_or((0, 0), |ends| {
        let first = ends.partition_point(|&end| end <= range.start());
        (first, first.checked_sub(1).map_or(0, |before| ends[before]))
    });
    if first > 0 {
        input.set_index(first).map_err(|error| broken(error, &name))?;
    }
    Ok(Box::new(IpcMorsels { shared: Arc::clone(shared), name, range, reader: input, conform, needed, row, current: None }))
}

struct IpcMorsels {
    shared: Arc<Shared>,
    name: Arc<str>,
    range: Range,
    reader: FileReader<Box<dyn ReadSeek>>,
    conform: Conform,
    needed: Vec<usize>,
    /// The number of the next row of the file, from 0.
    row: u64,
    /// Rows that were read and not yet handed out.
    current: Option<RecordBatch>,
}

impl Morsels for IpcMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        let Some(batch) = self.batch()? else { return Ok(None) };
        let count = batch.num_rows().min(self.shared.layout.settings.sizes.rows);
        let rows = self.conform.apply(&batch.slice(0, count))?;
        let origin = Origin { input: Arc::clone(&self.name), positions: Positions::Rows(self.row + 1) };
        self.row += count as u64;
        self.current = (count < batch.num_rows()).then(|| batch.slice(count, batch.num_rows() - count));
        Ok(Some(Morsel { rows, latest: None, origin, bad: Vec::new(), skipped: Skipped::default() }))
    }
}

impl IpcMorsels {
    /// Rows of the range that follow each other, at least one.
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.current.take() {
            return Ok(Some(batch));
        }
        while self.row < self.range.end() {
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let batch = batch.and_then(|batch| batch.project(&self.needed)).map_err(|error| broken(error, &self.name))?;
            let rows = batch.num_rows() as u64;
            let skip = self.range.start().saturating_sub(self.row).min(rows);
            let take = (self.range.end() - self.row).min(rows).saturating_sub(skip);
            self.row += skip;
            if take > 0 {
                return Ok(Some(batch.slice(skip as usize, take as usize)));
            }
        }
        Ok(None)
    }
}
