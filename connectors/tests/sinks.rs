//! What every sink must do, whatever it writes to: nothing visible before publication, publication any number of times, and no trace of
//! attempts that were never committed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use waterclock_connectors::blackhole::Blackhole;
use waterclock_connectors::connectors;
use waterclock_connectors::for_each_batch::ForEachBatch;
use waterclock_connectors::memory::MemorySink;
use waterclock_connectors::stdout::{PrintSink, Style};
use waterclock_core::batch::BatchContext;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::{BatchId, Epoch, JobId, Nonce, Seq, SinkId};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::options::Options;
use waterclock_core::sink::{Attempt, Lane, Manifest, Owner, Sink, SinkContext};
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};
use waterclock_core::time::Timestamp;
use waterclock_core::{ErrorKind, Result};

fn rows(values: &[i64]) -> RecordBatch {
    let texts = values.iter().map(|value| Some(format!("text {value}"))).collect::<StringArray>();
    let columns = [("v", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn schema() -> SchemaRef {
    rows(&[]).schema()
}

struct Place {
    storage: Storage,
    scratch: Store,
}

impl Place {
    fn new() -> Self {
        let storage = Storage::builder().fsync(false).start().unwrap();
        let location = Location::parse("memory://checkpoint/scratch/").unwrap();
        let scratch = storage.open(&location, &StoreOptions::default(), Access::Write).unwrap();
        Self { storage, scratch }
    }

    fn context(&self, job: &str, last_batch: Option<u64>) -> SinkContext {
        let owner = Owner { job: JobId::from(job), sink: SinkId::from("out") };
        SinkContext { owner, schema: schema(), scratch: self.scratch.clone(), last_batch: last_batch.map(BatchId) }
    }

    fn files(&self, location: &str, format: &str) -> Arc<dyn Sink> {
        let location = Location::parse(location).unwrap();
        let table =
            TableDefinition { name: "out".into(), columns: None, format: format.into(), location: location.clone(), unbounded: false };
        let context = ConnectorContext { storage: self.storage.clone() };
        connectors().of(&location).unwrap().sink(&table, &mut Options::new("out", []), &context).unwrap()
    }
}

fn stage(sink: &dyn Sink, batch: u64, epoch: u64, lanes: &[&[i64]]) -> Manifest {
    let context = BatchContext { batch: BatchId(batch), trigger_time: Timestamp(0) };
    let attempt = Attempt { seq: Seq(batch + 1), epoch: Epoch(epoch), nonce: Nonce::from("n0") };
    let staging = sink.stage(&context, &attempt, &MemoryBudget::new(1 << 20)).unwrap();
    let outputs = lanes.iter().enumerate().map(|(lane, values)| {
        let mut writer = staging.lane(Lane(lane)).unwrap();
        for value in *values {
            writer.write(&rows(&[*value])).unwrap();
        }
        writer.finish().unwrap()
    });
    staging.finish(outputs.collect()).unwrap()
}

/// The suite. `seen` tells how many rows of each batch are visible.
fn every_sink(place: &Place, make: &dyn Fn() -> Arc<dyn Sink>, seen: &dyn Fn() -> BTreeMap<u64, usize>) {
    let sink = make();
    sink.open(place.context("a", None)).unwrap();
    let manifest = stage(sink.as_ref(), 0, 0, &[&[1, 2], &[3]]);
    assert_eq!(manifest.rows, 3);
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

/// Rows of visible files per batch, and the proof that nothing else is visible.
fn visible(directory: &Path, extension: &str) -> BTreeMap<u64, usize> {
    let mut batches = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with('_') {
            continue;
        }
        assert!(name.ends_with(extension), "{name}");
        *batches.entry(name[..20].parse().unwrap()).or_insert(0) += count(&path, extension);
    }
    batches
}

fn count(path: &Path, extension: &str) -> usize {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let file = std::fs::File::open(path).unwrap();
    match extension {
        "parquet" => ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(|batch| batch.unwrap().num_rows()).sum(),
        "arrow" => arrow::ipc::reader::FileReader::try_new(file, None).unwrap().map(|batch| batch.unwrap().num_rows()).sum(),
        "csv" => std::fs::read_to_string(path).unwrap().lines().count() - 1,
        _ => std::fs::read_to_string(path).unwrap().lines().count(),
    }
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
