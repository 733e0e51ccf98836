//! The commit log in a store: numbered records, each put once, if absent.
//!
//! What flows in: records. What flows out: records, verified. Atomic is one thing, [`Log::append`]: afterwards the record's number is
//! taken, by this record or by another's. What can fail: the store, which is `Unavailable`; a record that is damaged or missing, which is
//! `Corrupt` and named.

use crate::protocol::envelope::{self, Stored};
use crate::protocol::galloping::{CrossCheck, Gallop, Probe, cross_check};
use crate::protocol::invariants::{self, Step};
use crate::protocol::paths;
use crate::protocol::record::Record;
use crate::protocol::resolve::{Verdict, resolve};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use waterclock_core::id::{JobId, Nonce, Seq};
use waterclock_core::storage::Store;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// The version of the format that this program reads and writes.
pub const FORMAT: u32 = 1;
/// How often a record is put, or its fate looked up, before the driver gives up. The store retries by itself before it answers.
const ATTEMPTS: usize = 4;
/// Records read at the same time.
const READS: usize = 16;

/// Whose a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct JobFile {
    format: u32,
    job: JobId,
}

/// What became of a record.
#[derive(Debug)]
pub enum Appended {
    /// It is committed.
    Mine(Stored),
    /// Another driver's record has its number.
    Theirs(Stored),
}

/// The commit log of a checkpoint.
#[derive(Debug, Clone)]
pub struct Log {
    store: Store,
}

impl Log {
    /// The log in a checkpoint.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The checkpoint.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The job that the checkpoint belongs to; none if it is new.
    ///
    /// # Errors
    /// `Corrupt` if that can't be read, `Config` if it is of another format.
    pub fn job(&self) -> Result<Option<JobId>> {
        let path = paths::job();
        let Some(bytes) = self.store.get(&path)? else { return Ok(None) };
        let place = || format!("{} can't be read; restore it", self.store.display(&path));
        let file: JobFile = serde_json::from_slice(&bytes).or_error(ErrorKind::Corrupt, place)?;
        if file.format != FORMAT {
            let (name, found) = (self.store.display(&path), file.format);
            return Err(Error::config(format!(
                "{name} has format {found}, and this program knows {FORMAT}; use the program that wrote it"
            )));
        }
        Ok(Some(file.job))
    }

