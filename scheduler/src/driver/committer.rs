//! The thread that takes batches from their last row to their commit, while the driver's thread cuts and runs the next ones.
//!
//! A batch is staged (its output and its state become durable, side by side), committed (its record is put), and published. Batches go in
//! order, and each of the three steps is about one batch at a time. But while record n is on its way, batch n + 1 is staged, and it is
//! another thread that publishes ([`publisher`]): where each request takes long, batches follow each other at the pace of the slowest
//! step, not of their sum.
//!
//! IMPORTANT: record n + 1 is put when record n is committed, never before. A failure ends the thread; what was staged behind it is
//! waited for, and left to the next opening.
//!
//! [`publisher`]: super::publisher

use super::ledger::{Draft, Ledger};
use super::publisher::{Committed, Done, Publisher, Staged, guarded};
use crate::checkpoint::{Loader, Merger, Owner, StagedState, StateChange};
use crate::log::{Append, Appended, Log, Prepared};
use crate::progress::Durations;
use crate::protocol::paths::Writer;
use crate::protocol::record::Record;
use crate::seams::{Clock, Seams};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use object_store::path::Path;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use waterclock_core::id::{BatchId, Epoch, SinkId};
use waterclock_core::sink::{LaneFile, LaneOutput, Sink, Staging};
use waterclock_core::storage::UploadHandle;
use waterclock_core::time::Watermark;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// A batch that has run.
pub(super) struct Work {
    pub draft: Draft,
    pub changes: Vec<StateChange>,
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

/// The driver's end of both threads.
pub(super) struct Committer {
    work: Option<Sender<Work>>,
    outcomes: Receiver<Result<Done>>,
    threads: Vec<JoinHandle<()>>,
    /// How many batches were handed over and have not come back.
    under_way: usize,
    /// How many may be.
    most: NonZeroUsize,
}

impl Committer {
    pub fn start(log: Log, ledger: Ledger, seams: &Seams) -> Result<Self> {
        let (work, inbox) = bounded(seams.in_flight.get());
        let (report, outcomes) = bounded(seams.in_flight.get());
        let publisher = Publisher { store: log.store().clone(), clock: Arc::clone(&seams.clock), marks: ledger.published.clone() };
        let (publish, committed) = bounded(seams.in_flight.get());
        let loader = Loader::new(log.clone());
        let merger = Merger::new(loader.clone(), seams.merging);
        let clock = Arc::clone(&seams.clock);
        let mut committing = Committing { log, loader, merger, ledger, clock, publish, record: None };
        let threads = vec![
            spawn("waterclock-committer", move || committing.serve(&inbox))?,
            spawn("waterclock-publisher", move || publisher.serve(&committed, &report))?,
        ];
        Ok(Self { work: Some(work), outcomes, threads, under_way: 0, most: seams.in_flight })
    }

    /// Hands a batch over. There must be room for it.
    pub fn begin(&mut self, work: Work) -> Result<()> {
        let sender = self.work.as_ref().ok_or_else(gone)?;
        sender.send(work).map_err(|_| gone())?;
        self.under_way += 1;
        Ok(())
    }

    /// Whether no more batches may be handed over before one has come back.
    pub fn is_full(&self) -> bool {
        self.under_way >= self.most.get()
    }

    /// Waits for the oldest batch that was handed over, at most so long; none if there is none, or it takes longer.
    ///
    /// # Errors
    /// Whatever was the first thing to fail, of the oldest batch that did not get through.
    pub fn wait(&mut self, time: Duration) -> Result<Option<Done>> {
        if self.under_way == 0 {
            return Ok(None);
        }
        let outcome = match self.outcomes.try_recv() {
            Err(TryRecvError::Empty) if time == Duration::ZERO => return Ok(None),
            Err(TryRecvError::Empty) if time == Duration::MAX => self.outcomes.recv().map_err(|_| gone())?,
            Err(TryRecvError::Empty) => match self.outcomes.recv_timeout(time) {
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                outcome => outcome.map_err(|_| gone())?,
            },
            outcome => outcome.map_err(|_| gone())?,
        };
        // Behind a failure nothing comes back.
        self.under_way = if outcome.is_ok() { self.under_way - 1 } else { 0 };
        outcome.map(Some)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.work.take());
        for thread in self.threads.drain(..) {
            // A panic there was reported as an outcome that never came.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.or_error(ErrorKind::Internal, || format!("can't start the thread {name}"))
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
    publish: Sender<Result<Committed>>,
    record: Option<RecordUnderWay>,
}

/// A batch whose record is on its way.
struct RecordUnderWay {
    append: Append,
    batch: Committed,
    /// When its output and state were durable.
    durable: Duration,
}

/// A batch whose output and state are on their way.
struct Storing {
    draft: Draft,
    outputs: Vec<StagedOutput>,
    state: StagedState,
    puts: Vec<UploadHandle>,
    watermarks: BTreeMap<Owner, Watermark>,
    writer: Writer,
    started: Duration,
    cut: Duration,
    run: Duration,
}

/// A batch that may be committed.
struct Durable {
    draft: Draft,
    outputs: Vec<Staged>,
    state: StagedState,
    watermarks: BTreeMap<Owner, Watermark>,
    writer: Writer,
    durations: Durations,
    at: Duration,
}

impl Committing {
    fn serve(&mut self, inbox: &Receiver<Work>) {
        let Err(error) = self.commit_all(inbox) else { return };
        // A publisher that has ended has told of an earlier failure.
        let _ = self.publish.send(Err(error));
        // Until the driver has seen it. Why these fail too is of no interest.
        inbox.iter().for_each(|work| drop(finish(work.outputs)));
    }

