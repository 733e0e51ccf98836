//! Cuts batches: from what the sources hold to a batch that can run, with its number, its time, and the places of its output.
//!
//! What flows in: the sources, and when an operator wants a batch. What flows out: batches, one after the other; each is cut once, and the
//! next one may be cut while it still runs, where nothing of its cut depends on that. A batch that is cut and never run leaves nothing but
//! places of output that no record names; what its sources gave is cut again by the next driver.

use super::input::{Input, InputCut};
use super::pacer::{Decision, Pacer, Seen};
use super::{Outlet, idleness::Idleness};
use crate::checkpoint::StateChange;
use crate::exec::{BatchInput, SourceInput};
use crate::protocol::paths::Writer;
use crate::seams::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, SinkId};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::sink::{Attempt, Staging};
use waterclock_core::storage::Store;
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, Result};

/// The front end of a driver.
pub(super) struct Cutter {
    pub inputs: Vec<Input>,
    pub outlets: Vec<Outlet>,
    pub clock: Arc<dyn Clock>,
    /// The checkpoint, for cuts that must be stored.
    pub store: Store,
    /// The budget that sinks stage within.
    pub budget: MemoryBudget,
    pub pacer: Pacer,
    /// Who writes the record of the next batch that is cut, if nothing fails.
    pub writer: Writer,
    /// Its number.
    pub batch: BatchId,
    /// The newest trigger time: the next one is not earlier.
    pub time: Timestamp,
    /// When an operator wants a batch, as of the newest one that has run.
    pub timer: Option<Timestamp>,
}

/// A batch that is cut.
pub(super) struct CutBatch {
    pub context: BatchContext,
    pub sources: Vec<CutSource>,
    pub stagings: BTreeMap<SinkId, Arc<dyn Staging>>,
    /// Whether the stream ends with it.
    pub end_of_stream: bool,
    /// Whether the run ends with it.
    pub last: bool,
    /// Whether there was more to cut at once.
    more: bool,
    /// How long the cut took, and when that was done.
    pub took: Duration,
    pub cut_at: Duration,
}

/// A source's part of a batch.
pub(super) struct CutSource {
    pub input: InputCut,
    /// What the cut changed in the source's state.
    pub changes: Vec<StateChange>,
    pub idleness: Idleness,
}

/// What a look at the sources came to.
pub(super) enum Next {
    /// A batch, and what it runs on.
    Batch(Box<CutBatch>, BatchInput),
    /// Nothing yet.
    Nothing,
    /// The run is over.
    End,
}

impl Cutter {
    /// How long to wait before the next cut.
    pub fn wait(&self) -> Duration {
        let until = |timer: Timestamp| Duration::from_micros(u64::try_from(timer.0.saturating_sub(self.clock.now().0)).unwrap_or(0));
        self.pacer.wait(self.clock.elapsed(), self.timer().map(until))
    }

    /// When a batch is wanted even without rows: by an operator, or because a source will be idle. A source alone holds nothing back.
    fn timer(&self) -> Option<Timestamp> {
        let idle = self.inputs.iter().filter(|_| self.inputs.len() > 1).filter_map(|input| input.idleness.due());
        idle.chain(self.timer).min()
    }

