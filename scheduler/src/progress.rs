//! What a run says of itself: one record per batch, as a tracing event and to an [`Observer`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use waterclock_core::id::{BatchId, Epoch, Seq, SinkId, SourceId};
use waterclock_core::time::{Timestamp, Watermark};

/// What became of a batch: told after it is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchProgress {
    /// The batch's number.
    pub batch: BatchId,
    /// The number of its record.
    pub seq: Seq,
    /// The driver's epoch.
    pub epoch: Epoch,
    /// When it was triggered.
    pub trigger_time: Timestamp,
    /// What came in, per source.
    pub sources: BTreeMap<SourceId, SourceProgress>,
    /// What went out, per sink.
    pub sinks: BTreeMap<SinkId, SinkProgress>,
    /// Rows read over all sources.
    pub rows_in: u64,
    /// Rows written over all sinks.
    pub rows_out: u64,
    /// Rows read per second of cut, run, stage and commit.
    pub rows_per_second: f64,
    /// Rows that could not be read and went to dead-letter places.
    pub bad_rows: u64,
    /// Rows that operators dropped because they came late.
    pub late_rows: u64,
    /// How long it took, in milliseconds.
    pub durations: Durations,
    /// Whether the stream ended with this batch.
    pub drained: bool,
}

/// What a batch read of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Rows read, without bad ones.
    pub rows: u64,
    /// Rows that could not be read.
    pub bad_rows: u64,
    /// How much is known to wait, in the source's unit (rows, else files).
    pub lag: Option<u64>,
    /// The watermark behind the batch.
    pub watermark: Watermark,
}

/// What a batch wrote to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkProgress {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// How long the steps of a batch took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// Naming the ranges of the batch.
    pub cut_ms: f64,
    /// Reading, computing and writing: since it was cut, or since the run of the batch before ended, whichever was later.
    pub run_ms: f64,
    /// Waiting until output and state are durable, and the record before it is committed.
    pub stage_ms: f64,
    /// Putting the record.
    pub commit_ms: f64,
    /// Making the output visible.
    pub publish_ms: f64,
}

/// Who looks at a run: a progress bar, a log, a test.
pub trait Observer: Send + Sync {
    /// The job was opened, and goes on behind this batch.
    fn opened(&self, epoch: Epoch, last: Option<BatchId>) {
        let _ = (epoch, last);
    }

    /// A batch was committed and published. Called in order, on the driver's thread, which waits meanwhile.
    fn batch(&self, progress: &BatchProgress);
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn batch(&self, _: &BatchProgress) {}
}

impl BatchProgress {
    /// Writes it as a tracing event.
    pub(crate) fn trace(&self) {
        tracing::info!(
            batch = self.batch.0,
            seq = self.seq.0,
            rows_in = self.rows_in,
            rows_out = self.rows_out,
            rows_per_second = self.rows_per_second,
            bad_rows = self.bad_rows,
            late_rows = self.late_rows,
            cut_ms = self.durations.cut_ms,
            run_ms = self.durations.run_ms,
            stage_ms = self.durations.stage_ms,
            commit_ms = self.durations.commit_ms,
            publish_ms = self.durations.publish_ms,
            "batch"
        );
    }
}
