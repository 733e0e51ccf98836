//! The log over stores that fail, lie and forget.

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
use waterclock_core::id::{JobId, Nonce};
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
