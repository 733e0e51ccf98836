//! A plan with operators that have a memory, run batch by batch on rows in memory, and stopped and taken up between batches.

use crate::support::{TRIGGER_TIME, job, lines};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::Result;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::BatchId;
use waterclock_core::operator::{Operator, OperatorFactory, Output, Port};
use waterclock_core::plan::{NodeKind, Plan};
use waterclock_core::state::{StateLayer, StateTable, decode_layer, encode_layer, merge};
use waterclock_core::time::{Timestamp, Watermark};

/// An operator, and what it has checkpointed.
struct Stateful {
    operator: Box<dyn Operator>,
    layers: BTreeMap<StateTable, Vec<StateLayer>>,
    watermark: Watermark,
    late_rows: u64,
    checkpoints: u64,
}

/// How rows are handed to an operator.
#[derive(Debug, Clone, Copy)]
pub struct Pieces {
    /// How many at a time.
    pub rows: usize,
    /// Whether they are combined where they can be.
    pub combined: bool,
    /// Whether combined ones that follow each other are handed over as one.
    pub gathered: bool,
}

/// One task per operator.
pub struct Running {
    plan: Arc<Plan>,
    operators: BTreeMap<usize, Stateful>,
    batch: u64,
    /// How the input of an operator is handed over.
    pieces: Pieces,
    /// How many pieces were combined.
    pub combined: u64,
}

fn create(plan: &Plan, node: usize) -> Result<Box<dyn Operator>> {
    let NodeKind::Operator(factory) = &plan.nodes[node].kind else { panic!("{} has no memory", plan.nodes[node].id) };
    factory.create()
}

impl Running {
    /// The plan of these statements over the tables of most tests.
    pub fn new(statements: &str) -> Self {
        Self::of(job(statements).unwrap_or_else(|error| panic!("{statements}: {error}")).plan)
    }

    /// A plan.
    pub fn of(plan: Arc<Plan>) -> Self {
        let stateful = |node: &usize| matches!(plan.nodes[*node].kind, NodeKind::Operator(_));
        let new = |node: usize| {
            let operator = create(&plan, node).unwrap();
            (node, Stateful { operator, layers: BTreeMap::new(), watermark: Watermark::Unknown, late_rows: 0, checkpoints: 0 })
        };
        let operators = (0..plan.nodes.len()).filter(stateful).map(new).collect();
        Self { plan, operators, batch: 0, pieces: Pieces { rows: usize::MAX, combined: false, gathered: false }, combined: 0 }
    }

    /// The same with rows handed over in pieces.
    pub fn in_pieces(self, pieces: Pieces) -> Self {
        Self { pieces, ..self }
    }

    /// The columns of the first source.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.sources[0].schema)
    }

    /// What the state of each operator means.
    pub fn fingerprints(&self) -> Vec<String> {
        self.plan.fingerprints().into_values().collect()
    }

    /// Which rows come to each operator.
    pub fn inputs(&self) -> Vec<String> {
        self.plan.inputs().into_values().collect()
    }

    /// Drops all operators, and makes those of other statements from what was checkpointed.
    pub fn restart_as(&mut self, statements: &str) -> Result<()> {
        let other = Self::new(statements);
        let layers = std::mem::take(&mut self.operators).into_values();
        let renewed = other.operators.into_iter().zip(layers);
        self.operators = renewed.map(|((node, new), old)| (node, Stateful { operator: new.operator, ..old })).collect();
        self.plan = other.plan;
        self.restart()
    }

    /// Drops all operators, and makes others from what was checkpointed.
    pub fn restart(&mut self) -> Result<()> {
        for (node, stateful) in &mut self.operators {
            stateful.operator = create(&self.plan, *node)?;
            stateful.operator.restore(&[], stateful.watermark)?;
            for table in stateful.tables()? {
                let rows = table.rows.num_rows();
                for (start, end) in [(0, rows / 2), (rows / 2, rows)] {
                    let part = StateLayer {
                        table: table.table.clone(),
                        rows: table.rows.slice(start, end - start),
                        removed: table.removed.slice(start, end - start),
                    };
                    stateful.operator.restore(&[part], stateful.watermark)?;
                }
            }
        }
        Ok(())
    }

    /// The rows that each operator remembers, as lines of JSON, in their order.
    pub fn state(&self) -> Result<Vec<String>> {
        let mut tables = Vec::new();
        for stateful in self.operators.values() {
            tables.extend(stateful.tables()?.iter().flat_map(|table| lines(&table.rows)));
        }
        Ok(tables)
    }

    /// How many rows each operator remembers, without what has expired by its watermark.
    pub fn remembered(&self) -> Result<Vec<usize>> {
        let rows = |stateful: &Stateful| Ok(stateful.tables()?.iter().map(|table| table.rows.num_rows()).sum());
        self.operators.values().map(rows).collect()
    }

    /// When the first of the operators wants a batch without rows.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.operators.values().filter_map(|stateful| stateful.operator.next_timer()).min()
    }

    pub fn late_rows(&self) -> u64 {
        self.operators.values().map(|stateful| stateful.late_rows).sum()
    }

    /// A batch of rows of the first source, after which its watermark is this; what the first sink gets of it.
    pub fn batch(&mut self, rows: &RecordBatch, watermark: Watermark) -> Result<Vec<String>> {
        self.batch_at(TRIGGER_TIME, rows, watermark)
    }

    /// The same, triggered at a time.
    pub fn batch_at(&mut self, trigger_time: Timestamp, rows: &RecordBatch, watermark: Watermark) -> Result<Vec<String>> {
        let batch = BatchContext { batch: BatchId(self.batch), trigger_time };
        self.batch += 1;
        let plan = Arc::clone(&self.plan);
        let mut made: Vec<(RecordBatch, Watermark)> = Vec::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            let inputs: Vec<&(RecordBatch, Watermark)> = node.inputs.iter().map(|input| &made[input.node.0]).collect();
            let output = match &node.kind {
                NodeKind::Scan(source) => (rows.project(&plan.sources[*source].scan.projection).unwrap(), watermark),
                NodeKind::Transform(transform) => {
                    (Arc::clone(transform).for_batch(&batch)?.apply(inputs[0].0.clone())?, node.bounds[0].apply(inputs[0].1)?)
                }
                NodeKind::Union => panic!("no union here"),
                NodeKind::Operator(factory) => {
                    let (given, reached) = (&inputs[0].0, node.bounds[0].apply(inputs[0].1)?);
                    let stateful = self.operators.get_mut(&index).unwrap();
                    let pieces = self.pieces.of(given, factory.as_ref());
                    self.combined += pieces.iter().filter(|(_, is_combined)| *is_combined).count() as u64;
                    let emitted = stateful.run(pieces, reached, &batch)?;
                    (concat_batches(&node.outputs[0], &emitted).unwrap(), stateful.watermark)
                }
            };
            made.push(output);
        }
        Ok(lines(&made[plan.sinks[0].input.node.0].0))
    }
}

