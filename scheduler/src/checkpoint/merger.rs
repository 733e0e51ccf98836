//! Merging of large layers beside the batches.
//!
//! What flows in: layers of a table that a record names. What flows out: one layer that stands for them, as an object that is stored and
//! that no record names yet. A later batch puts it in their place, if they still stand there ([`Tables::stage`]); else the object goes.
//! Layers can be several times the table, and the table is in memory already: so they are read part by part, newest first for their keys,
//! which tell what stays, and then oldest first for their rows, which are stored as they come. In memory are the keys, each once, or a
//! share of them at a time.
//!
//! So nothing here is atomic, and a merge that takes long costs a longer chain, and at last a commit that waits for it. What can fail:
//! reading a layer, writing the object.
//! Damage to a layer that still counts is told to the next batch; where the store does not answer, another batch tries again.
//!
//! [`Tables::stage`]: super::Tables::stage

use super::object::{self, PieceHashes};
use super::{LiveLayer, Loader, TableKey};
use crate::protocol::paths::{self, Writer};
use crate::protocol::record::{LayerPlace, LayerRef};
use crate::seams::Merging;
use arrow::buffer::BooleanBuffer;
use crossbeam::channel::{Receiver, Sender, bounded};
use object_store::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use waterclock_core::state::{KeyShare, LayerMerge, LayerShape, LayerWriter, StateLayer, WrittenLayer};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// The most shares into which keys are divided: each is another reading of all layers.
const MOST_SHARES: usize = 2;

/// Layers that follow each other, to become one.
pub(super) struct Request {
    pub(super) key: TableKey,
    pub(super) layers: Vec<LiveLayer>,
    /// Whether no layer stands below them.
    pub(super) is_oldest: bool,
    /// How far the owner's watermark has come.
    pub(super) watermark: Watermark,
    /// Where the merged layer is to be stored.
    pub(super) path: Path,
}

/// What became of a request.
pub(super) struct Outcome {
    pub(super) key: TableKey,
    pub(super) replaced: Vec<LayerRef>,
    pub(super) is_oldest: bool,
    /// The layer that stands for the others, and where it is; none if the merge was stopped.
    pub(super) merged: Result<Option<(LiveLayer, Path)>>,
}

/// One merge at a time, beside the batches.
pub struct Merger {
    settings: Merging,
    loader: Loader,
    /// How many paths were given.
    paths: u64,
    /// The layers that are being merged, or have been and were not yet asked for.
    under_way: Option<(TableKey, LayerRef)>,
    worker: Option<Worker>,
    /// What was merged without a thread.
    outcome: Option<Outcome>,
}

/// The thread.
struct Worker {
    requests: Sender<Request>,
    outcomes: Receiver<Outcome>,
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Merger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger").field("settings", &self.settings).field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl Merger {
    /// Nothing to do yet; the thread is started when there is.
    pub fn new(loader: Loader, settings: Merging) -> Self {
        Self { settings, loader, paths: 0, under_way: None, worker: None, outcome: None }
    }

    /// From how many bytes on a merge is done here.
    pub(super) fn beside_from(&self) -> u64 {
        self.settings.beside_from
    }

    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// The newest of the layers of a table that are being merged.
    pub(super) fn newest_of(&self, key: &TableKey) -> Option<&LayerRef> {
        self.under_way.as_ref().filter(|(of, _)| of == key).map(|(_, newest)| newest)
    }

    /// A place for a merged layer that no other has.
    pub(super) fn path(&mut self, writer: &Writer) -> Path {
        self.paths += 1;
        paths::merged(writer, self.paths)
    }

    /// Begins a merge. The one before must have been taken. Where no thread can be started, none begins.
    pub(super) fn begin(&mut self, request: Request) {
        let Some(newest) = request.layers.last().map(|layer| layer.reference.clone()) else { return };
        let key = request.key.clone();
        if !self.settings.on_a_thread {
            self.outcome = Some(run(&self.loader, request, self.settings.keys_at_once, &AtomicBool::new(false)));
        } else if let Err(error) = self.hand_over(request) {
            tracing::warn!(%error, "layers of state are not merged, which the next batch tries again");
            return;
        }
        self.under_way = Some((key, newest));
    }

