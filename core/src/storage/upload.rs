//! Writing an object piece by piece from a worker that must not wait.

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{MemoryBudget, Reservation};
use bytes::{Bytes, BytesMut};
use crossbeam::channel::{Receiver, bounded};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Objects smaller than this are put in one request; larger ones in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Parts of one object under way at once.
const CONCURRENT_PARTS: usize = 4;

/// An object being written. Dropping it without [`finish`](Self::finish) abandons it.
pub struct Upload {
    pieces: mpsc::UnboundedSender<Piece>,
    done: Receiver<Result<()>>,
    budget: MemoryBudget,
    bytes: Arc<AtomicU64>,
}

enum Piece {
    Bytes(Bytes, Reservation),
    End,
}

/// An object whose last piece was handed over.
#[derive(Debug)]
pub struct UploadHandle {
    done: Receiver<Result<()>>,
    bytes: u64,
}

impl Upload {
    pub(super) fn start(store: Store, path: Path, budget: MemoryBudget) -> Self {
        let (pieces, inbox) = mpsc::unbounded_channel();
        let (report, done) = bounded(1);
        let storage = store.storage().clone();
        storage.spawn(async move {
            let result = write(&store, &path, inbox).await;
            // Nobody listens when the upload was abandoned.
            let _ = report.send(result);
        });
        Self { pieces, done, budget, bytes: Arc::default() }
    }

    /// Hands over the next piece; it counts against the memory budget until it is stored. A failure shows when the upload is
    /// finished.
    pub fn push(&self, bytes: Bytes) {
        let reservation = self.budget.reserve(bytes.len());
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        // The receiver is gone only after it has failed, which `finish` reports.
        let _ = self.pieces.send(Piece::Bytes(bytes, reservation));
    }

    /// Bytes handed over so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says that no piece follows.
    pub fn finish(self) -> UploadHandle {
        let _ = self.pieces.send(Piece::End);
        UploadHandle { bytes: self.bytes(), done: self.done }
    }
}

impl UploadHandle {
    /// The object's size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until the object is stored. Not for workers.
    pub fn wait(self) -> Result<()> {
        let gone = || Error::new(ErrorKind::Internal, "the storage thread ended during an upload");
        self.done.recv().map_err(|_| gone())?
    }
}

async fn write(store: &Store, path: &Path, mut inbox: mpsc::UnboundedReceiver<Piece>) -> Result<()> {
    let failed = |cause| store.error("write", path, cause);
    let mut small = BytesMut::new();
    let mut held = Vec::new();
    loop {
        match inbox.recv().await {
            None => return Err(Error::internal(format!("the upload of {} was abandoned", store.display(path)))),
            Some(Piece::End) => {
                let put = store.objects().put(path, PutPayload::from_bytes(small.freeze())).await;
                return put.map(|_| ()).map_err(failed);
            }
            Some(Piece::Bytes(bytes, reservation)) => {
                small.extend_from_slice(&bytes);
                held.push(reservation);
                if small.len() >= PART_BYTES {
                    break;
                }
            }
        }
    }
    let upload = store.objects().put_multipart(path).await.map_err(failed)?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    parts.put(small.freeze());
    drop(held);
    match write_parts(&mut parts, &mut inbox).await {
        Ok(true) => parts.finish().await.map(|_| ()).map_err(failed),
        Ok(false) => {
            let abandoned = Error::internal(format!("the upload of {} was abandoned", store.display(path)));
            parts.abort().await.map_err(failed).and(Err(abandoned))
        }
        Err(cause) => {
            let _ = parts.abort().await;
            Err(failed(cause))
        }
    }
}

/// Returns whether the end was reached, as against abandoned.
async fn write_parts(parts: &mut WriteMultipart, inbox: &mut mpsc::UnboundedReceiver<Piece>) -> object_store::Result<bool> {
    while let Some(piece) = inbox.recv().await {
        match piece {
            Piece::End => return Ok(true),
            Piece::Bytes(bytes, reservation) => {
                parts.wait_for_capacity(CONCURRENT_PARTS).await?;
                parts.put(bytes);
                drop(reservation);
            }
        }
    }
    Ok(false)
}
