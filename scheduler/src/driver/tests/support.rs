//! A source of numbers, an operator that counts per key, and a sink of text files: the least that exercises every step.

use crate::driver::{Driver, DriverSettings, Summary, Trigger};
use crate::exec::ExecutorSettings;
use crate::progress::{BatchProgress, Observer};
use crate::replay::{Replay, ReplaySettings};
use crate::seams::{Merging, Seams, Stop};
use crate::testing::{FaultStore, Faults};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use object_store::path::Path;
use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex};
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, Epoch, PartitionId, SinkId, SourceId};
use waterclock_core::job::Job;
use waterclock_core::memory::MemoryBudget;
use waterclock_core::operator::{Operator, OperatorFactory, Output, Port};
use waterclock_core::plan::{Node, NodeId, NodeKind, Plan, PlannedSink, PlannedSource, TimeBound, Upstream};
use waterclock_core::sink::*;
use waterclock_core::source::*;
use waterclock_core::state::{StateLayer, StateTable};
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, Result};

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
}

fn rows(values: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(values.to_vec())) as ArrayRef]).unwrap()
}

fn layer(name: &str, pairs: impl Iterator<Item = (i64, i64)>) -> StateLayer {
    let (keys, values): (Vec<i64>, Vec<i64>) = pairs.unzip();
    let columns = [("k", Arc::new(Int64Array::from(keys)) as ArrayRef), ("n", Arc::new(Int64Array::from(values)) as ArrayRef)];
    StateLayer::upserts(StateTable::new(name, 1), RecordBatch::try_from_iter(columns).unwrap())
}

fn pairs(layers: &[StateLayer]) -> BTreeMap<i64, i64> {
    let pairs = |layer: &StateLayer| {
        let (keys, values) =
            (layer.rows.column(0).as_primitive::<Int64Type>().clone(), layer.rows.column(1).as_primitive::<Int64Type>().clone());
        keys.values().iter().copied().zip(values.values().iter().copied()).collect::<Vec<_>>()
    };
    layers.iter().flat_map(pairs).collect()
}

/// Where numbers come from.
#[derive(Clone)]
pub(super) enum Numbers {
    /// All below this one; they can be read again.
    Below(Arc<Mutex<i64>>),
    /// Whatever was put in; it can't be read again.
    Pipe(Arc<Mutex<VecDeque<i64>>>),
}

impl Numbers {
    /// So many more.
    pub fn extend(&self, more: i64) {
        match self {
            Self::Below(end) => *end.lock().unwrap() += more,
            Self::Pipe(_) => panic!("a pipe is not extended"),
        }
    }
}

/// The numbers, so many per batch. It keeps the size of each cut in its state, and verifies that it gets it back.
struct NumberSource {
    numbers: Numbers,
    position: i64,
    end: Option<i64>,
    cuts: BTreeMap<i64, i64>,
    changed: Vec<(i64, i64)>,
    held: BTreeMap<i64, Vec<i64>>,
}

impl NumberSource {
    fn new(numbers: Numbers) -> Self {
        Self { numbers, position: 0, end: None, cuts: BTreeMap::new(), changed: Vec::new(), held: BTreeMap::new() }
    }

    fn newest(&self) -> i64 {
        match &self.numbers {
            Numbers::Below(end) => self.end.unwrap_or(*end.lock().unwrap()),
            Numbers::Pipe(values) => self.position + values.lock().unwrap().len() as i64,
        }
    }
}

