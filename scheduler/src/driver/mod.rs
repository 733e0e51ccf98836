//! The driver: cuts unbounded input into batches, runs each, commits it, publishes it.
//!
//! What flows in: a [`Job`](waterclock_core::job::Job), a checkpoint, and from then on whatever its sources hold. What flows out:
//! published batches, and a record of each. Atomic is the put of a batch's record, and nothing else. What can fail: everything; what was
//! committed is repaired at the next start, what was not is cut again.
//!
//! - [`settings`]: when to cut and when to end; [`pacer`]: the decisions; [`cutter`]: cuts, and makes batches of them.
//! - [`open`]: taking over a job; [`recovery`]: what it is taken up from.
//! - [`input`]: the sources; [`idleness`]: whether they hold others back; [`statics`]: tables that are read once.
//! - [`committer`]: the thread that stages and commits batches while later ones run; [`ledger`]: what it writes; [`publisher`]: the thread
//!   that makes visible what was committed.

mod committer;
mod cutter;
mod idleness;
mod input;
mod ledger;
mod open;
mod pacer;
mod publisher;
mod recovery;
mod settings;
mod statics;
#[cfg(test)]
mod tests;

pub(crate) use input::Input;
pub(crate) use open::{parts, restored_executor};
pub use recovery::stored_schemas;
pub use settings::{DriverSettings, Summary, Trigger};
pub(crate) use statics::read_again;

use crate::checkpoint::{Owner, StateChange};
use crate::exec::{BatchFailure, BatchOutput, BegunBatch, Executor};
use crate::log::Log;
use crate::progress::Observer;
use crate::protocol::paths::Writer;
use crate::protocol::record::{Record, Timings};
use crate::seams::{Seams, Stop};
use arrow::datatypes::SchemaRef;
use committer::{Committer, StagedOutput, Work, whole_ms};
use cutter::{CutBatch, Cutter, Next};
use ledger::{Draft, DraftOperator, DraftSource, Ledger};
use pacer::Pacer;
use publisher::Done;
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::id::{BatchId, Seq, SinkId};
use waterclock_core::sink::Sink;
use waterclock_core::{Error, Result};

/// Where rows of the job go: a sink, or the place for a source's bad rows.
pub(crate) struct Outlet {
    pub id: SinkId,
    pub sink: Arc<dyn Sink>,
    pub schema: SchemaRef,
    pub place: String,
}

/// A batch that is cut, and whose lanes may run.
struct Begun {
    batch: Box<CutBatch>,
    lanes: BegunBatch,
}

