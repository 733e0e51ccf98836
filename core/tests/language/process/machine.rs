//! An operator that is driven by hand: batches in, rows out, checkpoints taken, and restarts from them.

use crate::support::{NoRows, NoSink, lines, schema, timestamp};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::Result;
use waterclock_core::batch::BatchContext;
use waterclock_core::expressions::col;
use waterclock_core::id::BatchId;
use waterclock_core::job::Job;
use waterclock_core::operator::{Operator, OperatorFactory, Output, Port, Transform};
use waterclock_core::pipeline::{Pipeline, Stream};
use waterclock_core::plan::{Node, NodeKind};
use waterclock_core::process::{ProcessFunction, States};
use waterclock_core::state::{StateLayer, StateTable, decode_layer, encode_layer, merge};
use waterclock_core::time::{Timestamp, Watermark};

/// A row: a key, a time in microseconds, a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Row {
    pub k: i64,
    pub ts: i64,
    pub v: i64,
}

pub fn columns() -> SchemaRef {
    schema([("k", DataType::Int64), ("ts", timestamp()), ("v", DataType::Int64)])
}

pub fn batch(rows: &[Row]) -> RecordBatch {
    let columns_of: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.k))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.v))),
    ];
    RecordBatch::try_new(columns(), columns_of).unwrap()
}

/// A pipeline with the stream of these rows, with event time or without.
pub fn source(event_time: bool) -> (Pipeline, Stream) {
    let mut pipeline = Pipeline::new();
    let stream = pipeline.source("t", Box::new(NoRows(columns()))).unwrap();
    let stream = if event_time { stream.watermark("ts", Duration::ZERO).unwrap() } else { stream };
    (pipeline, stream)
}

pub fn built(mut pipeline: Pipeline, stream: Stream) -> Result<Job> {
    pipeline.sink("out", Arc::new(NoSink), stream)?;
    pipeline.build()
}

/// The operators with a memory of a job.
pub fn factories(job: &Job) -> Vec<Arc<dyn OperatorFactory>> {
    let factory = |node: &Node| match &node.kind {
        NodeKind::Operator(factory) => Some(Arc::clone(factory)),
        _ => None,
    };
    job.plan.nodes.iter().filter_map(factory).collect()
}

/// An operator, and the steps before it.
#[derive(Clone)]
pub struct Planned {
    steps: Vec<Arc<dyn Transform>>,
    factory: Arc<dyn OperatorFactory>,
}

impl Planned {
    /// The function keyed by `k`, over rows with event time.
    pub fn of<F: ProcessFunction>(make: impl FnOnce(&mut States) -> F) -> Self
    where
        F::Output: DeserializeOwned,
    {
        let (pipeline, stream) = source(true);
        Self::new(&built(pipeline, stream.key_by([col("k")]).process("f", make).unwrap()).unwrap())
    }

    /// The only operator of a job.
    pub fn new(job: &Job) -> Self {
        let step = |node: &Node| match &node.kind {
            NodeKind::Transform(step) => Some(Arc::clone(step)),
            _ => None,
        };
        let before = job.plan.nodes.iter().take_while(|node| !matches!(node.kind, NodeKind::Operator(_)));
        Self { steps: before.filter_map(step).collect(), factory: factories(job).pop().unwrap() }
    }

    pub fn start(&self) -> Machine {
        let operator = self.factory.create().unwrap();
        Machine { planned: self.clone(), operator, layers: BTreeMap::new(), batches: 0, watermark: Watermark::Unknown, late_rows: 0 }
    }
}

/// One instance that owns all keys, with what it has checkpointed.
pub struct Machine {
    planned: Planned,
    operator: Box<dyn Operator>,
    layers: BTreeMap<StateTable, Vec<StateLayer>>,
    batches: u64,
    watermark: Watermark,
    pub late_rows: u64,
}

impl Machine {
    /// As [`Planned::of`], started.
    pub fn of<F: ProcessFunction>(make: impl FnOnce(&mut States) -> F) -> Self
    where
        F::Output: DeserializeOwned,
    {
        Planned::of(make).start()
    }

    /// As [`Planned::new`], started.
    pub fn new(job: &Job) -> Self {
        Planned::new(job).start()
    }

    /// A batch at a time of the clock; the watermark behind it. Rows out, as lines of JSON.
    pub fn try_run(&mut self, rows: &[Row], trigger_time: i64, watermark: Watermark) -> Result<Vec<String>> {
        let context = BatchContext { batch: BatchId(self.batches), trigger_time: Timestamp(trigger_time) };
        self.batches += 1;
        let mut output = Output::default();
        self.operator.begin(&context);
        if !rows.is_empty() {
            let apply = |rows, step: &Arc<dyn Transform>| Arc::clone(step).for_batch(&context)?.apply(rows);
            let rows = self.planned.steps.iter().try_fold(batch(rows), apply)?;
            self.operator.process(Port(0), rows, &mut output)?;
        }
        self.watermark = self.operator.advance(Port(0), watermark, &context, &mut output)?;
        for change in self.operator.checkpoint()? {
            // As it is written and read.
            let layer = decode_layer(encode_layer(&change).unwrap()).unwrap();
            self.layers.entry(layer.table.clone()).or_default().push(layer);
        }
        self.late_rows += output.late_rows();
        Ok(output.take().iter().flat_map(|(_, rows)| lines(rows)).collect())
    }

    pub fn run(&mut self, rows: &[Row], trigger_time: i64, watermark: Watermark) -> Vec<String> {
        self.try_run(rows, trigger_time, watermark).unwrap()
    }

    /// What is stored, without what has expired.
    pub fn state(&self) -> Vec<StateLayer> {
        let whole = |layers: &Vec<StateLayer>| merge(layers, true, self.watermark).unwrap();
        self.layers.values().map(whole).filter(|layer| layer.rows.num_rows() > 0).collect()
    }

    /// How many rows each checkpoint held of a table.
    pub fn stored_rows(&self, table: &str) -> Vec<usize> {
        let layers = self.layers.iter().filter(|(stored, _)| stored.name == table).flat_map(|(_, layers)| layers);
        layers.map(|layer| layer.rows.num_rows()).collect()
    }

    /// Another instance that takes up what is stored.
    pub fn restart(&mut self) {
        self.operator = self.planned.factory.create().unwrap();
        self.operator.restore(&self.state(), self.watermark).unwrap();
    }

    pub fn next_timer(&self) -> Option<i64> {
        self.operator.next_timer().map(|time| time.0)
    }
}
