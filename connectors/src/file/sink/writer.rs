//! One lane's file: encoded on a worker, handed to the storage thread piece by piece.

use super::encode::{Encode, encoder};
use super::options::FileOptions;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::path::Path;
use waterclock_core::memory::MemoryBudget;
use waterclock_core::sink::{LaneFile, LaneOutput, LaneWriter};
use waterclock_core::storage::{Store, Upload};
use waterclock_core::{Result, sink};

/// Bytes are handed over in pieces of at least this size.
const PIECE_BYTES: usize = 1 << 20;
/// The largest row group of a Parquet file, in encoded bytes.
const LARGEST_GROUP: usize = 32 << 20;
/// Row groups smaller than this are not worth their overhead.
const SMALLEST_GROUP: usize = 1 << 20;

pub(super) struct FileWriter {
    staged: String,
    encoder: Box<dyn Encode>,
    upload: Upload,
    encoded: Vec<u8>,
    rows: u64,
}

impl FileWriter {
    pub(super) fn new(
        store: &Store,
        staged: String,
        format: Format,
        schema: &SchemaRef,
        options: &FileOptions,
        budget: &MemoryBudget,
    ) -> Result<Self> {
        // Several lanes are open at a time; what they hold together should stay a fraction of the budget.
        let group_bytes = (budget.limit() / 16).clamp(SMALLEST_GROUP, LARGEST_GROUP);
        let encoder = encoder(format, schema, options, group_bytes)?;
        let upload = store.upload(Path::from(staged.as_str()), budget);
        Ok(Self { staged, encoder, upload, encoded: Vec::new(), rows: 0 })
    }

    fn hand_over(&mut self) {
        self.upload.push(Bytes::from(std::mem::take(&mut self.encoded)));
    }
}

impl LaneWriter for FileWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.encoder.rows(rows, &mut self.encoded)?;
        self.rows += rows.num_rows() as u64;
        if self.encoded.len() >= PIECE_BYTES {
            self.hand_over();
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<LaneOutput> {
        if self.rows == 0 {
            return Ok(LaneOutput::default());
        }
        self.encoder.finish(&mut self.encoded)?;
        self.hand_over();
        let file = LaneFile { staged: self.staged, rows: self.rows, upload: self.upload.finish() };
        Ok(LaneOutput { rows: self.rows, files: vec![file] })
    }
}

/// Waits for the files of all lanes, and numbers those that have rows. Where one fails the others are waited for all the same: none
/// comes to be behind the collection of whoever begins the next attempt.
pub(crate) fn manifest(lanes: Vec<LaneOutput>, published: impl Fn(usize) -> Option<String>) -> Result<sink::Manifest> {
    let (mut manifest, mut stored) = (sink::Manifest::default(), Ok(()));
    for lane in lanes {
        manifest.rows += lane.rows;
        for file in lane.files {
            let bytes = file.upload.bytes();
            stored = stored.and(file.upload.wait());
            let published = published(manifest.files.len());
            manifest.files.push(sink::StagedFile { staged: file.staged, published, bytes, rows: file.rows });
        }
    }
    stored.map(|()| manifest)
}
