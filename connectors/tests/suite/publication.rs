//! Publication of files through crashes: every storage operation of a sink's life fails once, before and after its effect, and a successor
//! carries on from what the log says.

use crate::support::{Place, stage, try_stage};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::sync::Arc;
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::sink::{Manifest, Sink, StagedFile};
use waterclock_core::storage::{Access, Location, Store, StoreOptions};
use waterclock_core::{ErrorKind, Result};
use waterclock_scheduler::testing::{Effect, Fault, Faults};

const LANES: [&[i64]; 2] = [&[1, 2], &[3]];
const TRUTH: &str = "{\"v\":1,\"t\":\"text 1\"}\n{\"v\":2,\"t\":\"text 2\"}\n{\"v\":3,\"t\":\"text 3\"}\n";
const OUT: &str = "memory://out/rows/";

/// What the commit log would know: the manifest of batch 0, once it is committed.
#[derive(Default)]
struct Log(Option<Manifest>);

impl Log {
    fn last_batch(&self) -> Option<u64> {
        self.0.as_ref().map(|_| 0)
    }
}

/// A driver's life: take over, publish what is committed, collect, then stage, commit and publish what is not.
fn live(place: &Place, log: &mut Log, epoch: u64) -> Result<()> {
    let sink = place.files(OUT, "json");
    sink.open(place.context("a", log.last_batch()))?;
    if let Some(manifest) = &log.0 {
        sink.publish(BatchId(0), manifest)?;
    }
    sink.collect(Epoch(epoch))?;
    if log.0.is_none() {
        let manifest = try_stage(sink.as_ref(), 0, epoch, &LANES)?;
        sink.publish(BatchId(0), log.0.insert(manifest))?;
    }
    Ok(())
}

fn store(place: &Place) -> Store {
    place.storage.open(&Location::parse(OUT).unwrap(), &StoreOptions::default(), Access::Write).unwrap()
}

/// The names of the objects of the sink's place, in their order.
fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = store.list(None).unwrap().iter().map(|object| object.location.to_string()).collect();
    names.sort();
    names
}

/// What readers see. Staged objects are not read, for they may be removed meanwhile.
fn published(store: &Store) -> String {
    let text = |name: &String| String::from_utf8(store.get(&Path::from(name.as_str())).unwrap().unwrap().to_vec()).unwrap();
    names(store).iter().filter(|name| !name.starts_with('_')).map(text).collect()
}

#[test]
fn every_operation_fails_once_and_nothing_is_lost_doubled_or_early() {
    let mut swept = [0, 0];
    for (round, effect) in [Effect::Before, Effect::After].into_iter().enumerate() {
        for at in 0.. {
            let faults = Faults::default();
            let (place, mut log) = (Place::with_faults(&faults), Log::default());
            faults.arm(Some(Fault { at, effect, dead: true }));
            let first = live(&place, &mut log, 0);
            let (hit, operations) = (faults.hit(), faults.operations());
            faults.arm(None);
            let store = store(&place);
            assert!(log.0.is_some() || published(&store).is_empty(), "visible before the commit: {effect:?} {at}");
            assert!(TRUTH.contains(&published(&store)), "{effect:?} {at}");
            if !hit {
                first.unwrap();
                break;
            }
            match first {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{effect:?} {at}"),
                // What has been published already is only left behind.
                Ok(()) => assert!(operations[at as usize].starts_with("delete _staged/"), "{effect:?} {at}"),
            }
            live(&place, &mut log, 1).unwrap();
            assert_eq!(published(&store), TRUTH, "{effect:?} {at}");
            let staged: Vec<String> = names(&store).into_iter().filter(|name| name.starts_with("_staged")).collect();
            assert_eq!(staged, [""; 0], "{effect:?} {at}");
            swept[round] += 1;
        }
    }
    // To claim: a read, a listing, the put, a listing; the listing of leftovers; two files put, copied and removed.
    assert!(swept.iter().all(|&operations| operations >= 11), "{swept:?}");
}

#[test]
fn a_claim_whose_answer_was_lost_is_this_sinks() {
    let faults = Faults::default();
    let place = Place::with_faults(&faults);
    live(&place, &mut Log::default(), 0).unwrap();
    let claim = faults.operations().iter().position(|operation| operation.ends_with("_waterclock") && operation.starts_with("put"));

    let faults = Faults::default();
    let place = Place::with_faults(&faults);
    faults.arm(Some(Fault { at: claim.unwrap() as u64, effect: Effect::After, dead: false }));
    place.files(OUT, "json").open(place.context("a", None)).unwrap();
    assert!(faults.hit());
}

#[test]
fn an_upload_that_fails_names_the_object_and_the_reason() {
    let faults = Faults::default();
    let place = Place::with_faults(&faults);
    let sink = place.files(OUT, "json");
    sink.open(place.context("a", None)).unwrap();
    faults.arm(Some(Fault { at: 0, effect: Effect::Before, dead: false }));
    let error = try_stage(sink.as_ref(), 0, 0, &LANES).unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::Unavailable && text.contains("/_staged/") && text.contains("injected failure"), "{text}");
}