    fn hand_over(&mut self, request: Request) -> Result<()> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.loader.clone(), self.settings.keys_at_once)?,
        };
        self.worker.insert(worker).requests.send(request).map_err(|_| gone())
    }

    /// What has become of a merge, if it has ended.
    pub(super) fn take(&mut self) -> Result<Option<Outcome>> {
        let of_thread = || self.worker.as_ref()?.outcomes.try_recv().ok();
        let outcome = self.outcome.take().or_else(of_thread);
        if outcome.is_some() {
            self.under_way = None;
        } else if self.worker.as_ref().is_some_and(|worker| worker.thread.is_finished()) {
            return Err(gone());
        }
        Ok(outcome)
    }

    /// The same, waiting for it.
    pub(super) fn wait(&mut self) -> Result<Option<Outcome>> {
        if self.under_way.take().is_none() {
            return Ok(None);
        }
        match (self.outcome.take(), &self.worker) {
            (None, Some(worker)) => worker.outcomes.recv().map(Some).map_err(|_| gone()),
            (outcome, _) => Ok(outcome),
        }
    }
}

impl Worker {
    fn start(loader: Loader, keys_at_once: u64) -> Result<Self> {
        let (requests, inbox) = bounded::<Request>(1);
        let (report, outcomes) = bounded(1);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let serve = move || {
            for request in inbox {
                if report.send(run(&loader, request, keys_at_once, &stopped)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("waterclock-merger".into()).spawn(serve);
        let thread = thread.or_error(ErrorKind::Internal, || "can't start the thread that merges state".into())?;
        Ok(Self { requests, outcomes, is_stopped, thread })
    }
}

impl Drop for Merger {
    /// A merge under way is given up at its next step.
    fn drop(&mut self) {
        let Some(Worker { requests, outcomes, is_stopped, thread }) = self.worker.take() else { return };
        is_stopped.store(true, Ordering::Relaxed);
        drop((requests, outcomes));
        // A panic there was reported as an outcome that never came.
        let _ = thread.join();
    }
}

fn gone() -> Error {
    Error::internal("the thread that merges state has ended unexpectedly")
}

/// Merges, and stores what comes of it, unless it is stopped.
fn run(loader: &Loader, request: Request, keys_at_once: u64, is_stopped: &AtomicBool) -> Outcome {
    let replaced = request.layers.iter().map(|layer| layer.reference.clone()).collect();
    let run = Run { loader, request: &request, keys_at_once, is_stopped };
    let merged = match run.merge() {
        Err(_) if is_stopped.load(Ordering::Relaxed) => Ok(None),
        merged => merged.map(|layer| Some((layer, request.path.clone()))),
    };
    Outcome { key: request.key, replaced, is_oldest: request.is_oldest, merged }
}

/// A merge under way.
struct Run<'a> {
    loader: &'a Loader,
    request: &'a Request,
    keys_at_once: u64,
    is_stopped: &'a AtomicBool,
}

impl Run<'_> {
    fn merge(&self) -> Result<LiveLayer> {
        let mut object = object::Writer::new(self.loader.store(), self.request.path.clone());
        match self.write(&mut object) {
            Ok((rows, expires_at)) => {
                let (bytes, checksum) = object.finish()?;
                let (key, place) = (&self.request.key, LayerPlace::Object(self.request.path.to_string()));
                tracing::debug!(owner = %key.0, table = key.1.name, layers = self.request.layers.len(), bytes, "layers of state were merged");
                let reference = LayerRef { table: key.1.clone(), rows, bytes, checksum, expires_at, place };
                Ok(LiveLayer { reference, held: None })
            }
            Err(error) => {
                object.abandon();
                Err(error)
            }
        }
    }

    /// Returns how many rows the merged layer has, and when it expires.
    fn write(&self, object: &mut object::Writer) -> Result<(u64, Option<Timestamp>)> {
        let mut layers: Vec<Layer<'_>> = self.request.layers.iter().map(Layer::new).collect();
        let shape = self.look_at(&mut layers)?;
        let mut merged = Merged { writer: shape.writer()?, object };
        for Layer { live, hashes, stay } in &mut layers {
            let mut stay = stay.iter();
            self.read(live, hashes, &mut |part| merged.put(&shape.take(&part, stay.next().ok_or_else(changed)?)?))?;
        }
        merged.finish()
    }

    /// Finds out what stays of the layers, a share of the keys after the other.
    fn look_at(&self, layers: &mut [Layer<'_>]) -> Result<LayerShape> {
        let rows: Vec<u64> = layers.iter().map(|layer| layer.live.reference.rows).collect();
        let mut shape = None;
        for share in KeyShare::all(self.shares(&rows)) {
            let mut merge = LayerMerge::new(&rows, self.request.is_oldest, self.request.watermark, share);
            for (index, Layer { live, hashes, stay }) in layers.iter_mut().enumerate().rev() {
                let mut before = std::mem::take(stay).into_iter();
                self.read(live, hashes, &mut |part| {
                    let stays = merge.look_at(&part, index == 0)?;
                    stay.push(before.next().map_or_else(|| stays.clone(), |before| &before & &stays));
                    Ok(())
                })?;
            }
            shape = Some(merge.shape()?.clone());
        }
        shape.ok_or_else(|| Error::internal("merging no keys"))
    }

    /// Into how many shares the keys are divided. Local files are read from the system's memory, at little cost; others come from afar.
    fn shares(&self, rows: &[u64]) -> usize {
        let newer: u64 = rows.iter().skip(1).sum();
        let most = if self.loader.store().local_root().is_some() { MOST_SHARES } else { 1 };
        usize::try_from(newer / self.keys_at_once.max(1)).map_or(most, |shares| (shares + 1).min(most))
    }

    /// An object is read even if it is in memory: what is stored shows whether it is damaged before others are gone for it.
    fn read(&self, layer: &LiveLayer, hashes: &mut PieceHashes, each: &mut dyn FnMut(StateLayer) -> Result<()>) -> Result<()> {
        let mut unless_stopped = |part| match self.is_stopped.load(Ordering::Relaxed) {
            true => Err(Error::unavailable("merging was stopped")),
            false => each(part),
        };
        match (&layer.held, &layer.reference.place) {
            (Some(bytes), LayerPlace::Record(_) | LayerPlace::Inline(_)) => {
                unless_stopped(self.loader.decode(&layer.reference, bytes.clone())?)
            }
            _ => self.loader.parts(&self.request.key.0, &layer.reference, hashes, &mut unless_stopped),
        }
    }
}

/// A layer, and what is known of it.
struct Layer<'a> {
    live: &'a LiveLayer,
    hashes: PieceHashes,
    /// Which rows of each part stay.
    stay: Vec<BooleanBuffer>,
}

impl<'a> Layer<'a> {
    fn new(live: &'a LiveLayer) -> Self {
        Self { live, hashes: PieceHashes::default(), stay: Vec::new() }
    }
}

fn changed() -> Error {
    Error::corrupt("a layer of state has changed while it was merged")
}

/// The merged layer on its way to storage.
struct Merged<'a> {
    writer: LayerWriter,
    object: &'a mut object::Writer,
}

impl Merged<'_> {
    fn put(&mut self, part: &StateLayer) -> Result<()> {
        if part.rows.num_rows() > 0 {
            self.writer.write(part)?;
            self.object.push(self.writer.take());
        }
        Ok(())
    }

    fn finish(self) -> Result<(u64, Option<Timestamp>)> {
        let WrittenLayer { rest, rows, expires_at } = self.writer.finish()?;
        self.object.push(rest);
        Ok((rows, expires_at))
    }
}