impl Pieces {
    /// The pieces of rows, with whether they are combined.
    fn of(self, rows: &RecordBatch, factory: &dyn OperatorFactory) -> Vec<(RecordBatch, bool)> {
        let combiner = factory.combiner(Port(0)).filter(|_| self.combined);
        let piece = |start: usize| {
            let piece = rows.slice(start, self.rows.min(rows.num_rows() - start));
            let halves = [piece.slice(0, piece.num_rows() / 2), piece.slice(piece.num_rows() / 2, piece.num_rows().div_ceil(2))];
            let combined = combiner.as_ref().and_then(|combiner| combiner.combine(&halves));
            combined.map_or((piece, false), |combined| (combined, true))
        };
        let mut pieces: Vec<(RecordBatch, bool)> = Vec::new();
        for (rows, is_combined) in (0..rows.num_rows()).step_by(self.rows).map(piece) {
            match pieces.last_mut() {
                Some((before, true)) if is_combined && self.gathered => {
                    *before = concat_batches(&rows.schema(), [&*before, &rows]).unwrap()
                }
                _ => pieces.push((rows, is_combined)),
            }
        }
        pieces
    }
}

impl Stateful {
    fn tables(&self) -> Result<Vec<StateLayer>> {
        self.layers.values().map(|layers| merge(layers, true, self.watermark)).collect()
    }

    /// What a checkpoint stores: every other time the tables as a whole, if the operator can.
    fn stored(&mut self) -> Result<Vec<StateLayer>> {
        self.checkpoints += 1;
        let count = |layers: &[StateLayer]| layers.iter().map(|layer| layer.rows.num_rows()).sum::<usize>();
        let Some(rows) = self.operator.table_rows() else { return self.operator.checkpoint() };
        if self.checkpoints.is_multiple_of(2) {
            self.layers.clear();
            let whole = self.operator.snapshot()?;
            assert_eq!(count(&whole), rows.held);
            Ok(whole)
        } else {
            let changes = self.operator.checkpoint()?;
            assert!(count(&changes) <= rows.changed);
            Ok(changes)
        }
    }

    /// Rows come with whether they are combined.
    fn run(&mut self, pieces: Vec<(RecordBatch, bool)>, watermark: Watermark, batch: &BatchContext) -> Result<Vec<RecordBatch>> {
        let mut output = Output::default();
        self.operator.begin(batch);
        for (rows, is_combined) in pieces.into_iter().filter(|(rows, _)| rows.num_rows() > 0) {
            if is_combined {
                self.operator.process_combined(Port(0), rows, &mut output)?;
            } else {
                self.operator.process(Port(0), rows, &mut output)?;
            }
        }
        self.watermark = self.watermark.max(self.operator.advance(Port(0), watermark, batch, &mut output)?);
        self.late_rows += output.late_rows();
        for layer in self.stored()? {
            // As it is written and read.
            let layer = decode_layer(encode_layer(&layer)?)?;
            self.layers.entry(layer.table.clone()).or_default().push(layer);
        }
        Ok(output.take().into_iter().map(|(_, rows)| rows).collect())
    }
}
