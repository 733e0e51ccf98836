//! Sinks: where rows go, made visible only by a commit.
//!
//! A batch's output passes through three hands. While the batch runs, each lane of the plan writes into a [`LaneWriter`], under
//! names that no reader takes for data: that is *staging*. When all lanes are done, [`Staging::finish`] returns a [`Manifest`]: what
//! was staged, as data, small enough to stand in the commit record. After the commit, [`Sink::publish`] makes the manifest's output
//! visible; it may be called again for the same batch, by this process or another, and must then change nothing.
//!
//! A lane is a contiguous part of the batch's rows. Lane numbers follow the order of the rows, and which row falls into which lane
//! does not depend on the number of threads.

use crate::batch::BatchContext;
use crate::error::Result;
use crate::id::{BatchId, Epoch, JobId, Nonce, Seq, SinkId};
use crate::memory::MemoryBudget;
use crate::storage::{Location, Store};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How a sink takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkMode {
    /// Final rows only.
    #[default]
    Append,
    /// The new row per changed key.
    Update,
    /// The full result with every batch.
    Complete,
    /// Every change, with `_op`.
    Changelog,
}

impl FromStr for SinkMode {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "append" => Ok(Self::Append),
            "update" => Ok(Self::Update),
            "complete" => Ok(Self::Complete),
            "changelog" => Ok(Self::Changelog),
            _ => Err(crate::Error::config(format!("'{text}' is not a sink mode; it is append, update, complete or changelog"))),
        }
    }
}

impl fmt::Display for SinkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Update => "update",
            Self::Complete => "complete",
            Self::Changelog => "changelog",
        })
    }
}

/// The number of a lane within a batch, from 0, in the order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub usize);

/// Who writes: goes into the names of staged objects, so that two drivers never write the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The number that the batch's record will have.
    pub seq: Seq,
    /// The driver's epoch.
    pub epoch: Epoch,
    /// The driver's nonce.
    pub nonce: Nonce,
}

/// Who a sink's place belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The job.
    pub job: JobId,
    /// The sink within the job.
    pub sink: SinkId,
}

/// What a sink is opened with.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The job and the sink's name.
    pub owner: Owner,
    /// The columns that it will get.
    pub schema: SchemaRef,
    /// A place of the checkpoint in which sinks that have no store of their own stage their rows.
    pub scratch: Store,
    /// The newest data batch in the commit log; none in a new job. A sink that is ahead of it belongs to another history.
    pub last_batch: Option<BatchId>,
}

/// What was staged in a batch, as data for the commit record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Rows over all files.
    pub rows: u64,
    /// The staged files, in the order of their rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<StagedFile>,
}

/// A file that waits for publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Its path while staged, relative to the sink's root (or to the scratch place).
    pub staged: String,
    /// Its path once published, relative to the sink's root; none for rows that are handed on in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// What one lane staged: files without their final names, which only the whole batch can number.
#[derive(Debug, Default)]
pub struct LaneOutput {
    /// Rows written.
    pub rows: u64,
    /// The files, in the order of their rows, with the uploads to wait for.
    pub files: Vec<LaneFile>,
}

/// A file of a lane.
#[derive(Debug)]
pub struct LaneFile {
    /// Its path while staged.
    pub staged: String,
    /// Its rows.
    pub rows: u64,
    /// Its upload, to be waited for before the commit.
    pub upload: crate::storage::UploadHandle,
}

/// Where a job's rows go.
pub trait Sink: Send + Sync {
    /// The modes that it can take.
    fn modes(&self) -> &[SinkMode];

    /// Where its output is, if that is a place that can be named.
    fn location(&self) -> Option<Location> {
        None
    }

    /// Who has taken its place into possession, as far as the place itself tells. Changes nothing, and needs no [`open`](Self::open).
    ///
    /// # Errors
    /// `Unavailable` if the place can't be read; `Corrupt` if what it tells is damaged.
    fn owner(&self) -> Result<Option<Owner>> {
        Ok(None)
    }

    /// Takes the place into possession, and verifies that what stands there is this job's. Called at every start, after the job's
    /// `open` record is committed and before anything is staged or published. Safe to repeat.
    ///
    /// # Errors
    /// `Config` if the place belongs to another job or holds output that the log does not know; `Unavailable` if it can't be
    /// written.
    fn open(&self, context: SinkContext) -> Result<()>;

    /// Begins to stage a batch.
    fn stage(&self, batch: &BatchContext, attempt: &Attempt, budget: &MemoryBudget) -> Result<Arc<dyn Staging>>;

    /// Makes a committed batch visible. Batches come in order. Idempotent: what is visible already stays as it is.
    ///
    /// # Errors
    /// `Unavailable` if the place can't be written now; `Corrupt` if what was staged is lost and can't have been
    /// published.
    fn publish(&self, batch: BatchId, manifest: &Manifest) -> Result<()>;

    /// Removes what older epochs staged and no committed manifest names. Called after everything committed is published.
    fn collect(&self, current: Epoch) -> Result<()>;

    /// The rows of a committed batch as they can be seen now, each as a JSON object on one line, with its columns in their order and nulls
    /// left out; none from a sink whose rows can't be read back. Changes nothing, and needs no [`open`](Self::open).
    ///
    /// # Errors
    /// `Unavailable` if what was published is not there; `Corrupt` if it is not what was committed.
    fn read_back(&self, manifest: &Manifest) -> Result<Option<Vec<String>>> {
        let _ = manifest;
        Ok(None)
    }
}

/// A batch being staged. Shared by the lanes.
pub trait Staging: Send + Sync {
    /// Begins a lane. Cheap: nothing is created before the first row.
    fn lane(&self, lane: Lane) -> Result<Box<dyn LaneWriter>>;

    /// Waits until everything is durable, and describes it. The outputs come in the order of their lanes. Not on a worker.
    fn finish(&self, lanes: Vec<LaneOutput>) -> Result<Manifest>;
}

/// Encodes the rows of one lane, on a worker. Never waits: encoded bytes go to an [`Upload`](crate::storage::Upload).
pub trait LaneWriter: Send {
    /// Takes rows of the sink's schema.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Hands the rest over. A lane without rows has no files.
    fn finish(self: Box<Self>) -> Result<LaneOutput>;
}

/// What a table says of its sink besides the connector's own options.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// The sink's name.
    pub id: SinkId,
    /// How it takes changes.
    pub mode: SinkMode,
    /// Where it is, for checks against sources and other sinks.
    pub location: Location,
}