impl Source for NumberSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { replayable: matches!(self.numbers, Numbers::Below(_)), has_end: true }
    }
    fn restore(&mut self, layers: &[StateLayer], last: &[PartitionCut]) -> Result<()> {
        self.position = last.first().and_then(|cut| cut.end.0.as_i64()).unwrap_or(0);
        self.cuts = pairs(layers);
        if matches!(self.numbers, Numbers::Below(_)) {
            assert_eq!(self.cuts.values().sum::<i64>(), self.position, "the source's state is that of its position");
        }
        Ok(())
    }
    fn fix_end(&mut self) -> Result<()> {
        self.end = Some(self.newest());
        Ok(())
    }
    fn cut(&mut self, limits: &CutLimits) -> Result<Cut> {
        let (start, newest) = (self.position, self.newest());
        let end = newest.min(start + limits.max_rows.map_or(i64::MAX / 2, |rows| rows as i64));
        if start == end {
            return Ok(Cut::empty());
        }
        if let Numbers::Pipe(values) = &self.numbers {
            self.held.insert(start, values.lock().unwrap().drain(..(end - start) as usize).collect());
        } else {
            self.cuts.insert(start, end - start);
            self.changed.push((start, end - start));
        }
        self.position = end;
        let offset = |at: i64| Offset(at.into());
        let partition = PartitionCut { partition: "all".into(), start: offset(start), end: offset(end), detail: serde_json::Value::Null };
        Ok(Cut { partitions: vec![partition], more: end < newest, lag: Some((newest - end) as u64) })
    }
    fn spool(&mut self, cut: &Cut) -> Result<Option<Bytes>> {
        let values = self.held.remove(&cut.partitions[0].start.0.as_i64().unwrap()).unwrap();
        Ok(Some(serde_json::to_vec(&values).unwrap().into()))
    }
    fn unspool(&mut self, cut: &Cut, bytes: Bytes) -> Result<()> {
        self.held.insert(cut.partitions[0].start.0.as_i64().unwrap(), serde_json::from_slice(&bytes).unwrap());
        Ok(())
    }
    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        if self.changed.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![layer("cuts", std::mem::take(&mut self.changed).into_iter())])
    }
    fn splits(&self, cut: &Cut, _: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>> {
        let range = &cut.partitions[0];
        let (start, end) = (range.start.0.as_i64().unwrap(), range.end.0.as_i64().unwrap());
        let values = match &self.numbers {
            Numbers::Below(_) => (start..end).collect(),
            Numbers::Pipe(_) => self.held[&start].clone(),
        };
        Ok(vec![Box::new(NumberSplit { partition: range.partition.clone(), values })])
    }
    fn locate(&self, place: Place) -> Place {
        Place { position: Position::Line(77), ..place }
    }
}

struct NumberSplit {
    partition: PartitionId,
    values: Vec<i64>,
}

impl Split for NumberSplit {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }
    fn held_bytes(&self) -> usize {
        8
    }
    /// So much that the next batch begins while one runs.
    fn work_bytes(&self) -> usize {
        2 << 20
    }
    fn fetch(self: Box<Self>) -> Result<Fetch> {
        Ok(Fetch::AtHand(Box::new(NumberMorsels(Some(self.values)))))
    }
}

struct NumberMorsels(Option<Vec<i64>>);

impl Morsels for NumberMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        let Some(values) = self.0.take() else { return Ok(None) };
        let (bad, good): (Vec<i64>, Vec<i64>) = values.iter().partition(|&&value| value < 0);
        let place = Place { input: "numbers".into(), position: Position::Byte(3) };
        let bad = bad.iter().map(|value| BadRow { place: place.clone(), reason: format!("{value} is negative"), text: None }).collect();
        let origin = Origin { input: "numbers".into(), positions: Positions::Rows(1) };
        Ok(Some(Morsel { rows: rows(&good), latest: None, origin, bad, skipped: Skipped::default() }))
    }
}

/// Counts per remainder of this number, and emits `key * 1000 + count` for each row.
#[derive(Debug)]
pub(super) struct Counts(pub i64);

struct Counting(i64, BTreeMap<i64, i64>, Vec<i64>);

impl OperatorFactory for Counts {
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        // One instance sees everything, or the key would have to be computed before the exchange.
        vec![if self.0 == 0 { vec![Arc::new(Column::new("v", 0))] } else { Vec::new() }]
    }
    fn outputs(&self) -> Vec<SchemaRef> {
        vec![schema()]
    }
    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Counting(self.0, BTreeMap::new(), Vec::new())))
    }
    fn fingerprint(&self) -> String {
        format!("counts modulo {}", self.0)
    }
    fn describe(&self) -> String {
        self.fingerprint()
    }
}

impl Operator for Counting {
    fn process(&mut self, _: Port, batch: RecordBatch, output: &mut Output) -> Result<()> {
        let mut counts = Vec::new();
        for value in batch.column(0).as_primitive::<Int64Type>().values() {
            let key = if self.0 == 0 { *value } else { value % self.0 };
            let count = self.1.entry(key).or_default();
            *count += 1;
            counts.push(key * 1_000 + *count);
            self.2.push(key);
        }
        output.emit(Port(0), rows(&counts));
        Ok(())
    }
    fn advance(&mut self, _: Port, watermark: Watermark, _: &BatchContext, output: &mut Output) -> Result<Watermark> {
        if watermark == Watermark::End && !self.1.is_empty() {
            output.emit(Port(0), rows(&[-self.1.values().sum::<i64>()]));
        }
        Ok(watermark)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let mut changed = std::mem::take(&mut self.2);
        changed.sort_unstable();
        changed.dedup();
        if changed.is_empty() { Ok(Vec::new()) } else { Ok(vec![layer("counts", changed.into_iter().map(|key| (key, self.1[&key])))]) }
    }
    fn restore(&mut self, layers: &[StateLayer], _watermark: Watermark) -> Result<()> {
        self.1 = pairs(layers);
        Ok(())
    }
}

