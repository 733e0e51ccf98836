//! The job around the [counter](crate::counter): bids from JSON files, counted per auction, into JSON files. Planned by hand, as SQL has no
//! operator with a memory yet.

use crate::counter::CounterFactory;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use waterclock::command::JobContext;
use waterclock_connectors::connectors;
use waterclock_core::Result;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::OperatorId;
use waterclock_core::job::Job;
use waterclock_core::options::Options;
use waterclock_core::plan::{Node, NodeId, NodeKind, Plan, PlannedSink, PlannedSource, TimeBound, Upstream};
use waterclock_core::sink::{SinkMode, SinkSettings};
use waterclock_core::source::{CutLimits, EventTime, OnBadRow, Scan, SourceSettings};
use waterclock_core::storage::Location;

/// The program's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The job's directory
    root: PathBuf,

    /// Whether keys become idle
    #[arg(long)]
    idle: bool,
}

/// Reads `<root>/in/`, writes `<root>/out/`, a file per batch.
pub fn counter_job(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let root = Location::from_path(&arguments.root)?;
    let context = ConnectorContext { storage: context.storage().clone() };
    let connectors = connectors();
    let columns =
        vec![Field::new("auction", DataType::Int64, true), Field::new("date_time", DataType::Timestamp(TimeUnit::Microsecond, None), true)];
    let input = table("bid", Arc::new(Schema::new(columns)), root.join("in")?, true);
    let output = table("counts", CounterFactory::output(), root.join("out")?, false);
    let settings = SourceSettings {
        id: "bid".into(),
        event_time: Some(EventTime { column: "date_time".into(), delay: Duration::ZERO, idle_timeout: None }),
        limits: CutLimits { max_files: Some(1), ..CutLimits::default() },
        on_bad_row: OnBadRow::Fail,
    };
    let source = connectors.of(&input.location)?.source(&input, &settings, &mut Options::new("bid", []), &context)?;
    let sink = connectors.of(&output.location)?.sink(&output, &mut Options::new("counts", []), &context)?;
    let plan = plan(&input, settings, &output, arguments.idle);
    Ok(Job { plan: Arc::new(plan), sources: vec![source], statics: Vec::new(), sinks: vec![sink], dead_letters: vec![None] })
}

fn table(name: &str, columns: SchemaRef, location: Location, unbounded: bool) -> TableDefinition {
    TableDefinition { name: name.into(), columns: Some(columns), format: "json".into(), location, unbounded }
}

fn plan(input: &TableDefinition, settings: SourceSettings, output: &TableDefinition, idle: bool) -> Plan {
    let schema = input.columns.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
    let counts = CounterFactory::output();
    let node = |name: &str, kind, inputs: Vec<Upstream>, schema: &SchemaRef| Node {
        id: OperatorId::from(name),
        kind,
        bounds: inputs.iter().map(|_| TimeBound::default()).collect(),
        inputs,
        outputs: vec![Arc::clone(schema)],
        event_times: Default::default(),
    };
    let counter = NodeKind::Operator(Arc::new(CounterFactory { idle }));
    Plan {
        sources: vec![PlannedSource {
            settings,
            scan: Arc::new(Scan { event_time: Some(1), ..Scan::all(&schema) }),
            description: input.location.to_string(),
            schema: Arc::clone(&schema),
        }],
        statics: Vec::new(),
        nodes: vec![node("bid", NodeKind::Scan(0), vec![], &schema), node("counter", counter, vec![NodeId(0).into()], &counts)],
        sinks: vec![PlannedSink {
            settings: SinkSettings { id: "counts".into(), mode: SinkMode::Append, location: output.location.clone() },
            input: NodeId(1).into(),
            schema: counts,
        }],
        logical: "Counter: bids per auction".into(),
    }
}
