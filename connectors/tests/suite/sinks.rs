//! What every sink must do, whatever it writes to: nothing visible before publication, publication any number of times, and no trace of
//! attempts that were never committed.

use crate::support::{Place, stage, visible};
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use waterclock_connectors::blackhole::Blackhole;
use waterclock_connectors::for_each_batch::ForEachBatch;
use waterclock_connectors::memory::MemorySink;
use waterclock_connectors::stdout::{PrintSink, Style};
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::sink::{Manifest, Sink};
use waterclock_core::{ErrorKind, Result};

/// The suite. `seen` tells how many rows of each batch are visible.
fn every_sink(place: &Place, make: &dyn Fn() -> Arc<dyn Sink>, seen: &dyn Fn() -> BTreeMap<u64, usize>) {
    let sink = make();
    sink.open(place.context("a", None)).unwrap();
    let manifest = stage(sink.as_ref(), 0, 0, &[&[1, 2], &[], &[3]]);
    assert_eq!(manifest.rows, 3);
    assert!(manifest.files.iter().all(|file| file.rows > 0), "a lane without rows has a file");
    assert_eq!(seen(), BTreeMap::new(), "staged rows are visible");

    let text = serde_json::to_string(&manifest).unwrap();
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    sink.publish(BatchId(0), &manifest).unwrap();
    assert_eq!(seen(), BTreeMap::from([(0, 3)]));
    sink.publish(BatchId(0), &manifest).unwrap();
    assert_eq!(seen(), BTreeMap::from([(0, 3)]), "published twice");

    let abandoned = stage(sink.as_ref(), 1, 0, &[&[9]]);
    let successor = make();
    successor.open(place.context("a", Some(0))).unwrap();
    let ours = stage(successor.as_ref(), 1, 1, &[&[4]]);
    successor.collect(Epoch(1)).unwrap();
    successor.publish(BatchId(1), &ours).unwrap();
    assert_eq!(seen(), BTreeMap::from([(0, 3), (1, 1)]), "collection touched the current epoch");
    assert_ne!(
        abandoned.files.iter().map(|file| &file.staged).collect::<Vec<_>>(),
        ours.files.iter().map(|file| &file.staged).collect::<Vec<_>>()
    );
}

#[test]
fn files_of_every_format() {
    for format in ["json", "csv", "parquet", "arrow"] {
        let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
        let out = directory.path().join("out");
        every_sink(&place, &|| place.files(out.to_str().unwrap(), format), &|| visible(&out, format));
        let left = std::fs::read_dir(out.join("_staged")).unwrap().count();
        assert_eq!(left, 1, "{format}: only the current epoch's directory is left");
    }
}

#[test]
fn functions_printers_and_memory() {
    let place = Place::new();
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let note = Arc::clone(&seen);
    let call = move |batch: BatchId, rows: &[RecordBatch]| -> Result<()> {
        note.lock().unwrap().insert(batch.0, rows.iter().map(RecordBatch::num_rows).sum());
        Ok(())
    };
    every_sink(&place, &|| ForEachBatch::sink(call.clone()), &|| seen.lock().unwrap().clone());

    let (place, memory) = (Place::new(), MemorySink::new());
    let of = |batches: &Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum();
    every_sink(&place, &|| memory.sink(), &|| memory.batches().iter().map(|(batch, rows)| (batch.0, of(rows))).collect());
}

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn printing_shows_a_batch_once() {
    let (place, printed) = (Place::new(), Printed::default());
    let sink = PrintSink::to(Style::Json, printed.clone());
    sink.open(place.context("a", None)).unwrap();
    let manifest = stage(sink.as_ref(), 0, 0, &[&[1], &[2]]);
    sink.publish(BatchId(0), &manifest).unwrap();
    sink.publish(BatchId(0), &manifest).unwrap();
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text, "{\"v\":1,\"t\":\"text 1\"}\n{\"v\":2,\"t\":\"text 2\"}\n");
}

