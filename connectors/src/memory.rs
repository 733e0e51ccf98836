//! A sink in memory, for tests of jobs: it shows the rows of each published batch.

use crate::staged_rows::StagedRows;
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use waterclock_core::Result;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::sink::{Attempt, Manifest, Sink, SinkContext, SinkMode, Staging};

/// See the [module](self). Cloning shares the rows; a batch that is published again replaces itself.
#[derive(Clone, Default)]
pub struct MemorySink {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    staged: StagedRows,
    batches: Mutex<BTreeMap<BatchId, Vec<RecordBatch>>>,
}

impl MemorySink {
    /// A sink without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sink to give to a job.
    pub fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.clone())
    }

    /// The rows of each published batch that had any.
    pub fn batches(&self) -> BTreeMap<BatchId, Vec<RecordBatch>> {
        self.inner.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for MemorySink {
    fn modes(&self) -> &[SinkMode] {
        &[SinkMode::Append, SinkMode::Update, SinkMode::Complete, SinkMode::Changelog]
    }

    fn open(&self, context: SinkContext) -> Result<()> {
        self.inner.staged.open(context);
        Ok(())
    }

    fn stage(&self, _batch: &BatchContext, attempt: &Attempt, budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        self.inner.staged.stage(attempt, budget)
    }

    fn publish(&self, batch: BatchId, manifest: &Manifest) -> Result<()> {
        self.inner.staged.publish(manifest, |rows| {
            self.inner.batches.lock().unwrap_or_else(PoisonError::into_inner).insert(batch, rows.to_vec());
            Ok(())
        })
    }

    fn collect(&self, current: Epoch) -> Result<()> {
        self.inner.staged.collect(current)
    }
}