    /// The job that the checkpoint belongs to. A new checkpoint gets the candidate, after its store has been tried out.
    ///
    /// # Errors
    /// As [`job`](Self::job); `Config` if the store's conditional put does not work.
    pub fn identify(&self, candidate: JobId, nonce: &Nonce) -> Result<JobId> {
        if let Some(job) = self.job()? {
            return Ok(job);
        }
        self.verify_new()?;
        self.try_out(nonce)?;
        let bytes = serde_json::to_vec_pretty(&JobFile { format: FORMAT, job: candidate });
        let bytes = Bytes::from(bytes.or_error(ErrorKind::Internal, || "encoding a job's identity".into())?);
        // Whatever the answer is, the one that stands there counts.
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            failure = self.store.put_if_absent(&paths::job(), bytes.clone()).err().or(failure);
            match self.job() {
                Ok(Some(job)) => return Ok(job),
                Ok(None) => {}
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Err(_) => {}
            }
        }
        let cause = failure.unwrap_or(StoreError::NotImplemented { operation: "put".into(), implementer: "the store".into() });
        Err(self.store.error("write", &paths::job(), cause))
    }

    /// A log without an identity is damaged: with another identity, its sinks would be another job's.
    fn verify_new(&self) -> Result<()> {
        // Between the first look and this one another driver may have begun the job, identity first.
        if self.read(Seq::FIRST)?.is_some() && self.job()?.is_none() {
            let path = self.store.display(&paths::job());
            return Err(Error::corrupt(format!("{path} is missing, and there are records; put it back")));
        }
        Ok(())
    }

    /// A store that does not keep to its conditional put would let two drivers commit.
    fn try_out(&self, nonce: &Nonce) -> Result<()> {
        let path = paths::trial(nonce);
        let put = || self.store.put_if_absent(&path, Bytes::from_static(b"conditional put"));
        let conflict = |error: &StoreError| matches!(error, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. });
        match put() {
            Ok(()) => {}
            // The nonce is new: a retried request has met its own first write.
            Err(cause) if conflict(&cause) => {}
            Err(cause) => return Err(self.store.error("write", &path, cause)),
        }
        let second = put();
        if let Err(error) = self.store.delete(&path) {
            tracing::warn!(%error, "a trial object is left behind");
        }
        match second {
            Err(cause) if conflict(&cause) => Ok(()),
            Err(cause) => Err(self.store.error("write", &path, cause)),
            Ok(()) => Err(Error::config(format!(
                "the store of {} has no conditional put (a second create of the same name succeeded), so two drivers could both commit; \
                 use another store for the checkpoint",
                self.store.location()
            ))),
        }
    }

    /// The record of a number, verified by itself; none if there is none.
    pub fn read(&self, seq: Seq) -> Result<Option<Stored>> {
        let path = paths::commit(seq);
        let Some(bytes) = self.store.get(&path)? else { return Ok(None) };
        self.decode(seq, &bytes).map(Some)
    }

    /// The record of a number that must be there.
    pub fn require(&self, seq: Seq) -> Result<Stored> {
        self.read(seq)?.ok_or_else(|| self.missing(seq))
    }

    fn decode(&self, seq: Seq, bytes: &[u8]) -> Result<Stored> {
        let path = paths::commit(seq);
        let damaged = |error: Error| error.within(format!("the record {} is damaged; restore it", self.store.display(&path)));
        let stored = envelope::decode(bytes).map_err(damaged)?;
        if stored.record.seq != seq {
            return Err(damaged(Error::corrupt(format!("it says that it is record {}", stored.record.seq))));
        }
        Ok(stored)
    }

    fn missing(&self, seq: Seq) -> Error {
        Error::corrupt(format!("the record {} is missing; restore it", self.store.display(&paths::commit(seq))))
    }

    /// The number of the newest record; none in a new log.
    ///
    /// # Errors
    /// `Corrupt` if a listing shows a hole below it.
    pub fn newest(&self) -> Result<Option<Seq>> {
        let mut search = Gallop::from(Seq::FIRST);
        loop {
            let newest = loop {
                match search.next() {
                    Probe::Ask(seq) => search = search.answer(seq, self.store.head(&paths::commit(seq))?.is_some()),
                    Probe::Found(newest) => break newest,
                }
            };
            match cross_check(newest, &self.listed()?) {
                CrossCheck::Agrees => return Ok(newest),
                CrossCheck::Missing(seq) | CrossCheck::Above(seq) if self.store.head(&paths::commit(seq))?.is_none() => {
                    return Err(self.missing(seq));
                }
                // A listing that lags behind is no evidence.
                CrossCheck::Missing(_) => return Ok(newest),
                CrossCheck::Above(seq) => search = Gallop::from(seq),
            }
        }
    }

    fn listed(&self) -> Result<BTreeSet<Seq>> {
        let objects = self.store.list(Some(&paths::commits()))?;
        Ok(objects.iter().filter_map(|object| paths::parse_commit(&object.location)).collect())
    }

    /// Records of a range that must be there, verified one by one and as a chain.
    pub fn read_chain(&self, range: Range<Seq>) -> Result<Vec<Stored>> {
        let get = |seq: u64| async move {
            let path: Path = paths::commit(Seq(seq));
            let read = async { self.store.objects().get(&path).await?.bytes().await };
            match read.await {
                Ok(bytes) => self.decode(Seq(seq), &bytes),
                Err(StoreError::NotFound { .. }) => Err(self.missing(Seq(seq))),
                Err(cause) => Err(self.store.error("read", &path, cause)),
            }
        };
        let reads = futures::stream::iter(range.start.0..range.end.0).map(get).buffered(READS);
        let chain: Vec<Stored> = self.store.storage().wait(reads.try_collect())?;
        self.verify(&chain)?;
        Ok(chain)
    }

    fn verify(&self, chain: &[Stored]) -> Result<()> {
        let mut last = None;
        for (index, stored) in chain.iter().enumerate() {
            let parent = index.checked_sub(1).map(|before| &chain[before]);
            invariants::check(&Step { parent, last, next: &stored.record }).map_err(|broken| {
                let name = self.store.display(&paths::commit(stored.record.seq));
                Error::corrupt(format!("the record {name} does not fit those before it: not true that {}", broken.name))
            })?;
            last = stored.record.batch().map_or(last, |_| Some(&stored.record));
        }
        Ok(())
    }

    /// Puts a record under its number, and finds out whether it is the one that stands there.
    ///
    /// # Errors
    /// `Unavailable` if the store does not say: whether the record is committed shows at the next start.
    pub fn append(&self, record: &Record) -> Result<Appended> {
        let bytes = envelope::encode(record)?;
        let path = paths::commit(record.seq);
        let mine = envelope::decode(&bytes)?;
        let mut failure = match self.store.put_if_absent(&path, bytes.clone()) {
            Ok(()) => return Ok(Appended::Mine(mine)),
            Err(cause) => self.store.error("write", &path, cause),
        };
        for _ in 0..ATTEMPTS {
            match self.read(record.seq) {
                Ok(found) => match resolve(&mine, found)? {
                    Verdict::Mine => return Ok(Appended::Mine(mine)),
                    Verdict::Theirs(theirs) => return Ok(Appended::Theirs(*theirs)),
                    Verdict::Absent => match self.store.put_if_absent(&path, bytes.clone()) {
                        Ok(()) => return Ok(Appended::Mine(mine)),
                        Err(cause) => failure = self.store.error("write", &path, cause),
                    },
                },
                Err(error) if error.kind() == ErrorKind::Unavailable => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure.within(format!("record {} may or may not be committed, which the next start finds out", record.seq)))
    }
}