/// A file of numbers per lane, staged and renamed.
struct TextSink {
    store: Store,
}

struct TextStaging {
    store: Store,
    prefix: String,
    batch: BatchId,
    budget: MemoryBudget,
}

struct TextLane {
    store: Store,
    staged: String,
    budget: MemoryBudget,
    text: String,
    rows: u64,
}

impl Sink for TextSink {
    fn modes(&self) -> &[SinkMode] {
        &[SinkMode::Append]
    }
    fn open(&self, _: SinkContext) -> Result<()> {
        Ok(())
    }
    fn stage(&self, batch: &BatchContext, attempt: &Attempt, budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        let prefix = format!("_staged/{}-{}-{}", attempt.epoch, attempt.seq, attempt.nonce);
        Ok(Arc::new(TextStaging { store: self.store.clone(), prefix, batch: batch.batch, budget: budget.clone() }))
    }
    fn publish(&self, _: BatchId, manifest: &Manifest) -> Result<()> {
        for file in &manifest.files {
            let published = Path::from(file.published.clone().unwrap());
            let moved = self.store.rename(&Path::from(file.staged.clone()), &published)?;
            if !moved && self.store.head(&published)?.is_none() {
                return Err(Error::corrupt(format!("{} is lost", file.staged)));
            }
        }
        Ok(())
    }
    fn collect(&self, current: Epoch) -> Result<()> {
        for object in self.store.list(Some(&Path::from("_staged")))? {
            let epoch: u64 = object.location.filename().unwrap().split('-').next().unwrap().parse().unwrap();
            if epoch < current.0 {
                self.store.delete(&object.location)?;
            }
        }
        Ok(())
    }
}

impl Staging for TextStaging {
    fn lane(&self, lane: Lane) -> Result<Box<dyn LaneWriter>> {
        let staged = format!("{}-{}", self.prefix, lane.0);
        Ok(Box::new(TextLane { store: self.store.clone(), staged, budget: self.budget.clone(), text: String::new(), rows: 0 }))
    }
    fn finish(&self, lanes: Vec<LaneOutput>) -> Result<Manifest> {
        let mut manifest = Manifest::default();
        for file in lanes.into_iter().flat_map(|lane| lane.files) {
            let published = format!("{:020}-{:05}.txt", self.batch.0, manifest.files.len());
            let bytes = file.upload.bytes();
            file.upload.wait()?;
            manifest.rows += file.rows;
            manifest.files.push(StagedFile { staged: file.staged, published: Some(published), bytes, rows: file.rows });
        }
        Ok(manifest)
    }
}

impl LaneWriter for TextLane {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if let Some(values) = rows.column(0).as_primitive_opt::<Int64Type>() {
            self.text.extend(values.values().iter().map(|value| format!("{value}\n")));
        } else {
            self.text.extend(rows.column(3).as_string::<i32>().iter().map(|reason| format!("{}\n", reason.unwrap())));
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<LaneOutput> {
        if self.rows == 0 {
            return Ok(LaneOutput::default());
        }
        let mut upload = self.store.upload(Path::from(self.staged.clone()), &self.budget);
        upload.push(Bytes::from(self.text));
        Ok(LaneOutput { rows: self.rows, files: vec![LaneFile { staged: self.staged, rows: self.rows, upload: upload.finish() }] })
    }
}

/// A job and its places. Cloning shares them.
#[derive(Clone)]
pub(super) struct World {
    pub storage: Storage,
    pub faults: Faults,
    pub numbers: Numbers,
    pub root: String,
    pub modulo: i64,
    pub rows_per_batch: u64,
    pub dead_letter: bool,
    pub merging: Merging,
    pub in_flight: NonZeroUsize,
}

/// Remembers the progress.
#[derive(Default)]
pub(super) struct Seen(pub Mutex<Vec<BatchProgress>>);

impl Observer for Seen {
    fn batch(&self, progress: &BatchProgress) {
        self.0.lock().unwrap().push(progress.clone());
    }
}

impl World {
    /// Numbers below `end`, in memory.
    pub fn new(end: i64) -> Self {
        Self::at("memory://world", end)
    }

    pub fn at(root: &str, end: i64) -> Self {
        let faults = Faults::default();
        let wrapped = faults.clone();
        let storage =
            Storage::builder().fsync(false).wrap(move |_, inner| Arc::new(FaultStore::new(inner, wrapped.clone()))).start().unwrap();
        let numbers = Numbers::Below(Arc::new(Mutex::new(end)));
        let Seams { merging, in_flight, .. } = Seams::system();
        Self { storage, faults, numbers, root: root.into(), modulo: 3, rows_per_batch: 10, dead_letter: false, merging, in_flight }
    }

