//! Old batches, run again: the recorded ranges, trigger times and watermarks of some batches, from the recorded state before them.
//!
//! What flows in: a job, whose program may have changed, and its checkpoint. What flows out: for each sink of the job what a sink of
//! another place makes of the same batches, and, if wanted, how it differs from what was committed. Neither the checkpoint nor the places
//! of the job are written: its sinks are never opened, and its sources are never cut, restored or acknowledged.
//!
//! Nothing is atomic: each batch is published when it has run, and a replay that fails leaves those before it. It begins in an empty place.
//!
//! What can fail: a replay that can't be exact stops. That is `Config` where the program or the range of batches does not fit: a source
//! that is not in the program, operators whose state means something else (from batch 0 on they may: all state is empty there), state that
//! is no longer retained, rows that are more or fewer than recorded, a static table that became another one on the way. It is `Unavailable`
//! where a range, or a static table as it was, can't be read again.
//!
//! - [`checks`]: whether the program fits. [`recorded`]: recorded ranges as splits. [`watermarks`]: whose watermarks count. [`place`]: where
//!   the output may go. [`diff`]: rows compared as multisets.

mod checks;
mod diff;
mod place;
mod recorded;
mod watermarks;

pub use diff::{Comparison, Difference};

use crate::checkpoint::{Loader, Tables};
use crate::driver::{Input, Outlet, parts, read_again, restored_executor};
use crate::exec::{BatchFailure, BatchInput, BatchOutput, Executor, ExecutorSettings, SourceInput, SourceTime};
use crate::history::{History, batch_of, opening};
use crate::log::Log;
use crate::protocol::record::{BatchRecord, OpenRecord, Record};
use crate::seams::Nonces;
use checks::{check_program, check_sources};
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, JobId, Nonce, SinkId};
use waterclock_core::job::Job;
use waterclock_core::plan::Plan;
use waterclock_core::sink::{Attempt, LaneOutput, Manifest, Owner, Sink, SinkContext, Staging};
use waterclock_core::storage::{Access, Location, Store, StoreOptions};
use waterclock_core::time::Watermark;
use waterclock_core::{Error, Result};
use watermarks::Watermarks;

/// What is replayed, and how.
#[derive(Debug, Clone)]
pub struct ReplaySettings {
    /// The first batch.
    pub first: BatchId,
    /// The last batch.
    pub last: BatchId,
    /// Where the output goes.
    pub output: Location,
    /// Whether it is compared with what was committed.
    pub diff: bool,
    /// Workers and memory.
    pub executor: ExecutorSettings,
}

/// A batch that was replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedBatch {
    /// The batch.
    pub batch: BatchId,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// How each sink's rows differ from what was committed; empty if that was not wanted.
    pub sinks: BTreeMap<SinkId, Comparison>,
}

/// A sink of the job, and the one that stands in for it.
struct ReplaySink {
    original: Arc<dyn Sink>,
    replacement: Outlet,
}

