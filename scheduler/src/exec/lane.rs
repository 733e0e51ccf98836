//! One lane's work: decode a split, check event times, push the rows through the fused flow, into the lane's writers and exchanges.

use super::event_time;
use super::exchange::partition;
use super::flow::{BoundTransforms, Flow, Receiver, Target};
use super::{BatchFailure, PartitionOutput, SourceOutput};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use datafusion_physical_expr::PhysicalExpr;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::PartitionId;
use waterclock_core::memory::MemoryBudget;
use waterclock_core::operator::{Combiner, Port};
use waterclock_core::plan::NodeId;
use waterclock_core::sink::{Lane, LaneOutput, LaneWriter, Staging};
use waterclock_core::source::{BadRow, Morsel, Morsels, dead_letter_schema};
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// What all lanes of a batch share.
pub(super) struct BatchShared {
    pub(super) context: BatchContext,
    pub(super) transforms: BoundTransforms,
    pub(super) sinks: Vec<Arc<dyn Staging>>,
    pub(super) exchanges: Arc<BTreeMap<(NodeId, Port), Exchange>>,
    /// Encoded bytes on their way to storage: lanes pause while they are too many.
    pub(super) uploads: MemoryBudget,
}

/// How rows are divided in front of an input of an operator.
pub(super) struct Exchange {
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) tasks: usize,
    /// What makes the rows fewer before.
    pub(super) combining: Option<Combining>,
}

/// How rows are combined, and how combined rows are keyed.
pub(super) struct Combining {
    pub(super) combiner: Arc<dyn Combiner>,
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
}

/// What the lanes of one source share.
pub(super) struct LaneSource {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) flow: Arc<Flow>,
    /// Name of the event-time column, and its index in the morsels.
    pub(super) event_time: Option<(String, usize)>,
    pub(super) dead_letter: Option<Arc<dyn Staging>>,
}

/// Rows change hands in pieces of at least so many, or of all that a lane has: a piece is divided among all tasks, and much smaller parts
/// would cost more than the work on them.
const EXCHANGED_ROWS: usize = 1 << 16;
/// Where rows are combined, a piece has at least so many bytes too: the more rows, the more of them are of one group.
const COMBINED_BYTES: usize = 4 << 20;

/// Rows on their way to an input of an operator.
#[derive(Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

/// Rows for one input of an operator, divided among its tasks.
pub(super) struct Exchanged {
    pub(super) node: NodeId,
    pub(super) port: Port,
    pub(super) by_task: Vec<RecordBatch>,
    /// Whether they were combined.
    pub(super) is_combined: bool,
}

/// The memory of a lane between two splits. Owned by whoever works on it.
pub(super) struct LaneTask {
    lane: Lane,
    shared: Arc<BatchShared>,
    source: Arc<LaneSource>,
    writers: BTreeMap<usize, Box<dyn LaneWriter>>,
    dead_letter: Option<Box<dyn LaneWriter>>,
    pending: BTreeMap<(NodeId, Port), Pending>,
    exchanged: Vec<Exchanged>,
    partitions: BTreeMap<PartitionId, PartitionOutput>,
    bad_rows: u64,
}

/// What a finished lane leaves.
pub(super) struct LaneResult {
    pub(super) lane: Lane,
    pub(super) sinks: BTreeMap<usize, LaneOutput>,
    pub(super) exchanged: Vec<Exchanged>,
    pub(super) source: SourceOutput,
}

impl LaneTask {
    pub(super) fn new(lane: Lane, shared: Arc<BatchShared>, source: Arc<LaneSource>) -> Self {
        Self {
            lane,
            shared,
            source,
            writers: BTreeMap::new(),
            dead_letter: None,
            pending: BTreeMap::new(),
            exchanged: Vec::new(),
            partitions: BTreeMap::new(),
            bad_rows: 0,
        }
    }

    /// Works until the split ends, or until storage can't keep up. Returns whether the split has ended.
    pub(super) fn work(&mut self, partition: &PartitionId, morsels: &mut dyn Morsels) -> Result<bool, BatchFailure> {
        loop {
            let next = morsels.next().map_err(|error| BatchFailure::Error(error.within(format!("source '{}'", self.source.name))))?;
            let Some(morsel) = next else { return Ok(true) };
            self.take(partition, morsel)?;
            if self.shared.uploads.used() > self.shared.uploads.limit() {
                return Ok(false);
            }
        }
    }

    fn take(&mut self, partition: &PartitionId, mut morsel: Morsel) -> Result<(), BatchFailure> {
        let mut latest = morsel.skipped.latest.max(morsel.latest);
        if let (Some((name, column)), None) = (&self.source.event_time, morsel.latest) {
            latest = latest.max(event_time::check(&mut morsel, *column, name).map_err(BatchFailure::Error)?);
        }
        self.take_bad(std::mem::take(&mut morsel.bad))?;
        self.count(partition, morsel.rows.num_rows() as u64 + morsel.skipped.rows, latest);
        let (source, shared) = (Arc::clone(&self.source), Arc::clone(&self.shared));
        source.flow.push(morsel.rows, &shared.transforms, self).map_err(BatchFailure::Error)
    }

    fn count(&mut self, partition: &PartitionId, rows: u64, latest: Option<Timestamp>) {
        let counts = self.partitions.entry(partition.clone()).or_default();
        counts.rows += rows;
        counts.latest = counts.latest.max(latest);
    }

