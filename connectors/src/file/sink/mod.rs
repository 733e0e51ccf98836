//! Files as a sink: a directory, or a prefix in a bucket, that holds only committed files.
//!
//! What flows in: rows, per lane. While the batch runs each lane writes one file below `_staged/`, in a directory of this driver's own.
//! Publication moves each file to its final name, `<batch>-<part>.<extension>`, by a rename (on object stores a server-side copy, behind
//! which the staged object is removed while the next batch goes on). Nothing here is atomic but the single move: which files belong to a
//! batch is decided by the commit record, and the moves are repeated until all are done.
//!
//! A staged file that is missing has been moved already. Where the published one is missing too, an earlier driver may have published it,
//! and a reader may have taken it away: that is told, and no error. Only for what this driver has staged itself is it `Corrupt`, for that
//! was there a moment ago. On object stores the staged object may be there beside its copy: then only the copy counts, whatever an earlier
//! driver has staged is not copied over it, and the staged one is removed again.
//!
//! The object `_waterclock` names the job and the sink that the place belongs to. A place with another owner, with foreign files, or
//! with files of batches that the log does not know is refused, never overwritten.

mod encode;
mod fits;
mod options;
mod owner;
mod parquet;
mod paths;
mod read_back;
mod writer;

pub(crate) use writer::manifest;

use crate::format::Format;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use options::FileOptions;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use waterclock_core::batch::BatchContext;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::options::Options;
use waterclock_core::sink::{Attempt, Lane, LaneOutput, LaneWriter, Manifest, Owner, Sink, SinkContext, SinkMode, StagedFile, Staging};
use waterclock_core::storage::{Access, Location, Removals, Storage, Store, StoreOptions};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Moves of one batch under way at once.
const CONCURRENT_MOVES: usize = 16;

struct FileSink {
    location: Location,
    format: Format,
    store_options: StoreOptions,
    options: FileOptions,
    storage: Storage,
    opened: OnceLock<(Store, SchemaRef)>,
    /// Where this driver stages, once it has.
    staged_by: Mutex<Option<String>>,
    /// Staged objects of which there is a published copy.
    removals: Removals,
}

/// The sink of a table of files.
///
/// # Errors
/// `Config` for a format or an option that can't be read.
pub fn file_sink(table: &TableDefinition, options: &mut Options, context: &ConnectorContext) -> Result<Arc<dyn Sink>> {
    let format = Format::parse(&table.format).map_err(|error| error.within(format!("table '{}'", table.name)))?;
    let store_options = options.take_store_options();
    let options = FileOptions::take(format, options).map_err(|error| error.within(format!("table '{}'", table.name)))?;
    let (location, storage) = (table.location.clone(), context.storage.clone());
    let (opened, staged_by, removals) = (OnceLock::new(), Mutex::default(), Removals::default());
    Ok(Arc::new(FileSink { location, format, store_options, options, storage, opened, staged_by, removals }))
}

impl FileSink {
    fn opened(&self) -> Result<&(Store, SchemaRef)> {
        self.opened.get().ok_or_else(|| Error::internal(format!("the sink at {} was not opened", self.location)))
    }

    /// Whether a file was staged by this driver: none before it has published it.
    fn is_own(&self, file: &StagedFile) -> bool {
        let own = self.staged_by.lock().unwrap_or_else(PoisonError::into_inner);
        own.as_ref().is_some_and(|own| file.staged.starts_with(own))
    }

    /// Publishes a file, and says what it means how it was found.
    async fn publish_file(&self, store: &Store, batch: BatchId, file: &StagedFile) -> Result<()> {
        let is_own = self.is_own(file);
        let Published::Gone(name) = publish(store, file, is_own).await? else { return Ok(()) };
        if is_own {
            return Err(Error::corrupt(format!(
                "{name} is lost: it was committed, and what was staged for it at {}/{} is gone; restore that",
                self.location.to_string().trim_end_matches('/'),
                file.staged
            )));
        }
        tracing::warn!(%batch, file = name, rows = file.rows, "a committed file is neither staged nor published: it was published before, and taken away");
        Ok(())
    }
}

impl Sink for FileSink {
    fn modes(&self) -> &[SinkMode] {
        &[SinkMode::Append, SinkMode::Update, SinkMode::Complete, SinkMode::Changelog]
    }

    fn location(&self) -> Option<Location> {
        Some(self.location.clone())
    }

    fn owner(&self) -> Result<Option<Owner>> {
        if self.location.local_path().is_some_and(|path| !path.exists()) {
            return Ok(None);
        }
        owner::of(&self.storage.open(&self.location, &self.store_options, Access::Read)?)
    }

    fn open(&self, context: SinkContext) -> Result<()> {
        fits::check(self.format, &context.schema, &self.options)?;
        let store = self.storage.open(&self.location, &self.store_options, Access::Write)?;
        owner::claim(&store, &context.owner, self.format, context.last_batch)?;
        // A second opening finds the same place.
        let _ = self.opened.set((store, context.schema));
        Ok(())
    }

    fn stage(&self, batch: &BatchContext, attempt: &Attempt, budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        let (store, schema) = self.opened()?;
        *self.staged_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(paths::staged_by(attempt));
        Ok(Arc::new(FileStaging {
            store: store.clone(),
            schema: Arc::clone(schema),
            format: self.format,
            options: self.options.clone(),
            batch: batch.batch,
            attempt: attempt.clone(),
            budget: budget.clone(),
        }))
    }