/// A replay that may begin.
pub struct Replay {
    settings: ReplaySettings,
    log: Log,
    history: History,
    nonce: Nonce,
    /// What the job was at the first batch: the static tables are those.
    opened: OpenRecord,
    /// The record of the batch before the next one.
    before: Option<Record>,
    watermarks: Watermarks,
    executor: Executor,
    inputs: Vec<Input>,
    sinks: Vec<ReplaySink>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Replay {
    /// Checks that the batches can be replayed by this job, loads the state before them, and claims the output's place. `sink` makes the
    /// sink that stands in for the one of a name.
    ///
    /// # Errors
    /// See the [module](self).
    pub fn open(
        mut job: Job,
        settings: ReplaySettings,
        checkpoint: &Store,
        nonces: &dyn Nonces,
        sink: impl Fn(&SinkId) -> Result<Arc<dyn Sink>>,
    ) -> Result<Self> {
        let log = Log::new(checkpoint.clone());
        let history = History::read(log.clone())?;
        if settings.first > settings.last {
            return Err(Error::config(format!("no batch is both behind {} and before {}", settings.first, settings.last)));
        }
        history.record(settings.last)?;
        let before = settings.first.0.checked_sub(1).map(|before| history.record(BatchId(before))).transpose()?;
        let plan = Arc::clone(&job.plan);
        let newest = history.newest_opening()?;
        place::verify(&settings.output, &plan, checkpoint, &newest)?;
        let watermarks = Watermarks::new(&plan, &newest);
        let statics = std::mem::take(&mut job.statics);
        let (mut inputs, outlets) = parts(job)?;
        let first = history.record(settings.first)?;
        check_sources(&inputs, batch_of(&first)?)?;
        let opened = opening(&log, &first)?;
        read_again(&plan.statics, statics, &opened.statics, checkpoint.storage())?;
        if let Some(before) = &before {
            check_program(&plan, &log, before)?;
        }
        let unreadable = |error| match settings.first.0.checked_sub(1) {
            Some(batch) => history.unreadable(BatchId(batch), error),
            None => error,
        };
        let executor = executor(plan, &settings.executor, before.as_ref(), &log).map_err(unreadable)?;
        let recorded = before.as_ref().and_then(Record::batch);
        for input in &mut inputs {
            input.restore_time(recorded.and_then(|batch| batch.sources.get(&input.id)));
        }
        let mut sinks = Vec::with_capacity(outlets.len());
        for mut replacement in outlets {
            let original = std::mem::replace(&mut replacement.sink, sink(&replacement.id)?);
            sinks.push(ReplaySink { original, replacement });
        }
        let replay = Self { settings, log, history, nonce: nonces.fresh(), opened, before, watermarks, executor, inputs, sinks };
        replay.claim()?;
        Ok(replay)
    }

    /// Takes the output's place into possession, under the name of a job of its own: the replayed one can't write there.
    fn claim(&self) -> Result<()> {
        let job = self.log.job()?.map_or_else(String::new, |job| job.to_string());
        let output = self.log.store().storage().open(&self.settings.output, &StoreOptions::from_environment(), Access::Write)?;
        for ReplaySink { replacement, .. } in &self.sinks {
            let context = SinkContext {
                owner: Owner { job: JobId::from(format!("replay-of-{job}")), sink: replacement.id.clone() },
                schema: Arc::clone(&replacement.schema),
                scratch: output.below(&Path::from("_scratch"))?,
                last_batch: None,
            };
            replacement.sink.open(context).map_err(|error| error.within(format!("sink '{}'", replacement.id)))?;
        }
        Ok(())
    }

    /// Runs the batches, and tells of each when it is published.
    ///
    /// # Errors
    /// See the [module](self); and what `observe` returns.
    pub fn run(mut self, mut observe: impl FnMut(ReplayedBatch) -> Result<()>) -> Result<()> {
        loop {
            let record = self.next()?;
            let batch = batch_of(&record)?.batch;
            let replayed = self.replay(&record).map_err(|error| error.within(format!("batch {batch}")))?;
            observe(replayed)?;
            for ReplaySink { replacement, .. } in &self.sinks {
                replacement.sink.collect(record.epoch.next())?;
            }
            self.before = Some(record);
            if batch >= self.settings.last {
                return Ok(());
            }
        }
    }

    /// The record of the next batch.
    fn next(&self) -> Result<Record> {
        match &self.before {
            Some(before) => self.history.behind(before),
            None => self.history.record(BatchId::FIRST),
        }
    }

    fn replay(&mut self, record: &Record) -> Result<ReplayedBatch> {
        let batch = batch_of(record)?;
        check_sources(&self.inputs, batch)?;
        self.check_statics(record)?;
        let context = BatchContext { batch: batch.batch, trigger_time: record.time };
        let stagings = self.stage(&context, record)?;
        let (input, times) = self.batch_input(context, record, batch, &stagings)?;
        let lanes = self.executor.begin(input)?;
        let (output, _) = self.executor.run(lanes, times, || None).map_err(|failure| self.failed(failure))?;
        self.check_read(batch, &output)?;
        let rows_in = output.sources.iter().flat_map(|source| source.partitions.values()).map(|partition| partition.rows).sum();
        let manifests = self.publish(batch, output, &stagings)?;
        let rows_out = manifests.iter().map(|manifest| manifest.rows).sum();
        let sinks = if self.settings.diff { self.compare(batch, &manifests)? } else { BTreeMap::new() };
        Ok(ReplayedBatch { batch: batch.batch, rows_in, rows_out, sinks })
    }

    /// The static tables must be those of the first batch: they are read once.
    fn check_statics(&self, record: &Record) -> Result<()> {
        if self.opened.statics.is_empty() {
            return Ok(());
        }
        let opened = opening(&self.log, record)?;
        match self.opened.statics.iter().find(|(id, version)| opened.statics.get(*id) != Some(*version)) {
            None => Ok(()),
            Some((id, _)) => Err(Error::config(format!(
                "the static table '{id}' was another one here, for the job was stopped and started again; replay the batches from this one on \
                 by themselves"
            ))),
        }
    }

    fn stage(&self, context: &BatchContext, record: &Record) -> Result<Vec<Arc<dyn Staging>>> {
        let attempt = Attempt { seq: record.seq, epoch: record.epoch, nonce: self.nonce.clone() };
        self.sinks.iter().map(|sink| sink.replacement.sink.stage(context, &attempt, self.executor.budget())).collect()
    }

    fn batch_input(
        &mut self,
        context: BatchContext,
        record: &Record,
        batch: &BatchRecord,
        stagings: &[Arc<dyn Staging>],
    ) -> Result<(BatchInput, Vec<SourceTime>)> {
        let opened = opening(&self.log, record)?;
        let store = self.log.store();
        let (mut sources, mut times) = (Vec::with_capacity(self.inputs.len()), Vec::with_capacity(self.inputs.len()));
        for input in &mut self.inputs {
            let dead_letter = self.sinks.iter().position(|sink| Some(&sink.replacement.id) == input.dead_letter.as_ref());
            let dead_letter = dead_letter.map(|index| Arc::clone(&stagings[index]));
            let read = &batch.sources[&input.id];
            let splits = recorded::splits(input, read, store)?;
            let reached = self.watermarks.are_recorded(&input.id, &opened).then_some(read.watermark);
            times.push(SourceTime { reached, ..input.time() });
            sources.push(SourceInput { splits, idle: read.idle, dead_letter });
        }
        let dead_letters = self.inputs.iter().filter(|input| input.dead_letter.is_some()).count();
        let sinks = stagings[..stagings.len() - dead_letters].to_vec();
        Ok((BatchInput { context, sources, sinks, end_of_stream: batch.drained }, times))
    }

    fn failed(&self, failure: BatchFailure) -> Error {
        match failure {
            BatchFailure::BadRow(index, bad) => self.inputs[index].bad_row(bad),
            BatchFailure::Error(error) => error,
        }
    }

    /// The rows must be as many as were recorded.
    fn check_read(&mut self, batch: &BatchRecord, output: &BatchOutput) -> Result<()> {
        for (input, read) in self.inputs.iter_mut().zip(&output.sources) {
            let recorded = &batch.sources[&input.id];
            let then = recorded.rows() + recorded.bad_rows;
            let now = read.partitions.values().map(|partition| partition.rows).sum::<u64>() + read.bad_rows;
            if then != now {
                return Err(Error::config(format!(
                    "the source '{}' gave {now} rows, and {then} when the batch was committed; it can't be replayed exactly",
                    input.id
                )));
            }
            input.watermark = input.watermark.max(read.watermark.unwrap_or(Watermark::Unknown));
            input.latest = read.latest.clone();
        }
        Ok(())
    }

    /// Publishes the batch of every sink.
    fn publish(&self, batch: &BatchRecord, output: BatchOutput, stagings: &[Arc<dyn Staging>]) -> Result<Vec<Manifest>> {
        let bad_rows = self.inputs.iter().zip(output.sources).filter(|(input, _)| input.dead_letter.is_some());
        let lanes: Vec<Vec<LaneOutput>> = output.sinks.into_iter().chain(bad_rows.map(|(_, read)| read.dead_letter)).collect();
        let mut manifests = Vec::with_capacity(stagings.len());
        for ((sink, staging), lanes) in self.sinks.iter().zip(stagings).zip(lanes) {
            let manifest = staging.finish(lanes)?;
            sink.replacement.sink.publish(batch.batch, &manifest)?;
            manifests.push(manifest);
        }
        Ok(manifests)
    }

    fn compare(&self, batch: &BatchRecord, manifests: &[Manifest]) -> Result<BTreeMap<SinkId, Comparison>> {
        let mut compared = BTreeMap::new();
        for (sink, replayed) in self.sinks.iter().zip(manifests) {
            let id = &sink.replacement.id;
            let comparison = match batch.sinks.get(id) {
                None => Comparison::Impossible("the job did not write it".into()),
                Some(committed) => sink.compare(&committed.manifest, replayed).map_err(|error| error.within(format!("sink '{id}'")))?,
            };
            compared.insert(id.clone(), comparison);
        }
        for id in batch.sinks.keys().filter(|id| !compared.contains_key(*id)).cloned().collect::<Vec<_>>() {
            compared.insert(id, Comparison::Impossible("it is not in the program".into()));
        }
        Ok(compared)
    }
}

impl ReplaySink {
    fn compare(&self, committed: &Manifest, replayed: &Manifest) -> Result<Comparison> {
        let (Some(committed), Some(replayed)) = (self.original.read_back(committed)?, self.replacement.sink.read_back(replayed)?) else {
            return Ok(Comparison::Impossible(format!("{} can't be read back", self.replacement.place)));
        };
        Ok(Comparison::Possible(diff::compare(committed, replayed)))
    }
}

fn executor(plan: Arc<Plan>, settings: &ExecutorSettings, before: Option<&Record>, log: &Log) -> Result<Executor> {
    let tables = match before.and_then(|before| Some((before.seq, before.batch()?))) {
        Some((seq, batch)) => Tables::of(seq, batch),
        None => Tables::default(),
    };
    restored_executor(plan, settings, before, &tables, &Loader::new(log.clone()))
}
