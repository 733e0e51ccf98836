//! Files as a source: newline JSON, CSV, lines of text, Parquet and Arrow IPC, in any object store.
//!
//! What flows in: a directory, listed at each cut. What flows out: rows, in the order (modification time, path) of their files. A cut
//! names every file with its version and the part that is read, so it can be read again by another process; reading is conditional
//! on the version. The seen-set is state, checkpointed with the batch. What can fail: a file that changes or vanishes between cut and
//! read, a damaged file (both `BadData`, by name), and the store (`Unavailable`).
//!
//! How a cut is made: `directory` lists, `seen` tells what is new, `cutting` decides within the limits and asks `measure` where a
//! limit ends inside a file. How it is read: `split` divides, then `text`, `parquet` or `ipc` decode.

mod conform;
mod cutting;
mod directory;
mod infer;
mod ipc;
mod layout;
mod measure;
mod parquet;
mod prune;
mod seen;
pub(crate) mod settings;
mod split;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod version;

pub(crate) use layout::Layout;

use crate::format::Format;
use arrow::datatypes::SchemaRef;
use directory::Directory;
use seen::{Progress, SeenSet};
use serde_json::json;
use settings::Settings;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use version::{CutDetail, FileVersion};
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::PartitionId;
use waterclock_core::options::Options;
use waterclock_core::source::{
    Cut, CutLimits, Offset, PartitionCut, Place, Position, Scan, Source, SourceCapabilities, SourceSettings, Split,
};
use waterclock_core::state::StateLayer;
use waterclock_core::storage::{Location, Storage, StoreOptions};
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// What tells the age of files, for `settle_age`.
type Clock = fn() -> Timestamp;

/// The machine's clock. It decides only when a file is taken, never what is computed, and the cut records the decision.
#[allow(clippy::disallowed_methods)]
fn machine_clock() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_micros())
}

/// The source of a table of files. With declared columns it does no I/O before it is asked for a cut.
///
/// # Errors
/// `Config` for a wrong format or option, or if columns are to be inferred and there are no files yet; `Unavailable` if they can't
/// be read.
pub fn file_source(
    table: &TableDefinition,
    _settings: &SourceSettings,
    options: &mut Options,
    context: &ConnectorContext,
) -> Result<Box<dyn Source>> {
    let format = Format::parse(&table.format).map_err(|error| error.within(format!("table '{}'", table.name)))?;
    let place = LazyDirectory::new(table.location.clone(), options.take_store_options(), context.storage.clone());
    let settings = Settings::take(format, options)?;
    let source =
        FileSource::new(place, table.columns.clone(), settings).map_err(|error| error.within(format!("table '{}'", table.name)))?;
    Ok(Box::new(source))
}

/// A directory that is opened when it is needed first.
#[derive(Debug)]
struct LazyDirectory {
    location: Location,
    options: StoreOptions,
    storage: Storage,
    opened: OnceLock<Arc<Directory>>,
}

impl LazyDirectory {
    fn new(location: Location, options: StoreOptions, storage: Storage) -> Self {
        Self { location, options, storage, opened: OnceLock::new() }
    }

    fn open(&self) -> Result<&Arc<Directory>> {
        if let Some(directory) = self.opened.get() {
            return Ok(directory);
        }
        let directory = Arc::new(Directory::open(&self.location, &self.options, &self.storage)?);
        Ok(self.opened.get_or_init(|| directory))
    }
}

/// What everything that reads a cut shares.
#[derive(Debug)]
pub(crate) struct Shared {
    place: Arc<LazyDirectory>,
    layout: Arc<Layout>,
}

impl Shared {
    fn directory(&self) -> Result<&Arc<Directory>> {
        self.place.open()
    }

    /// A file's name for messages and origins.
    fn display(&self, path: &str) -> Arc<str> {
        self.directory().map_or_else(|_| path.into(), |directory| directory.display(path))
    }
}

/// Bad bytes in a file: there is no telling which row they belong to.
fn failed_reading(name: &str, what: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::bad_data(format!("{name} can't be read as {what}; it is damaged, cut off or of another format")).caused_by(cause)
}

/// A directory of files. See the [module](self).
#[derive(Debug)]
struct FileSource {
    shared: Arc<Shared>,
    partition: PartitionId,
    clock: Clock,
    seen: SeenSet,
    /// Files read to their end so far, over the job's life.
    finished: u64,
    /// What is left to cut, once the end is fixed.
    left: Option<VecDeque<FileVersion>>,
}

