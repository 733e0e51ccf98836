//! The executor against plans small enough to compute by hand: order, determinism over threads, failures, panics, state.

use super::*;
use crate::exec::ExecutorSettings;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use crossbeam::channel::{Receiver, Sender, bounded};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use futures::channel::oneshot;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use waterclock_core::id::{BatchId, SinkId, SourceId};
use waterclock_core::operator::{Combiner, Operator, OperatorFactory, Output, Port, Transform};
use waterclock_core::plan::{Node, PlannedSink, PlannedSource, TimeBound};
use waterclock_core::sink::{Lane, LaneWriter, Manifest, SinkMode, SinkSettings};
use waterclock_core::source::{
    CutLimits, Fetch, Morsel, Morsels, OnBadRow, Origin, Place, Position, Positions, Scan, Skipped, SourceSettings,
};
use waterclock_core::state::StateTable;
use waterclock_core::storage::Location;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
}

fn rows(values: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(values.to_vec())) as ArrayRef]).unwrap()
}

/// A split of numbers; a negative one is a bad row, and `i64::MIN` is a reader that panics.
struct Numbers {
    partition: PartitionId,
    values: Vec<i64>,
    work: usize,
}

impl Split for Numbers {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }
    fn held_bytes(&self) -> usize {
        self.values.len() * 8
    }
    fn work_bytes(&self) -> usize {
        self.work
    }
    fn fetch(self: Box<Self>) -> Result<Fetch> {
        let morsels: Box<dyn Morsels> = Box::new(NumbersLeft(self.values.chunks(3).map(<[i64]>::to_vec).collect()));
        let is_at_hand = self.values.len().is_multiple_of(2);
        Ok(if is_at_hand { Fetch::AtHand(morsels) } else { Fetch::Awaited(Box::pin(async { Ok(morsels) })) })
    }
}

struct NumbersLeft(std::collections::VecDeque<Vec<i64>>);

impl Morsels for NumbersLeft {
    fn next(&mut self) -> Result<Option<Morsel>> {
        let Some(values) = self.0.pop_front() else { return Ok(None) };
        assert!(!values.contains(&i64::MIN), "asked to panic");
        let (bad, good): (Vec<i64>, Vec<i64>) = values.iter().partition(|&&value| value < 0);
        let place = |value: &i64| Place { input: "numbers".into(), position: Position::Row(value.unsigned_abs()) };
        let bad = bad.iter().map(|value| BadRow { place: place(value), reason: "negative".into(), text: None }).collect();
        let origin = Origin { input: "numbers".into(), positions: Positions::Rows(1) };
        Ok(Some(Morsel { rows: rows(&good), latest: None, origin, bad, skipped: Skipped::default() }))
    }
}

/// A split whose steps wait for each other: each end of a channel is waited for or dropped.
struct Gated {
    numbers: Numbers,
    held: usize,
    at_fetch: Option<Sender<()>>,
    fetched_after: Option<oneshot::Receiver<()>>,
    at_fetched: Option<Sender<()>>,
    read_after: Option<Receiver<()>>,
    at_end: Option<oneshot::Sender<()>>,
}

impl Gated {
    fn new(values: &[i64], work: usize, held: usize) -> Self {
        let numbers = Numbers { partition: PartitionId::from("p"), values: values.to_vec(), work };
        Self { numbers, held, at_fetch: None, fetched_after: None, at_fetched: None, read_after: None, at_end: None }
    }
}

impl Split for Gated {
    fn partition(&self) -> &PartitionId {
        self.numbers.partition()
    }
    fn held_bytes(&self) -> usize {
        self.held
    }
    fn work_bytes(&self) -> usize {
        self.numbers.work_bytes()
    }
    fn fetch(self: Box<Self>) -> Result<Fetch> {
        let Self { numbers, at_fetch, fetched_after, at_fetched, read_after, at_end, .. } = *self;
        drop(at_fetch);
        let numbers = NumbersLeft([numbers.values].into());
        let morsels: Box<dyn Morsels> = Box::new(GatedMorsels { numbers, read_after, _at_end: at_end });
        let Some(fetched_after) = fetched_after else { return Ok(Fetch::AtHand(morsels)) };
        Ok(Fetch::Awaited(Box::pin(async {
            let _ = fetched_after.await;
            drop(at_fetched);
            Ok(morsels)
        })))
    }
}