    fn publish(&self, batch: BatchId, manifest: &Manifest) -> Result<()> {
        let (store, _) = self.opened()?;
        let moves = manifest.files.iter().map(|file| self.publish_file(store, batch, file));
        let moves = futures::stream::iter(moves).buffer_unordered(CONCURRENT_MOVES).try_collect();
        let moved: Result<()> = if manifest.files.len() > 1 { store.storage().wait(moves) } else { store.wait(moves) };
        moved?;
        if store.local_root().is_none() {
            self.removals.begin(store, manifest.files.iter().map(|file| Path::from(file.staged.as_str())).collect());
        }
        Ok(())
    }

    fn collect(&self, current: Epoch) -> Result<()> {
        let (store, _) = self.opened()?;
        match store.local_root() {
            Some(root) => collect_local(root, current),
            None => collect_objects(store, current),
        }
    }

    fn read_back(&self, manifest: &Manifest) -> Result<Option<Vec<String>>> {
        if self.format == Format::Csv {
            // Its values have no types: a text can't be told from a number, nor an empty one from null.
            return Ok(None);
        }
        if manifest.files.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let store = self.storage.open(&self.location, &self.store_options, Access::Read)?;
        read_back::rows(&store, self.format, manifest).map(Some)
    }
}

/// How a file stands after it was to be moved.
enum Published {
    /// Where readers look for it.
    Visible,
    /// Nowhere; its name.
    Gone(String),
}

/// Moves one file, or copies it where nothing can be moved. What is there already was moved before. A copy of what an earlier driver staged
/// may stand beside it, and is not written anew: to its readers it would be another object.
async fn publish(store: &Store, file: &StagedFile, is_own: bool) -> Result<Published> {
    let Some(published) = &file.published else { return Ok(Published::Visible) };
    let (from, to) = (Path::from(file.staged.as_str()), Path::from(published.as_str()));
    if !is_own && store.local_root().is_none() && store.objects().head(&to).await.is_ok_and(|meta| meta.size == file.bytes) {
        return Ok(Published::Visible);
    }
    let moved = match store.local_root() {
        Some(_) => store.objects().rename(&from, &to).await,
        None => store.objects().copy(&from, &to).await,
    };
    match moved {
        Ok(()) => return Ok(Published::Visible),
        Err(StoreError::NotFound { .. }) => {}
        Err(cause) => return Err(store.error("publish", &to, cause)),
    }
    match store.objects().head(&to).await {
        Ok(meta) if meta.size == file.bytes => Ok(Published::Visible),
        Ok(meta) => Err(Error::corrupt(format!(
            "{} has {} bytes, and the commit record says {}; something else has written it",
            store.display(&to),
            meta.size,
            file.bytes
        ))),
        Err(StoreError::NotFound { .. }) => Ok(Published::Gone(store.display(&to))),
        Err(cause) => Err(store.error("look at", &to, cause)),
    }
}

/// On a local file system the store hides its own temporary files, and leaves directories: remove whole directories instead.
fn collect_local(root: &std::path::Path, current: Epoch) -> Result<()> {
    let staged = root.join(paths::staged_root().as_ref());
    let failed = || format!("can't clear {}", staged.display());
    let entries = match std::fs::read_dir(&staged) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::unavailable(failed()).caused_by(error)),
    };
    for entry in entries {
        let entry = entry.or_error(ErrorKind::Unavailable, failed)?;
        let epoch = entry.file_name().to_str().and_then(paths::epoch_of);
        if epoch.is_some_and(|epoch| epoch < current) {
            remove_leftovers(&entry.path()).or_error(ErrorKind::Unavailable, failed)?;
        }
    }
    Ok(())
}

/// A driver that was overtaken and does not know it yet may still put files there: those go at the next opening.
fn remove_leftovers(directory: &std::path::Path) -> std::io::Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match std::fs::remove_dir_all(directory) {
        Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty) => Err(error),
        _ => Ok(()),
    }
}

fn collect_objects(store: &Store, current: Epoch) -> Result<()> {
    for object in store.list(Some(&paths::staged_root()))? {
        let directory = object.location.parts().nth(1);
        if directory.and_then(|directory| paths::epoch_of(directory.as_ref())).is_some_and(|epoch| epoch < current) {
            store.delete(&object.location)?;
        }
    }
    Ok(())
}

struct FileStaging {
    store: Store,
    schema: SchemaRef,
    format: Format,
    options: FileOptions,
    batch: BatchId,
    attempt: Attempt,
    budget: MemoryBudget,
}

impl Staging for FileStaging {
    fn lane(&self, lane: Lane) -> Result<Box<dyn LaneWriter>> {
        let staged = paths::staged(&self.attempt, lane);
        Ok(Box::new(writer::FileWriter::new(&self.store, staged, self.format, &self.schema, &self.options, &self.budget)?))
    }

    fn finish(&self, lanes: Vec<LaneOutput>) -> Result<Manifest> {
        manifest(lanes, |part| Some(paths::published(self.batch, part, self.format)))
    }
}
