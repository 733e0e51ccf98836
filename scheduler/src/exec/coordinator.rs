//! Runs the lanes of a batch: starts them in order, fetches ahead within the memory budget, merges what they leave in order.
//!
//! The coordinator is the driver's thread. It never decodes, but for a batch of few rows, and never waits for one thing alone: it hands
//! fetches to the storage thread and steps to the workers, and sleeps until one of them reports, or memory is given back. A worker that
//! finds that storage can't keep up gives its lane back and is free for another.
//!
//! When a lane fails, no later lane is started or continued, and earlier ones are finished first: the failure that is reported is
//! that of the first bad row of the batch, whatever the timing. Lanes of the next batch may run meanwhile, and are dropped then.

use super::lane::{BatchShared, LaneResult, LaneSource, LaneTask};
use super::run::BegunBatch;
use super::{Base, BatchFailure};
use crossbeam::channel::{Receiver, Sender, never, select, unbounded};
use futures::FutureExt;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use waterclock_core::id::PartitionId;
use waterclock_core::memory::Reservation;
use waterclock_core::sink::Lane;
use waterclock_core::source::{Fetch, Morsels, Split};
use waterclock_core::{Error, Result};

/// A lane that has not begun.
pub(super) struct PlannedLane {
    pub(super) source: Arc<LaneSource>,
    pub(super) splits: VecDeque<Box<dyn Split>>,
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

/// The lanes of a batch, from the first that begins to the last that is merged.
pub(super) struct Lanes {
    shared: Arc<BatchShared>,
    planned: VecDeque<PlannedLane>,
    /// The number of the next lane that begins.
    next: Lane,
    active: VecDeque<Active>,
    failure: Option<(Lane, BatchFailure)>,
    events: (Sender<Event>, Receiver<Event>),
    /// Whether the coordinator takes the steps itself.
    in_place: bool,
}

/// Runs all lanes of a batch; `merge` gets what each leaves, in the order of the lanes. When no lane is left to begin, and there is room
/// for one, `ahead` is asked for the next batch; what it gives is returned, under way.
pub(super) fn run_lanes(
    base: &Base,
    lanes: &mut Lanes,
    ahead: impl FnOnce() -> Option<BegunBatch>,
    mut merge: impl FnMut(LaneResult) -> Result<(), BatchFailure> + Send,
) -> Result<Option<BegunBatch>, BatchFailure> {
    let most = base.pool.current_num_threads() * 2;
    let (mut ahead, mut next) = (Some(ahead), None);
    loop {
        lanes.begin(most);
        lanes.dispatch(base);
        let room = most.saturating_sub(lanes.active.len());
        if lanes.planned.is_empty() && lanes.failure.is_none() && room > 0 {
            next = next.or_else(|| ahead.take()?());
            if let Some(BegunBatch { lanes, .. }) = &mut next {
                lanes.begin(room);
                lanes.dispatch(base);
            }
        }
        let ready = lanes.ready_in_order();
        if !ready.is_empty() {
            base.in_pool(|| ready.into_iter().try_for_each(&mut merge))?;
        }
        if lanes.active.is_empty() {
            match lanes.failure.take() {
                Some((_, failure)) => return Err(failure),
                None if lanes.planned.is_empty() => return Ok(next),
                None => continue,
            }
        }
        if lanes.failure.is_some() {
            // It will not run, and what it has fetched may hold the room that lanes before the failure still need.
            next = None;
        }
        wait(base, lanes, next.as_mut().map(|next| &mut next.lanes));
    }
}

/// Sleeps until something has changed.
fn wait(base: &Base, lanes: &mut Lanes, next: Option<&mut Lanes>) {
    let (fetches, uploads) = (base.fetches.released(), base.uploads.released());
    let of_next = next.as_ref().map_or_else(never, |next| next.events.1.clone());
    select! {
        recv(lanes.events.1) -> event => event.into_iter().for_each(|event| lanes.take(event)),
        recv(of_next) -> event => next.into_iter().zip(event).for_each(|(next, event)| next.take(event)),
        recv(fetches) -> _ => {}
        recv(uploads) -> _ => {}
    }
}

impl Lanes {
    pub(super) fn new(shared: Arc<BatchShared>, planned: Vec<PlannedLane>) -> Self {
        Self {
            shared,
            planned: planned.into(),
            next: Lane(0),
            active: VecDeque::new(),
            failure: None,
            events: unbounded(),
            in_place: false,
        }
    }

