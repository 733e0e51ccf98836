//! Taking over a job.
//!
//! IMPORTANT: the order of the steps is the protocol. The program and the sinks' places are checked against the log; then the opening is
//! committed, which shuts out every earlier driver; only then sinks are claimed, what was committed is published to the end, and leftovers
//! go.

use super::input::Input;
use super::ledger::Ledger;
use super::publisher::publish;
use super::recovery::RecoveryPoint;
use super::settings::{DriverSettings, Trigger};
use super::statics;
use super::{Driver, Outlet};
use crate::checkpoint::{Loader, Owner, Tables, remove_unfinished};
use crate::exec::{Executor, ExecutorSettings};
use crate::log::{Appended, Log};
use crate::places;
use crate::progress::Observer;
use crate::protocol::collect::{self, RetainedObjects};
use crate::protocol::compatibility::Program;
use crate::protocol::envelope::Stored;
use crate::protocol::paths;
use crate::protocol::record::{Body, EventTimeRecord, OpenRecord, Record, StaticRecord};
use crate::protocol::schema::StoredSchema;
use crate::seams::Seams;
use crate::spool;
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::id::{BatchId, Checksum, Epoch, JobId, Nonce, Seq, SinkId, SourceId};
use waterclock_core::job::Job;
use waterclock_core::plan::Plan;
use waterclock_core::sink::{Owner as SinkOwner, SinkContext};
use waterclock_core::source::{OnBadRow, dead_letter_schema};
use waterclock_core::storage::Store;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// A job that is being taken over.
struct Opening {
    plan: Arc<Plan>,
    inputs: Vec<Input>,
    /// The versions of the static tables.
    statics: BTreeMap<SourceId, StaticRecord>,
    outlets: Vec<Outlet>,
    settings: DriverSettings,
    seams: Seams,
    log: Log,
    nonce: Nonce,
}

impl Driver {
    /// Takes over a job: from here on, no earlier driver can commit. Publishes what was committed and not yet published.
    ///
    /// # Errors
    /// `Config` if the program does not fit the checkpoint, or a sink's place belongs to another job or overlaps the checkpoint; `Corrupt`
    /// if the checkpoint is damaged; `Unavailable` if a store or a static table can't be reached; `BadData` if a static table holds a bad
    /// row.
    pub fn open(mut job: Job, settings: DriverSettings, checkpoint: Store, seams: Seams, observer: Arc<dyn Observer>) -> Result<Self> {
        let plan = Arc::clone(&job.plan);
        places::check_apart(&plan, checkpoint.location())?;
        let tables = std::mem::take(&mut job.statics);
        let (inputs, outlets) = parts(job)?;
        check_ends(&inputs, &settings)?;
        // Before anything is written: a job whose static tables can't be read was not here.
        let statics = statics::read(&plan.statics, tables, checkpoint.storage())?;
        let nonce = seams.nonces.fresh();
        let opening = Opening { plan, inputs, statics, outlets, settings, seams, log: Log::new(checkpoint), nonce };
        let job = opening.log.identify(JobId::from(opening.seams.nonces.fresh().as_str()), &opening.nonce)?;
        let (recovery, open) = opening.take_over(&job)?;
        let last = open.record.last_batch().map(|last| last.batch);
        opening.claim(&job, last)?;
        let mut retained_objects = RetainedObjects::default();
        if let Some(recovery) = &recovery {
            opening.publish(recovery)?;
            retained_objects = opening.collect(recovery, open.record.epoch)?;
        }
        tracing::info!(%job, epoch = %open.record.epoch, ?last, "opened");
        observer.opened(open.record.epoch, last);
        opening.restore(recovery, open, retained_objects, observer)
    }
}

