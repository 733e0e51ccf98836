//! Operators: state machines over Arrow batches, one instance per task.
//!
//! A stateless operator is a [`Transform`]: a function of a batch's rows, shared by all lanes, which the executor fuses with its
//! neighbours. Everything with a memory is an [`Operator`]: each instance owns a range of key groups, sees the rows of its keys in the
//! order of the input, and then, once per port and batch, the new watermark. It knows no thread, no store and no clock.
//!
//! Rows of equal keys may be combined before they reach an instance, by a [`Combiner`]: that is done side by side wherever rows come from,
//! while an instance takes all that it gets by itself.
//!
//! The order of calls in a batch: [`Operator::begin`]; for each port in the declared order, [`Operator::process`] any number of times; then
//! [`Operator::advance`] for each port; then [`Operator::checkpoint`]. A batch that fails is never undone: the instance is dropped, and
//! another is [restored](Operator::restore) from the last commit.

use crate::batch::BatchContext;
use crate::error::{Error, Result};
use crate::state::StateLayer;
use crate::time::{Timestamp, Watermark};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use std::fmt;
use std::sync::Arc;

/// A function from rows to rows, without memory.
pub trait Transform: Send + Sync + fmt::Debug {
    /// The columns that come out.
    fn schema(&self) -> SchemaRef;

    /// The transform for one batch. A transform that reads the batch's clock replaces it by its value here, once per batch.
    fn for_batch(self: Arc<Self>, batch: &BatchContext) -> Result<Arc<dyn Transform>>;

    /// Transforms rows. Order is kept; any number of rows may come out.
    fn apply(&self, rows: RecordBatch) -> Result<RecordBatch>;

    /// One line for `explain`.
    fn describe(&self) -> String;
}

/// An input or an output of an operator: 0 is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub usize);

/// What an operator emits, in order, per output port.
#[derive(Debug, Default)]
pub struct Output {
    batches: Vec<(Port, RecordBatch)>,
    late_rows: u64,
}

impl Output {
    /// Emits rows on a port. Empty batches are dropped.
    pub fn emit(&mut self, port: Port, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.batches.push((port, rows));
        }
    }

    /// Counts rows that were dropped because everything that they could belong to had closed before this batch.
    pub fn count_late(&mut self, rows: u64) {
        self.late_rows += rows;
    }

    /// How many rows were dropped as late so far.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// Takes what was emitted so far.
    pub fn take(&mut self) -> Vec<(Port, RecordBatch)> {
        std::mem::take(&mut self.batches)
    }
}

/// An operator with a memory.
pub trait Operator: Send {
    /// Says that a batch begins, and what its clock shows: for operators whose rows must know it before the watermark moves on.
    fn begin(&mut self, batch: &BatchContext) {
        let _ = batch;
    }

    /// Takes rows of this instance's key groups.
    fn process(&mut self, port: Port, rows: RecordBatch, output: &mut Output) -> Result<()>;

    /// Takes rows that the operator's [combiner](OperatorFactory::combiner) has made, be it of several pieces: then a group may have a
    /// row of each.
    fn process_combined(&mut self, port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        let _ = (rows, output);
        Err(Error::internal(format!("combined rows on port {}, for an operator without a combiner", port.0)))
    }

    /// Says that the batch holds no more rows on this port, and what the port's watermark is now. Emits what that closes. Called once per
    /// port and batch, with or without rows; the watermark never goes back. Returns the watermark of the output; that of the last port's
    /// call counts.
    fn advance(&mut self, port: Port, watermark: Watermark, batch: &BatchContext, output: &mut Output) -> Result<Watermark>;

    /// The earliest processing time at which this instance wants a batch even without rows; none if it does not.
    fn next_timer(&self) -> Option<Timestamp>;

    /// What changed since the last checkpoint. Called after every batch, before the next one mutates, unless a snapshot is taken instead.
    fn checkpoint(&mut self) -> Result<Vec<StateLayer>>;

    /// How many rows the tables have; none if they can't be stored as a whole.
    fn table_rows(&self) -> Option<TableRows> {
        None
    }

    /// All rows of all tables, in the place of a [`checkpoint`](Self::checkpoint) of their changes: what was stored of them before counts
    /// no more. Asked of all instances at once, when all have told their [`table_rows`](Self::table_rows).
    fn snapshot(&mut self) -> Result<Vec<StateLayer>> {
        Err(Error::internal("a snapshot of an operator that makes none"))
    }

    /// Takes parts of the state back, which have no key in common: rows of this instance's key groups, in the order in which they were
    /// written, and the output's watermark as it was. Rows that the watermark has passed may still be there. Called on a new instance, any
    /// number of times.
    fn restore(&mut self, tables: &[StateLayer], watermark: Watermark) -> Result<()>;
}

/// How many rows an operator's tables have.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableRows {
    /// All of them.
    pub held: usize,
    /// Those that the next checkpoint will have, at most.
    pub changed: usize,
}

/// Makes rows fewer before they change hands: all of a group's as one row that stands for them. What the operator makes of combined rows is
/// what it makes of the rows themselves, bit for bit.
pub trait Combiner: Send + Sync + fmt::Debug {
    /// How combined rows are keyed. The values are those of the rows that they stand for.
    fn keys(&self) -> Vec<Arc<dyn PhysicalExpr>>;

    /// Rows that stand for these; none where they would not be much fewer, or where that can't be told: then the rows go on as they are.
    fn combine(&self, rows: &[RecordBatch]) -> Option<RecordBatch>;
}

/// Makes the instances of an operator, and says what it takes and gives. Part of the plan.
pub trait OperatorFactory: Send + Sync + fmt::Debug {
    /// How the rows of each input port are keyed, in the declared order of the ports. The values of these expressions decide the
    /// key group; no expression at all means that one instance sees everything.
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>>;

    /// What makes the rows of a port fewer before they are divided among the instances, if anything does.
    fn combiner(&self, port: Port) -> Option<Arc<dyn Combiner>> {
        let _ = port;
        None
    }

    /// The columns of each output port. Port 0 is the main output, others are side outputs.
    fn outputs(&self) -> Vec<SchemaRef>;

    /// A new instance, without state.
    fn create(&self) -> Result<Box<dyn Operator>>;

    /// What the stored state means, in words: a program whose operator of the same id says otherwise is refused.
    fn fingerprint(&self) -> String;

    /// Which rows come to it, in words, if its name is derived from its place among others: this tells it from those that mean the same.
    fn input(&self) -> Option<String> {
        None
    }

    /// Whether the watermark of what comes out is the batch's time.
    fn is_clocked(&self) -> bool {
        false
    }

    /// One line for `explain`.
    fn describe(&self) -> String;
}
