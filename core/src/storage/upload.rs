//! Writing an object piece by piece from a worker that must not wait.
//!
//! Less than a part is held until the object ends, and is put in one request. From then on the storage thread takes piece by piece.
//! Nothing is there before the end: an upload that is dropped leaves no object.

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{MemoryBudget, Reservation};
use bytes::Bytes;
use crossbeam::channel::{Receiver, bounded};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::sync::mpsc;

/// Objects smaller than this are put in one request; larger ones in parts of this size, the least that S3 takes.
const PART_BYTES: usize = 5 << 20;
/// The most parts of one object under way at once.
const CONCURRENT_PARTS: usize = 4;
/// A local object of at most so many bytes is written by whoever waits for it: to wake the storage thread takes longer.
const IN_PLACE_BYTES: usize = 64 << 10;

/// An object being written. Dropping it without [`finish`](Self::finish) abandons it.
pub struct Upload {
    put: Put,
    budget: MemoryBudget,
    bytes: u64,
    /// Where pieces go once there is more than a part.
    parts: Option<Parts>,
}

/// The storage thread's end of an object that is written in parts.
struct Parts {
    pieces: mpsc::UnboundedSender<Piece>,
    done: Receiver<Result<()>>,
}

enum Piece {
    Bytes(Bytes, Reservation),
    End,
}

/// An object, or its first part.
struct Put {
    store: Store,
    path: Path,
    held: Vec<Bytes>,
    held_bytes: usize,
}

/// An object whose last piece was handed over. Dropping it may abandon it.
pub struct UploadHandle {
    bytes: u64,
    state: State,
}

enum State {
    /// Whoever waits writes it.
    InPlace(Put),
    /// The storage thread is about it.
    UnderWay(Receiver<Result<()>>),
}

impl Upload {
    pub(super) fn new(store: Store, path: Path, budget: MemoryBudget) -> Self {
        Self { put: Put { store, path, held: Vec::new(), held_bytes: 0 }, budget, bytes: 0, parts: None }
    }

    /// Hands over the next piece; it counts against the memory budget until the storage thread has taken it. A failure shows when the
    /// upload is finished.
    ///
    /// What waits for the rest of its part does not count: nobody who waits for room could bring it on its way. It is at most a part for
    /// each open upload, and counts from when it is finished until it is stored.
    pub fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        if let Some(Parts { pieces, .. }) = &self.parts {
            let reservation = self.budget.reserve(bytes.len());
            // The receiver is gone only after it has failed, which `finish` reports.
            let _ = pieces.send(Piece::Bytes(bytes, reservation));
            return;
        }
        self.put.held_bytes += bytes.len();
        self.put.held.push(bytes);
        if self.put.held_bytes >= PART_BYTES {
            let concurrency = (self.budget.limit() / (4 * PART_BYTES)).clamp(1, CONCURRENT_PARTS);
            self.parts = Some(self.put.take().begin_parts(concurrency));
        }
    }

    /// Bytes handed over so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until nothing is left of what was handed over. Not for workers.
    pub fn abandon(self) {
        if let Some(Parts { pieces, done }) = self.parts {
            drop(pieces);
            // That it was abandoned is no news; parts that the store could not remove go in its own time.
            let _ = done.recv();
        }
    }

    /// Says that no piece follows.
    pub fn finish(self) -> UploadHandle {
        let state = match self.parts {
            Some(Parts { pieces, done }) => {
                let _ = pieces.send(Piece::End);
                State::UnderWay(done)
            }
            None if self.put.store.is_in_place() && self.put.held_bytes <= IN_PLACE_BYTES => State::InPlace(self.put),
            None => {
                let held = self.budget.reserve(self.put.held_bytes);
                State::UnderWay(self.put.begin(Some(held)))
            }
        };
        UploadHandle { bytes: self.bytes, state }
    }
}

impl UploadHandle {
    /// An object to be put in one request, whatever its size.
    pub(super) fn whole(store: Store, path: Path, pieces: Vec<Bytes>) -> Self {
        let (size, is_in_place) = (pieces.iter().map(Bytes::len).sum(), store.is_in_place());
        let put = Put { store, path, held: pieces, held_bytes: size };
        let state = if is_in_place { State::InPlace(put) } else { State::UnderWay(put.begin(None)) };
        Self { bytes: size as u64, state }
    }

    /// The object's size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands it to the storage thread, if it was to be written by whoever waits for it: for several that are waited for in turn.
    pub fn begin(&mut self) {
        if let State::InPlace(put) = &mut self.state {
            self.state = State::UnderWay(put.take().begin(None));
        }
    }

    /// Waits until the object is stored. Not for workers.
    pub fn wait(self) -> Result<()> {
        let gone = || Error::new(ErrorKind::Internal, "the storage thread ended during an upload");
        match self.state {
            State::InPlace(put) => {
                let store = put.store.clone();
                store.wait(put.write())
            }
            State::UnderWay(done) => done.recv().map_err(|_| gone())?,
        }
    }
}

