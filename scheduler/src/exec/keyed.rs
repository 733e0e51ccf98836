//! The tasks of an operator with a memory: one instance per range of key groups.
//!
//! Each task sees the rows of its keys in the order of the input, whatever task or lane they come from; the outputs of the tasks are
//! merged in the order of the tasks. So nothing depends on the number of threads.

use super::OperatorOutput;
use super::exchange::TASKS;
use super::flow::{When, guarded};
use super::lane::{Combining, Exchange, Exchanged};
use super::restored::{divide, live_parts};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{concat, concat_batches};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::OperatorId;
use waterclock_core::operator::{Operator, OperatorFactory, Output, Port, TableRows};
use waterclock_core::state::{StateLayer, StateTable};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{ErrorKind, Result, ResultExt};

/// So many rows that changed in a table, at most, are put together.
const ONE_PART: usize = 1 << 14;

/// An operator with its tasks.
pub(super) struct KeyedOperator {
    id: OperatorId,
    factory: Arc<dyn OperatorFactory>,
    tasks: Vec<Box<dyn Operator>>,
    watermark: Watermark,
    /// Whether the tasks know of the batch at hand.
    has_begun: bool,
    /// Rows of the batch at hand that came late.
    late_rows: u64,
}

/// What one task emitted.
pub(super) type TaskOutput = Vec<(Port, RecordBatch)>;

impl KeyedOperator {
    /// New instances without state.
    pub(super) fn new(id: OperatorId, factory: Arc<dyn OperatorFactory>) -> Result<Self> {
        let count = if factory.keys().iter().all(Vec::is_empty) { 1 } else { TASKS };
        let tasks = (0..count).map(|_| factory.create()).collect::<Result<_>>()?;
        Ok(Self { id, factory, tasks, watermark: Watermark::Unknown, has_begun: false, late_rows: 0 })
    }

    pub(super) fn ports(&self) -> usize {
        self.factory.keys().len()
    }