/// All records of a checkpoint, oldest first, verified. Writes nothing.
///
/// # Errors
/// `Corrupt` if a record is missing, damaged, or does not fit those before it.
pub fn read_log(checkpoint: &Store) -> Result<Vec<Record>> {
    let log = Log::new(checkpoint.clone());
    let Some(newest) = log.newest()? else { return Ok(Vec::new()) };
    Ok(log.read_chain(Seq::FIRST..newest.next())?.into_iter().map(|stored| stored.record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::samples;
    use crate::testing::{Effect, Fault, FaultStore, Faults};
    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
        PutPayload, PutResult, Result as StoreResult,
    };
    use std::sync::Arc;
    use waterclock_core::storage::{Access, Location, Storage, StoreOptions};

    fn log(wrap: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync + 'static) -> Log {
        let storage = Storage::builder().wrap(move |_, inner| wrap(inner)).start().unwrap();
        Log::new(storage.open(&Location::parse("memory://log").unwrap(), &StoreOptions::default(), Access::Write).unwrap())
    }

    fn faulty() -> (Log, Faults) {
        let faults = Faults::default();
        let inner = faults.clone();
        (log(move |store| Arc::new(FaultStore::new(store, inner.clone()))), faults)
    }

    fn filled(log: &Log, batches: u64) {
        for record in samples::log(batches) {
            assert!(matches!(log.append(&record).unwrap(), Appended::Mine(_)));
        }
    }

    #[test]
    fn a_record_whose_own_first_write_answers_already_exists_is_committed() {
        let (log, _) = faulty();
        let record = samples::log(0).remove(0);
        assert!(matches!(log.append(&record).unwrap(), Appended::Mine(_)));
        assert!(matches!(log.append(&record).unwrap(), Appended::Mine(_)));
        let mut other = record;
        other.nonce = "other".into();
        assert!(matches!(log.append(&other).unwrap(), Appended::Theirs(theirs) if theirs.record.nonce == samples::log(0)[0].nonce));
    }

    #[test]
    fn one_lost_answer_of_any_step_still_commits() {
        let record = samples::log(0).remove(0);
        for at in 0..2 {
            for effect in [Effect::Before, Effect::After] {
                let (log, faults) = faulty();
                faults.arm(Some(Fault { at, effect, dead: false }));
                assert!(matches!(log.append(&record).unwrap(), Appended::Mine(_)), "operation {at}, {effect:?}");
            }
        }
    }

    #[test]
    fn a_store_that_does_not_answer_leaves_the_verdict_open() {
        let record = samples::log(0).remove(0);
        for effect in [Effect::Before, Effect::After] {
            let (log, faults) = faulty();
            faults.arm(Some(Fault { at: 0, effect, dead: true }));
            let error = log.append(&record).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains("may or may not be committed"), "{error}");
            faults.arm(None);
            assert_eq!(log.read(record.seq).unwrap().is_some(), effect == Effect::After);
        }
    }

    #[test]
    fn the_newest_is_found_and_a_hole_is_corrupt() {
        let (log, _) = faulty();
        assert_eq!(log.newest().unwrap(), None);
        filled(&log, 8);
        let newest = log.newest().unwrap().unwrap();
        assert_eq!(read_log(log.store()).unwrap(), samples::log(8));
        for seq in 0..newest.0 {
            let bytes = log.store().get(&paths::commit(Seq(seq))).unwrap().unwrap();
            log.store().delete(&paths::commit(Seq(seq))).unwrap();
            let error = log.newest().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(paths::commit(Seq(seq)).as_ref()), "{error}");
            log.store().put(&paths::commit(Seq(seq)), bytes).unwrap();
        }
        assert_eq!(log.newest().unwrap(), Some(newest));
    }

    #[test]
    fn a_record_of_another_history_does_not_fit() {
        let (log, _) = faulty();
        filled(&log, 2);
        let mut record = samples::log(2).remove(1);
        record.time.0 += 1;
        log.store().put(&paths::commit(record.seq), envelope::encode(&record).unwrap()).unwrap();
        let error = read_log(log.store()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("parent's checksum"), "{error}");
    }

    #[test]
    fn a_job_keeps_its_identity() {
        let (log, _) = faulty();
        let identify = |job: &str, nonce: &str| log.identify(JobId::from(job), &Nonce::from(nonce)).unwrap();
        assert_eq!(identify("first", "a"), identify("second", "b"));
        assert!(log.store().list(None).unwrap().iter().all(|object| object.location == paths::job()), "the trial leaves nothing behind");
    }

    /// A store that takes every put for an overwrite.
    #[derive(Debug)]
    struct Careless(Arc<dyn ObjectStore>);

    impl std::fmt::Display for Careless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Careless")
        }
    }

    #[async_trait]
    impl ObjectStore for Careless {
        async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
            self.0.put_opts(location, payload, PutOptions { mode: PutMode::Overwrite, ..options }).await
        }
        async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(location, options).await
        }
        async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
            self.0.get_opts(location, options).await
        }
        fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
            self.0.delete_stream(locations)
        }
        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
            self.0.list(prefix)
        }
        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }
        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
            self.0.copy_opts(from, to, options).await
        }
    }

    #[test]
    fn a_store_without_conditional_put_is_refused() {
        let log = log(|store| Arc::new(Careless(store)));
        let error = log.identify(JobId::from("j"), &Nonce::from("n")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("conditional put"), "{error}");
        assert!(log.store().list(None).unwrap().is_empty());
    }
}
