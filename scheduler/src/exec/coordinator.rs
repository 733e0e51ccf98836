//! Runs the lanes of a batch: starts them in order, fetches ahead within the memory budget, merges what they leave in order.
//!
//! The coordinator is the driver's thread. It never decodes and never waits for one thing alone: it hands fetches to the storage thread
//! and steps to the workers, and sleeps until one of them reports, or memory is given back. A worker that finds that storage can't keep
//! up gives its lane back and is free for another.
//!
//! When a lane fails, no later lane is started or continued, and earlier ones are finished first: the failure that is reported is
//! that of the first bad row of the batch, whatever the timing.

use super::BatchFailure;
use super::lane::{BatchShared, LaneResult, LaneSource, LaneTask};
use crossbeam::channel::{Receiver, Sender, select, unbounded};
use futures::FutureExt;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use waterclock_core::id::PartitionId;
use waterclock_core::memory::{MemoryBudget, Reservation};
use waterclock_core::sink::Lane;
use waterclock_core::source::{Fetch, Morsels, Split};
use waterclock_core::storage::Storage;
use waterclock_core::{Error, Result};

/// A lane that has not begun.
pub(super) struct PlannedLane {
    pub(super) source: Arc<LaneSource>,
    pub(super) splits: VecDeque<Box<dyn Split>>,
}

/// What lanes run on.
pub(super) struct Surroundings<'a> {
    pub(super) pool: &'a rayon::ThreadPool,
    pub(super) storage: &'a Storage,
    pub(super) fetches: &'a MemoryBudget,
    pub(super) shared: &'a Arc<BatchShared>,
}

/// A split in memory, ready to be decoded.
struct Fetched {
    partition: PartitionId,
    morsels: Box<dyn Morsels>,
    _held: Reservation,
}

/// A lane under way.
struct Active {
    lane: Lane,
    source: Arc<LaneSource>,
    waiting: VecDeque<Box<dyn Split>>,
    fetching: bool,
    fetched: VecDeque<Fetched>,
    /// None while a worker has it, and when it is done.
    task: Option<LaneTask>,
    done: Option<LaneResult>,
    working: bool,
}

enum Event {
    Fetched(Lane, Result<Fetched>),
    /// The lane's task comes back, with its split if that has not ended.
    Worked(Lane, Result<(LaneTask, Option<Fetched>), BatchFailure>),
    Finished(Lane, Result<LaneResult, BatchFailure>),
}

struct Coordinator<'a> {
    surroundings: Surroundings<'a>,
    events: (Sender<Event>, Receiver<Event>),
    active: VecDeque<Active>,
    failure: Option<(Lane, BatchFailure)>,
}

/// Runs all lanes; `merge` gets what each leaves, in the order of the lanes.
pub(super) fn run_lanes(
    surroundings: Surroundings<'_>,
    lanes: Vec<PlannedLane>,
    mut merge: impl FnMut(LaneResult) -> Result<(), BatchFailure>,
) -> Result<(), BatchFailure> {
    let most = surroundings.pool.current_num_threads() * 2;
    let mut coordinator = Coordinator { surroundings, events: unbounded(), active: VecDeque::new(), failure: None };
    let mut planned = lanes.into_iter().enumerate();
    loop {
        while coordinator.active.len() < most && coordinator.failure.is_none() {
            let Some((number, lane)) = planned.next() else { break };
            coordinator.begin(Lane(number), lane);
        }
        coordinator.dispatch();
        while let Some(result) = coordinator.next_in_order() {
            merge(result)?;
        }
        if coordinator.active.is_empty() {
            match coordinator.failure.take() {
                Some((_, failure)) => return Err(failure),
                None if planned.len() == 0 => return Ok(()),
                None => continue,
            }
        }
        coordinator.wait();
    }
}