    /// An exchange for each input, to stand in front of it.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = (Port, Exchange)> {
        self.factory.keys().into_iter().enumerate().map(|(port, keys)| {
            let combiner = self.factory.combiner(Port(port));
            let combining = combiner.map(|combiner| Combining { keys: combiner.keys(), combiner });
            (Port(port), Exchange { keys, tasks: self.tasks.len(), combining })
        })
    }

    /// Takes the watermark of a checkpoint back.
    pub(super) fn restore_watermark(&mut self, watermark: Watermark) {
        self.watermark = watermark;
    }

    /// Hands stored state to the tasks that own its keys. Runs inside the pool. What is restored may turn out to be damaged later on, so a
    /// panic is an error.
    pub(super) fn restore(&mut self, parts: Vec<StateLayer>) -> Result<()> {
        let (keys, watermark) = (self.factory.keys().first().map_or(0, Vec::len), self.watermark);
        let restored = guarded(self.id.as_str(), When::Restoring, || {
            let by_task = divide(parts, keys, self.tasks.len())?;
            let restore = |(task, parts): (&mut Box<dyn Operator>, _)| task.restore(&live_parts(parts, watermark)?, watermark);
            self.tasks.par_iter_mut().zip(by_task).try_for_each(restore)
        });
        restored.map_err(|error| error.within(format!("operator '{}'", self.id)))
    }

    /// Tells all tasks that a batch begins, unless they know.
    fn begin(&mut self, batch: &BatchContext) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.tasks.iter_mut().for_each(|task| task.begin(batch));
        }
    }

    /// Feeds rows to all tasks side by side. Runs inside the pool.
    pub(super) fn process(&mut self, chunk: Exchanged, batch: &BatchContext) -> Result<Vec<TaskOutput>> {
        self.begin(batch);
        let (id, when) = (self.id.as_str(), When::Batch(batch.batch));
        let each = |(task, rows): (&mut Box<dyn Operator>, RecordBatch)| {
            let mut output = Output::default();
            if rows.num_rows() > 0 {
                guarded(id, when, || {
                    let port = chunk.port;
                    let processed = if chunk.is_combined {
                        task.process_combined(port, rows, &mut output)
                    } else {
                        task.process(port, rows, &mut output)
                    };
                    processed.map_err(|error| error.within(format!("operator '{id}'")))
                })?;
            }
            Ok((output.late_rows(), output.take()))
        };
        let outputs: Vec<(u64, TaskOutput)> = one_by_one(self.tasks.par_iter_mut().zip(chunk.by_task)).map(each).collect::<Result<_>>()?;
        self.late_rows += outputs.iter().map(|(late, _)| late).sum::<u64>();
        Ok(outputs.into_iter().map(|(_, output)| output).collect())
    }

    /// Moves the watermark of each input on, in the order of the ports.
    pub(super) fn advance(&mut self, inputs: &[Watermark], batch: &BatchContext) -> Result<Vec<TaskOutput>> {
        self.begin(batch);
        let (id, when) = (self.id.as_str(), When::Batch(batch.batch));
        let each = |task: &mut Box<dyn Operator>| {
            let mut output = Output::default();
            let mut reached = Watermark::End;
            for (port, watermark) in inputs.iter().enumerate() {
                let mut advance = || task.advance(Port(port), *watermark, batch, &mut output);
                reached = guarded(id, when, || advance().map_err(|error| error.within(format!("operator '{id}'"))))?;
            }
            Ok((reached, output.late_rows(), output.take()))
        };
        let results: Vec<(Watermark, u64, TaskOutput)> = one_by_one(self.tasks.par_iter_mut()).map(each).collect::<Result<_>>()?;
        let reached = results.iter().map(|(watermark, ..)| *watermark).min().unwrap_or(Watermark::Unknown);
        self.watermark = self.watermark.max(reached);
        self.late_rows += results.iter().map(|(_, late, _)| late).sum::<u64>();
        Ok(results.into_iter().map(|(.., output)| output).collect())
    }

    /// What the batch changed, with the tasks' changes in their order. Runs inside the pool.
    pub(super) fn checkpoint(&mut self) -> Result<OperatorOutput> {
        self.has_begun = false;
        let are_whole = self.should_be_stored_whole();
        let checkpoint = |task: &mut Box<dyn Operator>| if are_whole { task.snapshot() } else { task.checkpoint() };
        let changes: Result<Vec<Vec<StateLayer>>> = one_by_one(self.tasks.par_iter_mut()).map(checkpoint).collect();
        let changes = changes.map_err(|error| error.within(format!("operator '{}'", self.id)))?;
        let mut tables: BTreeMap<StateTable, Vec<StateLayer>> = BTreeMap::new();
        for change in changes.into_iter().flatten() {
            tables.entry(change.table.clone()).or_default().push(change);
        }
        let tables: Vec<(StateTable, Vec<StateLayer>)> = tables.into_iter().collect();
        let changes = tables.into_par_iter().map(|(table, changes)| combine(table, changes)).collect::<Result<Vec<_>>>()?;
        let changes = changes.into_iter().flatten().collect();
        Ok(OperatorOutput { watermark: self.watermark, late_rows: std::mem::take(&mut self.late_rows), changes, are_whole })
    }

    /// Whether the batch changed at least half of the tables' rows: then they are stored as a whole, at most twice as much, and what was
    /// stored of them before need not be merged.
    fn should_be_stored_whole(&self) -> bool {
        let mut all = TableRows::default();
        for task in &self.tasks {
            let Some(TableRows { held, changed }) = task.table_rows() else { return false };
            (all.held, all.changed) = (all.held + held, all.changed + changed);
        }
        all.held > 0 && all.held <= 2 * all.changed
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.tasks.iter().filter_map(|task| task.next_timer()).min()
    }

    pub(super) fn id(&self) -> &OperatorId {
        &self.id
    }
}

/// Tasks that threads take one at a time: those of a run that is divided no further would wait for each other while a thread is free.
pub(super) fn one_by_one<T: IndexedParallelIterator>(tasks: T) -> impl IndexedParallelIterator<Item = T::Item> {
    tasks.with_max_len(1)
}

/// Changes of different tasks in one part, unless they are many: no key is in two of them.
fn combine(table: StateTable, changes: Vec<StateLayer>) -> Result<Vec<StateLayer>> {
    if changes.iter().map(|change| change.rows.num_rows()).sum::<usize>() > ONE_PART {
        return Ok(changes);
    }
    let combining = || format!("combining changes of the state table '{}'", table.name);
    let schema = changes[0].rows.schema();
    let rows = concat_batches(&schema, changes.iter().map(|change| &change.rows)).or_error(ErrorKind::Internal, combining)?;
    let removed: Vec<&dyn Array> = changes.iter().map(|change| &change.removed as &dyn Array).collect();
    let removed = concat(&removed).or_error(ErrorKind::Internal, combining)?.as_boolean().clone();
    Ok(vec![StateLayer { table, rows, removed }])
}
