//! A connector without input and output, and a run of a plan on rows in memory.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use waterclock_core::batch::BatchContext;
use waterclock_core::connector::{Connector, ConnectorContext, Connectors, TableDefinition};
use waterclock_core::error::{Error, ErrorKind, Result};
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::job::Job;
use waterclock_core::memory::MemoryBudget;
use waterclock_core::operator::Port;
use waterclock_core::options::Options;
use waterclock_core::pipeline::Pipeline;
use waterclock_core::plan::{NodeId, NodeKind, Plan, Upstream};
use waterclock_core::sink::{Attempt, Manifest, Sink, SinkContext, SinkMode, Staging};
use waterclock_core::source::{Cut, CutLimits, PartitionCut, Scan, Source, SourceCapabilities, SourceSettings, Split};
use waterclock_core::sql::{SqlContext, plan_sql};
use waterclock_core::state::StateLayer;
use waterclock_core::storage::Storage;
use waterclock_core::time::Timestamp;

/// 2024-02-29T12:34:56.789012, the time of every batch.
pub const TRIGGER_TIME: Timestamp = Timestamp(1_709_210_096_789_012);

/// A source that knows its columns, and is never read: rows are given to [`run`].
#[derive(Debug)]
pub struct NoRows(pub SchemaRef);

impl Source for NoRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { replayable: true, has_end: true }
    }

    fn restore(&mut self, _layers: &[StateLayer], _last: &[PartitionCut]) -> Result<()> {
        Ok(())
    }

    fn fix_end(&mut self) -> Result<()> {
        Ok(())
    }

    fn cut(&mut self, _limits: &CutLimits) -> Result<Cut> {
        Ok(Cut::empty())
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        Ok(Vec::new())
    }

    fn splits(&self, _cut: &Cut, _scan: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>> {
        Ok(Vec::new())
    }

    fn unspool(&mut self, _cut: &Cut, _bytes: Bytes) -> Result<()> {
        Ok(())
    }
}

/// A sink that takes every mode, and is never written.
#[derive(Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn modes(&self) -> &[SinkMode] {
        &[SinkMode::Append, SinkMode::Update, SinkMode::Complete, SinkMode::Changelog]
    }

    fn open(&self, _context: SinkContext) -> Result<()> {
        Ok(())
    }

    fn stage(&self, _batch: &BatchContext, _attempt: &Attempt, _budget: &MemoryBudget) -> Result<Arc<dyn Staging>> {
        Err(Error::internal("a plan is run here without its sinks"))
    }

    fn publish(&self, _batch: BatchId, _manifest: &Manifest) -> Result<()> {
        Ok(())
    }

    fn collect(&self, _current: Epoch) -> Result<()> {
        Ok(())
    }
}

/// Tables at `test://...` and at `memory://...`, of the format `json`. Without declared columns, a source has `a BIGINT`.
struct TestConnector;

impl TestConnector {
    fn check(table: &TableDefinition, options: &mut Options) -> Result<()> {
        options.take("own_option");
        options.take_store_options();
        if table.format != "json" {
            return Err(Error::config(format!("table '{}': the format '{}' is unknown; there is: json", table.name, table.format)));
        }
        Ok(())
    }
}

impl Connector for TestConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["test", "memory"]
    }

    fn source(
        &self,
        table: &TableDefinition,
        _settings: &SourceSettings,
        options: &mut Options,
        _context: &ConnectorContext,
    ) -> Result<Box<dyn Source>> {
        Self::check(table, options)?;
        let inferred = || Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        Ok(Box::new(NoRows(table.columns.clone().unwrap_or_else(inferred))))
    }

    fn sink(&self, table: &TableDefinition, options: &mut Options, _context: &ConnectorContext) -> Result<Arc<dyn Sink>> {
        Self::check(table, options)?;
        Ok(Arc::new(NoSink))
    }
}

/// What SQL is planned against here.
pub fn context() -> SqlContext {
    static STORAGE: OnceLock<Storage> = OnceLock::new();
    let storage = STORAGE.get_or_init(|| Storage::builder().start().unwrap()).clone();
    SqlContext {
        connectors: Connectors::default().with(TestConnector),
        connector_context: ConnectorContext { storage },
        known_schemas: BTreeMap::new(),
    }
}

/// The tables of most tests: a column of each kind.
pub const TABLES: &str = "
CREATE UNBOUNDED EXTERNAL TABLE t (
    a BIGINT, b BIGINT, s VARCHAR, f DOUBLE, d DECIMAL(10, 2), flag BOOLEAN, ts TIMESTAMP,
    list BIGINT[], words VARCHAR[], nested BIGINT[][], st STRUCT<x BIGINT, y VARCHAR>, items STRUCT<k BIGINT, v VARCHAR>[],
    \"Mixed Case\" BIGINT
) STORED AS JSON LOCATION 'test://t' OPTIONS ('event_time' 'ts');
CREATE UNBOUNDED EXTERNAL TABLE u (a BIGINT, b BIGINT) STORED AS JSON LOCATION 'test://u';
CREATE EXTERNAL TABLE out STORED AS JSON LOCATION 'test://out';
CREATE EXTERNAL TABLE other STORED AS JSON LOCATION 'test://other';
";