#[test]
fn a_blackhole_counts() {
    let place = Place::new();
    let sink = Blackhole::sink();
    sink.open(place.context("a", None)).unwrap();
    assert_eq!(stage(sink.as_ref(), 0, 0, &[&[1, 2], &[], &[3]]), Manifest { rows: 3, files: Vec::new() });
}

#[test]
fn parts_are_numbered_without_gaps_and_empty_lanes_have_no_file() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let sink = place.files(directory.path().to_str().unwrap(), "json");
    sink.open(place.context("a", None)).unwrap();
    let manifest = stage(sink.as_ref(), 7, 0, &[&[1], &[2]]);
    let names: Vec<&str> = manifest.files.iter().filter_map(|file| file.published.as_deref()).collect();
    assert_eq!(names, ["00000000000000000007-00000.json", "00000000000000000007-00001.json"]);
}

#[test]
fn a_place_of_another_job_is_refused() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let out = directory.path().to_str().unwrap();
    place.files(out, "json").open(place.context("a", None)).unwrap();
    let error = place.files(out, "json").open(place.context("b", None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("job a") && error.to_string().contains("job b"), "{error}");
    let error = place.files(out, "csv").open(place.context("a", None)).unwrap_err();
    assert!(error.to_string().contains("json") && error.kind() == ErrorKind::Config, "{error}");
}

#[test]
fn output_of_another_history_is_refused() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let out = directory.path().to_str().unwrap();
    let sink = place.files(out, "json");
    sink.open(place.context("a", None)).unwrap();
    for batch in 0..2 {
        sink.publish(BatchId(batch), &stage(sink.as_ref(), batch, 0, &[&[1]])).unwrap();
    }
    place.files(out, "json").open(place.context("a", Some(1))).unwrap();
    for last in [None, Some(0)] {
        let error = place.files(out, "json").open(place.context("a", last)).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("another history"), "{error}");
    }
}

#[test]
fn foreign_files_are_refused() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    std::fs::write(directory.path().join("thesis.doc"), "ten years of work").unwrap();
    let error = place.files(directory.path().to_str().unwrap(), "json").open(place.context("a", None)).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("thesis.doc"), "{error}");
}

#[test]
fn a_lost_file_is_corrupt_and_named() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let sink = place.files(directory.path().to_str().unwrap(), "json");
    sink.open(place.context("a", None)).unwrap();
    let manifest = stage(sink.as_ref(), 0, 0, &[&[1]]);
    std::fs::remove_dir_all(directory.path().join("_staged")).unwrap();
    let error = sink.publish(BatchId(0), &manifest).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("00000-00000.json"), "{error}");
}

/// What an earlier driver staged may have been published, and taken away by whoever reads it.
#[test]
fn a_file_of_an_earlier_driver_that_is_gone_was_published() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let sink = || {
        let sink = place.files(directory.path().to_str().unwrap(), "json");
        sink.open(place.context("a", Some(0))).unwrap();
        sink
    };
    let first = sink();
    let manifest = stage(first.as_ref(), 0, 0, &[&[1], &[2]]);
    first.publish(BatchId(0), &manifest).unwrap();
    std::fs::remove_file(directory.path().join("00000000000000000000-00000.json")).unwrap();
    let second = sink();
    second.publish(BatchId(0), &manifest).unwrap();
    stage(second.as_ref(), 1, 1, &[&[3]]);
    second.publish(BatchId(0), &manifest).unwrap();
    assert_eq!(visible(directory.path(), "json"), BTreeMap::from([(0, 1)]));
}

#[test]
fn a_place_tells_whose_it_is_without_being_opened() {
    let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| place.files(directory.path().join(name).to_str().unwrap(), "json");
    at("mine").open(place.context("a", None)).unwrap();
    assert_eq!(at("mine").owner().unwrap(), Some(place.context("a", None).owner));
    std::fs::create_dir(directory.path().join("empty")).unwrap();
    for free in ["empty", "missing"] {
        assert_eq!(at(free).owner().unwrap(), None);
    }
    assert!(!directory.path().join("missing").exists(), "looking makes nothing");
}
