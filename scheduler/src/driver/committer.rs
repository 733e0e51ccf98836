//! The thread that takes a batch from its last row to its publication, while the driver's thread cuts and runs the next one.
//!
//! One batch at a time, in order: wait until output and state are durable, which are stored side by side, put the record, publish. Large
//! layers of state are merged beside all that, by a thread of their own. A failure ends the thread; what the driver runs ahead is then
//! discarded.

use super::ledger::{Draft, Ledger};
use crate::checkpoint::{Loader, Merger, Owner};
use crate::log::{Appended, Log};
use crate::progress::{BatchProgress, Durations, SinkProgress, SourceProgress};
use crate::protocol::paths::Writer;
use crate::protocol::record::Record;
use crate::seams::{Clock, Seams};
use crossbeam::channel::{Receiver, Sender, bounded};
use object_store::path::Path;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::id::{BatchId, Epoch, SinkId};
use waterclock_core::sink::{LaneFile, LaneOutput, Manifest, Sink, Staging};
use waterclock_core::source::Cut;
use waterclock_core::state::StateLayer;
use waterclock_core::storage::UploadHandle;
use waterclock_core::time::Watermark;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// A batch that has run.
pub(super) struct Work {
    pub draft: Draft,
    pub changes: Vec<(Owner, StateLayer)>,
    pub outputs: Vec<StagedOutput>,
    /// How long cutting and running took.
    pub cut: Duration,
    pub run: Duration,
}

/// What a batch wrote for one sink.
pub(super) struct StagedOutput {
    pub id: SinkId,
    pub sink: Arc<dyn Sink>,
    pub staging: Arc<dyn Staging>,
    pub lanes: Vec<LaneOutput>,
}

/// A batch that is committed and published.
pub(super) struct Done {
    /// Per source, what may be acknowledged.
    pub cuts: Vec<Cut>,
    pub progress: BatchProgress,
}

/// The driver's end of the thread.
pub(super) struct Committer {
    work: Option<Sender<Work>>,
    outcomes: Receiver<Result<Done>>,
    thread: Option<std::thread::JoinHandle<()>>,
    pending: bool,
}

impl Committer {
    pub fn start(log: Log, ledger: Ledger, seams: &Seams) -> Result<Self> {
        let (work, inbox) = bounded(1);
        let (report, outcomes) = bounded(1);
        let loader = Loader::new(log.clone());
        let merger = Merger::new(loader.clone(), seams.merging);
        let mut state = Committing { log, loader, merger, ledger, clock: Arc::clone(&seams.clock) };
        let thread = std::thread::Builder::new()
            .name("waterclock-committer".into())
            .spawn(move || state.serve(&inbox, &report))
            .or_error(ErrorKind::Internal, || "can't start the committer".into())?;
        Ok(Self { work: Some(work), outcomes, thread: Some(thread), pending: false })
    }

    /// Hands a batch over. The one before must have been settled.
    pub fn begin(&mut self, work: Work) -> Result<()> {
        let sender = self.work.as_ref().ok_or_else(gone)?;
        sender.send(work).map_err(|_| gone())?;
        self.pending = true;
        Ok(())
    }

    /// Waits for the batch that was handed over, if there is one.
    pub fn settle(&mut self) -> Result<Option<Done>> {
        if !std::mem::take(&mut self.pending) {
            return Ok(None);
        }
        self.outcomes.recv().map_err(|_| gone())?.map(Some)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported as an outcome that never came.
            let _ = thread.join();
        }
    }
}

fn gone() -> Error {
    Error::internal("the committer has ended unexpectedly")
}

/// The thread's own state.
struct Committing {
    log: Log,
    loader: Loader,
    merger: Merger,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
}

impl Committing {
    fn serve(&mut self, inbox: &Receiver<Work>, report: &Sender<Result<Done>>) {
        for work in inbox {
            let batch = work.draft.context.batch;
            let outcome = self.process(work).map_err(|error| error.within(format!("batch {batch}")));
            let failed = outcome.is_err();
            if report.send(outcome).is_err() || failed {
                return;
            }
        }
    }