struct GatedMorsels {
    numbers: NumbersLeft,
    read_after: Option<Receiver<()>>,
    _at_end: Option<oneshot::Sender<()>>,
}

impl Morsels for GatedMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        // Until the other end is dropped.
        let _ = self.read_after.take().map(|other| other.recv());
        self.numbers.next()
    }
}

/// Doubles; panics at 666.
#[derive(Debug)]
struct Double;

impl Transform for Double {
    fn schema(&self) -> SchemaRef {
        schema()
    }
    fn for_batch(self: Arc<Self>, _: &BatchContext) -> Result<Arc<dyn Transform>> {
        Ok(self)
    }
    fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let values = batch.column(0).as_primitive::<Int64Type>();
        assert!(!values.values().contains(&666), "the beast");
        Ok(rows(&values.values().iter().map(|value| value * 2).collect::<Vec<_>>()))
    }
    fn describe(&self) -> String {
        "double".into()
    }
}

/// Counts per key, emits the new count of each row's key at once, and keeps all in one table.
#[derive(Debug)]
struct Counts;

struct Counting(BTreeMap<i64, i64>, Vec<i64>);

impl OperatorFactory for Counts {
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        vec![vec![Arc::new(Column::new("v", 0))]]
    }
    fn outputs(&self) -> Vec<SchemaRef> {
        vec![schema()]
    }
    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Counting(BTreeMap::new(), Vec::new())))
    }
    fn fingerprint(&self) -> String {
        "counts".into()
    }
    fn describe(&self) -> String {
        "counts".into()
    }
}

impl Operator for Counting {
    fn process(&mut self, _: Port, batch: RecordBatch, output: &mut Output) -> Result<()> {
        let mut counts = Vec::new();
        for &key in batch.column(0).as_primitive::<Int64Type>().values() {
            let count = self.0.entry(key).or_default();
            *count += 1;
            counts.push(key * 1_000 + *count);
            self.1.push(key);
        }
        output.emit(Port(0), rows(&counts));
        Ok(())
    }
    fn advance(&mut self, _: Port, watermark: Watermark, _: &BatchContext, _: &mut Output) -> Result<Watermark> {
        Ok(watermark)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        self.0.values().max().map(|count| Timestamp(*count))
    }
    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let mut changed = std::mem::take(&mut self.1);
        changed.sort_unstable();
        changed.dedup();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let counts: Vec<i64> = changed.iter().map(|key| self.0[key]).collect();
        let columns = [("k", Arc::new(Int64Array::from(changed)) as ArrayRef), ("n", Arc::new(Int64Array::from(counts)) as ArrayRef)];
        let table = StateTable::new("counts", 1);
        Ok(vec![StateLayer::upserts(table, RecordBatch::try_from_iter(columns).unwrap())])
    }
    fn restore(&mut self, layers: &[StateLayer], _watermark: Watermark) -> Result<()> {
        for layer in layers {
            let (keys, counts) = (layer.rows.column(0).as_primitive::<Int64Type>(), layer.rows.column(1).as_primitive::<Int64Type>());
            self.0.extend(keys.values().iter().copied().zip(counts.values().iter().copied()));
        }
        Ok(())
    }
}

/// The sum of all values, and how many combined rows it was made of.
#[derive(Debug)]
struct Totals;

#[derive(Default)]
struct Total {
    sum: i64,
    combined: i64,
}

fn sum(batch: &RecordBatch) -> i64 {
    batch.column(0).as_primitive::<Int64Type>().values().iter().sum()
}

impl Combiner for Totals {
    fn keys(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        Vec::new()
    }
    fn combine(&self, batches: &[RecordBatch]) -> Option<RecordBatch> {
        Some(rows(&[batches.iter().map(sum).sum()]))
    }
}

