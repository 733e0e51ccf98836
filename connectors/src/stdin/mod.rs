//! `stdin://`: newline JSON, CSV or lines of text out of a pipe.
//!
//! What flows in: bytes, read by a thread of their own into a bounded buffer. What flows out: rows, in order. A cut is what has arrived
//! in whole records; it can't be read again, so the driver stores its bytes before the batch runs, and the guarantee begins there: what
//! was read from the pipe and not yet stored is lost with the process. Until the end is fixed a cut never waits. From then on it waits
//! for input, and the end of the input is the end of the source. What can fail: bad rows, and a read (`Unavailable`).
//!
//! Bytes and lines are counted over the life of the job, over all its runs. Each run reads a new input, whose header, if it has one, is
//! part of its first cut.

mod arrivals;
mod pending;
#[cfg(test)]
mod tests;

use crate::file::source::settings::Settings;
use crate::file::source::text::{self, TextInput};
use crate::file::source::{Layout, text::default_columns};
use crate::format::Format;
use arrivals::Arrivals;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use pending::Pending;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use waterclock_core::connector::TableDefinition;
use waterclock_core::id::PartitionId;
use waterclock_core::options::Options;
use waterclock_core::source::{Cut, CutLimits, Fetch, Offset, PartitionCut, Place, Position, Scan, Source, SourceCapabilities, Split};
use waterclock_core::state::StateLayer;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Bytes that are held, about, before they are cut; the thread that reads may hold as many again.
const BUFFER: usize = 16 << 20;

/// Gives the input when the first cut needs it.
type Open = Box<dyn FnOnce() -> Result<Box<dyn Read + Send>> + Send>;

/// The source of a `stdin://` table. Nothing is read before the first cut.
///
/// # Errors
/// `Config` for a format that is not text, a wrong option, or columns that are not declared.
pub fn stdin_source(table: &TableDefinition, options: &mut Options) -> Result<Box<dyn Source>> {
    let place = |error: Error| error.within(format!("table '{}'", table.name));
    let format = Format::parse(&table.format).map_err(place)?;
    if !format.is_text() {
        return Err(place(Error::config(format!("stdin:// is read as JSON, CSV or TEXT, not as {}", table.format.to_uppercase()))));
    }
    if !table.location.host().is_empty() || !table.location.parameters().is_empty() {
        return Err(place(Error::config(format!("the location {} has more in it than stdin://", table.location))));
    }
    let columns = match &table.columns {
        Some(columns) => Arc::clone(columns),
        None if format == Format::Text => default_columns(),
        None => return Err(place(Error::config("the columns of stdin:// can't be inferred, for it is read only once; declare them"))),
    };
    let layout = Layout::new(Settings::of_text(format, options)?, columns).map_err(place)?;
    Ok(Box::new(StdinSource::new(Box::new(machine_stdin), layout, BUFFER)))
}

/// The process's own input, for one source: two would each get some of its lines.
fn machine_stdin() -> Result<Box<dyn Read + Send>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Error::config("stdin is read by another table already; read it once, and use that table twice"));
    }
    Ok(Box::new(std::io::stdin()))
}

/// A position in all input of the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    bytes: u64,
    lines: u64,
}

impl Counted {
    fn of(offset: &Offset) -> Result<Self> {
        serde_json::from_value(offset.0.clone()).or_error(ErrorKind::Corrupt, || format!("'{}' is no offset of stdin", offset.0))
    }

    fn behind(self, text: &[u8]) -> Self {
        let lines = memchr::memchr_iter(b'\n', text).count() as u64;
        Self { bytes: self.bytes + text.len() as u64, lines: self.lines + lines }
    }

    fn offset(self) -> Result<Offset> {
        serde_json::to_value(self).map(Offset).or_error(ErrorKind::Internal, || "writing an offset".into())
    }
}

/// What a cut says besides its range.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Detail {
    /// Whether it is the first of a run's input: a header stands in it, if the format has one.
    begins: bool,
}

struct StdinSource {
    layout: Arc<Layout>,
    partition: PartitionId,
    name: Arc<str>,
    open: Option<Open>,
    arrivals: Option<Arrivals>,
    buffer: usize,
    pending: Pending,
    /// Behind the last cut.
    position: Counted,
    /// Whether nothing of this run's input was cut yet.
    begins: bool,
    /// Whether cuts wait for the end of the input.
    to_end: bool,
    /// The text of cuts that are not acknowledged, by their first byte.
    cuts: BTreeMap<u64, (Counted, Bytes)>,
}

impl StdinSource {
    fn new(open: Open, layout: Layout, buffer: usize) -> Self {
        Self {
            pending: Pending::new(&layout, 0),
            layout: Arc::new(layout),
            partition: PartitionId::from("stdin"),
            name: "stdin".into(),
            open: Some(open),
            arrivals: None,
            buffer,
            position: Counted::default(),
            begins: true,
            to_end: false,
            cuts: BTreeMap::new(),
        }
    }

    /// Takes what has arrived, unless enough is held.
    fn receive(&mut self, wait: bool) -> Result<()> {
        if self.pending.ended || (self.pending.text.len() >= self.buffer && self.pending.has_rows()) {
            return Ok(());
        }
        if let Some(open) = self.open.take() {
            self.arrivals = Some(Arrivals::start(open()?, self.buffer)?);
        }
        if let Some(arrivals) = &self.arrivals {
            self.pending.ended = arrivals.take(&mut self.pending.text, wait)?;
        }
        self.pending.search();
        Ok(())
    }