/// A job of these statements over [`TABLES`].
pub fn job(statements: &str) -> Result<Job> {
    plan_sql(&format!("{TABLES}{statements}"), &context())
}

/// The error of these statements over [`TABLES`]. It is a Config error, as all errors of planning are.
pub fn error(statements: &str) -> String {
    error_of(&format!("{TABLES}{statements}"))
}

/// The error of a file.
pub fn error_of(text: &str) -> String {
    let error = plan_sql(text, &context()).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

/// Asserts that a message has all these parts.
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is missing in: {message}");
    }
}

/// The output of a plan's sinks, by name.
pub type Outputs = BTreeMap<String, RecordBatch>;

/// Runs a plan on the rows of its sources, by name. A source without rows is empty.
pub fn run(plan: &Plan, inputs: &BTreeMap<&str, RecordBatch>) -> Result<Outputs> {
    let batch = BatchContext { batch: BatchId(0), trigger_time: TRIGGER_TIME };
    let mut outputs: BTreeMap<Upstream, RecordBatch> = BTreeMap::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let schema = &node.outputs[0];
        let mut given = node.inputs.iter().map(|input| outputs[input].clone());
        let rows = match &node.kind {
            NodeKind::Scan(source) => {
                let source = &plan.sources[*source];
                match inputs.get(source.settings.id.as_str()) {
                    Some(rows) => rows.project(&source.scan.projection).unwrap(),
                    None => RecordBatch::new_empty(Arc::clone(schema)),
                }
            }
            NodeKind::Transform(transform) => Arc::clone(transform).for_batch(&batch)?.apply(given.next().unwrap())?,
            NodeKind::Union => concat_batches(schema, &given.collect::<Vec<_>>()).unwrap(),
            NodeKind::Operator(_) => panic!("there are no operators with a memory yet"),
        };
        assert_eq!(rows.schema(), *schema, "the output of {} is not what the plan says", node.id);
        outputs.insert(Upstream { node: NodeId(index), port: Port(0) }, rows);
    }
    let output = |sink: &waterclock_core::plan::PlannedSink| {
        let rows = outputs[&sink.input].clone();
        assert_eq!(rows.schema(), sink.schema, "the input of {} is not what the plan says", sink.settings.id);
        (sink.settings.id.to_string(), rows)
    };
    Ok(plan.sinks.iter().map(output).collect())
}

/// Rows of these columns, from lines of JSON.
pub fn rows(schema: &SchemaRef, lines: &str) -> RecordBatch {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).build_decoder().unwrap();
    let read = decoder.decode(lines.as_bytes()).unwrap();
    assert_eq!(read, lines.len(), "more rows than a decoder takes");
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema)))
}

/// Rows as lines of JSON, nulls left out.
pub fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

/// The rows that a SELECT over [`TABLES`] gives for lines of JSON in `t`.
pub fn try_select(query: &str, lines_of_t: &str) -> Result<RecordBatch> {
    let job = job(&format!("INSERT INTO out {query}"))?;
    let inputs = job.plan.sources.iter().filter(|source| source.settings.id.as_str() == "t");
    let inputs = inputs.map(|source| ("t", rows(&source.schema, lines_of_t))).collect();
    Ok(run(&job.plan, &inputs)?.remove("out").unwrap())
}

/// The same, as lines of JSON.
pub fn select(query: &str, lines_of_t: &str) -> Vec<String> {
    lines(&try_select(query, lines_of_t).unwrap_or_else(|error| panic!("{query}: {error}")))
}

/// The error while rows are computed: it is about the data.
pub fn failure(query: &str, lines_of_t: &str) -> String {
    let error = try_select(query, lines_of_t).expect_err(query);
    assert_eq!(error.kind(), ErrorKind::BadData, "{error}");
    error.to_string()
}

/// A pipeline with a source `t` of these columns.
pub fn pipeline(schema: &SchemaRef) -> Pipeline {
    let mut pipeline = Pipeline::new();
    pipeline.source("t", Box::new(NoRows(Arc::clone(schema)))).unwrap();
    pipeline
}

/// A TIMESTAMP.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Columns that can be null.
pub fn schema<const N: usize>(columns: [(&str, DataType); N]) -> SchemaRef {
    Arc::new(Schema::new(columns.map(|(name, kind)| Field::new(name, kind, true)).to_vec()))
}
