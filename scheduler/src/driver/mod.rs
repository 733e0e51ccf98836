//! The driver: cuts unbounded input into batches, runs each, commits it, publishes it.
//!
//! What flows in: a [`Job`](waterclock_core::job::Job), a checkpoint, and from then on whatever its sources hold. What flows out:
//! published batches, and a record of each. Atomic is the put of a batch's record, and nothing else. What can fail: everything; what was
//! committed is repaired at the next start, what was not is cut again.
//!
//! - [`settings`]: when to cut and when to end; [`pacer`]: the decisions.
//! - [`open`]: taking over a job; [`recovery`]: what it is taken up from.
//! - [`input`]: the sources; [`idleness`]: whether they hold others back; [`statics`]: tables that are read once. [`committer`]: the thread
//!   that commits batch n while n+1 runs; [`ledger`]: what it writes.

mod committer;
mod idleness;
mod input;
mod ledger;
mod open;
mod pacer;
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

use crate::checkpoint::Owner;
use crate::exec::{BatchFailure, BatchInput, BatchOutput, Executor, SourceInput};
use crate::log::Log;
use crate::progress::Observer;
use crate::protocol::paths::Writer;
use crate::protocol::record::{Record, Timings};
use crate::seams::{Seams, Stop};
use arrow::datatypes::SchemaRef;
use committer::{Committer, Done, StagedOutput, Work, whole_ms};
use input::InputCut;
use ledger::{Draft, DraftOperator, DraftSource, Ledger};
use pacer::{Decision, Pacer, Seen};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, Seq, SinkId};
use waterclock_core::sink::{Attempt, Sink, Staging};
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, Result};

/// Where rows of the job go: a sink, or the place for a source's bad rows.
pub(crate) struct Outlet {
    pub id: SinkId,
    pub sink: Arc<dyn Sink>,
    pub schema: SchemaRef,
    pub place: String,
}

/// A job that was taken over, ready to run.
pub struct Driver {
    settings: DriverSettings,
    seams: Seams,
    observer: Arc<dyn Observer>,
    log: Log,
    executor: Executor,
    inputs: Vec<Input>,
    outlets: Vec<Outlet>,
    /// What the committer starts with; it has it from then on.
    ledger: Option<Ledger>,
    /// Who writes the next record, if nothing fails.
    writer: Writer,
    next_batch: BatchId,
    /// The newest trigger time: the next one is not earlier.
    time: Timestamp,
    /// When an operator wants a batch.
    timer: Option<Timestamp>,
    drained: bool,
    summary: Summary,
}

/// What is cut for a batch.
struct BatchCut {
    inputs: Vec<InputCut>,
    trigger_time: Timestamp,
    took: Duration,
}