impl std::fmt::Debug for UploadHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadHandle").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Put {
    /// What is held, leaving nothing.
    fn take(&mut self) -> Self {
        let held_bytes = std::mem::take(&mut self.held_bytes);
        Self { store: self.store.clone(), path: self.path.clone(), held: std::mem::take(&mut self.held), held_bytes }
    }

    /// Writes it as a whole.
    async fn write(self) -> Result<()> {
        let put = self.store.objects().put(&self.path, PutPayload::from_iter(self.held)).await;
        put.map(|_| ()).map_err(|cause| self.store.error("write", &self.path, cause))
    }

    /// `held` is given back once it is stored.
    fn begin(self, held: Option<Reservation>) -> Receiver<Result<()>> {
        let (report, done) = bounded(1);
        let storage = self.store.storage().clone();
        storage.spawn(async move {
            let result = self.write().await;
            drop(held);
            // Nobody listens when the upload was abandoned.
            let _ = report.send(result);
        });
        done
    }

    /// Writes it as the beginning of an object.
    fn begin_parts(self, concurrency: usize) -> Parts {
        let (pieces, inbox) = mpsc::unbounded_channel();
        let (report, done) = bounded(1);
        let storage = self.store.storage().clone();
        storage.spawn(async move {
            let result = self.write_parts(inbox, concurrency).await;
            let _ = report.send(result);
        });
        Parts { pieces, done }
    }

    async fn write_parts(self, mut inbox: mpsc::UnboundedReceiver<Piece>, concurrency: usize) -> Result<()> {
        let failed = |cause| self.store.error("write", &self.path, cause);
        let upload = self.store.objects().put_multipart(&self.path).await.map_err(failed)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        self.held.into_iter().for_each(|bytes| parts.put(bytes));
        match write_rest(&mut parts, &mut inbox, concurrency).await {
            Ok(true) => parts.finish().await.map(|_| ()).map_err(failed),
            Ok(false) => {
                let abandoned = Error::internal(format!("the upload of {} was abandoned", self.store.display(&self.path)));
                parts.abort().await.map_err(failed).and(Err(abandoned))
            }
            Err(cause) => {
                // The first failure is the one to tell; the store removes what was begun in its own time.
                let _ = parts.abort().await;
                Err(failed(cause))
            }
        }
    }
}

/// Returns whether the end was reached, as against abandoned.
async fn write_rest(
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

    fn store(location: &str) -> Store {
        let location = Location::parse(location).unwrap();
        let storage = Storage::builder().fsync(false).start().unwrap();
        storage.open(&location, &StoreOptions::default(), Access::Write).unwrap()
    }

    /// A store that is asked by whoever waits, and one that is not.
    fn stores() -> ([Store; 2], tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        ([store(&format!("file://{}", directory.path().display())), store("memory://uploads")], directory)
    }

    /// Two lanes that each hold less than a part, and together more than the budget, would wait for each other for ever.
    #[test]
    fn pieces_that_wait_for_their_part_hold_no_budget() {
        let (store, budget) = (store("memory://uploads"), MemoryBudget::new(64 << 10));
        let mut uploads = ["a", "b"].map(|name| store.upload(Path::from(name), &budget));
        for upload in &mut uploads {
            upload.push(Bytes::from(vec![7; 100 << 10]));
        }
        assert_eq!(budget.used(), 0);
        for upload in uploads {
            upload.finish().wait().unwrap();
        }
        assert!(budget.used() == 0 && budget.peak() >= 100 << 10, "what is on its way counts until it has arrived: {budget:?}");
        assert_eq!(store.get(&Path::from("b")).unwrap().unwrap().len(), 100 << 10);
    }

    #[test]
    fn objects_of_every_size_arrive_whole() {
        let (stores, _directory) = stores();
        let budget = MemoryBudget::new(1 << 20);
        let sizes =
            [(0, 1), (1, 1), (IN_PLACE_BYTES, 1000), (PART_BYTES - 1, 1 << 20), (PART_BYTES, 1 << 20), (3 * PART_BYTES + 1, 777_777)];
        for (store, (size, piece), begin) in
            stores.iter().flat_map(|store| sizes.map(|size| [(store, size, false), (store, size, true)])).flatten()
        {
            let content: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let path = Path::from(format!("object-{size}-{begin}"));
            let mut upload = store.upload(path.clone(), &budget);
            content.chunks(piece).for_each(|bytes| upload.push(Bytes::copy_from_slice(bytes)));
            let mut handle = upload.finish();
            assert_eq!(handle.bytes(), size as u64);
            if begin {
                handle.begin();
            }
            handle.wait().unwrap();
            assert_eq!(store.get(&path).unwrap().unwrap(), content, "{size}");
        }
        while budget.used() > 0 {
            budget.released().recv_timeout(Duration::from_secs(60)).unwrap();
        }
    }

    #[test]
    fn an_abandoned_upload_leaves_nothing() {
        let (stores, _directory) = stores();
        let budget = MemoryBudget::new(1 << 20);
        for (store, size) in stores.iter().flat_map(|store| [(store, 6), (store, PART_BYTES)]) {
            let mut upload = store.upload(Path::from("half"), &budget);
            upload.push(Bytes::from(vec![1; size]));
            let done = upload.parts.as_ref().map(|parts| parts.done.clone());
            drop(upload);
            assert!(done.is_none_or(|done| done.recv().unwrap().is_err()));
            assert_eq!(store.get(&Path::from("half")).unwrap(), None);
        }
    }
}