impl FileSource {
    fn new(place: LazyDirectory, columns: Option<SchemaRef>, settings: Settings) -> Result<Self> {
        let schema = match columns {
            Some(columns) => columns,
            None if settings.format == Format::Text => text::default_columns(),
            None => infer::infer(place.open()?, &settings)?,
        };
        let shared = Shared { place: Arc::new(place), layout: Arc::new(Layout::new(settings, schema)?) };
        Ok(Self {
            shared: Arc::new(shared),
            partition: PartitionId::from("files"),
            clock: machine_clock,
            seen: SeenSet::default(),
            finished: 0,
            left: None,
        })
    }

    /// Lists the files and tells those that were never seen, in order.
    fn discover(&self) -> Result<Vec<FileVersion>> {
        let directory = self.shared.directory()?;
        let listing = directory.list()?;
        for file in &listing {
            if self.seen.version(&file.path).is_some_and(|seen| !seen.is_same(file)) {
                return Err(directory.changed(&file.path));
            }
        }
        let mut unseen = cutting::unseen(listing, &self.seen);
        let settle_age = self.shared.layout.settings.settle_age;
        if settle_age > Duration::ZERO {
            let age = i64::try_from(settle_age.as_micros()).unwrap_or(i64::MAX);
            let newest = Timestamp((self.clock)().0.saturating_sub(age));
            unseen.retain(|file| file.mtime <= newest);
        }
        Ok(unseen)
    }

    fn offset(&self) -> Offset {
        Offset(match self.seen.partial() {
            Some((_, Progress::Byte(byte))) => json!({ "files": self.finished, "byte": byte }),
            Some((_, Progress::Row(row))) => json!({ "files": self.finished, "row": row }),
            _ => json!({ "files": self.finished }),
        })
    }
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shared.layout.schema)
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { replayable: true, has_end: true }
    }

    fn restore(&mut self, layers: &[StateLayer], last: &[PartitionCut]) -> Result<()> {
        self.seen = SeenSet::restore(layers)?;
        let Some(last) = last.iter().find(|cut| cut.partition == self.partition) else { return Ok(()) };
        let finished = last.end.0.get("files").and_then(serde_json::Value::as_u64);
        self.finished = finished.ok_or_else(|| Error::corrupt("the offset of a source of files holds no number of files"))?;
        Ok(())
    }

    fn fix_end(&mut self) -> Result<()> {
        self.left = Some(self.discover()?.into());
        Ok(())
    }

    fn cut(&mut self, limits: &CutLimits) -> Result<Cut> {
        let discovered = if self.left.is_none() { self.discover()? } else { Vec::new() };
        let unseen = self.left.as_mut().map_or(discovered.as_slice(), |left| &*left.make_contiguous());
        let taken = cutting::take(&self.seen, unseen, limits, self.shared.as_ref())?;
        if taken.pieces.is_empty() {
            return Ok(Cut::empty());
        }
        let start = self.offset();
        for (file, progress) in taken.progress {
            self.finished += u64::from(progress == Progress::Done);
            self.seen.note(file, progress);
        }
        // Files are taken from the front: to look at all that are left would cost each cut more, the more there are.
        if let Some(left) = &mut self.left {
            while left.pop_front_if(|file| self.seen.version(&file.path).is_some()).is_some() {}
        }
        let detail = serde_json::to_value(CutDetail { files: taken.pieces }).or_error(ErrorKind::Internal, || "a cut of files".into())?;
        let cut = PartitionCut { partition: self.partition.clone(), start, end: self.offset(), detail };
        Ok(Cut { partitions: vec![cut], more: taken.more, lag: Some(taken.waiting) })
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        self.seen.checkpoint()
    }

    fn splits(&self, cut: &Cut, scan: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>> {
        let layout = Arc::new(self.shared.layout.of(scan)?);
        let shared = Arc::new(Shared { place: Arc::clone(&self.shared.place), layout });
        let mut splits = Vec::new();
        for partition in &cut.partitions {
            let detail: CutDetail = serde_json::from_value(partition.detail.clone())
                .or_error(ErrorKind::Corrupt, || "the cut of a source of files does not name its files".into())?;
            splits.extend(split::splits(&shared, &partition.partition, detail)?);
        }
        Ok(splits)
    }

    fn locate(&self, place: Place) -> Place {
        let Position::Byte(byte) = place.position else { return place };
        match self.shared.line(&place.input, byte) {
            Some(line) => Place { position: Position::Line(line), ..place },
            None => place,
        }
    }
}

impl Shared {
    /// The line of a byte, if the file can still be read.
    fn line(&self, name: &str, byte: u64) -> Option<u64> {
        let directory = self.directory().ok()?;
        let path = directory.path_of(name)?;
        let listed = directory.list().ok()?.into_iter().find(|file| &*file.path == path)?;
        let reader = text::compression::Compression::of(path).decoder(self.reader_now(&listed, 0).ok()?, name).ok()?;
        text::line_of(reader, byte)
    }
}
