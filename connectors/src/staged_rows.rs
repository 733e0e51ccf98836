//! Rows for sinks that have no store of their own: staged as Arrow IPC files in the checkpoint, handed on after the commit.
//!
//! A staged file goes when its rows have been handed on. One that is missing when its batch is published has been handed on before: the
//! rows are not handed on twice, and a crash between the two does hand them on again: at least once.

use crate::file::manifest;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use object_store::path::Path;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};
use waterclock_core::id::Epoch;
use waterclock_core::memory::MemoryBudget;
use waterclock_core::sink::{Attempt, Lane, LaneFile, LaneOutput, LaneWriter, Manifest, SinkContext, Staging};
use waterclock_core::storage::{Store, Upload};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// The staging area of one sink.
#[derive(Default)]
pub(crate) struct StagedRows {
    opened: OnceLock<(Store, SchemaRef)>,
}

impl StagedRows {
    pub(crate) fn open(&self, context: SinkContext) {
        // A second opening finds the same place.
        let _ = self.opened.set((context.scratch, context.schema));
    }

    fn opened(&self) -> Result<&(Store, SchemaRef)> {
        self.opened.get().ok_or_else(|| Error::internal("a sink was not opened"))
    }

    pub(crate) fn stage(&self, attempt: &Attempt, budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        let (store, schema) = self.opened()?;
        let (store, schema) = (store.clone(), Arc::clone(schema));
        Ok(Arc::new(RowsStaging { store, schema, attempt: attempt.clone(), budget: budget.clone() }))
    }

    /// Hands the batch's rows on, and lets go of them. Does nothing if that was done before.
    pub(crate) fn publish(&self, manifest: &Manifest, hand_on: impl FnOnce(&[RecordBatch]) -> Result<()>) -> Result<()> {
        let (store, schema) = self.opened()?;
        let mut batches = Vec::new();
        for (index, file) in manifest.files.iter().enumerate() {
            let path = Path::from(file.staged.as_str());
            let failed = || format!("reading {}", store.display(&path));
            let bytes = match store.get(&path)? {
                Some(bytes) => bytes,
                None if index == 0 => return self.forget(manifest),
                None => return Err(Error::corrupt(format!("{} is lost: its batch was not handed on; restore it", store.display(&path)))),
            };
            let reader = FileReader::try_new(Cursor::new(bytes), None).or_error(ErrorKind::Corrupt, failed)?;
            for batch in reader {
                // The file's schema has the same columns; the sink's own is what the user gave.
                let batch = batch.and_then(|batch| batch.with_schema(Arc::clone(schema)));
                batches.push(batch.or_error(ErrorKind::Corrupt, failed)?);
            }
        }
        if !batches.is_empty() {
            hand_on(&batches)?;
        }
        self.forget(manifest)
    }

    /// The first file goes first: once it is missing, the batch counts as handed on.
    fn forget(&self, manifest: &Manifest) -> Result<()> {
        let (store, _) = self.opened()?;
        manifest.files.iter().try_for_each(|file| store.delete(&Path::from(file.staged.as_str())))
    }

    /// Removes what older epochs staged.
    pub(crate) fn collect(&self, current: Epoch) -> Result<()> {
        let (store, _) = self.opened()?;
        for object in store.list(None)? {
            let epoch = object.location.as_ref().split_once('-').and_then(|(epoch, _)| epoch.parse().ok()).map(Epoch);
            if epoch.is_some_and(|epoch| epoch < current) {
                store.delete(&object.location)?;
            }
        }
        Ok(())
    }
}

struct RowsStaging {
    store: Store,
    schema: SchemaRef,
    attempt: Attempt,
    budget: MemoryBudget,
}

impl Staging for RowsStaging {
    fn lane(&self, lane: Lane) -> Result<Box<dyn LaneWriter>> {
        let Attempt { seq, epoch, nonce } = &self.attempt;
        let staged = format!("{:020}-{nonce}/{:020}-{:05}.arrow", epoch.0, seq.0, lane.0);
        let upload = self.store.upload(Path::from(staged.as_str()), &self.budget);
        let writer = FileWriter::try_new(Vec::new(), &self.schema).or_error(ErrorKind::Internal, || "staging rows".into())?;
        Ok(Box::new(RowsWriter { staged, upload, writer, rows: 0 }))
    }

    fn finish(&self, lanes: Vec<LaneOutput>) -> Result<Manifest> {
        manifest(lanes, |_| None)
    }
}

struct RowsWriter {
    staged: String,
    upload: Upload,
    writer: FileWriter<Vec<u8>>,
    rows: u64,
}

impl LaneWriter for RowsWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).or_error(ErrorKind::Internal, || "staging rows".into())?;
        self.upload.push(Bytes::from(std::mem::take(self.writer.get_mut())));
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<LaneOutput> {
        if self.rows == 0 {
            return Ok(LaneOutput::default());
        }
        self.writer.finish().or_error(ErrorKind::Internal, || "staging rows".into())?;
        self.upload.push(Bytes::from(std::mem::take(self.writer.get_mut())));
        let file = LaneFile { staged: self.staged, rows: self.rows, upload: self.upload.finish() };
        Ok(LaneOutput { rows: self.rows, files: vec![file] })
    }
}
