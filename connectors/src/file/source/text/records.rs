//! Text cut into records: lines, or CSV records whose quoted values may hold line breaks.
//!
//! [`Chunks`] reads a stream piece by piece and hands out whole records with their positions. Where a piece ends depends on the
//! text and on where its part ends, not on how much a read returned.

use crate::file::source::Layout;
use crate::format::Format;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// Where a record stands in the text: `[start, end)` in bytes from the start of the file, its line break included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Whole records, one behind the other.
pub(crate) struct Chunk<'a> {
    text: &'a [u8],
    start: u64,
    records: &'a [Record],
}

impl<'a> Chunk<'a> {
    /// The records; none of them is blank.
    pub(crate) fn records(&self) -> &'a [Record] {
        self.records
    }

    /// The text of some records of this chunk that follow each other.
    pub(crate) fn text(&self, records: &[Record]) -> &'a [u8] {
        match (records.first(), records.last()) {
            (Some(first), Some(last)) => &self.text[(first.start - self.start) as usize..(last.end - self.start) as usize],
            _ => &[],
        }
    }
}

/// How much is read at once behind the end of a part, where at most the rest of a record is wanted.
const BEHIND_END: usize = 16 << 10;

/// A stream of text in whole records.
pub(crate) struct Chunks {
    reader: Box<dyn Read + Send>,
    name: Arc<str>,
    size: usize,
    /// Where the records end that are wanted.
    end: u64,
    /// What was read and not yet handed out begins at `consumed`.
    buffer: Vec<u8>,
    /// Where in the buffer the newest chunk stands.
    chunk: Range<usize>,
    consumed: usize,
    /// The position of the buffer's first byte.
    base: u64,
    ended: bool,
    boundaries: Boundaries,
    records: Vec<Record>,
}

impl Chunks {
    /// The records of a reader whose first byte stands at this position and begins a record.
    pub(crate) fn new(reader: Box<dyn Read + Send>, position: u64, layout: &Layout, name: Arc<str>) -> Self {
        Self {
            reader,
            name,
            size: layout.settings.sizes.chunk,
            end: u64::MAX,
            buffer: Vec::new(),
            chunk: 0..0,
            consumed: 0,
            base: position,
            ended: false,
            boundaries: Boundaries::new(layout),
            records: Vec::new(),
        }
    }

    /// The same, where records that begin at this position or behind it are not wanted: some are handed out, and few are read.
    pub(crate) fn until(self, end: u64) -> Self {
        Self { end, ..self }
    }

    /// The position up to which the stream was handed out or passed over.
    pub(crate) fn position(&self) -> u64 {
        self.base + self.consumed as u64
    }

    /// Passes over the rest of a line that began before the stream.
    pub(crate) fn skip_line(&mut self) -> Result<()> {
        loop {
            if let Some(index) = memchr::memchr(b'\n', &self.buffer[self.consumed..]) {
                self.consumed += index + 1;
                return Ok(());
            }
            self.consumed = self.buffer.len();
            if self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// The next records, at least one; none at the end of the stream.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk<'_>>> {
        loop {
            let whole = self.whole_records();
            if !self.records.is_empty() || (whole > self.consumed && self.ended) {
                self.chunk = self.consumed..whole;
                self.consumed = whole;
                if self.records.is_empty() {
                    continue;
                }
                return Ok(Some(self.current()));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// What [`Self::next`] gave last.
    pub(crate) fn current(&self) -> Chunk<'_> {
        Chunk { text: &self.buffer[self.chunk.clone()], start: self.base + self.chunk.start as u64, records: &self.records }
    }

    /// Reads on, until the buffer holds one more piece of the stream.
    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.consumed);
        self.base += self.consumed as u64;
        self.boundaries.shift(self.consumed);
        self.consumed = 0;
        let wanted = self.wanted();
        let read = (&mut self.reader).take(wanted).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| failed(error, &self.name))?;
        self.ended = (read as u64) < wanted;
        if self.base == 0 && self.consumed == 0 && self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.consumed = 3;
        }
        Ok(())
    }

    /// How many bytes are read next.
    fn wanted(&self) -> u64 {
        let read = self.buffer.len();
        let left = self.end.saturating_sub(self.base + read as u64);
        // A record longer than a piece is read in pieces that double, so that it is not searched over and over.
        let most = self.size.max(read).max(16) as u64;
        most.min(left.saturating_add(BEHIND_END.max(read) as u64))
    }

    /// Finds the whole records of the buffer, and where they end in it.
    fn whole_records(&mut self) -> usize {
        self.records.clear();
        self.boundaries.find(&self.buffer, self.consumed, self.base, self.ended, &mut self.records)
    }
}

/// Finds where records end in a buffer that grows at its end.
pub(crate) enum Boundaries {
    /// Lines, of which those are blank, and no records, that hold nothing but these.
    Lines(fn(&u8) -> bool),
    /// Records whose quoted values may hold line breaks.
    Csv(Box<CsvBoundaries>),
}

impl Boundaries {
    pub(crate) fn new(layout: &Layout) -> Self {
        match layout.settings.format {
            Format::Csv if layout.needs_records() => Boundaries::Csv(Box::new(CsvBoundaries::new(layout.settings.csv.parser()))),
            Format::Csv => Boundaries::Lines(|byte| matches!(byte, b'\r' | b'\n')),
            Format::Text => Boundaries::Lines(|_| false),
            _ => Boundaries::Lines(u8::is_ascii_whitespace),
        }
    }