impl Coordinator<'_> {
    fn begin(&mut self, lane: Lane, planned: PlannedLane) {
        let task = LaneTask::new(lane, Arc::clone(self.surroundings.shared), Arc::clone(&planned.source));
        self.active.push_back(Active {
            lane,
            source: planned.source,
            waiting: planned.splits,
            fetching: false,
            fetched: VecDeque::new(),
            task: Some(task),
            done: None,
            working: false,
        });
    }

    /// Starts whatever can start now, the first lanes first.
    fn dispatch(&mut self) {
        if let Some((failed, _)) = &self.failure {
            self.active.retain(|active| active.lane < *failed || active.working);
        }
        let uploads = &self.surroundings.shared.uploads;
        for active in &mut self.active {
            if self.failure.as_ref().is_some_and(|(failed, _)| active.lane >= *failed) {
                continue;
            }
            active.fetch_ahead(&self.surroundings, &self.events.0);
            if uploads.used() <= uploads.limit() {
                active.work(&self.surroundings, &self.events.0);
            }
        }
    }

    fn next_in_order(&mut self) -> Option<LaneResult> {
        let result = self.active.front_mut()?.done.take()?;
        self.active.pop_front();
        Some(result)
    }

    /// Sleeps until something has changed.
    fn wait(&mut self) {
        let (fetches, uploads) = (self.surroundings.fetches.released(), self.surroundings.shared.uploads.released());
        let event = select! {
            recv(self.events.1) -> event => event.ok(),
            recv(fetches) -> _ => None,
            recv(uploads) -> _ => None,
        };
        if let Some(event) = event {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Fetched(lane, result) => {
                let Some(active) = self.find(lane) else { return };
                active.fetching = false;
                match result {
                    Ok(fetched) => active.fetched.push_back(fetched),
                    Err(error) => self.fail(lane, BatchFailure::Error(error)),
                }
            }
            Event::Worked(lane, result) => {
                let Some(active) = self.find(lane) else { return };
                active.working = false;
                match result {
                    Ok((task, unfinished)) => {
                        active.task = Some(task);
                        if let Some(fetched) = unfinished {
                            active.fetched.push_front(fetched);
                        }
                    }
                    Err(failure) => self.fail(lane, failure),
                }
            }
            Event::Finished(lane, result) => {
                let Some(active) = self.find(lane) else { return };
                active.working = false;
                match result {
                    Ok(result) => active.done = Some(result),
                    Err(failure) => self.fail(lane, failure),
                }
            }
        }
    }

    fn find(&mut self, lane: Lane) -> Option<&mut Active> {
        self.active.iter_mut().find(|active| active.lane == lane)
    }

    fn fail(&mut self, lane: Lane, failure: BatchFailure) {
        if self.failure.as_ref().is_none_or(|(first, _)| lane < *first) {
            self.failure = Some((lane, failure));
        }
    }
}

impl Active {
    /// Fetches the next split while the one before it is decoded.
    fn fetch_ahead(&mut self, surroundings: &Surroundings<'_>, events: &Sender<Event>) {
        if self.fetching || !self.fetched.is_empty() {
            return;
        }
        let Some(split) = self.waiting.pop_front() else { return };
        let bytes = split.held_bytes();
        if !surroundings.fetches.has_room(bytes) {
            self.waiting.push_front(split);
            return;
        }
        let (lane, events, held) = (self.lane, events.clone(), surroundings.fetches.reserve(bytes));
        let (partition, source) = (split.partition().clone(), Arc::clone(&self.source));
        let within = move |error: Error| error.within(format!("source '{}'", source.name));
        match caught(|| split.fetch()) {
            // A step less of waking threads, which costs more than a small split.
            Ok(Fetch::AtHand(morsels)) => self.fetched.push_back(Fetched { partition, morsels, _held: held }),
            Ok(Fetch::Awaited(morsels)) => {
                self.fetching = true;
                surroundings.storage.spawn(async move {
                    let fetched = AssertUnwindSafe(morsels).catch_unwind().await;
                    let fetched = fetched.unwrap_or_else(|_| Err(Error::internal("a fetch panicked"))).map_err(within);
                    // The batch may have failed meanwhile, and nobody listens.
                    let _ = events.send(Event::Fetched(lane, fetched.map(|morsels| Fetched { partition, morsels, _held: held })));
                });
            }
            Err(error) => {
                self.fetching = true;
                let _ = events.send(Event::Fetched(lane, Err(within(error))));
            }
        }
    }

    /// Gives a worker the next split, or the end of the lane, or both.
    fn work(&mut self, surroundings: &Surroundings<'_>, events: &Sender<Event>) {
        // At most one split is fetched ahead of the one that is decoded.
        let ended = self.waiting.is_empty() && !self.fetching && self.fetched.len() <= 1;
        if self.working || (self.fetched.is_empty() && !ended) {
            return;
        }
        let Some(mut task) = self.task.take() else { return };
        self.working = true;
        let (lane, events) = (self.lane, events.clone());
        match self.fetched.pop_front() {
            Some(mut fetched) => surroundings.pool.spawn(move || {
                let _ = events.send(match caught(|| task.work(&fetched.partition, fetched.morsels.as_mut())) {
                    Ok(true) if ended => {
                        drop(fetched);
                        finish(lane, task)
                    }
                    Ok(split_ended) => Event::Worked(lane, Ok((task, (!split_ended).then_some(fetched)))),
                    Err(failure) => Event::Worked(lane, Err(failure)),
                });
            }),
            None => surroundings.pool.spawn(move || {
                let _ = events.send(finish(lane, task));
            }),
        }
    }
}

fn finish(lane: Lane, task: LaneTask) -> Event {
    Event::Finished(lane, caught(|| task.finish().map_err(BatchFailure::Error)))
}

/// A panic in a reader or a writer, which would end the process in the pool, as an error.
fn caught<T, E: From<Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        let said = said.unwrap_or_else(|| "no message".to_owned());
        Err(Error::internal(format!("reading or writing panicked: {said}")).into())
    })
}
