//! `blackhole://`: counts rows. Every column that the query asks for is computed, and nothing is kept.

use arrow::array::RecordBatch;
use std::sync::Arc;
use waterclock_core::Result;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::sink::{Attempt, Lane, LaneOutput, LaneWriter, Manifest, Sink, SinkContext, SinkMode, Staging};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Blackhole;

impl Blackhole {
    /// The sink.
    pub fn sink() -> Arc<dyn Sink> {
        Arc::new(Self)
    }
}

impl Sink for Blackhole {
    fn modes(&self) -> &[SinkMode] {
        &[SinkMode::Append, SinkMode::Update, SinkMode::Complete, SinkMode::Changelog]
    }

    fn open(&self, _context: SinkContext) -> Result<()> {
        Ok(())
    }

    fn stage(&self, _batch: &BatchContext, _attempt: &Attempt, _budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        Ok(Arc::new(Counting))
    }

    fn publish(&self, _batch: BatchId, _manifest: &Manifest) -> Result<()> {
        Ok(())
    }

    fn collect(&self, _current: Epoch) -> Result<()> {
        Ok(())
    }
}

struct Counting;

impl Staging for Counting {
    fn lane(&self, _lane: Lane) -> Result<Box<dyn LaneWriter>> {
        Ok(Box::new(Count(0)))
    }

    fn finish(&self, lanes: Vec<LaneOutput>) -> Result<Manifest> {
        Ok(Manifest { rows: lanes.iter().map(|lane| lane.rows).sum(), files: Vec::new() })
    }
}

struct Count(u64);

impl LaneWriter for Count {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.0 += rows.num_rows() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<LaneOutput> {
        Ok(LaneOutput { rows: self.0, files: Vec::new() })
    }
}
