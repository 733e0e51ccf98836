//! Looks inside files where a limit of a batch ends within one: finds the end of a part, in bytes for plain text, else in rows.
//!
//! Runs on the driver's thread and may wait on storage. Compressed text has no part that could be told in stored bytes: a limit of
//! bytes takes such a file whole, a limit of rows counts them by reading.

use super::cutting::{Measure, Part, rest_of};
use super::seen::Progress;
use super::text::compression::Compression;
use super::text::records::Chunks;
use super::version::{FileVersion, Range};
use super::{Shared, ipc, parquet};
use crate::format::Format;
use std::io::Read;
use waterclock_core::Result;

impl Measure for Shared {
    fn part(&self, file: &FileVersion, from: Progress, bytes: Option<u64>, rows: Option<u64>) -> Result<Part> {
        match self.layout.settings.format {
            Format::Json | Format::Csv | Format::Text if Compression::of(&file.path) == Compression::None => {
                self.plain_part(file, from, bytes, rows)
            }
            Format::Json | Format::Csv | Format::Text => self.compressed_part(file, from, rows),
            Format::Parquet => Ok(row_part(file, from, bytes, rows, &parquet::row_group_ends(self, file)?)),
            Format::Arrow => Ok(row_part(file, from, bytes, rows, &ipc::batch_ends(self, file)?)),
        }
    }
}

impl Shared {
    /// A file's bytes from a position on, waited for.
    pub(super) fn reader_now(&self, file: &FileVersion, from: u64) -> Result<Box<dyn Read + Send>> {
        if self.directory()?.is_local() {
            let local = self.directory()?.open_local(file)?;
            return super::text::local_reader(local, from, file.size, &self.display(&file.path));
        }
        Ok(Box::new(self.directory()?.open_remote(file)?.reader(from)))
    }

    fn plain_part(&self, file: &FileVersion, from: Progress, bytes: Option<u64>, rows: Option<u64>) -> Result<Part> {
        let start = if let Progress::Byte(byte) = from { byte } else { 0 };
        let end = bytes.map_or(file.size, |bytes| file.size.min(start.saturating_add(bytes.max(1))));
        if rows.is_none() && !self.layout.needs_records() {
            return Ok(plain(file, from, start, self.line_end(file, end)?, 0));
        }
        let most = rows.map_or(u64::MAX, |rows| rows.saturating_add(u64::from(start == 0 && self.layout.has_header())));
        let mut chunks = Chunks::new(self.reader_now(file, start)?, start, &self.layout, self.display(&file.path));
        let (mut at, mut count) = (start, 0);
        while at < end && count < most {
            let Some(chunk) = chunks.next()? else { return Ok(plain(file, from, start, file.size, count)) };
            for record in chunk.records() {
                if at >= end || count >= most {
                    break;
                }
                at = record.end;
                count += 1;
            }
        }
        Ok(plain(file, from, start, at, count))
    }

    /// The end of the line that holds the byte before this one.
    fn line_end(&self, file: &FileVersion, end: u64) -> Result<u64> {
        let before = end.saturating_sub(1);
        let mut chunks = Chunks::new(self.reader_now(file, before)?, before, &self.layout, self.display(&file.path));
        chunks.skip_line()?;
        Ok(chunks.position())
    }

    fn compressed_part(&self, file: &FileVersion, from: Progress, rows: Option<u64>) -> Result<Part> {
        let Some(rows) = rows else { return Ok(Part { range: rest_of(file, from), ends: true, rows: 0 }) };
        let name = self.display(&file.path);
        let reader = Compression::of(&file.path).decoder(self.reader_now(file, 0)?, &name)?;
        let start = if let Progress::Row(row) = from { row } else { 0 };
        let end = start.saturating_add(rows);
        let mut chunks = Chunks::new(reader, 0, &self.layout, name);
        let mut count = 0u64;
        let header = u64::from(self.layout.has_header());
        while count < end.saturating_add(header).saturating_add(1) {
            let Some(chunk) = chunks.next()? else {
                let counted = count.saturating_sub(header).saturating_sub(start);
                return Ok(Part { range: rest_of(file, from), ends: true, rows: counted });
            };
            count += chunk.records().len() as u64;
        }
        Ok(Part { range: Range::Rows(start, end), ends: false, rows })
    }
}

fn plain(file: &FileVersion, from: Progress, start: u64, end: u64, rows: u64) -> Part {
    let ends = end >= file.size;
    Part { range: if ends { rest_of(file, from) } else { Range::Bytes(start, end) }, ends, rows }
}

/// A part of a file whose rows fall into blocks with these ends: up to a block's end if there is one in reach.
fn row_part(file: &FileVersion, from: Progress, bytes: Option<u64>, rows: Option<u64>, ends: &[u64]) -> Part {
    let total = ends.last().copied().unwrap_or(0);
    let start = if let Progress::Row(row) = from { row.min(total) } else { 0 };
    let by_bytes = bytes.map_or(u64::MAX, |bytes| (u128::from(total) * u128::from(bytes) / u128::from(file.size.max(1))) as u64);
    let reach = start.saturating_add(by_bytes.min(rows.unwrap_or(u64::MAX)).max(1));
    if reach >= total {
        return Part { range: rest_of(file, from), ends: true, rows: total - start };
    }
    let end = ends.iter().copied().rfind(|&end| start < end && end <= reach).unwrap_or(reach);
    Part { range: Range::Rows(start, end), ends: false, rows: end - start }
}