/// The job's sources and sinks, with their names.
pub(crate) fn parts(job: Job) -> Result<(Vec<Input>, Vec<Outlet>)> {
    let plan = &job.plan;
    let counts = [job.sources.len(), job.dead_letters.len(), job.sinks.len()];
    if counts != [plan.sources.len(), plan.sources.len(), plan.sinks.len()] {
        return Err(Error::internal("a job has other sources or sinks than its plan"));
    }
    if plan.sources.is_empty() {
        return Err(Error::config("the job reads no stream; declare a table with CREATE UNBOUNDED EXTERNAL TABLE and read it"));
    }
    let sinks = plan.sinks.iter().zip(&job.sinks);
    let mut outlets: Vec<Outlet> = sinks
        .map(|(planned, sink)| Outlet {
            id: planned.settings.id.clone(),
            sink: Arc::clone(sink),
            schema: Arc::clone(&planned.schema),
            place: planned.settings.location.to_string(),
        })
        .collect();
    let mut inputs = Vec::new();
    for ((planned, source), dead_letter) in plan.sources.iter().zip(job.sources).zip(job.dead_letters) {
        let dead_letter = dead_letter.map(|sink| {
            let id = SinkId::from(format!("{}.dead_letter", planned.settings.id));
            let place = match &planned.settings.on_bad_row {
                OnBadRow::DeadLetter(place) => place.to_string(),
                OnBadRow::Fail => String::new(),
            };
            outlets.push(Outlet { id: id.clone(), sink, schema: dead_letter_schema(), place });
            id
        });
        inputs.push(Input::new(planned, source, dead_letter));
    }
    Ok((inputs, outlets))
}

fn check_ends(inputs: &[Input], settings: &DriverSettings) -> Result<()> {
    let bounded = settings.trigger() == Trigger::UntilCaughtUp;
    match inputs.iter().find(|input| bounded && !input.source.capabilities().has_end) {
        Some(endless) => Err(Error::config(format!(
            "the source '{}' has no end, so it can't be caught up with or drained; give it one, or run it at an interval or with a limit of \
             batches",
            endless.id
        ))),
        None => Ok(()),
    }
}

impl Opening {
    /// Commits the opening. Returns where the job stood before it.
    fn take_over(&self, job: &JobId) -> Result<(Option<RecoveryPoint>, Stored)> {
        let program = Program::of(&self.plan);
        loop {
            let recovery = RecoveryPoint::read(&self.log)?;
            if let Some(recovery) = &recovery {
                recovery.check(&program)?;
                self.check_places(recovery, job)?;
            }
            let record = self.record(recovery.as_ref().and_then(RecoveryPoint::head), &program)?;
            match self.log.append(&record)? {
                Appended::Mine(stored) => return Ok((recovery, stored)),
                Appended::Theirs(theirs) => tracing::info!(seq = %theirs.record.seq, "another driver was quicker; trying the next number"),
            }
        }
    }

    /// The sinks must be where they were, or their places have moved as a whole, with what says whose they are.
    fn check_places(&self, recovery: &RecoveryPoint, job: &JobId) -> Result<()> {
        for outlet in &self.outlets {
            let before = recovery.places.get(&outlet.id).map_or(outlet.place.as_str(), String::as_str);
            let same = before.trim_end_matches('/') == outlet.place.trim_end_matches('/');
            if !same && outlet.sink.owner()? != Some(SinkOwner { job: job.clone(), sink: outlet.id.clone() }) {
                return Err(Error::config(format!(
                    "the sink '{}' is now at {}, and the job's output so far is at {before}; give the sink its old place, or move all of that \
                     directory to the new one, or begin a new job with another checkpoint",
                    outlet.id, outlet.place
                )));
            }
        }
        Ok(())
    }