/// A job that was taken over, ready to run.
pub struct Driver {
    settings: DriverSettings,
    seams: Seams,
    observer: Arc<dyn Observer>,
    log: Log,
    executor: Executor,
    cutter: Cutter,
    /// What the committer starts with; it has it from then on.
    ledger: Option<Ledger>,
    /// Who writes the record of the next batch that runs, if nothing fails.
    writer: Writer,
    /// When the newest run ended.
    ran: Duration,
    drained: bool,
    summary: Summary,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("writer", &self.writer).finish_non_exhaustive()
    }
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "it is the last step of opening, which has gathered just these")]
    fn new(
        settings: DriverSettings,
        seams: Seams,
        observer: Arc<dyn Observer>,
        log: Log,
        executor: Executor,
        inputs: Vec<Input>,
        outlets: Vec<Outlet>,
        ledger: Ledger,
    ) -> Self {
        let parent = &ledger.parent.record;
        let last = parent.last_batch().map(|last| last.batch);
        let drained = ledger.last.as_ref().and_then(Record::batch).is_some_and(|batch| batch.drained);
        let writer = Writer { seq: ledger.next_seq(), epoch: parent.epoch, nonce: parent.nonce.clone() };
        let cutter = Cutter {
            inputs,
            outlets,
            clock: Arc::clone(&seams.clock),
            store: log.store().clone(),
            budget: executor.budget().clone(),
            pacer: Pacer::new(settings.trigger(), settings.drain, settings.max_batches.map(std::num::NonZeroU64::get)),
            writer: writer.clone(),
            batch: last.map_or(BatchId::FIRST, BatchId::next),
            time: parent.time,
            timer: executor.next_timer(),
        };
        Self {
            settings,
            seams,
            observer,
            log,
            executor,
            cutter,
            writer,
            ran: Duration::ZERO,
            drained,
            summary: Summary { epoch: parent.epoch, batches: 0, rows_in: 0, rows_out: 0, last, drained },
            ledger: Some(ledger),
        }
    }

    /// Runs batches until the trigger, a limit or a stop ends it. What has run is committed and published when it returns without error. A
    /// batch that was begun ahead of a stop is dropped: the next run cuts it again, and its opening collects what was staged for it;
    /// what workers are still about when this returns, the opening after that.
    ///
    /// # Errors
    /// `Fenced` if another driver has taken over; else whatever the first thing was that failed. What was committed stays committed.
    pub fn run(mut self, stop: &Stop) -> Result<Summary> {
        if self.drained {
            return self.verify_drained();
        }
        let ledger = self.ledger.take().ok_or_else(|| Error::internal("a driver runs once"))?;
        let mut seams = self.seams.clone();
        if self.settings.trigger() == Trigger::Once {
            // No later batch of this run could put in place what is merged beside the only one.
            seams.merging.beside_from = u64::MAX;
        }
        let mut committer = Committer::start(self.log.clone(), ledger, &seams)?;
        let run = self.run_batches(stop, &mut committer);
        // The batches that are being committed come before the one that failed, so their failure goes first too.
        let settled = self.settle(&mut committer);
        settled.and(run).map_err(|error| self.overtaken().unwrap_or(error))?;
        if !matches!(self.settings.trigger(), Trigger::Interval(_)) {
            self.verify_head()?;
        }
        Ok(self.summary)
    }

    /// A job whose stream has ended has nothing more to do, and must not be given more.
    fn verify_drained(mut self) -> Result<Summary> {
        for input in &mut self.cutter.inputs {
            if !input.cut()?.cut.is_empty() {
                return Err(Error::config(format!(
                    "the job was drained, so its stream has ended, but the source '{}' has new input; start a new job with another \
                     checkpoint and other sinks",
                    input.id
                )));
            }
        }
        Ok(self.summary)
    }

    /// Whoever says that a job is caught up must still own it.
    fn verify_head(&self) -> Result<()> {
        match self.log.read(self.writer.seq)? {
            Some(theirs) => Err(self.fenced(&theirs.record)),
            None => Ok(()),
        }
    }

    /// Whether a failure is only the wake of another driver, which collects what this one staged. The batch that failed is the next one,
    /// or one of those before: as many as are being committed, and one that waits for its turn.
    fn overtaken(&self) -> Option<Error> {
        let oldest = self.writer.seq.0.saturating_sub(self.seams.in_flight.get() as u64 + 1);
        for seq in (oldest..=self.writer.seq.0).map(Seq) {
            // A store that does not answer is what failed.
            let record = self.log.read(seq).ok()?.map(|stored| stored.record);
            if let Some(theirs) = record.filter(|record| record.epoch > self.writer.epoch) {
                return Some(self.fenced(&theirs));
            }
        }
        None
    }

    fn fenced(&self, theirs: &Record) -> Error {
        committer::fenced(self.writer.epoch, theirs)
    }

    fn run_batches(&mut self, stop: &Stop, committer: &mut Committer) -> Result<()> {
        let clock = Arc::clone(&self.seams.clock);
        let mut begun: Option<Begun> = None;
        loop {
            let wait = if begun.is_some() { Duration::ZERO } else { self.cutter.wait() };
            if wait > Duration::ZERO {
                while let Some(done) = committer.wait(self.cutter.wait())? {
                    self.take(done)?;
                }
                clock.wait(stop, self.cutter.wait());
            }
            if stop.is_stopped() {
                return Ok(());
            }
            let batch = match begun.take() {
                Some(begun) => begun,
                None => match self.cutter.next()? {
                    Next::Batch(batch, input) => {
                        let lanes = self.executor.begin(input);
                        Begun { lanes: lanes.map_err(|error| error.within(format!("batch {}", batch.context.batch)))?, batch }
                    }
                    Next::Nothing => {
                        self.settle(committer)?;
                        continue;
                    }
                    Next::End => return Ok(()),
                },
            };
            let last = batch.batch.last;
            let (work, ahead) = self.run_batch(batch, stop)?;
            let room = |committer: &Committer| if committer.is_full() { Duration::MAX } else { Duration::ZERO };
            while let Some(done) = committer.wait(room(committer))? {
                self.take(done)?;
            }
            committer.begin(work)?;
            if last {
                return Ok(());
            }
            begun = ahead.transpose()?;
        }
    }

    /// Runs a batch up to where its rows are on their way into the staged output. The next one may be under way then.
    fn run_batch(&mut self, Begun { batch, lanes }: Begun, stop: &Stop) -> Result<(Work, Option<Result<Begun>>)> {
        let times = self.cutter.inputs.iter().map(Input::time).collect();
        let mut cut = None;
        let ahead = || {
            if stop.is_stopped() {
                return None;
            }
            let (next, input) = self.cutter.ahead(&batch)?.map_or_else(|error| (Err(error), None), |(next, input)| (Ok(next), Some(input)));
            cut = Some(next);
            input
        };
        let ran = self.executor.run(lanes, times, ahead);
        let (output, lanes) = ran.map_err(|failure| self.failed(failure).within(format!("batch {}", batch.context.batch)))?;
        let ahead = cut.map(|next| {
            let (batch, lanes) = (next?, lanes.ok_or_else(|| Error::internal("a batch was cut, and not begun"))?);
            let lanes = lanes.map_err(|error| error.within(format!("batch {}", batch.context.batch)))?;
            Ok(Begun { batch, lanes })
        });
        let now = self.seams.clock.elapsed();
        let run = now.saturating_sub(batch.cut_at.max(std::mem::replace(&mut self.ran, now)));
        self.writer.seq = self.writer.seq.next();
        self.cutter.timer = output.next_timer;
        Ok((self.work(*batch, output, run), ahead))
    }

    fn failed(&self, failure: BatchFailure) -> Error {
        match failure {
            BatchFailure::BadRow(source, bad) => self.cutter.bad_row(source, bad),
            BatchFailure::Error(error) => error,
        }
    }

    /// What the committer needs of a batch that has run.
    fn work(&mut self, batch: CutBatch, output: BatchOutput, run: Duration) -> Work {
        let CutBatch { context, mut stagings, took, .. } = batch;
        let (mut changes, mut sources) = (Vec::new(), Vec::new());
        let mut lanes = output.sinks.into_iter();
        let mut outputs: Vec<_> = self.cutter.outlets.iter().map(|outlet| (outlet, Vec::new())).collect();
        for (_, of_sink) in &mut outputs {
            of_sink.extend(lanes.next().into_iter().flatten());
        }
        for ((input, cut), mut read) in self.cutter.inputs.iter_mut().zip(batch.sources).zip(output.sources) {
            input.watermark = input.watermark.max(read.watermark.unwrap_or(input.watermark));
            input.latest = read.latest.clone();
            changes.extend(cut.changes);
            let bad = std::mem::take(&mut read.dead_letter);
            if let Some((_, lanes)) = outputs.iter_mut().find(|(outlet, _)| Some(&outlet.id) == input.dead_letter.as_ref()) {
                lanes.extend(bad);
            }
            let (id, watermark, idleness) = (input.id.clone(), input.watermark, cut.idleness);
            sources.push(DraftSource { id, cut: cut.input.cut, spool: cut.input.spool, output: read, watermark, idleness });
        }
        let mut operators = Vec::new();
        for (id, operator) in output.operators {
            let (owner, is_whole) = (Owner::Operator(id.clone()), operator.are_whole);
            changes.extend(operator.changes.into_iter().map(|part| StateChange { owner: owner.clone(), part, is_whole }));
            operators.push((id, DraftOperator { watermark: operator.watermark, late_rows: operator.late_rows }));
        }
        let staged = outputs.into_iter().filter_map(|(outlet, lanes)| {
            let staging = stagings.remove(&outlet.id)?;
            Some(StagedOutput { id: outlet.id.clone(), sink: Arc::clone(&outlet.sink), staging, lanes })
        });
        let timings = Timings { cut_ms: whole_ms(took), run_ms: whole_ms(run), stage_ms: 0 };
        let draft = Draft { context, sources, operators, drained: batch.end_of_stream, timings };
        Work { draft, changes, outputs: staged.collect(), cut: took, run }
    }

    /// Waits for the batches that are being committed.
    fn settle(&mut self, committer: &mut Committer) -> Result<()> {
        while let Some(done) = committer.wait(Duration::MAX)? {
            self.take(done)?;
        }
        Ok(())
    }

    /// Tells of a batch that is committed and published, and lets the sources forget what only it needed.
    fn take(&mut self, Done { cuts, progress }: Done) -> Result<()> {
        for (input, cut) in self.cutter.inputs.iter_mut().zip(&cuts).filter(|(_, cut)| !cut.is_empty()) {
            input.source.acknowledge(cut).map_err(|error| error.within(format!("source '{}'", input.id)))?;
        }
        progress.trace();
        self.observer.batch(&progress);
        self.summary.batches += 1;
        self.summary.rows_in += progress.rows_in;
        self.summary.rows_out += progress.rows_out;
        self.summary.last = Some(progress.batch);
        self.summary.drained = progress.drained;
        Ok(())
    }
}
