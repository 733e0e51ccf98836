//! What the suites share: rows, places, and a batch that is staged.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use waterclock_connectors::connectors;
use waterclock_core::Result;
use waterclock_core::batch::BatchContext;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::{BatchId, Epoch, JobId, Nonce, Seq, SinkId};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::options::Options;
use waterclock_core::sink::{Attempt, Lane, Manifest, Owner, Sink, SinkContext};
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};
use waterclock_core::time::Timestamp;
use waterclock_scheduler::testing::{FaultStore, Faults};

pub fn rows(values: &[i64]) -> RecordBatch {
    let texts = values.iter().map(|value| Some(format!("text {value}"))).collect::<StringArray>();
    let columns = [("v", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

pub fn schema() -> SchemaRef {
    rows(&[]).schema()
}

pub struct Place {
    pub storage: Storage,
    scratch: Store,
}

impl Place {
    pub fn new() -> Self {
        Self::on(Storage::builder().fsync(false).start().unwrap())
    }

    /// A place whose stores fail on demand.
    pub fn with_faults(faults: &Faults) -> Self {
        let faults = faults.clone();
        let wrap = move |_: &Location, store| Arc::new(FaultStore::new(store, faults.clone())) as Arc<dyn object_store::ObjectStore>;
        Self::on(Storage::builder().fsync(false).wrap(wrap).start().unwrap())
    }

    fn on(storage: Storage) -> Self {
        let location = Location::parse("memory://checkpoint/scratch/").unwrap();
        let scratch = storage.open(&location, &StoreOptions::default(), Access::Write).unwrap();
        Self { storage, scratch }
    }

    pub fn context(&self, job: &str, last_batch: Option<u64>) -> SinkContext {
        let owner = Owner { job: JobId::from(job), sink: SinkId::from("out") };
        SinkContext { owner, schema: schema(), scratch: self.scratch.clone(), last_batch: last_batch.map(BatchId) }
    }

    pub fn files(&self, location: &str, format: &str) -> Arc<dyn Sink> {
        let location = Location::parse(location).unwrap();
        let table =
            TableDefinition { name: "out".into(), columns: None, format: format.into(), location: location.clone(), unbounded: false };
        let context = ConnectorContext { storage: self.storage.clone() };
        connectors().of(&location).unwrap().sink(&table, &mut Options::new("out", []), &context).unwrap()
    }
}

/// Stages a batch, a lane for each list of values.
pub fn stage(sink: &dyn Sink, batch: u64, epoch: u64, lanes: &[&[i64]]) -> Manifest {
    try_stage(sink, batch, epoch, lanes).unwrap()
}

pub fn try_stage(sink: &dyn Sink, batch: u64, epoch: u64, lanes: &[&[i64]]) -> Result<Manifest> {
    let context = BatchContext { batch: BatchId(batch), trigger_time: Timestamp(0) };
    let attempt = Attempt { seq: Seq(batch + 1), epoch: Epoch(epoch), nonce: Nonce::from("n0") };
    let staging = sink.stage(&context, &attempt, &MemoryBudget::new(1 << 20))?;
    let outputs = lanes.iter().enumerate().map(|(lane, values)| {
        let mut writer = staging.lane(Lane(lane)).unwrap();
        for value in *values {
            writer.write(&rows(&[*value])).unwrap();
        }
        writer.finish().unwrap()
    });
    staging.finish(outputs.collect())
}

/// Rows of visible files per batch, and the proof that nothing else is visible.
pub fn visible(directory: &Path, extension: &str) -> BTreeMap<u64, usize> {
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