    /// Has the coordinator take the steps itself, if there is one lane at most, and it has not begun: for few rows, to wake a worker and to
    /// be woken takes longer than the step. Returns whether it does.
    pub(super) fn work_in_place(&mut self) -> bool {
        self.in_place = self.active.is_empty() && self.planned.len() <= 1;
        self.in_place
    }

    /// Begins lanes until so many are active.
    fn begin(&mut self, most: usize) {
        while self.active.len() < most && self.failure.is_none() {
            let Some(planned) = self.planned.pop_front() else { break };
            let lane = self.next;
            self.next = Lane(lane.0 + 1);
            let task = LaneTask::new(lane, Arc::clone(&self.shared), Arc::clone(&planned.source));
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
    }

    /// Starts whatever can start now, the first lanes first.
    fn dispatch(&mut self, base: &Base) {
        if let Some((failed, _)) = &self.failure {
            self.active.retain(|active| active.lane < *failed || active.working);
        }
        for active in &mut self.active {
            if self.failure.as_ref().is_some_and(|(failed, _)| active.lane >= *failed) {
                continue;
            }
            active.fetch_ahead(base, &self.events.0);
            if base.uploads.used() <= base.uploads.limit() {
                active.work(base, &self.events.0, self.in_place);
            }
        }
    }

    /// What lanes have left that are done, up to the first that is not.
    fn ready_in_order(&mut self) -> Vec<LaneResult> {
        let mut ready = Vec::new();
        while let Some(result) = self.active.front_mut().and_then(|active| active.done.take()) {
            self.active.pop_front();
            ready.push(result);
        }
        ready
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
    fn fetch_ahead(&mut self, base: &Base, events: &Sender<Event>) {
        if self.fetching || !self.fetched.is_empty() {
            return;
        }
        let Some(split) = self.waiting.pop_front() else { return };
        let bytes = split.held_bytes();
        if !base.fetches.has_room(bytes) {
            self.waiting.push_front(split);
            return;
        }
        let (lane, events, held) = (self.lane, events.clone(), base.fetches.reserve(bytes));
        let (partition, source) = (split.partition().clone(), Arc::clone(&self.source));
        let within = move |error: Error| error.within(format!("source '{}'", source.name));
        match caught(|| split.fetch()) {
            // A step less of waking threads, which costs more than a small split.
            Ok(Fetch::AtHand(morsels)) => self.fetched.push_back(Fetched { partition, morsels, _held: held }),
            Ok(Fetch::Awaited(morsels)) => {
                self.fetching = true;
                base.storage.spawn(async move {
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
    fn work(&mut self, base: &Base, events: &Sender<Event>, in_place: bool) {
        // At most one split is fetched ahead of the one that is decoded.
        let ended = self.waiting.is_empty() && !self.fetching && self.fetched.len() <= 1;
        if self.working || (self.fetched.is_empty() && !ended) {
            return;
        }
        let Some(task) = self.task.take() else { return };
        self.working = true;
        let (lane, events, fetched) = (self.lane, events.clone(), self.fetched.pop_front());
        let work = move || {
            let _ = events.send(step(lane, task, fetched, ended));
        };
        if in_place { work() } else { base.pool.spawn(work) }
    }
}

/// Works on a split, and on the end of the lane if it has ended with that.
fn step(lane: Lane, mut task: LaneTask, fetched: Option<Fetched>, ended: bool) -> Event {
    let Some(mut fetched) = fetched else { return finish(lane, task) };
    match caught(|| task.work(&fetched.partition, fetched.morsels.as_mut())) {
        Ok(true) if ended => {
            drop(fetched);
            finish(lane, task)
        }
        Ok(split_ended) => Event::Worked(lane, Ok((task, (!split_ended).then_some(fetched)))),
        Err(failure) => Event::Worked(lane, Err(failure)),
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
