//! Merging of large layers beside the batches.
//!
//! What flows in: layers of a table that a record names. What flows out: one layer that stands for them, as an object that is stored and
//! that no record names yet. A later batch puts it in their place, if they still stand there ([`Tables::stage`]); else the object goes.
//! So nothing here is atomic, and a merge that never ends costs only a longer chain. What can fail: reading a layer, writing the object.
//! Damage to a layer that still counts is told to the next batch; where the store does not answer, another batch tries again.
//!
//! [`Tables::stage`]: super::Tables::stage

use super::{LiveLayer, Loader, TableKey};
use crate::protocol::record::{LayerPlace, LayerRef};
use crate::seams::Merging;
use crossbeam::channel::{Receiver, Sender, bounded};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use waterclock_core::id::Checksum;
use waterclock_core::state::{EncodedLayer, StateLayer, merge_encoded};
use waterclock_core::time::Watermark;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

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
        Self { settings, loader, under_way: None, worker: None, outcome: None }
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

    /// Begins a merge. The one before must have been taken. Where no thread can be started, none begins.
    pub(super) fn begin(&mut self, request: Request) {
        let Some(newest) = request.layers.last().map(|layer| layer.reference.clone()) else { return };
        let key = request.key.clone();
        if !self.settings.on_a_thread {
            self.outcome = Some(run(&self.loader, request, &AtomicBool::new(false)));
        } else if let Err(error) = self.hand_over(request) {
            tracing::warn!(%error, "layers of state are not merged, which the next batch tries again");
            return;
        }
        self.under_way = Some((key, newest));
    }

    fn hand_over(&mut self, request: Request) -> Result<()> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.loader.clone())?,
        };
        self.worker.insert(worker).requests.send(request).map_err(|_| gone())
    }

    /// What was merged without a thread.
    #[cfg(test)]
    pub(super) fn outcome_mut(&mut self) -> &mut Outcome {
        self.outcome.as_mut().expect("a merge has ended")
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
    fn start(loader: Loader) -> Result<Self> {
        let (requests, inbox) = bounded::<Request>(1);
        let (report, outcomes) = bounded(1);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let serve = move || {
            for request in inbox {
                if report.send(run(&loader, request, &stopped)).is_err() {
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
fn run(loader: &Loader, request: Request, is_stopped: &AtomicBool) -> Outcome {
    let replaced = request.layers.iter().map(|layer| layer.reference.clone()).collect();
    let merged = try_run(loader, &request, is_stopped);
    Outcome { key: request.key, replaced, is_oldest: request.is_oldest, merged }
}

fn try_run(loader: &Loader, request: &Request, is_stopped: &AtomicBool) -> Result<Option<(LiveLayer, Path)>> {
    let Request { key, layers, is_oldest, watermark, path } = request;
    let stopped = || is_stopped.load(Ordering::Relaxed);
    let mut loaded: Vec<StateLayer> = Vec::with_capacity(layers.len());
    for layer in layers {
        if stopped() {
            return Ok(None);
        }
        loaded.push(layer.load_stored(&key.0, loader)?);
    }
    let Some(EncodedLayer { pieces, rows, expires_at }) = merge_encoded(loaded, *is_oldest, *watermark, &|| !stopped())? else {
        return Ok(None);
    };
    let reference = LayerRef {
        table: key.1.clone(),
        rows,
        bytes: pieces.iter().map(|piece| piece.len() as u64).sum(),
        checksum: Checksum::of_pieces(&pieces),
        expires_at,
        place: LayerPlace::Object(path.to_string()),
    };
    if stopped() {
        return Ok(None);
    }
    let store = loader.store();
    let put = store.objects().put(path, PutPayload::from_iter(pieces));
    store.wait(put).map_err(|cause| store.error("write", path, cause))?;
    tracing::debug!(owner = %key.0, table = key.1.name, layers = layers.len(), bytes = reference.bytes, "layers of state were merged");
    Ok(Some((LiveLayer { reference, held: None }, path.clone())))
}