    /// Cuts, and decides what to do with it.
    pub fn next(&mut self) -> Result<Next> {
        let started = self.clock.elapsed();
        let trigger_time = self.clock.now().max(self.time);
        let cut = |input: &mut Input| input.cut().map_err(|error| error.within(format!("source '{}'", input.id)));
        let cuts: Vec<InputCut> = self.inputs.iter_mut().map(cut).collect::<Result<_>>()?;
        let seen = Seen {
            input: cuts.iter().any(|input| !input.cut.is_empty()),
            more: self.inputs.iter().zip(&cuts).any(|(input, cut)| input.has_more(cut)),
            timer: self.timer().is_some_and(|timer| timer <= trigger_time),
        };
        let (end_of_stream, last) = match self.pacer.judge(started, seen) {
            Decision::Run { end_of_stream, last } => (end_of_stream, last),
            Decision::Pass => return Ok(Next::Nothing),
            Decision::End => return Ok(Next::End),
        };
        let cut_at = self.clock.elapsed();
        let context = BatchContext { batch: self.batch, trigger_time };
        let sources = self.take(cuts, trigger_time)?;
        let stagings = self.stage(&context)?;
        let input = self.batch_input(context, &sources, &stagings, end_of_stream)?;
        (self.writer.seq, self.batch, self.time) = (self.writer.seq.next(), self.batch.next(), trigger_time);
        let took = cut_at.saturating_sub(started);
        Ok(Next::Batch(Box::new(CutBatch { context, sources, stagings, end_of_stream, last, more: seen.more, took, cut_at }), input))
    }

    /// The batch behind one that still runs, if it can be cut now: the sources have more, and can give it again if nothing comes of it.
    pub fn ahead(&mut self, of: &CutBatch) -> Option<Result<(Box<CutBatch>, BatchInput)>> {
        let can = of.more && !of.last && self.inputs.iter().all(|input| input.source.capabilities().replayable);
        if !can || self.pacer.wait(self.clock.elapsed(), None) > Duration::ZERO {
            return None;
        }
        match self.next() {
            Ok(Next::Batch(batch, input)) => Some(Ok((batch, input))),
            Ok(Next::Nothing | Next::End) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn take(&mut self, cuts: Vec<InputCut>, trigger_time: Timestamp) -> Result<Vec<CutSource>> {
        let (store, writer) = (&self.store, &self.writer);
        let take = |(input, mut cut): (&mut Input, InputCut)| {
            input.spool(&mut cut, store, writer)?;
            input.idleness = input.idleness.after(trigger_time, !cut.cut.is_empty());
            Ok(CutSource { input: cut, changes: input.take_changes()?, idleness: input.idleness })
        };
        self.inputs.iter_mut().zip(cuts).map(take).collect()
    }

    fn stage(&self, context: &BatchContext) -> Result<BTreeMap<SinkId, Arc<dyn Staging>>> {
        let attempt = Attempt { seq: self.writer.seq, epoch: self.writer.epoch, nonce: self.writer.nonce.clone() };
        let stage = |outlet: &Outlet| {
            let staging = outlet.sink.stage(context, &attempt, &self.budget);
            let staging = staging.map_err(|error| error.within(format!("sink '{}', batch {}", outlet.id, context.batch)))?;
            Ok((outlet.id.clone(), staging))
        };
        self.outlets.iter().map(stage).collect()
    }

    fn batch_input(
        &self,
        context: BatchContext,
        sources: &[CutSource],
        stagings: &BTreeMap<SinkId, Arc<dyn Staging>>,
        end_of_stream: bool,
    ) -> Result<BatchInput> {
        let source = |(input, source): (&Input, &CutSource)| {
            let dead_letter = input.dead_letter.as_ref().and_then(|id| stagings.get(id)).map(Arc::clone);
            Ok(SourceInput { splits: input.splits(&source.input.cut)?, idle: source.idleness.idle, dead_letter })
        };
        let sources = self.inputs.iter().zip(sources).map(source).collect::<Result<_>>()?;
        let dead_letters = self.inputs.iter().filter(|input| input.dead_letter.is_some()).count();
        let sinks = &self.outlets[..self.outlets.len() - dead_letters];
        let sinks = sinks.iter().map(|outlet| Arc::clone(&stagings[&outlet.id])).collect();
        Ok(BatchInput { context, sources, sinks, end_of_stream })
    }

    /// The error of a row that could not be read, of the source of this index.
    pub fn bad_row(&self, source: usize, bad: waterclock_core::source::BadRow) -> Error {
        match self.inputs.get(source) {
            Some(input) => input.bad_row(bad),
            None => Error::internal(format!("a bad row of source {source}, which is none of the job's")),
        }
    }
}