/// When the next source will be idle. A source alone holds nothing back.
fn idleness_due(inputs: &[Input]) -> Option<Timestamp> {
    if inputs.len() < 2 { None } else { inputs.iter().filter_map(|input| input.idleness.due()).min() }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("writer", &self.writer).field("next_batch", &self.next_batch).finish_non_exhaustive()
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
        Self {
            settings,
            seams,
            observer,
            log,
            timer: executor.next_timer().into_iter().chain(idleness_due(&inputs)).min(),
            executor,
            inputs,
            outlets,
            writer: Writer { seq: ledger.next_seq(), epoch: parent.epoch, nonce: parent.nonce.clone() },
            next_batch: last.map_or(BatchId::FIRST, BatchId::next),
            time: parent.time,
            drained,
            summary: Summary { epoch: parent.epoch, batches: 0, rows_in: 0, rows_out: 0, last, drained },
            ledger: Some(ledger),
        }
    }

    /// Runs batches until the trigger, a limit or a stop ends it. What was cut is committed and published when it returns without error.
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
        // The batch that is being committed comes before the one that failed, so its failure goes first too.
        let settled = self.settle(&mut committer);
        settled.and(run).map_err(|error| self.overtaken().unwrap_or(error))?;
        if !matches!(self.settings.trigger(), Trigger::Interval(_)) {
            self.verify_head()?;
        }
        Ok(self.summary)
    }

    /// A job whose stream has ended has nothing more to do, and must not be given more.
    fn verify_drained(mut self) -> Result<Summary> {
        for input in &mut self.inputs {
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
    /// or the one before if that was being committed.
    fn overtaken(&self) -> Option<Error> {
        let seqs = [Seq(self.writer.seq.0.saturating_sub(1)), self.writer.seq];
        let read = |seq: Seq| self.log.read(seq).ok().flatten().map(|stored| stored.record);
        let theirs = seqs.into_iter().filter_map(read).find(|record| record.epoch > self.writer.epoch)?;
        Some(self.fenced(&theirs))
    }

    fn fenced(&self, theirs: &Record) -> Error {
        committer::fenced(self.writer.epoch, theirs)
    }

    fn run_batches(&mut self, stop: &Stop, committer: &mut Committer) -> Result<()> {
        let max_batches = self.settings.max_batches.map(std::num::NonZeroU64::get);
        let mut pacer = Pacer::new(self.settings.trigger(), self.settings.drain, max_batches);
        let clock = Arc::clone(&self.seams.clock);
        loop {
            let wait = pacer.wait(clock.elapsed(), self.until_timer());
            if wait > Duration::ZERO {
                self.settle(committer)?;
                clock.wait(stop, pacer.wait(clock.elapsed(), self.until_timer()));
            }
            if stop.is_stopped() {
                return Ok(());
            }
            let started = clock.elapsed();
            let cut = self.cut()?;
            match pacer.judge(started, self.seen(&cut)) {
                Decision::Run { end_of_stream, last } => {
                    let work = self.run_batch(cut, end_of_stream)?;
                    self.settle(committer)?;
                    committer.begin(work)?;
                    if last {
                        return Ok(());
                    }
                }
                Decision::Pass => self.settle(committer)?,
                Decision::End => return Ok(()),
            }
        }
    }

    fn until_timer(&self) -> Option<Duration> {
        let micros = self.timer?.0.saturating_sub(self.seams.clock.now().0);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
    }

    fn cut(&mut self) -> Result<BatchCut> {
        let started = self.seams.clock.elapsed();
        let trigger_time = self.seams.clock.now().max(self.time);
        let cut = |input: &mut Input| input.cut().map_err(|error| error.within(format!("source '{}'", input.id)));
        let inputs = self.inputs.iter_mut().map(cut).collect::<Result<_>>()?;
        Ok(BatchCut { inputs, trigger_time, took: self.seams.clock.elapsed().saturating_sub(started) })
    }

    fn seen(&self, cut: &BatchCut) -> Seen {
        Seen {
            input: cut.inputs.iter().any(|input| !input.cut.is_empty()),
            more: self.inputs.iter().zip(&cut.inputs).any(|(input, cut)| input.has_more(cut)),
            timer: self.timer.is_some_and(|timer| timer <= cut.trigger_time),
        }
    }

    /// Runs a batch up to where its rows are on their way into the staged output.
    fn run_batch(&mut self, mut cut: BatchCut, end_of_stream: bool) -> Result<Work> {
        let started = self.seams.clock.elapsed();
        let context = BatchContext { batch: self.next_batch, trigger_time: cut.trigger_time };
        for (input, cut) in self.inputs.iter_mut().zip(&mut cut.inputs) {
            input.spool(cut, self.log.store(), &self.writer)?;
        }
        let stagings = self.stage(&context)?;
        for (input, cut) in self.inputs.iter_mut().zip(&cut.inputs) {
            input.idleness = input.idleness.after(context.trigger_time, !cut.cut.is_empty());
        }
        let input = self.batch_input(context, &cut, &stagings, end_of_stream)?;
        let output = self.executor.run(input).map_err(|failure| self.failed(failure).within(format!("batch {}", context.batch)))?;
        let run = self.seams.clock.elapsed().saturating_sub(started);
        self.writer.seq = self.writer.seq.next();
        self.next_batch = self.next_batch.next();
        self.time = cut.trigger_time;
        self.timer = output.next_timer.into_iter().chain(idleness_due(&self.inputs)).min();
        Ok(self.work(context, cut, output, stagings, end_of_stream, run))
    }

    fn stage(&self, context: &BatchContext) -> Result<BTreeMap<SinkId, Arc<dyn Staging>>> {
        let attempt = Attempt { seq: self.writer.seq, epoch: self.writer.epoch, nonce: self.writer.nonce.clone() };
        let stage = |outlet: &Outlet| {
            let staging = outlet.sink.stage(context, &attempt, self.executor.budget());
            let staging = staging.map_err(|error| error.within(format!("sink '{}', batch {}", outlet.id, context.batch)))?;
            Ok((outlet.id.clone(), staging))
        };
        self.outlets.iter().map(stage).collect()
    }

    fn batch_input(
        &self,
        context: BatchContext,
        cut: &BatchCut,
        stagings: &BTreeMap<SinkId, Arc<dyn Staging>>,
        end_of_stream: bool,
    ) -> Result<BatchInput> {
        let source = |(input, cut): (&Input, &InputCut)| {
            let dead_letter = input.dead_letter.as_ref().and_then(|id| stagings.get(id)).map(Arc::clone);
            let (splits, latest) = (input.splits(&cut.cut)?, input.latest.clone());
            Ok(SourceInput { splits, watermark: input.watermark, latest, reached: None, idle: input.idleness.idle, dead_letter })
        };
        let sources = self.inputs.iter().zip(&cut.inputs).map(source).collect::<Result<_>>()?;
        let dead_letters = self.inputs.iter().filter(|input| input.dead_letter.is_some()).count();
        let sinks = &self.outlets[..self.outlets.len() - dead_letters];
        let sinks = sinks.iter().map(|outlet| Arc::clone(&stagings[&outlet.id])).collect();
        Ok(BatchInput { context, sources, sinks, end_of_stream })
    }

    fn failed(&self, failure: BatchFailure) -> Error {
        match failure {
            BatchFailure::BadRow(index, bad) => match self.inputs.get(index) {
                Some(input) => input.bad_row(bad),
                None => Error::internal(format!("a bad row of source {index}, which is none of the job's")),
            },
            BatchFailure::Error(error) => error,
        }
    }

    /// What the committer needs of a batch that has run.
    fn work(
        &mut self,
        context: BatchContext,
        cut: BatchCut,
        output: BatchOutput,
        mut stagings: BTreeMap<SinkId, Arc<dyn Staging>>,
        drained: bool,
        run: Duration,
    ) -> Work {
        let mut changes = Vec::new();
        let mut sources = Vec::new();
        let mut lanes = output.sinks.into_iter();
        let mut outputs: Vec<_> = self.outlets.iter().map(|outlet| (outlet, Vec::new())).collect();
        for (_, of_sink) in &mut outputs {
            of_sink.extend(lanes.next().into_iter().flatten());
        }
        for ((input, cut), mut read) in self.inputs.iter_mut().zip(cut.inputs).zip(output.sources) {
            input.watermark = input.watermark.max(read.watermark.unwrap_or(input.watermark));
            input.latest = read.latest.clone();
            changes.extend(input.take_changes());
            let bad = std::mem::take(&mut read.dead_letter);
            if let Some((_, lanes)) = outputs.iter_mut().find(|(outlet, _)| Some(&outlet.id) == input.dead_letter.as_ref()) {
                lanes.extend(bad);
            }
            let (id, watermark, idleness) = (input.id.clone(), input.watermark, input.idleness);
            sources.push(DraftSource { id, cut: cut.cut, spool: cut.spool, output: read, watermark, idleness });
        }
        let mut operators = Vec::new();
        for (id, operator) in output.operators {
            changes.extend(operator.changes.into_iter().map(|change| (Owner::Operator(id.clone()), change)));
            operators.push((id, DraftOperator { watermark: operator.watermark, late_rows: operator.late_rows }));
        }
        let staged = outputs.into_iter().filter_map(|(outlet, lanes)| {
            let staging = stagings.remove(&outlet.id)?;
            Some(StagedOutput { id: outlet.id.clone(), sink: Arc::clone(&outlet.sink), staging, lanes })
        });
        let timings = Timings { cut_ms: whole_ms(cut.took), run_ms: whole_ms(run), stage_ms: 0 };
        let draft = Draft { context, sources, operators, drained, timings };
        Work { draft, changes, outputs: staged.collect(), cut: cut.took, run }
    }

    /// Waits for the batch that is being committed, and lets the sources forget what only it needed.
    fn settle(&mut self, committer: &mut Committer) -> Result<()> {
        let Some(Done { cuts, progress }) = committer.settle()? else { return Ok(()) };
        for (input, cut) in self.inputs.iter_mut().zip(&cuts).filter(|(_, cut)| !cut.is_empty()) {
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