    fn commit_all(&mut self, inbox: &Receiver<Work>) -> Result<()> {
        loop {
            if self.record.as_ref().is_some_and(|record| record.append.ends_before(inbox)) {
                self.finish_record()?;
                continue;
            }
            match inbox.recv() {
                Ok(work) => self.commit(work)?,
                Err(_) => return self.finish_record(),
            }
        }
    }

    /// Takes a batch to where its record is on its way, once the record before it has arrived.
    fn commit(&mut self, work: Work) -> Result<()> {
        let batch = work.draft.context.batch;
        let within = |error: Error| error.within(format!("batch {batch}"));
        let storing = self.stage(work);
        let before = self.finish_record();
        let durable = storing.and_then(|storing| storing.wait(self.clock.as_ref()));
        before?;
        durable.and_then(|durable| self.begin_record(durable)).map_err(within)
    }

    /// Begins to store a batch's output and state.
    fn stage(&mut self, work: Work) -> Result<Storing> {
        let started = self.clock.elapsed();
        let Work { draft, changes, mut outputs, cut, run } = work;
        begin_uploads(&mut outputs);
        let watermarks: BTreeMap<Owner, Watermark> =
            draft.operators.iter().map(|(id, operator)| (Owner::Operator(id.clone()), operator.watermark)).collect();
        let writer = self.writer();
        let staged = self.ledger.tables.stage(changes, &watermarks, &writer, &self.loader, &mut self.merger);
        let mut state = match staged {
            Ok(state) => state,
            Err(error) => {
                drop(finish(outputs));
                return Err(error);
            }
        };
        let puts = self.log.store().begin_puts(std::mem::take(&mut state.objects));
        Ok(Storing { draft, outputs, state, puts, watermarks, writer, started, cut, run })
    }

    /// Makes the record, and begins to put it. The ledger goes on from it at once: if it is not committed, nothing more is.
    fn begin_record(&mut self, durable: Durable) -> Result<()> {
        let Durable { draft, outputs, state, watermarks, writer, durations, at } = durable;
        let manifests = outputs.iter().map(|(id, _, manifest)| (id.clone(), manifest.clone())).collect();
        let record = Prepared::of(&self.ledger.record(&draft, manifests, &state.tables)?)?;
        let given_up = self.ledger.advance(record.stored.clone(), state.tables);
        self.ledger.tables.merge_beside(&watermarks, &writer, &mut self.merger);
        let batch = Committed {
            record: record.stored.record.clone(),
            outputs,
            unneeded: given_up.into_iter().map(Path::from).chain(state.useless).collect(),
            cuts: draft.sources.into_iter().map(|source| source.cut).collect(),
            durations,
        };
        // IMPORTANT: this is the atomic step. Before it, everything the record names is durable; after it, nothing is taken back.
        self.record = Some(RecordUnderWay { append: self.log.begin_append(record), batch, durable: at });
        Ok(())
    }

    /// Waits for the record that is on its way, if there is one, and hands its batch on to be published.
    fn finish_record(&mut self) -> Result<()> {
        let Some(RecordUnderWay { append, mut batch, durable }) = self.record.take() else { return Ok(()) };
        let number = batch.record.batch().map_or(BatchId::FIRST, |record| record.batch);
        let appended = append.wait().and_then(|appended| match appended {
            Appended::Mine(_) => Ok(()),
            Appended::Theirs(theirs) => Err(fenced(batch.record.epoch, &theirs.record)),
        });
        appended.map_err(|error| error.within(format!("batch {number}")))?;
        batch.durations.commit_ms = ms(self.clock.elapsed() - durable);
        self.publish.send(Ok(batch)).map_err(|_| gone())
    }

    fn writer(&self) -> Writer {
        let parent = &self.ledger.parent.record;
        Writer { seq: self.ledger.next_seq(), epoch: parent.epoch, nonce: parent.nonce.clone() }
    }
}

impl Storing {
    /// Waits until all is durable.
    fn wait(self, clock: &dyn Clock) -> Result<Durable> {
        let Self { mut draft, outputs, state, puts, watermarks, writer, started, cut, run } = self;
        let outputs = finish(outputs);
        // IMPORTANT: all are waited for, whatever has failed: what were stored behind the end of this driver, nobody would collect.
        let puts: Vec<Result<()>> = puts.into_iter().map(UploadHandle::wait).collect();
        let outputs = outputs?;
        puts.into_iter().collect::<Result<()>>()?;
        let at = clock.elapsed();
        draft.timings.stage_ms = whole_ms(at - started);
        let durations = Durations { cut_ms: ms(cut), run_ms: ms(run), stage_ms: ms(at - started), ..Durations::default() };
        Ok(Durable { draft, outputs, state, watermarks, writer, durations, at })
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

/// What the batch has staged for each sink, once it is durable. All are waited for, whatever has failed.
fn finish(outputs: Vec<StagedOutput>) -> Result<Vec<Staged>> {
    let finish = |output: StagedOutput| {
        let manifest = guarded(&output.id, || output.staging.finish(output.lanes))?;
        Ok((output.id, output.sink, manifest))
    };
    let manifests: Vec<Result<Staged>> = outputs.into_iter().map(finish).collect();
    manifests.into_iter().collect()
}

/// Another driver's record stands where this one's should.
pub(super) fn fenced(mine: Epoch, theirs: &Record) -> Error {
    Error::fenced(format!(
        "another driver has taken over the job: record {} is of epoch {}, and this driver's epoch is {}; nothing was lost",
        theirs.seq, theirs.epoch, mine
    ))
}

/// Milliseconds, for who looks on.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// Whole milliseconds, for the record.
pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