    fn cut_of(&mut self, text: Bytes) -> Result<Cut> {
        let start = self.position;
        self.position = start.behind(&text);
        self.cuts.insert(start.bytes, (start, text));
        let begins = std::mem::take(&mut self.begins);
        let detail = serde_json::to_value(Detail { begins }).or_error(ErrorKind::Internal, || "writing a cut".into())?;
        let cut = PartitionCut { partition: self.partition.clone(), start: start.offset()?, end: self.position.offset()?, detail };
        let more = self.pending.has_rows() || (self.to_end && !self.pending.ended);
        Ok(Cut { partitions: vec![cut], more, lag: None })
    }
}

impl Source for StdinSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.layout.schema)
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { replayable: false, has_end: true }
    }

    fn restore(&mut self, _layers: &[StateLayer], last: &[PartitionCut]) -> Result<()> {
        self.position = last.last().map_or_else(|| Ok(Counted::default()), |cut| Counted::of(&cut.end))?;
        self.pending = Pending::new(&self.layout, self.position.bytes);
        Ok(())
    }

    fn fix_end(&mut self) -> Result<()> {
        self.to_end = true;
        Ok(())
    }

    fn cut(&mut self, limits: &CutLimits) -> Result<Cut> {
        for wait in [false, true] {
            self.receive(wait)?;
            if let Some(text) = self.pending.take(limits, self.buffer) {
                return self.cut_of(text);
            }
            if self.pending.ended || !self.to_end {
                return Ok(Cut::empty());
            }
        }
        Ok(Cut { more: true, ..Cut::empty() })
    }

    fn spool(&mut self, cut: &Cut) -> Result<Option<Bytes>> {
        let [range] = cut.partitions.as_slice() else { return Ok(None) };
        Ok(self.cuts.get(&Counted::of(&range.start)?.bytes).map(|(_, text)| text.clone()))
    }

    fn unspool(&mut self, cut: &Cut, bytes: Bytes) -> Result<()> {
        for range in &cut.partitions {
            let (start, end) = (Counted::of(&range.start)?, Counted::of(&range.end)?);
            if start.behind(&bytes) != end {
                return Err(Error::corrupt(format!("a stored cut of stdin does not hold what its range says, {start:?} to {end:?}")));
            }
            self.cuts.insert(start.bytes, (start, bytes.clone()));
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        Ok(Vec::new())
    }

    fn splits(&self, cut: &Cut, scan: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>> {
        let layout = Arc::new(self.layout.of(scan)?);
        let mut splits: Vec<Box<dyn Split>> = Vec::new();
        for range in &cut.partitions {
            let start = Counted::of(&range.start)?.bytes;
            let detail: Detail =
                serde_json::from_value(range.detail.clone()).or_error(ErrorKind::Corrupt, || "a cut of stdin has another form".into())?;
            let (_, text) =
                self.cuts.get(&start).ok_or_else(|| Error::internal("a cut of stdin is read that was not taken from the spool"))?;
            for (position, text) in divide(&layout, start, text, detail.begins) {
                splits.push(Box::new(TextSplit {
                    layout: Arc::clone(&layout),
                    partition: range.partition.clone(),
                    name: Arc::clone(&self.name),
                    header: detail.begins && layout.has_header() && splits.is_empty(),
                    position,
                    text,
                }));
            }
        }
        Ok(splits)
    }

    fn locate(&self, place: Place) -> Place {
        let Position::Byte(byte) = place.position else { return place };
        let Some((start, (counted, text))) = self.cuts.range(..=byte).next_back() else { return place };
        let before = &text[..text.len().min((byte - start) as usize)];
        Place { position: Position::Line(counted.behind(before).lines + 1), ..place }
    }

    fn acknowledge(&mut self, cut: &Cut) -> Result<()> {
        for range in &cut.partitions {
            self.cuts = self.cuts.split_off(&Counted::of(&range.end)?.bytes);
        }
        Ok(())
    }
}

/// A cut's text in pieces that end with a line, each with its position.
fn divide(layout: &Layout, start: u64, text: &Bytes, begins: bool) -> Vec<(u64, Bytes)> {
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    let size = usize::try_from(layout.settings.sizes.split).unwrap_or(usize::MAX).max(1);
    let mut pieces = Vec::new();
    let mut from = if begins && text.starts_with(MARK) { MARK.len() } else { 0 };
    while from < text.len() || pieces.is_empty() {
        let least = from.saturating_add(size).min(text.len());
        let line = if layout.needs_records() { None } else { memchr::memchr(b'\n', &text[least.max(1) - 1..]) };
        let end = line.map_or(text.len(), |index| least.max(1) + index);
        pieces.push((start + from as u64, text.slice(from..end)));
        from = end;
    }
    pieces
}

struct TextSplit {
    layout: Arc<Layout>,
    partition: PartitionId,
    name: Arc<str>,
    position: u64,
    text: Bytes,
    header: bool,
}

impl Split for TextSplit {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn held_bytes(&self) -> usize {
        self.text.len()
    }

    fn work_bytes(&self) -> usize {
        self.text.len()
    }

    fn fetch(self: Box<Self>) -> Result<Fetch> {
        let input = TextInput { reader: Box::new(Cursor::new(self.text)), position: self.position };
        text::open_all(&self.layout, self.name, self.header, input).map(Fetch::AtHand)
    }
}
