//! The thread that publishes what was committed, while later batches are staged and committed.
//!
//! What flows in: committed batches, in order, and in the end perhaps the failure of one behind them. What flows out: the same, once what
//! they wrote is visible. Nothing here is atomic: publication is repair, which the next opening does again where it is in doubt. How
//! far each sink has come is known to the records that follow, later by a batch or two. What can fail: a sink, which ends the thread.
//! State that no batch needs any more is removed beside the next publication, and a failure of that is only told.

use super::committer::ms;
use crate::progress::{BatchProgress, Durations, SinkProgress, SourceProgress};
use crate::protocol::record::{BatchRecord, Record, SinkRecord, SourceRecord};
use crate::seams::Clock;
use crossbeam::channel::{Receiver, Sender};
use object_store::path::Path;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use waterclock_core::id::{BatchId, SinkId};
use waterclock_core::sink::{Manifest, Sink};
use waterclock_core::source::Cut;
use waterclock_core::storage::{Removals, Store};
use waterclock_core::{Error, Result};

/// What is to be published where.
pub(super) type Staged = (SinkId, Arc<dyn Sink>, Manifest);

/// A batch that is committed.
pub(super) struct Committed {
    pub record: Record,
    pub outputs: Vec<Staged>,
    /// Objects of state that no batch which is kept needs.
    pub unneeded: Vec<Path>,
    /// Per source, what may be acknowledged.
    pub cuts: Vec<Cut>,
    pub durations: Durations,
}

/// A batch that is committed and published.
pub(super) struct Done {
    /// Per source, what may be acknowledged.
    pub cuts: Vec<Cut>,
    pub progress: BatchProgress,
}

/// How far each sink is known to be published. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<Mutex<BTreeMap<SinkId, BatchId>>>);

impl Marks {
    /// The newest batch of a sink that is known to be visible.
    pub fn get(&self, sink: &SinkId) -> Option<BatchId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sink).copied()
    }

    fn set(&self, sink: &SinkId, batch: BatchId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sink.clone(), batch);
    }
}

impl FromIterator<(SinkId, BatchId)> for Marks {
    fn from_iter<T: IntoIterator<Item = (SinkId, BatchId)>>(marks: T) -> Self {
        Self(Arc::new(Mutex::new(marks.into_iter().collect())))
    }
}

/// The thread's own state.
pub(super) struct Publisher {
    /// The checkpoint.
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub marks: Marks,
}

impl Publisher {
    pub fn serve(&self, inbox: &Receiver<Result<Committed>>, report: &Sender<Result<Done>>) {
        let removals = Removals::default();
        for committed in inbox {
            let outcome = committed.and_then(|batch| self.publish(batch, &removals));
            let failed = outcome.is_err();
            if report.send(outcome).is_err() || failed {
                return;
            }
        }
    }

    fn publish(&self, batch: Committed, removals: &Removals) -> Result<Done> {
        let Committed { record, outputs, unneeded, cuts, mut durations } = batch;
        let of_batch = record.batch().ok_or_else(|| Error::internal("an opening is not published"))?;
        let number = of_batch.batch;
        let committed = self.clock.elapsed();
        for (id, sink, manifest) in &outputs {
            publish(id, sink.as_ref(), number, manifest).map_err(|error| error.within(format!("batch {number}")))?;
            self.marks.set(id, number);
        }
        durations.publish_ms = ms(self.clock.elapsed() - committed);
        removals.begin(&self.store, unneeded);
        Ok(Done { cuts, progress: progress(&record, of_batch, durations) })
    }
}

/// Publishes a batch of a sink.
pub(super) fn publish(id: &SinkId, sink: &dyn Sink, batch: BatchId, manifest: &Manifest) -> Result<()> {
    guarded(id, || sink.publish(batch, manifest))
}

/// Whatever fails says of which sink. A sink may run a user's function: its panic is an error too.
pub(super) fn guarded<T>(id: &SinkId, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::internal(format!("it panicked: {}", text.unwrap_or_default())))
    });
    outcome.map_err(|error| error.within(format!("sink '{id}'")))
}

fn progress(record: &Record, batch: &BatchRecord, durations: Durations) -> BatchProgress {
    let source = |source: &SourceRecord| SourceProgress {
        rows: source.rows(),
        bad_rows: source.bad_rows,
        lag: source.lag,
        watermark: source.watermark,
    };
    let sink = |sink: &SinkRecord| SinkProgress {
        rows: sink.manifest.rows,
        files: sink.manifest.files.len() as u64,
        bytes: sink.manifest.files.iter().map(|file| file.bytes).sum(),
    };
    let rows_in = batch.sources.values().map(SourceRecord::rows).sum();
    let busy = (durations.cut_ms + durations.run_ms + durations.stage_ms + durations.commit_ms) / 1e3;
    BatchProgress {
        batch: batch.batch,
        seq: record.seq,
        epoch: record.epoch,
        trigger_time: record.time,
        sources: batch.sources.iter().map(|(id, record)| (id.clone(), source(record))).collect(),
        sinks: batch.sinks.iter().map(|(id, record)| (id.clone(), sink(record))).collect(),
        rows_in,
        rows_out: batch.sinks.values().map(|sink| sink.manifest.rows).sum(),
        rows_per_second: if busy > 0.0 { (rows_in as f64 / busy).round() } else { 0.0 },
        bad_rows: batch.bad_rows(),
        late_rows: batch.late_rows(),
        durations,
        drained: batch.drained,
    }
}