    fn record(&self, head: Option<&Stored>, program: &Program) -> Result<Record> {
        let schema = |input: &Input| Ok((input.id.clone(), StoredSchema::of(&input.source.schema())?));
        let open = OpenRecord {
            last: head.and_then(|head| head.record.last_batch()),
            operators: program.operators.clone(),
            inputs: program.inputs.clone(),
            sources: self.inputs.iter().map(schema).collect::<Result<_>>()?,
            event_times: EventTimeRecord::of_sources(&self.plan),
            statics: self.statics.clone(),
            sinks: self.outlets.iter().map(|outlet| (outlet.id.clone(), outlet.place.clone())).collect(),
            configuration: self.settings.configuration.clone(),
        };
        let now = self.seams.clock.now();
        Ok(Record {
            seq: head.map_or(Seq::FIRST, |head| head.record.seq.next()),
            epoch: head.map_or(Epoch::FIRST, |head| head.record.epoch.next()),
            nonce: self.nonce.clone(),
            parent: head.map(|head| head.checksum.clone()),
            time: head.map_or(now, |head| now.max(head.record.time)),
            body: Body::Open(Box::new(open)),
        })
    }

    /// Takes the sinks' places into possession.
    fn claim(&self, job: &JobId, last_batch: Option<BatchId>) -> Result<()> {
        for outlet in &self.outlets {
            let context = SinkContext {
                owner: SinkOwner { job: job.clone(), sink: outlet.id.clone() },
                schema: Arc::clone(&outlet.schema),
                scratch: self.log.store().below(&paths::scratch(&outlet.id))?,
                last_batch,
            };
            outlet.sink.open(context).map_err(|error| error.within(format!("sink '{}'", outlet.id)))?;
        }
        Ok(())
    }

    /// Publishes what was committed and is not known to be published.
    fn publish(&self, recovery: &RecoveryPoint) -> Result<()> {
        for record in recovery.unpublished(&self.log)? {
            let Some(batch) = record.batch() else { continue };
            for outlet in &self.outlets {
                if let Some(sink) = batch.sinks.get(&outlet.id) {
                    let place = |error: Error| error.within(format!("publishing batch {}", batch.batch));
                    publish(&outlet.id, outlet.sink.as_ref(), batch.batch, &sink.manifest).map_err(place)?;
                }
            }
            for (id, sink) in batch.sinks.iter().filter(|(id, sink)| sink.manifest.rows > 0 && !self.has_outlet(id)) {
                tracing::warn!(sink = %id, batch = %batch.batch, rows = sink.manifest.rows, "the sink is no longer part of the job; this batch of it may be unpublished");
            }
        }
        Ok(())
    }

    fn has_outlet(&self, id: &SinkId) -> bool {
        self.outlets.iter().any(|outlet| &outlet.id == id)
    }

    /// Removes what earlier drivers left behind, and state that is no longer retained. Returns what of the rest will go.
    ///
    /// IMPORTANT: after everything that was committed is published, for a sink takes what is still staged for a leftover.
    fn collect(&self, recovery: &RecoveryPoint, epoch: Epoch) -> Result<RetainedObjects> {
        for outlet in &self.outlets {
            outlet.sink.collect(epoch).map_err(|error| error.within(format!("sink '{}'", outlet.id)))?;
        }
        let store = self.log.store();
        remove_unfinished(store, epoch)?;
        let recent = &recovery.recent;
        let oldest = recent.first().map_or(Seq::FIRST, |stored| stored.record.seq);
        let retained = recovery.oldest_retained(&self.log)?;
        let mut kept = Vec::new();
        for object in store.list(Some(&paths::states()))? {
            let path = object.location.as_ref();
            let is_removed = match (paths::parse_state(&object.location), paths::parse_merged(&object.location)) {
                (Some(writer), _) if writer.epoch < epoch => {
                    // Leftovers for numbers below those that were read went at an earlier start.
                    let index = writer.seq.0.checked_sub(oldest.0).map(|index| usize::try_from(index).unwrap_or(usize::MAX));
                    let record = |index: usize| recent.get(index).map(|stored| &stored.record);
                    index.is_some_and(|index| collect::is_garbage(&writer, record(index), epoch))
                        || retained.as_ref().is_some_and(|oldest| collect::is_given_up(&writer, path, oldest))
                }
                (None, Some(writer)) if writer.epoch < epoch => {
                    retained.as_ref().is_some_and(|oldest| collect::is_merged_given_up(&writer, path, oldest))
                }
                // What a driver of this epoch or a later one wrote is its own affair.
                _ => continue,
            };
            if is_removed {
                store.delete(&object.location)?;
            } else {
                kept.push(path.to_owned());
            }
        }
        let last = recovery.last.as_ref().and_then(Record::batch);
        Ok(last.map(|last| RetainedObjects::behind(last, kept)).unwrap_or_default())
    }