impl OperatorFactory for Totals {
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        vec![Vec::new()]
    }
    fn combiner(&self, _: Port) -> Option<Arc<dyn Combiner>> {
        Some(Arc::new(Totals))
    }
    fn outputs(&self) -> Vec<SchemaRef> {
        vec![schema()]
    }
    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Total::default()))
    }
    fn fingerprint(&self) -> String {
        "totals".into()
    }
    fn describe(&self) -> String {
        "totals".into()
    }
}

impl Operator for Total {
    fn process(&mut self, _: Port, batch: RecordBatch, _: &mut Output) -> Result<()> {
        self.sum += sum(&batch);
        Ok(())
    }
    fn process_combined(&mut self, _: Port, batch: RecordBatch, _: &mut Output) -> Result<()> {
        self.sum += sum(&batch);
        self.combined += batch.num_rows() as i64;
        Ok(())
    }
    fn advance(&mut self, _: Port, watermark: Watermark, _: &BatchContext, output: &mut Output) -> Result<Watermark> {
        output.emit(Port(0), rows(&[self.sum, self.combined]));
        Ok(watermark)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        Ok(Vec::new())
    }
    fn restore(&mut self, _: &[StateLayer], _: Watermark) -> Result<()> {
        Ok(())
    }
}

/// Remembers rows per lane.
#[derive(Default)]
struct Memory(Arc<Mutex<BTreeMap<Lane, Vec<RecordBatch>>>>);

struct MemoryLane(Lane, Arc<Mutex<BTreeMap<Lane, Vec<RecordBatch>>>>, u64);

impl Staging for Memory {
    fn lane(&self, lane: Lane) -> Result<Box<dyn LaneWriter>> {
        Ok(Box::new(MemoryLane(lane, Arc::clone(&self.0), 0)))
    }
    fn finish(&self, _: Vec<LaneOutput>) -> Result<Manifest> {
        Ok(Manifest::default())
    }
}

impl LaneWriter for MemoryLane {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.2 += rows.num_rows() as u64;
        self.1.lock().unwrap().entry(self.0).or_default().push(rows.clone());
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<LaneOutput> {
        Ok(LaneOutput { rows: self.2, files: Vec::new() })
    }
}

impl Memory {
    fn content(&self) -> Vec<Vec<RecordBatch>> {
        self.0.lock().unwrap().values().cloned().collect()
    }
    fn values(&self) -> Vec<i64> {
        let value = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        self.content().iter().flatten().flat_map(value).collect()
    }
}

fn node(id: &str, kind: NodeKind, inputs: &[usize]) -> Node {
    Node {
        id: id.into(),
        kind,
        inputs: inputs.iter().map(|&input| NodeId(input).into()).collect(),
        bounds: inputs.iter().map(|_| TimeBound::default()).collect(),
        outputs: vec![schema()],
        event_times: Default::default(),
    }
}

/// `sources` scans, united, then these nodes in a row, into one sink.
fn plan(sources: usize, chain: Vec<NodeKind>) -> Arc<Plan> {
    let mut nodes: Vec<Node> = (0..sources).map(|source| node(&format!("scan-{source}"), NodeKind::Scan(source), &[])).collect();
    nodes.push(node("union", NodeKind::Union, &(0..sources).collect::<Vec<_>>()));
    for kind in chain {
        let last = nodes.len() - 1;
        nodes.push(node(&format!("step-{last}"), kind, &[last]));
    }
    let input = NodeId(nodes.len() - 1).into();
    let settings = |index: usize| SourceSettings {
        id: SourceId::from(format!("s{index}")),
        event_time: None,
        limits: CutLimits::default(),
        on_bad_row: OnBadRow::Fail,
    };
    let scan = Arc::new(Scan::all(&schema()));
    let source = |index| PlannedSource { settings: settings(index), schema: schema(), scan: Arc::clone(&scan), description: String::new() };
    let location = Location::parse("memory://out").unwrap();
    let sink = SinkSettings { id: SinkId::from("out"), mode: SinkMode::Append, location };
    Arc::new(Plan {
        sources: (0..sources).map(source).collect(),
        statics: Vec::new(),
        nodes,
        sinks: vec![PlannedSink { settings: sink, input, schema: schema() }],
        logical: String::new(),
    })
}

