//! A function of the user's as a sink: called with each committed batch and its number. At least once: a crash during a call calls it again
//! for the same batch, so a function that must not do a thing twice remembers the number with it.

use crate::staged_rows::StagedRows;
use arrow::array::RecordBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::sink::{Attempt, Manifest, Sink, SinkContext, SinkMode, Staging};
use waterclock_core::{Error, Result};

/// See the [module](self).
pub struct ForEachBatch<F> {
    function: F,
    rows: StagedRows,
}

impl<F> ForEachBatch<F>
where
    F: Fn(BatchId, &[RecordBatch]) -> Result<()> + Send + Sync + 'static,
{
    /// A sink that calls this function, in the order of the batches, never from two threads at once. Batches without rows are left out.
    pub fn sink(function: F) -> Arc<dyn Sink> {
        Arc::new(Self { function, rows: StagedRows::default() })
    }
}

impl<F> Sink for ForEachBatch<F>
where
    F: Fn(BatchId, &[RecordBatch]) -> Result<()> + Send + Sync + 'static,
{
    fn modes(&self) -> &[SinkMode] {
        &[SinkMode::Append, SinkMode::Update, SinkMode::Complete, SinkMode::Changelog]
    }

    fn open(&self, context: SinkContext) -> Result<()> {
        self.rows.open(context);
        Ok(())
    }

    fn stage(&self, _batch: &BatchContext, attempt: &Attempt, budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        self.rows.stage(attempt, budget)
    }

    fn publish(&self, batch: BatchId, manifest: &Manifest) -> Result<()> {
        let call = |batches: &[RecordBatch]| {
            let called = catch_unwind(AssertUnwindSafe(|| (self.function)(batch, batches)));
            called.unwrap_or_else(|_| Err(Error::internal("the function panicked")))
        };
        self.rows.publish(manifest, call)
    }

    fn collect(&self, current: Epoch) -> Result<()> {
        self.rows.collect(current)
    }
}
