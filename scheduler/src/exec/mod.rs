//! Runs a plan, a batch at a time, on a pool of workers.
//!
//! What flows in: the splits of each source's cut, in the order of their rows. What flows out: rows, into the lanes of the sinks' staging;
//! counts per partition; changes of state per operator. Nothing of it is visible to anybody before the commit, and nothing is atomic
//! here: a batch that fails leaves staged leftovers that no record names, and operators whose memory must be dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::id::{OperatorId, PartitionId};
use waterclock_core::sink::LaneOutput;
use waterclock_core::source::BadRow;
use waterclock_core::state::StateChange;
use waterclock_core::time::{Timestamp, Watermark};

/// What a batch is run on.
pub struct BatchInput {
    /// Number and clock.
    pub context: waterclock_core::batch::BatchContext,
    /// For each source of the plan, the splits of its cut and the watermark that it had before this batch.
    pub sources: Vec<SourceInput>,
    /// For each sink of the plan, where its rows are staged.
    pub sinks: Vec<Arc<dyn waterclock_core::sink::Staging>>,
    /// Whether every watermark goes to its end behind this batch's rows.
    pub end_of_stream: bool,
}

/// A source's part of a batch.
pub struct SourceInput {
    /// The pieces of its cut, in the order of their rows.
    pub splits: Vec<Box<dyn waterclock_core::source::Split>>,
    /// The source's watermark before this batch; it is the least that the batch may leave.
    pub watermark: Watermark,
    /// Where bad rows are staged; none if they fail the batch.
    pub dead_letter: Option<Arc<dyn waterclock_core::sink::Staging>>,
}

/// What a batch gave.
#[derive(Debug)]
pub struct BatchOutput {
    /// For each source of the plan.
    pub sources: Vec<SourceOutput>,
    /// For each operator with a memory.
    pub operators: BTreeMap<OperatorId, OperatorOutput>,
    /// For each sink of the plan, its lanes in the order of their rows.
    pub sinks: Vec<Vec<LaneOutput>>,
    /// The earliest processing time at which an operator wants a batch even without rows.
    pub next_timer: Option<Timestamp>,
}

/// What was read of a source.
#[derive(Debug, Default)]
pub struct SourceOutput {
    /// For each partition that had rows.
    pub partitions: BTreeMap<PartitionId, PartitionOutput>,
    /// The source's watermark behind this batch.
    pub watermark: Option<Watermark>,
    /// How many bad rows went to the dead-letter place.
    pub bad_rows: u64,
    /// The lanes of the dead-letter place.
    pub dead_letter: Vec<LaneOutput>,
}

/// What was read of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionOutput {
    /// Rows read, with those that statistics left out, without bad ones.
    pub rows: u64,
    /// The latest event time among them.
    pub latest: Option<Timestamp>,
}

/// What an operator left behind.
#[derive(Debug)]
pub struct OperatorOutput {
    /// The watermark of its output.
    pub watermark: Watermark,
    /// What changed in its state: at most one layer per table.
    pub changes: Vec<StateChange>,
}

/// A batch that failed: the error, and the row at fault if it was a bad one, whose place the source may be able to name better.
#[derive(Debug)]
pub enum BatchFailure {
    /// A row that could not be read, of the source of this index.
    BadRow(usize, BadRow),
    /// Anything else.
    Error(waterclock_core::Error),
}
