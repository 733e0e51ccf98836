//! A cut in splits: large files divided, small ones put together, whatever the number of threads.
//!
//! A local file is opened, and its version checked, by the worker that reads it. Of a remote one the fetch brings the bytes, each
//! request conditional on the version.

use super::text::compression::Compression;
use super::version::{CutDetail, FileVersion, Piece, Range};
use super::{Shared, ipc, parquet, text};
use crate::format::Format;
use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, Read};
use std::sync::Arc;
use waterclock_core::id::PartitionId;
use waterclock_core::source::{Fetch, Morsel, Morsels, Split};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// A part of a file, with what is known of its inside.
#[derive(Clone)]
struct Part {
    file: FileVersion,
    range: Range,
    inside: Inside,
    /// Stored bytes that it reads, about.
    bytes: u64,
}

#[derive(Clone)]
enum Inside {
    Unknown,
    Parquet(ArrowReaderMetadata),
    Arrow(Arc<[u64]>),
}

/// The splits of a cut, in the order of its rows.
pub(super) fn splits(shared: &Arc<Shared>, partition: &PartitionId, detail: CutDetail) -> Result<Vec<Box<dyn Split>>> {
    let sizes = shared.layout.settings.sizes;
    let mut splits: Vec<FileSplit> = Vec::new();
    for piece in detail.files {
        for part in divide(shared, piece)? {
            match splits.last_mut() {
                Some(last) if last.bytes() + part.bytes <= sizes.split && last.parts.len() < sizes.files => last.parts.push(part),
                _ => splits.push(FileSplit { shared: Arc::clone(shared), partition: partition.clone(), parts: vec![part] }),
            }
        }
    }
    Ok(splits.into_iter().map(|split| Box::new(split) as Box<dyn Split>).collect())
}

/// A piece in parts that are not much larger than a split.
fn divide(shared: &Shared, piece: Piece) -> Result<Vec<Part>> {
    let size = shared.layout.settings.sizes.split.max(1);
    let Piece { file, range } = piece;
    let part = |range, inside, bytes| Part { file: file.clone(), range, inside, bytes };
    let stored = if let Range::Bytes(start, end) = range { end.saturating_sub(start) } else { file.size };
    let is_plain_text = shared.layout.settings.format.is_text() && Compression::of(&file.path) == Compression::None;
    let is_large = stored > size;
    Ok(match shared.layout.settings.format {
        Format::Json | Format::Csv | Format::Text if is_large && is_plain_text && !shared.layout.needs_records() => {
            let (start, end) = (range.start(), range.end().min(file.size));
            let bounds = (start..end).step_by(usize::try_from(size).unwrap_or(usize::MAX));
            bounds.map(|from| part(Range::Bytes(from, end.min(from + size)), Inside::Unknown, size.min(end - from))).collect()
        }
        Format::Parquet if is_large => {
            let metadata = parquet::metadata_now(shared, &file)?;
            let parts = parquet::divide(&metadata, range, size);
            let bytes = stored / (parts.len() as u64).max(1);
            parts.into_iter().map(|range| part(range, Inside::Parquet(metadata.clone()), bytes)).collect()
        }
        Format::Arrow if is_large && shared.directory()?.is_local() => {
            let ends: Arc<[u64]> = ipc::batch_ends(shared, &file)?.into();
            let parts = ipc::divide(&ends, file.size, range, size);
            let bytes = stored / (parts.len() as u64).max(1);
            parts.into_iter().map(|range| part(range, Inside::Arrow(Arc::clone(&ends)), bytes)).collect()
        }
        _ => vec![part(range, Inside::Unknown, stored)],
    })
}

struct FileSplit {
    shared: Arc<Shared>,
    partition: PartitionId,
    parts: Vec<Part>,
}

impl FileSplit {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// How much larger rows are in memory than in a compressed or columnar file, about.
const EXPANSION: u64 = 4;

impl Split for FileSplit {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn held_bytes(&self) -> usize {
        let local = self.shared.directory().is_ok_and(|directory| directory.is_local());
        let held = if local { self.shared.layout.settings.sizes.chunk as u64 } else { self.bytes() };
        usize::try_from(held).unwrap_or(usize::MAX)
    }

    fn work_bytes(&self) -> usize {
        let work = |part: &Part| {
            let plain = self.shared.layout.settings.format.is_text() && Compression::of(&part.file.path) == Compression::None;
            if plain { part.bytes } else { part.bytes.saturating_mul(EXPANSION) }
        };
        usize::try_from(self.parts.iter().map(work).sum::<u64>()).unwrap_or(usize::MAX)
    }