#[test]
fn a_copy_whose_original_was_not_removed_is_published() {
    let place = Place::new();
    let sink = place.files(OUT, "json");
    sink.open(place.context("a", None)).unwrap();
    let (manifest, store) = (stage(sink.as_ref(), 0, 0, &LANES), store(&place));
    let file = &manifest.files[0];
    let (from, to) = (Path::from(file.staged.as_str()), Path::from(file.published.as_deref().unwrap()));
    place.storage.wait(store.objects().copy(&from, &to)).unwrap();
    for _ in 0..2 {
        sink.publish(BatchId(0), &manifest).unwrap();
        assert_eq!(published(&store), TRUTH);
    }
    // Originals are removed beside what follows; who drops the sink waits for it.
    drop(sink);
    assert_eq!(store.head(&from).unwrap(), None);
}

/// To its readers it would be another object, by its tag or its time.
#[test]
fn what_an_earlier_driver_has_published_is_not_written_anew() {
    let faults = Faults::default();
    let place = Place::with_faults(&faults);
    let sink = |last| {
        let sink = place.files(OUT, "json");
        sink.open(place.context("a", last)).unwrap();
        sink
    };
    let first = sink(None);
    let (manifest, store) = (stage(first.as_ref(), 0, 0, &LANES), store(&place));
    let moved = |file: &StagedFile| (Path::from(file.staged.as_str()), Path::from(file.published.as_deref().unwrap()));
    let (from, to) = moved(&manifest.files[0]);
    place.storage.wait(store.objects().copy(&from, &to)).unwrap();
    drop(first);
    faults.arm(None);
    let second = sink(Some(0));
    second.publish(BatchId(0), &manifest).unwrap();
    drop(second);
    assert_eq!(published(&store), TRUTH);
    assert_eq!(names(&store).iter().filter(|name| name.starts_with("_staged")).count(), 0);
    let copies: Vec<String> = faults.operations().into_iter().filter(|operation| operation.starts_with("copy")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
}

#[test]
fn a_published_file_of_another_size_is_corrupt_and_named() {
    let place = Place::new();
    let sink = |last| {
        let sink = place.files(OUT, "json");
        sink.open(place.context("a", last)).unwrap();
        sink
    };
    let first = sink(None);
    let manifest = stage(first.as_ref(), 0, 0, &LANES);
    first.publish(BatchId(0), &manifest).unwrap();
    // Originals that are still there would be published again.
    drop(first);
    store(&place).put(&Path::from("00000000000000000000-00001.json"), "{}".into()).unwrap();
    let error = sink(Some(0)).publish(BatchId(0), &manifest).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("-00001.json"), "{error}");
}

#[test]
fn collection_on_disk_takes_what_listings_hide_and_spares_the_current_epoch() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let out = directory.path().join("out");
    let sink = place.files(out.to_str().unwrap(), "json");
    sink.open(place.context("a", None)).unwrap();
    let file = |epoch: u64, name: &str| out.join(format!("_staged/{epoch:020}-n0/{name}"));
    for epoch in 1..5 {
        // An upload that was cut off leaves its bytes under a name that the store does not list.
        for name in ["00000000000000000007-00000.staged", "00000000000000000007-00001.staged#3"] {
            std::fs::create_dir_all(file(epoch, name).parent().unwrap()).unwrap();
            std::fs::write(file(epoch, name), "half a row").unwrap();
        }
    }
    std::fs::write(out.join("_staged/notes"), "not ours").unwrap();
    sink.collect(Epoch(3)).unwrap();
    sink.collect(Epoch(3)).unwrap();
    let mut left: Vec<String> =
        std::fs::read_dir(out.join("_staged")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["00000000000000000003-n0", "00000000000000000004-n0", "notes"]);
    assert!(file(3, "00000000000000000007-00001.staged#3").exists());
}

#[test]
fn rows_that_wait_to_be_handed_on_are_not_lost_in_silence() {
    let place = Place::new();
    let memory = waterclock_connectors::memory::MemorySink::new();
    let sink: Arc<dyn Sink> = memory.sink();
    let context = place.context("a", None);
    let scratch = context.scratch.clone();
    sink.open(context).unwrap();
    let manifest = stage(sink.as_ref(), 0, 0, &LANES);
    scratch.delete(&Path::from(manifest.files[1].staged.as_str())).unwrap();
    let error = sink.publish(BatchId(0), &manifest).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(&manifest.files[1].staged), "{error}");
    // Only the absence of the first file says that the batch was handed on.
    scratch.delete(&Path::from(manifest.files[0].staged.as_str())).unwrap();
    sink.publish(BatchId(0), &manifest).unwrap();
    assert!(memory.batches().is_empty());
}
