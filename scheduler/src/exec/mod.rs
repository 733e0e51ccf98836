//! Runs a plan, a batch at a time, on a pool of workers.
//!
//! What flows in: the splits of each source's cut, in the order of their rows. What flows out: rows, into the lanes of the sinks'
//! staging; counts per partition; changes of state per operator. Nothing of it is visible to anybody before the commit, and nothing is
//! atomic here: a batch that fails leaves staged leftovers that no record names, and operators whose memory must be dropped.
//!
//! - [`lanes`]: a source's splits are cut into lanes, contiguous runs that one task works off in order.
//! - [`lane`]: the task: decode, check, push through the fused [`flow`], into the lane's writers.
//! - [`coordinator`]: starts lanes in order, fetches ahead within the memory budget, and merges what they leave in order. While the last
//!   lanes of a batch run, the first of the next may: they need nothing of the batch before.
//! - [`exchange`], [`keyed`]: rows that change hands by key group, and the operators behind. [`emitted`]: what these emit, on its way.
//!
//! IMPORTANT: lanes, the division of keys and all merges are functions of the plan and the cut. The number of threads decides only what
//! happens at the same time. That is why the output is the same, bit for bit, at any number of threads.

mod coordinator;
mod emitted;
mod event_time;
mod exchange;
mod flow;
mod keyed;
mod lane;
mod lanes;
mod restored;
mod run;
#[cfg(test)]
mod tests;

use flow::Flow;
use keyed::KeyedOperator;
use lane::Exchange;
pub use run::BegunBatch;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{OperatorId, PartitionId};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::operator::Port;
use waterclock_core::plan::{NodeId, NodeKind, Plan, Upstream};
use waterclock_core::sink::{LaneOutput, Staging};
use waterclock_core::source::{BadRow, Split};
use waterclock_core::state::StateLayer;
use waterclock_core::storage::Storage;
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// What a batch is run on.
pub struct BatchInput {
    /// Number and clock.
    pub context: BatchContext,
    /// For each source of the plan, the splits of its cut.
    pub sources: Vec<SourceInput>,
    /// For each sink of the plan, where its rows are staged.
    pub sinks: Vec<Arc<dyn Staging>>,
    /// Whether every watermark goes to its end behind this batch's rows.
    pub end_of_stream: bool,
}

/// A source's part of a batch.
pub struct SourceInput {
    /// The pieces of its cut, in the order of their rows.
    pub splits: Vec<Box<dyn Split>>,
    /// Whether the source no longer holds back what flows together with it.
    pub idle: bool,
    /// Where bad rows are staged; none if they fail the batch.
    pub dead_letter: Option<Arc<dyn Staging>>,
}

/// A source's event time before a batch.
#[derive(Debug, Clone)]
pub struct SourceTime {
    /// The source's watermark before the batch; it is the least that the batch may leave.
    pub watermark: Watermark,
    /// The latest event time of each partition, over all rows before the batch.
    pub latest: LatestTimes,
    /// Its watermark behind the batch, if it is known: of a batch that runs again. None to compute it from the rows.
    pub reached: Option<Watermark>,
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

/// The latest event time of each partition that had rows with one.
pub type LatestTimes = BTreeMap<PartitionId, Timestamp>;

/// What was read of a source.
#[derive(Debug, Default)]
pub struct SourceOutput {
    /// For each partition that had rows.
    pub partitions: BTreeMap<PartitionId, PartitionOutput>,
    /// The latest event time of each partition, over all rows up to and with this batch.
    pub latest: LatestTimes,
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
    /// Rows that it dropped because they came late.
    pub late_rows: u64,
    /// What changed in its state: of each table any number of parts, none of which has a key of another.
    pub changes: Vec<StateLayer>,
    /// Whether this is all that its tables hold.
    pub are_whole: bool,
}

/// Takes parts of an operator's tables back.
pub type Restore<'a> = dyn FnMut(Vec<StateLayer>) -> Result<()> + 'a;

/// A batch that failed: the error, and the row at fault if it was a bad one, whose place the source may be able to name better.
#[derive(Debug)]
pub enum BatchFailure {
    /// A row that could not be read, of the source of this index.
    BadRow(usize, BadRow),
    /// Anything else.
    Error(Error),
}

impl From<Error> for BatchFailure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How a plan is run. None of it changes what comes out.
#[derive(Debug, Clone)]
pub struct ExecutorSettings {
    /// Workers of the pool.
    pub threads: NonZeroUsize,
    /// The memory, in bytes, for what is fetched and not yet decoded, and encoded and not yet stored. What the workers hold while
    /// they work on a morsel comes on top.
    pub memory_budget_bytes: usize,
}

/// Runs the batches of a plan.
pub struct Executor {
    base: Base,
    operators: BTreeMap<NodeId, KeyedOperator>,
}

/// What stays the same from batch to batch.
struct Base {
    plan: Arc<Plan>,
    storage: Storage,
    pool: rayon::ThreadPool,
    flows: BTreeMap<Upstream, Arc<Flow>>,
    exchanges: Arc<BTreeMap<(NodeId, Port), Exchange>>,
    /// For what is fetched and not yet decoded.
    fetches: MemoryBudget,
    /// For what is encoded and not yet stored.
    uploads: MemoryBudget,
}

impl Executor {
    /// An executor whose operators have no state yet.
    ///
    /// # Errors
    /// `Internal` if threads can't be started; `Config` if an operator can't be made.
    pub fn new(plan: Arc<Plan>, storage: Storage, settings: &ExecutorSettings) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.get())
            .thread_name(|index| format!("waterclock-worker-{index}"))
            .build()
            .or_error(ErrorKind::Internal, || "can't start the workers".into())?;
        let flows = Flow::all(&plan).into_iter().map(|(upstream, flow)| (upstream, Arc::new(flow))).collect();
        let mut operators = BTreeMap::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            if let NodeKind::Operator(factory) = &node.kind {
                operators.insert(NodeId(index), KeyedOperator::new(node.id.clone(), Arc::clone(factory))?);
            }
        }
        let exchanges = operators.iter().flat_map(|(node, operator)| operator.exchanges().map(|(port, of)| ((*node, port), of)));
        let exchanges = Arc::new(exchanges.collect());
        let half = settings.memory_budget_bytes / 2;
        let (fetches, uploads) = (MemoryBudget::new(half), MemoryBudget::new(half));
        Ok(Self { base: Base { plan, storage, pool, flows, exchanges, fetches, uploads }, operators })
    }

    /// Gives an operator, if it is there, its state of the last commit, with the watermark of its output. Called once for each, before the
    /// first batch. `load` hands the tables over, each in parts that have no key in common, as many at a time as it likes; it runs inside the
    /// pool.
    ///
    /// # Errors
    /// `Corrupt` if the state does not fit its operator; what `load` fails with.
    pub fn restore(
        &mut self,
        id: &OperatorId,
        watermark: Watermark,
        load: impl FnOnce(&mut Restore<'_>) -> Result<()> + Send,
    ) -> Result<()> {
        match self.operators.values_mut().find(|operator| operator.id() == id) {
            Some(operator) => self.base.pool.install(|| {
                operator.restore_watermark(watermark);
                load(&mut |parts| operator.restore(parts))
            }),
            None => Ok(()),
        }
    }

    /// The budget that sinks stage within.
    pub fn budget(&self) -> &MemoryBudget {
        &self.base.uploads
    }

    /// The earliest processing time at which an operator wants a batch even without rows.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.operators.values().filter_map(KeyedOperator::next_timer).min()
    }
}