    fn fetch(self: Box<Self>) -> Result<Fetch> {
        let Self { shared, parts, .. } = *self;
        if shared.directory()?.is_local() {
            let parts = parts.into_iter().map(|part| (part, Fetched::Local)).collect();
            return Ok(Fetch::AtHand(Box::new(FileMorsels { shared, parts, current: None })));
        }
        Ok(Fetch::Awaited(Box::pin(async move {
            let mut fetched = VecDeque::with_capacity(parts.len());
            for part in parts {
                let bytes = fetch(&shared, &part).await?;
                fetched.push_back((part, bytes));
            }
            Ok(Box::new(FileMorsels { shared, parts: fetched, current: None }) as Box<dyn Morsels>)
        })))
    }
}

/// What a fetch brought.
enum Fetched {
    /// Nothing: the worker opens the local file.
    Local,
    /// The bytes of a remote file from a position on.
    Bytes(u64, Bytes),
    /// The column chunks of a remote Parquet file.
    Chunks(parquet::Input),
}

/// Brings a part of a remote file.
async fn fetch(shared: &Arc<Shared>, part: &Part) -> Result<Fetched> {
    let remote = shared.directory()?.open_remote(&part.file)?;
    match (&part.inside, part.range) {
        (Inside::Parquet(metadata), range) => {
            let name = shared.display(&part.file.path);
            Ok(Fetched::Chunks(parquet::fetch(shared, &remote, part.file.size, &name, metadata, range).await?))
        }
        (_, Range::Bytes(_, end)) => {
            let start = text::first_byte(&shared.layout, part.range);
            let mut bytes = remote.range(start..end).await?.to_vec();
            let mut at = end;
            // The last line begins in the part and may end behind it.
            while !shared.layout.needs_records() && at < part.file.size && bytes.last() != Some(&b'\n') {
                let more = remote.range(at..part.file.size.min(at + LINE_READ.max(bytes.len() as u64))).await?;
                let end_of_line = memchr::memchr(b'\n', &more).map_or(more.len(), |index| index + 1);
                bytes.extend_from_slice(&more[..end_of_line]);
                at += more.len() as u64;
            }
            Ok(Fetched::Bytes(start, bytes.into()))
        }
        _ => Ok(Fetched::Bytes(0, remote.range(0..part.file.size).await?)),
    }
}

/// How much is asked for at first to find the end of a line, in bytes.
const LINE_READ: u64 = 64 << 10;

/// The rows of one file after the other.
struct FileMorsels {
    shared: Arc<Shared>,
    parts: VecDeque<(Part, Fetched)>,
    current: Option<Current>,
}

/// A part that is being read.
struct Current {
    morsels: Box<dyn Morsels>,
    /// The file, if it is a local one: it could be written to while it is read.
    local: Option<(File, FileVersion)>,
}

impl Morsels for FileMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(morsel) = current.morsels.next()? {
                    return Ok(Some(morsel));
                }
                if let Some((file, version)) = &current.local {
                    self.shared.directory()?.check_local(file, version)?;
                }
                self.current = None;
            }
            let Some((part, fetched)) = self.parts.pop_front() else { return Ok(None) };
            self.current = Some(open(&self.shared, part, fetched)?);
        }
    }
}

fn open(shared: &Arc<Shared>, part: Part, fetched: Fetched) -> Result<Current> {
    let name = shared.display(&part.file.path);
    let Fetched::Local = fetched else { return Ok(Current { morsels: open_fetched(shared, part, fetched, name)?, local: None }) };
    let file = shared.directory()?.open_local(&part.file)?;
    let kept = file.try_clone().or_error(ErrorKind::Unavailable, || format!("can't read {name}"))?;
    let local = Some((kept, part.file.clone()));
    let morsels = match shared.layout.settings.format {
        Format::Json | Format::Csv | Format::Text => {
            let position = text::first_byte(&shared.layout, part.range);
            let reader = text::local_reader(file, position, part.file.size, &name)?;
            open_text(shared, part, reader, position, name)?
        }
        Format::Parquet => open_parquet(shared, part, parquet::Input::File(file), name)?,
        Format::Arrow => open_arrow(shared, part, ipc::Input::File(file), name)?,
    };
    Ok(Current { morsels, local })
}

fn open_fetched(shared: &Arc<Shared>, part: Part, fetched: Fetched, name: Arc<str>) -> Result<Box<dyn Morsels>> {
    match (shared.layout.settings.format, fetched) {
        (Format::Json | Format::Csv | Format::Text, Fetched::Bytes(position, bytes)) => {
            open_text(shared, part, Box::new(Cursor::new(bytes)), position, name)
        }
        (Format::Parquet, Fetched::Bytes(start, bytes)) => {
            let input = parquet::Input::Pieces(vec![(start, bytes)], part.file.size);
            open_parquet(shared, part, input, name)
        }
        (Format::Parquet, Fetched::Chunks(input)) => open_parquet(shared, part, input, name),
        (Format::Arrow, Fetched::Bytes(_, bytes)) => open_arrow(shared, part, ipc::Input::Memory(bytes), name),
        _ => Err(Error::internal(format!("{name} was fetched in a form that its format does not read"))),
    }
}

fn open_text(shared: &Arc<Shared>, part: Part, reader: Box<dyn Read + Send>, position: u64, name: Arc<str>) -> Result<Box<dyn Morsels>> {
    let reader = Compression::of(&part.file.path).decoder(reader, &name)?;
    text::open(&shared.layout, name, part.range, text::TextInput { reader, position })
}

fn open_parquet(shared: &Arc<Shared>, part: Part, input: parquet::Input, name: Arc<str>) -> Result<Box<dyn Morsels>> {
    let metadata = if let Inside::Parquet(metadata) = part.inside { Some(metadata) } else { None };
    parquet::open(shared, name, part.range, input, metadata)
}

fn open_arrow(shared: &Arc<Shared>, part: Part, input: ipc::Input, name: Arc<str>) -> Result<Box<dyn Morsels>> {
    let ends = if let Inside::Arrow(ends) = &part.inside { Some(&ends[..]) } else { None };
    ipc::open(shared, name, part.range, input, ends)
}