    fn take_bad(&mut self, mut bad: Vec<BadRow>) -> Result<(), BatchFailure> {
        if bad.is_empty() {
            return Ok(());
        }
        let Some(staging) = &self.source.dead_letter else { return Err(BatchFailure::BadRow(self.source.index, bad.swap_remove(0))) };
        if self.dead_letter.is_none() {
            self.dead_letter = Some(staging.lane(self.lane).map_err(BatchFailure::Error)?);
        }
        self.bad_rows += bad.len() as u64;
        let rows = dead_letters(&self.source.name, &bad).map_err(BatchFailure::Error)?;
        match &mut self.dead_letter {
            Some(writer) => writer.write(&rows).map_err(BatchFailure::Error),
            None => Ok(()),
        }
    }

    /// Hands over what the writers still hold.
    pub(super) fn finish(mut self) -> Result<LaneResult> {
        for ((node, port), pending) in std::mem::take(&mut self.pending) {
            self.exchanged.push(self.shared.divide(node, port, &pending.batches)?);
        }
        let mut sinks = BTreeMap::new();
        for (sink, writer) in self.writers {
            sinks.insert(sink, writer.finish()?);
        }
        let dead_letter = self.dead_letter.map(|writer| writer.finish()).transpose()?.into_iter().collect();
        let source = SourceOutput { partitions: self.partitions, bad_rows: self.bad_rows, dead_letter, ..SourceOutput::default() };
        Ok(LaneResult { lane: self.lane, sinks, exchanged: self.exchanged, source })
    }
}

impl Receiver for LaneTask {
    fn deliver(&mut self, target: Target, rows: RecordBatch) -> Result<()> {
        match target {
            Target::Sink(sink) => write(&mut self.writers, &self.shared.sinks, self.lane, sink, &rows),
            Target::Exchange(node, port) => {
                let mut pending = self.pending.remove(&(node, port)).unwrap_or_default();
                pending.rows += rows.num_rows();
                pending.bytes += bytes(&rows);
                pending.batches.push(rows);
                let least_bytes = if self.shared.combines(node, port) { COMBINED_BYTES } else { 0 };
                if pending.rows < EXCHANGED_ROWS || pending.bytes < least_bytes {
                    self.pending.insert((node, port), pending);
                } else {
                    self.exchanged.push(self.shared.divide(node, port, &pending.batches)?);
                }
                Ok(())
            }
        }
    }
}

impl BatchShared {
    /// Whether rows are combined before they are divided among the tasks of an input.
    fn combines(&self, node: NodeId, port: Port) -> bool {
        self.exchanges.get(&(node, port)).is_some_and(|exchange| exchange.combining.is_some())
    }

    fn exchange(&self, node: NodeId, port: Port) -> Result<&Exchange> {
        self.exchanges.get(&(node, port)).ok_or_else(|| Error::internal("rows for an operator that the plan has no exchange for"))
    }

    /// Rows that stand for those of one input; none where they go on as they are.
    pub(super) fn combine(&self, node: NodeId, port: Port, rows: &[RecordBatch]) -> Option<RecordBatch> {
        let combining = self.exchanges.get(&(node, port))?.combining.as_ref()?;
        // A function that panics in the combiner does so again where the operator calls it, and there it is told.
        catch_unwind(AssertUnwindSafe(|| combining.combiner.combine(rows))).ok().flatten()
    }

    /// Divides rows of one input among the operator's tasks, combined if that makes them fewer.
    pub(super) fn divide(&self, node: NodeId, port: Port, rows: &[RecordBatch]) -> Result<Exchanged> {
        if let Some(combined) = self.combine(node, port, rows) {
            return self.divide_combined(node, port, &[combined]);
        }
        let exchange = self.exchange(node, port)?;
        let by_task = partition(&together(rows)?, &exchange.keys, exchange.tasks)?;
        Ok(Exchanged { node, port, by_task, is_combined: false })
    }

    /// Divides combined rows of one input among the operator's tasks.
    pub(super) fn divide_combined(&self, node: NodeId, port: Port, rows: &[RecordBatch]) -> Result<Exchanged> {
        let exchange = self.exchange(node, port)?;
        let combining = exchange.combining.as_ref().ok_or_else(|| Error::internal("combined rows for an operator without a combiner"))?;
        let by_task = partition(&together(rows)?, &combining.keys, exchange.tasks)?;
        Ok(Exchanged { node, port, by_task, is_combined: true })
    }
}

fn together(rows: &[RecordBatch]) -> Result<RecordBatch> {
    match rows {
        [one] => Ok(one.clone()),
        [first, ..] => concat_batches(first.schema_ref(), rows).or_error(ErrorKind::Internal, || "gathering rows".into()),
        [] => Err(Error::internal("no rows to divide among tasks")),
    }
}

/// Writes rows into the lane's file of a sink, which is begun with its first row.
pub(super) fn write(
    writers: &mut BTreeMap<usize, Box<dyn LaneWriter>>,
    sinks: &[Arc<dyn Staging>],
    lane: Lane,
    sink: usize,
    rows: &RecordBatch,
) -> Result<()> {
    let writer = match writers.entry(sink) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let staging = sinks.get(sink).ok_or_else(|| Error::internal("rows for a sink that is not staged"))?;
            entry.insert(staging.lane(lane)?)
        }
    };
    writer.write(rows)
}

/// The bytes of rows, without what else lies in the same buffers.
fn bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Bad rows as rows of the dead-letter place.
fn dead_letters(source: &str, bad: &[BadRow]) -> Result<RecordBatch> {
    let text = |value: &dyn Fn(&BadRow) -> Option<String>| Arc::new(bad.iter().map(value).collect::<StringArray>()) as ArrayRef;
    let columns = vec![
        text(&|_| Some(source.to_owned())),
        text(&|row| Some(row.place.input.to_string())),
        text(&|row| Some(row.place.position.to_string())),
        text(&|row| Some(row.reason.clone())),
        text(&|row| row.text.clone()),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns).or_error(ErrorKind::Internal, || "making dead letters".into())
}