    fn location(&self, name: &str) -> Location {
        Location::parse(&self.root).unwrap().join(name).unwrap()
    }

    pub fn store(&self, name: &str) -> Store {
        self.storage.open(&self.location(name), &StoreOptions::default(), Access::Write).unwrap()
    }

    pub fn checkpoint(&self) -> Store {
        self.store("checkpoint")
    }

    fn plan(&self) -> Arc<Plan> {
        let on_bad_row = if self.dead_letter { OnBadRow::DeadLetter(self.location("dead")) } else { OnBadRow::Fail };
        let limits = CutLimits { max_rows: Some(self.rows_per_batch), ..CutLimits::default() };
        let settings = SourceSettings { id: SourceId::from("numbers"), event_time: None, limits, on_bad_row };
        let scan = Arc::new(Scan::all(&schema()));
        let node = |id: &str, kind, inputs| Node {
            id: id.into(),
            kind,
            bounds: vec![TimeBound::default(); Vec::<Upstream>::len(&inputs)],
            inputs,
            outputs: vec![schema()],
            event_times: Default::default(),
        };
        let sink = SinkSettings { id: SinkId::from("out"), mode: SinkMode::Append, location: self.location("out") };
        Arc::new(Plan {
            sources: vec![PlannedSource { settings, schema: schema(), scan, description: String::new() }],
            statics: Vec::new(),
            nodes: vec![
                node("scan", NodeKind::Scan(0), Vec::new()),
                node("counts", NodeKind::Operator(Arc::new(Counts(self.modulo))), vec![NodeId(0).into()]),
            ],
            sinks: vec![PlannedSink { settings: sink, input: NodeId(1).into(), schema: schema() }],
            logical: String::new(),
        })
    }

    pub fn job(&self) -> Job {
        let sink = |name| Arc::new(TextSink { store: self.store(name) }) as Arc<dyn Sink>;
        Job {
            plan: self.plan(),
            sources: vec![Box::new(NumberSource::new(self.numbers.clone()))],
            statics: Vec::new(),
            sinks: vec![sink("out")],
            dead_letters: vec![self.dead_letter.then(|| sink("dead"))],
        }
    }

    pub fn settings(&self, threads: usize) -> DriverSettings {
        DriverSettings {
            trigger: Trigger::UntilCaughtUp,
            drain: false,
            max_batches: None,
            retain: NonZeroU64::new(100).unwrap(),
            executor: ExecutorSettings { threads: NonZeroUsize::new(threads).unwrap(), memory_budget_bytes: 1 << 20 },
            configuration: serde_json::json!({"threads": threads}),
        }
    }

    pub fn open(&self, settings: DriverSettings) -> Result<Driver> {
        let seams = Seams { merging: self.merging, in_flight: self.in_flight, ..Seams::system() };
        Driver::open(self.job(), settings, self.checkpoint(), seams, Arc::new(Seen::default()))
    }

    pub fn run(&self, threads: usize) -> Result<Summary> {
        self.open(self.settings(threads))?.run(&Stop::new())
    }

    /// Runs so many batches.
    pub fn run_batches(&self, batches: u64) -> Result<Summary> {
        self.open(DriverSettings { max_batches: NonZeroU64::new(batches), ..self.settings(1) })?.run(&Stop::new())
    }

    /// Replays one batch into a place of its own.
    pub fn replay(&self, batch: BatchId) -> Result<()> {
        let (output, executor) = (self.location("replayed"), self.settings(1).executor);
        let settings = ReplaySettings { first: batch, last: batch, output, diff: false, executor };
        let sink = |_: &SinkId| Ok(Arc::new(TextSink { store: self.store("replayed") }) as Arc<dyn Sink>);
        Replay::open(self.job(), settings, &self.checkpoint(), Seams::system().nonces.as_ref(), sink)?.run(|_| Ok(()))
    }

    /// The published files of a sink, by name.
    pub fn published(&self, sink: &str) -> BTreeMap<String, String> {
        let store = self.store(sink);
        let objects = store.list(None).unwrap().into_iter().filter(|object| !object.location.as_ref().starts_with('_'));
        objects
            .map(|object| {
                let text = store.get(&object.location).unwrap().unwrap();
                (object.location.to_string(), String::from_utf8(text.to_vec()).unwrap())
            })
            .collect()
    }

    /// What a run that nothing disturbs publishes.
    pub fn truth(&self) -> BTreeMap<String, String> {
        let calm = World { storage: Storage::builder().start().unwrap(), root: "memory://truth".into(), ..self.clone() };
        calm.run(1).unwrap();
        calm.published("out")
    }
}