    fn process(&mut self, work: Work) -> Result<Done> {
        let started = self.clock.elapsed();
        let Work { mut draft, changes, mut outputs, cut, run } = work;
        let batch = draft.context.batch;
        begin_uploads(&mut outputs);
        let watermarks: BTreeMap<Owner, Watermark> =
            draft.operators.iter().map(|(id, operator)| (Owner::Operator(id.clone()), operator.watermark)).collect();
        let writer = self.writer();
        let state = self.ledger.tables.stage(changes, &watermarks, &writer, &self.loader, &mut self.merger)?;
        let puts = self.log.store().begin_puts(state.objects);
        let staged = finish(outputs);
        // IMPORTANT: all are waited for, whatever has failed: what were stored behind the end of this driver, nobody would collect.
        let puts: Vec<Result<()>> = puts.into_iter().map(UploadHandle::wait).collect();
        let staged = staged?;
        puts.into_iter().collect::<Result<()>>()?;
        let durable = self.clock.elapsed();
        draft.timings.stage_ms = whole_ms(durable - started);
        let manifests = staged.iter().map(|(id, _, manifest)| (id.clone(), manifest.clone())).collect();
        let record = self.ledger.record(&draft, manifests, &state.tables)?;
        // IMPORTANT: this is the atomic step. Before it, everything the record names is durable; after it, nothing is taken back.
        let stored = match self.log.append(&record)? {
            Appended::Mine(stored) => stored,
            Appended::Theirs(theirs) => return Err(fenced(record.epoch, &theirs.record)),
        };
        let given_up = self.ledger.advance(stored, state.tables);
        let committed = self.clock.elapsed();
        self.publish(batch, &staged)?;
        let published = self.clock.elapsed();
        self.collect(&given_up.into_iter().map(Path::from).chain(state.useless).collect::<Vec<_>>());
        self.ledger.tables.merge_beside(&watermarks, &writer, &mut self.merger);
        let durations = Durations {
            cut_ms: ms(cut),
            run_ms: ms(run),
            stage_ms: ms(durable - started),
            commit_ms: ms(committed - durable),
            publish_ms: ms(published - committed),
        };
        let progress = progress(&record, durations);
        Ok(Done { cuts: draft.sources.into_iter().map(|source| source.cut).collect(), progress })
    }

    fn writer(&self) -> Writer {
        let parent = &self.ledger.parent.record;
        Writer { seq: self.ledger.next_seq(), epoch: parent.epoch, nonce: parent.nonce.clone() }
    }

    /// Removes state that no batch which is kept needs. The batch does not fail with it: what stays goes at an opening.
    fn collect(&self, given_up: &[Path]) {
        for (path, deleted) in given_up.iter().zip(self.log.store().delete_all(given_up)) {
            if let Err(error) = deleted {
                tracing::warn!(%error, object = %path, "state that is no longer retained is left behind until the next start");
            }
        }
    }

    fn publish(&mut self, batch: BatchId, staged: &[Staged]) -> Result<()> {
        for (id, sink, manifest) in staged {
            publish(id, sink.as_ref(), batch, manifest)?;
            self.ledger.published.insert(id.clone(), batch);
        }
        Ok(())
    }
}

/// One file is written by this thread, which has to wait for it anyway; several are written side by side.
fn begin_uploads(outputs: &mut [StagedOutput]) {
    let lanes = outputs.iter_mut().flat_map(|output| &mut output.lanes);
    let mut files: Vec<&mut LaneFile> = lanes.flat_map(|lane| &mut lane.files).collect();
    if files.len() > 1 {
        files.iter_mut().for_each(|file| file.upload.begin());
    }
}

/// What is to be published where.
type Staged = (SinkId, Arc<dyn Sink>, Manifest);

/// What the batch has staged for each sink, once it is durable.
fn finish(outputs: Vec<StagedOutput>) -> Result<Vec<Staged>> {
    let finish = |output: StagedOutput| {
        let manifest = guarded(&output.id, || output.staging.finish(output.lanes))?;
        Ok((output.id, output.sink, manifest))
    };
    outputs.into_iter().map(finish).collect()
}

/// Publishes a batch of a sink.
pub(super) fn publish(id: &SinkId, sink: &dyn Sink, batch: BatchId, manifest: &Manifest) -> Result<()> {
    guarded(id, || sink.publish(batch, manifest))
}

/// Whatever fails says of which sink. A sink may run a user's function: its panic is an error too.
fn guarded<T>(id: &SinkId, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::internal(format!("it panicked: {}", text.unwrap_or_default())))
    });
    outcome.map_err(|error| error.within(format!("sink '{id}'")))
}

/// Another driver's record stands where this one's should.
pub(super) fn fenced(mine: Epoch, theirs: &Record) -> Error {
    Error::fenced(format!(
        "another driver has taken over the job: record {} is of epoch {}, and this driver's epoch is {}; nothing was lost",
        theirs.seq, theirs.epoch, mine
    ))
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// Whole milliseconds, for the record.
pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn progress(record: &Record, durations: Durations) -> BatchProgress {
    let batch = record.batch().expect("the committer writes only records of batches");
    let source = |source: &crate::protocol::record::SourceRecord| SourceProgress {
        rows: source.rows(),
        bad_rows: source.bad_rows,
        lag: source.lag,
        watermark: source.watermark,
    };
    let sink = |sink: &crate::protocol::record::SinkRecord| SinkProgress {
        rows: sink.manifest.rows,
        files: sink.manifest.files.len() as u64,
        bytes: sink.manifest.files.iter().map(|file| file.bytes).sum(),
    };
    let rows_in = batch.sources.values().map(crate::protocol::record::SourceRecord::rows).sum();
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
