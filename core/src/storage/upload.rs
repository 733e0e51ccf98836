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

/// Objects smaller than this are put in one request; larger ones in parts of this size, the least that S3 takes.
const PART_BYTES: usize = 5 << 20;
/// The most parts of one object under way at once.
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
        let concurrency = (budget.limit() / (4 * PART_BYTES)).clamp(1, CONCURRENT_PARTS);
        storage.spawn(async move {
            let result = write(&store, &path, inbox, concurrency).await;
            // Nobody listens when the upload was abandoned.
            let _ = report.send(result);
        });
        Self { pieces, done, budget, bytes: Arc::default() }
    }

    /// Hands over the next piece; it counts against the memory budget until the storage thread has taken it. A failure shows when the
    /// upload is finished.
    ///
    /// What waits for the rest of its part does not count: nobody who waits for room could bring it on its way. It is at most a part for
    /// each open upload, and what is on its way is bounded by the parts that may be.
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

async fn write(store: &Store, path: &Path, mut inbox: mpsc::UnboundedReceiver<Piece>, concurrency: usize) -> Result<()> {
    let failed = |cause| store.error("write", path, cause);
    let abandoned = || Error::internal(format!("the upload of {} was abandoned", store.display(path)));
    let mut small = BytesMut::new();
    while small.len() < PART_BYTES {
        match inbox.recv().await {
            None => return Err(abandoned()),
            Some(Piece::End) => {
                let put = store.objects().put(path, PutPayload::from_bytes(small.freeze())).await;
                return put.map(|_| ()).map_err(failed);
            }
            Some(Piece::Bytes(bytes, _reservation)) => small.extend_from_slice(&bytes),
        }
    }
    let upload = store.objects().put_multipart(path).await.map_err(failed)?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    parts.put(small.freeze());
    match write_parts(&mut parts, &mut inbox, concurrency).await {
        Ok(true) => parts.finish().await.map(|_| ()).map_err(failed),
        Ok(false) => parts.abort().await.map_err(failed).and(Err(abandoned())),
        Err(cause) => {
            // The first failure is the one to tell; the store removes what was begun in its own time.
            let _ = parts.abort().await;
            Err(failed(cause))
        }
    }
}

/// Returns whether the end was reached, as against abandoned.
async fn write_parts(
    parts: &mut WriteMultipart,
    inbox: &mut mpsc::UnboundedReceiver<Piece>,
    concurrency: usize,
) -> object_store::Result<bool> {
    while let Some(piece) = inbox.recv().await {
        match piece {
            Piece::End => return Ok(true),
            Piece::Bytes(bytes, reservation) => {
                parts.wait_for_capacity(concurrency).await?;
                parts.put(bytes);
                drop(reservation);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, Location, Storage, StoreOptions};
    use std::time::Duration;

    fn store() -> Store {
        let location = Location::parse("memory://uploads").unwrap();
        Storage::builder().start().unwrap().open(&location, &StoreOptions::default(), Access::Write).unwrap()
    }

    /// Two lanes that each hold less than a part, and together more than the budget, would wait for each other for ever.
    #[test]
    fn pieces_that_wait_for_their_part_hold_no_budget() {
        let (store, budget) = (store(), MemoryBudget::new(64 << 10));
        let uploads = ["a", "b"].map(|name| store.upload(Path::from(name), &budget));
        for upload in &uploads {
            upload.push(Bytes::from(vec![7; 100 << 10]));
        }
        while budget.used() > 0 {
            budget.released().recv_timeout(Duration::from_secs(60)).unwrap();
        }
        for upload in uploads {
            upload.finish().wait().unwrap();
        }
        assert_eq!(store.get(&Path::from("b")).unwrap().unwrap().len(), 100 << 10);
    }

    #[test]
    fn objects_of_every_size_arrive_whole() {
        let (store, budget) = (store(), MemoryBudget::new(1 << 20));
        for (size, piece) in [(0, 1), (1, 1), (PART_BYTES - 1, 1 << 20), (PART_BYTES, 1 << 20), (3 * PART_BYTES + 1, 777_777)] {
            let content: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let path = Path::from(format!("object-{size}"));
            let upload = store.upload(path.clone(), &budget);
            content.chunks(piece).for_each(|bytes| upload.push(Bytes::copy_from_slice(bytes)));
            let handle = upload.finish();
            assert_eq!(handle.bytes(), size as u64);
            handle.wait().unwrap();
            assert_eq!(store.get(&path).unwrap().unwrap(), content, "{size}");
        }
    }

    #[test]
    fn an_abandoned_upload_leaves_nothing() {
        let (store, budget) = (store(), MemoryBudget::new(1 << 20));
        let upload = store.upload(Path::from("half"), &budget);
        upload.push(Bytes::from_static(b"half a"));
        let done = upload.done.clone();
        drop(upload);
        assert!(done.recv().unwrap().is_err());
        assert_eq!(store.get(&Path::from("half")).unwrap(), None);
    }
}