    /// Gives sources and operators what they had at the newest batch.
    fn restore(
        mut self,
        recovery: Option<RecoveryPoint>,
        open: Stored,
        retained_objects: RetainedObjects,
        observer: Arc<dyn Observer>,
    ) -> Result<Driver> {
        let recent: Vec<Record> = recovery.iter().flat_map(|recovery| &recovery.recent).map(|stored| stored.record.clone()).collect();
        let last = recovery.and_then(|recovery| recovery.last);
        let mut tables = match last.as_ref().and_then(|last| Some((last.seq, last.batch()?))) {
            Some((seq, batch)) => Tables::of(seq, batch),
            None => Tables::default(),
        };
        let loader = Loader::new(self.log.clone());
        tables.recall(&loader)?;
        let executor = restored_executor(Arc::clone(&self.plan), &self.settings.executor, last.as_ref(), &tables, &loader)?;
        self.restore_inputs(last.as_ref(), &tables, &loader, &recent)?;
        let batch = last.as_ref().and_then(Record::batch);
        let published = batch.iter().flat_map(|batch| self.outlets.iter().map(|outlet| (outlet.id.clone(), batch.batch))).collect();
        let ledger = Ledger {
            published,
            tables,
            retain: self.settings.retain,
            retained_objects,
            configuration: fingerprint(&self.settings.configuration)?,
            plan: fingerprint(&self.plan.fingerprints())?,
            parent: open,
            last,
        };
        Ok(Driver::new(self.settings, self.seams, observer, self.log, executor, self.inputs, self.outlets, ledger))
    }

    fn restore_inputs(&mut self, last: Option<&Record>, tables: &Tables, loader: &Loader, recent: &[Record]) -> Result<()> {
        let spools = self.inputs.iter().any(|input| !input.source.capabilities().replayable);
        let found = if spools { spool::unnamed(self.log.store(), recent)? } else { Vec::new() };
        for input in &mut self.inputs {
            input.restore(last, tables, loader, &self.log, &found)?;
            let until_its_end = match self.settings.trigger() {
                Trigger::UntilCaughtUp => true,
                // One batch of what is there: a pipe whose first rows are on their way is waited for.
                Trigger::Once => input.source.capabilities().has_end,
                Trigger::Interval(_) => false,
            };
            if until_its_end {
                input.source.fix_end()?;
            }
        }
        Ok(())
    }
}

/// An executor whose operators have what they had behind a batch; without one they have nothing.
pub(crate) fn restored_executor(
    plan: Arc<Plan>,
    settings: &ExecutorSettings,
    last: Option<&Record>,
    tables: &Tables,
    loader: &Loader,
) -> Result<Executor> {
    let mut executor = Executor::new(plan, loader.storage().clone(), settings)?;
    let stored = last.and_then(Record::batch).map(|batch| &batch.operators);
    for (id, operator) in stored.into_iter().flatten() {
        executor.restore(id, operator.watermark, |each| tables.load_parts(&Owner::Operator(id.clone()), loader, each))?;
    }
    Ok(executor)
}

fn fingerprint(value: &impl serde::Serialize) -> Result<Checksum> {
    let json = serde_json::to_vec(value).or_error(ErrorKind::Internal, || "encoding a fingerprint".into())?;
    Ok(Checksum::of(&json))
}