fn executor(plan: &Arc<Plan>, threads: usize, budget: usize) -> Executor {
    let settings = ExecutorSettings { threads: NonZeroUsize::new(threads).unwrap(), memory_budget_bytes: budget };
    Executor::new(Arc::clone(plan), Storage::builder().start().unwrap(), &settings).unwrap()
}

/// Splits of so much claimed work, and where their rows go.
fn batch_of(work: usize, sources: &[Vec<Vec<i64>>]) -> (Memory, BatchInput) {
    let split = |values: &Vec<i64>| Box::new(Numbers { partition: PartitionId::from("p"), values: values.clone(), work }) as Box<dyn Split>;
    batch_with(sources.iter().map(|splits| splits.iter().map(split).collect()).collect())
}

/// The splits of each source, and where their rows go.
fn batch_with(sources: Vec<Vec<Box<dyn Split>>>) -> (Memory, BatchInput) {
    let input = |splits| SourceInput { splits, idle: false, dead_letter: None };
    let memory = Memory::default();
    let context = BatchContext { batch: BatchId(7), trigger_time: Timestamp(0) };
    let staging: Arc<dyn Staging> = Arc::new(Memory(Arc::clone(&memory.0)));
    (memory, BatchInput { context, sources: sources.into_iter().map(input).collect(), sinks: vec![staging], end_of_stream: false })
}

fn times(sources: usize) -> Vec<SourceTime> {
    vec![SourceTime { watermark: Watermark::Unknown, latest: LatestTimes::new(), reached: None }; sources]
}

/// Splits of 16 MiB of claimed work, so that each is a lane of its own.
fn run(executor: &mut Executor, sources: &[Vec<Vec<i64>>]) -> (Memory, Result<BatchOutput, BatchFailure>) {
    run_of(16 << 20, executor, sources)
}

fn run_of(work: usize, executor: &mut Executor, sources: &[Vec<Vec<i64>>]) -> (Memory, Result<BatchOutput, BatchFailure>) {
    let (memory, input) = batch_of(work, sources);
    let begun = executor.begin(input).unwrap();
    (memory, executor.run(begun, times(sources.len()), || None).map(|(output, _)| output))
}

#[test]
fn rows_keep_the_order_of_sources_splits_and_rows() {
    let plan = plan(2, vec![NodeKind::Transform(Arc::new(Double))]);
    let (memory, output) = run(&mut executor(&plan, 3, 1 << 20), &[vec![vec![1, 2, 3, 4], vec![5]], vec![vec![6], vec![], vec![7, 8]]]);
    assert_eq!(memory.values(), [2, 4, 6, 8, 10, 12, 14, 16]);
    let output = output.unwrap();
    assert_eq!(output.sources.iter().map(|source| source.partitions[&PartitionId::from("p")].rows).collect::<Vec<_>>(), [5, 3]);
    assert_eq!(output.sinks[0].iter().map(|lane| lane.rows).sum::<u64>(), 8);
}