    /// Adds the whole records from `from` on, where a record begins, and returns where the last of them ends. `base` is the
    /// position of the buffer's first byte; if the text has `ended`, so has its last record.
    pub(crate) fn find(&mut self, buffer: &[u8], from: usize, base: u64, ended: bool, records: &mut Vec<Record>) -> usize {
        match self {
            Boundaries::Lines(blank) => lines(buffer, from, base, ended, *blank, records),
            Boundaries::Csv(csv) => csv.find(buffer, from, base, ended, records),
        }
    }

    /// The buffer has lost so many bytes at its start.
    pub(crate) fn shift(&mut self, consumed: usize) {
        if let Boundaries::Csv(csv) = self {
            csv.parsed = csv.parsed.saturating_sub(consumed);
        }
    }
}

/// A stream that breaks off or does not decompress is bad data, whatever else fails is the store's fault.
fn failed(error: std::io::Error, name: &str) -> waterclock_core::Error {
    use std::io::ErrorKind as Io;
    match error.downcast::<waterclock_core::Error>() {
        Ok(error) => error,
        Err(error) => {
            let kind = match error.kind() {
                Io::UnexpectedEof | Io::InvalidData | Io::InvalidInput | Io::Other => ErrorKind::BadData,
                _ => ErrorKind::Unavailable,
            };
            Err::<(), _>(error).or_error(kind, || format!("can't read {name}")).expect_err("made from an error")
        }
    }
}

fn lines(buffer: &[u8], from: usize, base: u64, ended: bool, blank: fn(&u8) -> bool, records: &mut Vec<Record>) -> usize {
    let mut push = |start: usize, end: usize| {
        if !buffer[start..end].iter().all(blank) {
            records.push(Record { start: base + start as u64, end: base + end as u64 });
        }
    };
    let mut start = from;
    for index in memchr::memchr_iter(b'\n', &buffer[from..]) {
        let end = from + index + 1;
        push(start, end);
        start = end;
    }
    if ended {
        push(start, buffer.len());
        start = buffer.len();
    }
    start
}

/// Finds the ends of CSV records with the parser that reads the fields.
pub(crate) struct CsvBoundaries {
    parser: csv_core::Reader,
    /// Up to where the buffer was given to the parser.
    parsed: usize,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvBoundaries {
    fn new(parser: csv_core::Reader) -> Self {
        Self { parser, parsed: 0, fields: vec![0; 16 << 10], ends: vec![0; 256] }
    }

    fn find(&mut self, buffer: &[u8], from: usize, base: u64, ended: bool, records: &mut Vec<Record>) -> usize {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};
        let mut start = from;
        self.parsed = self.parsed.max(from);
        // An empty input tells the parser that the text has ended.
        while self.parsed < buffer.len() || ended {
            let (result, read, _, _) = self.parser.read_record(&buffer[self.parsed..], &mut self.fields, &mut self.ends);
            self.parsed += read;
            match result {
                Record => {
                    push_trimmed(buffer, start, self.parsed, base, records);
                    start = self.parsed;
                }
                End => return buffer.len(),
                InputEmpty | OutputFull | OutputEndsFull => {}
            }
        }
        start
    }
}

/// Adds a record without the line breaks that the parser left before it.
fn push_trimmed(buffer: &[u8], start: usize, end: usize, base: u64, records: &mut Vec<Record>) {
    let breaks = buffer[start..end].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if start + breaks < end {
        records.push(Record { start: base + (start + breaks) as u64, end: base + end as u64 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::source::settings::Settings;
    use crate::file::source::text::default_columns;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use waterclock_core::options::Options;

    /// Counts what is read of it.
    struct Counted(std::io::Cursor<Vec<u8>>, Arc<AtomicU64>);

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1.fetch_add(read as u64, Ordering::Relaxed);
            Ok(read)
        }
    }

    proptest! {
        #[test]
        fn a_part_has_all_its_records_and_little_behind_its_end_is_read(
            lengths in prop::collection::vec(1usize..40_000, 1..40), end in 1u64..400_000, chunk in 1usize..200_000,
        ) {
            let text: Vec<u8> = lengths.iter().flat_map(|&length| [vec![b'x'; length], vec![b'\n']].concat()).collect();
            let starts = lengths.iter().scan(0, |at, &length| Some(std::mem::replace(at, *at + length as u64 + 1)));
            let wanted: Vec<u64> = starts.filter(|&start| start < end).collect();
            let mut settings = Settings::of_text(Format::Text, &mut Options::new("lines", Vec::new())).unwrap();
            settings.sizes.chunk = chunk;
            let layout = Layout::new(settings, default_columns()).unwrap();
            let read = Arc::new(AtomicU64::new(0));
            let reader = Box::new(Counted(std::io::Cursor::new(text), Arc::clone(&read)));
            let mut chunks = Chunks::new(reader, 0, &layout, "x".into()).until(end);
            let mut found = Vec::new();
            while chunks.position() < end && let Some(chunk) = chunks.next().unwrap() {
                found.extend(chunk.records().iter().map(|record| record.start).filter(|&start| start < end));
            }
            prop_assert_eq!(found, wanted);
            // The last line is read in pieces that double.
            let longest = *lengths.iter().max().unwrap() as u64;
            prop_assert!(read.load(Ordering::Relaxed) <= end + 3 * longest + BEHIND_END as u64);
        }
    }
}