/// The next batch has fetched a split when a lane fails, and an earlier lane still needs that room.
#[test]
fn a_failure_lets_go_of_what_the_next_batch_has_fetched() {
    const MIB: usize = 1 << 20;
    for _ in 0..20 {
        let (begun_next, next_has_begun) = bounded(0);
        let (failed, has_failed) = oneshot::channel();
        let (fetched_next, next_is_fetched) = bounded(0);
        let lane = [
            Gated { read_after: Some(next_is_fetched), ..Gated::new(&[1], 3 * MIB, 8) },
            Gated::new(&[2], 3 * MIB, 8),
            Gated::new(&[3], 2 * MIB, 60),
        ];
        let failing = Gated { read_after: Some(next_has_begun), at_end: Some(failed), ..Gated::new(&[-4], 8 * MIB, 8) };
        let ahead = Gated {
            at_fetch: Some(begun_next),
            fetched_after: Some(has_failed),
            at_fetched: Some(fetched_next),
            ..Gated::new(&[5], 8 * MIB, 60)
        };
        let boxed = |split: Gated| Box::new(split) as Box<dyn Split>;
        let (_, input) = batch_with(vec![lane.into_iter().chain([failing]).map(boxed).collect()]);
        let (_, next) = batch_with(vec![vec![boxed(ahead)]]);
        let mut executor = executor(&plan(1, vec![]), 2, 200);
        let begun = executor.begin(input).unwrap();
        let mut next = Some(next);
        match executor.run(begun, times(1), || next.take()) {
            Err(BatchFailure::BadRow(_, bad)) => assert_eq!(bad.place.position, Position::Row(4)),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn the_first_bad_row_in_order_is_reported_at_any_number_of_threads() {
    let plan = plan(1, vec![]);
    let splits: Vec<Vec<i64>> = (0..40).map(|split| vec![1, 2, if split >= 5 { -split } else { 3 }, 4]).collect();
    for threads in [1, 2, 8] {
        let (_, output) = run(&mut executor(&plan, threads, 64), std::slice::from_ref(&splits));
        let Err(BatchFailure::BadRow(0, bad)) = output else { panic!("expected a bad row") };
        assert_eq!(bad.place.position, Position::Row(5));
    }
}

#[test]
fn a_panic_names_operator_and_batch() {
    let plan = plan(1, vec![NodeKind::Transform(Arc::new(Double))]);
    let (_, output) = run(&mut executor(&plan, 2, 64), &[vec![vec![1], vec![666], vec![2]]]);
    let Err(BatchFailure::Error(error)) = output else { panic!("expected an error") };
    let text = error.to_string();
    assert!(text.contains("'step-1'") && text.contains("batch 7") && text.contains("the beast"), "{text}");
}

/// Parts are handed on before all of a layer is verified, so that damage may come that far.
#[test]
fn a_panic_while_state_is_restored_is_an_error() {
    let plan = plan(1, vec![NodeKind::Operator(Arc::new(Counts))]);
    let columns: [(&str, ArrayRef); 2] = [("k", Arc::new(Int64Array::from(vec![1]))), ("n", Arc::new(StringArray::from(vec!["many"])))];
    let part = StateLayer::upserts(StateTable::new("counts", 1), RecordBatch::try_from_iter(columns).unwrap());
    let restored = executor(&plan, 2, 64).restore(&OperatorId::from("step-1"), Watermark::Unknown, |each| each(vec![part]));
    let text = restored.unwrap_err().to_string();
    assert!(text.contains("'step-1'") && text.contains("while it was restored"), "{text}");
}

#[test]
fn a_panic_in_a_reader_is_an_error() {
    let (_, output) = run(&mut executor(&plan(1, vec![]), 2, 64), &[vec![vec![1], vec![i64::MIN]]]);
    assert!(matches!(output, Err(BatchFailure::Error(error)) if error.to_string().contains("asked to panic")));
}

#[test]
fn what_each_task_emits_is_combined_by_itself_where_it_is_much() {
    let plan = plan(1, vec![NodeKind::Operator(Arc::new(Counts)), NodeKind::Operator(Arc::new(Totals))]);
    for (values, combined) in [(0, 0), (1_600, 1), (40_000, exchange::TASKS as i64)] {
        let sum = (0..values).map(|value| value * 1_000 + 1).sum();
        for threads in [1, 3] {
            let (memory, output) = run(&mut executor(&plan, threads, 1 << 20), &[vec![(0..values).collect()]]);
            output.unwrap();
            assert_eq!(memory.values(), [sum, combined], "{values} values, {threads} threads");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two batches, a restore in between on another number of threads, and the same values in the same order as one thread gives.
    #[test]
    fn state_and_order_do_not_depend_on_threads(
        first in prop::collection::vec(prop::collection::vec(0i64..20, 0..12), 0..8),
        second in prop::collection::vec(prop::collection::vec(0i64..20, 0..12), 1..8),
        threads in 2usize..6,
    ) {
        let plan = plan(1, vec![NodeKind::Transform(Arc::new(Double)), NodeKind::Operator(Arc::new(Counts)), NodeKind::Transform(Arc::new(Double))]);
        let mut alone = executor(&plan, 1, 64);
        let expected: Vec<_> = [&first, &second].map(|splits| run(&mut alone, std::slice::from_ref(splits)).0.content()).into();

        let mut before = executor(&plan, threads, 64);
        let (memory, output) = run(&mut before, std::slice::from_ref(&first));
        prop_assert_eq!(&memory.content(), &expected[0]);
        let id = OperatorId::from("step-2");
        let layers = output.unwrap().operators.remove(&id).unwrap().changes;
        let mut after = executor(&plan, threads + 1, 1 << 20);
        after.restore(&id, Watermark::Unknown, |each| layers.into_iter().try_for_each(|part| each(vec![part]))).unwrap();
        let (memory, output) = run(&mut after, &[second]);
        prop_assert_eq!(&memory.content(), &expected[1]);
        prop_assert_eq!(output.unwrap().next_timer, alone.next_timer());
    }

    /// Batches of little work, which one thread runs, give what they give as lanes, up to the first that fails. How rows are cut into lanes
    /// decides in which order an operator gets them, but not what it makes of them.
    #[test]
    fn one_thread_gives_what_lanes_give(
        batches in prop::collection::vec(prop::collection::vec(prop::collection::vec(-1i64..20, 0..12), 0..8), 1..5),
        has_operator: bool,
        threads in 1usize..4,
    ) {
        let mut chain = vec![NodeKind::Transform(Arc::new(Double))];
        chain.extend(has_operator.then(|| NodeKind::Operator(Arc::new(Counts))));
        let plan = plan(1, chain);
        let course = |work| {
            let mut executor = executor(&plan, threads, 64);
            let mut course = Vec::new();
            for splits in &batches {
                let (memory, output) = run_of(work, &mut executor, std::slice::from_ref(splits));
                let failed = output.is_err();
                let mut values = memory.values();
                if has_operator {
                    values.sort_unstable();
                }
                let output = output.map(|output| (values, output.next_timer, output.sources[0].partitions.clone()));
                course.push(output.map_err(|failure| match failure {
                    BatchFailure::BadRow(source, bad) => (source, bad.place.position),
                    BatchFailure::Error(error) => panic!("{error}"),
                }));
                if failed {
                    break;
                }
            }
            course
        };
        prop_assert_eq!(course(1), course(16 << 20));
    }

    /// Batches of which the next may begin while one runs give what they give one after the other, up to the first that fails.
    #[test]
    fn a_batch_ahead_changes_nothing(
        batches in prop::collection::vec(prop::collection::vec(prop::collection::vec(-1i64..20, 0..12), 0..8), 1..5),
        threads in 1usize..4,
        // A split in each lane, and several.
        work in prop::sample::select(vec![16 << 20, 400 << 10]),
    ) {
        let plan = plan(1, vec![NodeKind::Transform(Arc::new(Double)), NodeKind::Operator(Arc::new(Counts))]);
        let mut alone = executor(&plan, 1, 64);
        let mut expected = Vec::new();
        for splits in &batches {
            let (memory, output) = run_of(work, &mut alone, std::slice::from_ref(splits));
            expected.push(output.is_ok().then(|| memory.content()));
            if output.is_err() {
                break;
            }
        }
        let mut overlapping = executor(&plan, threads, 64);
        let mut waiting = batches.iter().map(|splits| batch_of(work, std::slice::from_ref(splits)));
        let mut memories = std::collections::VecDeque::new();
        let mut next = waiting.next().map(|(memory, input)| {
            memories.push_back(memory);
            overlapping.begin(input)
        });
        let mut got = Vec::new();
        // A small batch, such as one without rows, does not ask for the next.
        while let Some(begun) = next.take().or_else(|| {
            let (memory, input) = waiting.next().filter(|_| !got.contains(&None))?;
            memories.push_back(memory);
            Some(overlapping.begin(input))
        }) {
            let ran = overlapping.run(begun.unwrap(), times(1), || {
                let (memory, input) = waiting.next()?;
                memories.push_back(memory);
                Some(input)
            });
            let memory = memories.pop_front().unwrap();
            match ran {
                Ok((_, ahead)) => {
                    got.push(Some(memory.content()));
                    next = ahead;
                }
                Err(_) => got.push(None),
            }
        }
        prop_assert_eq!(got, expected);
    }
}
