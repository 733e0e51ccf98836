//! From optimized logical plans to one physical plan.
//!
//! Columns are addressed by position from here on. Picking, reordering and renaming columns costs nothing: a translated node says at which
//! position of its node's output each logical column stands ([`Translated::columns`]), and only a sink, a union or a closure, which
//! need the columns as they are called, make a step of it. A projection over a filter becomes one step.

mod expression;
mod guard;
mod join;
mod scan;
mod translated;
mod union;

pub(super) use expression::physical;
pub(super) use scan::sources_of;
pub(super) use translated::{StreamKind, Translated, rows_of};

use self::expression::plain_columns;
use self::scan::scan_of;
use self::translated::check_filter_of_upserts;
use super::aggregate::AggregateNode;
use super::closure::MapBatchesNode;
use super::process::ProcessNode;
use super::statics;
use super::times::{self, Times};
use crate::aggregate::Aggregate;
use crate::error::{Error, Result};
use crate::id::{OperatorId, SourceId};
use crate::plan::{Node, NodeId, NodeKind, Plan, PlannedSink, PlannedSource, PlannedStatic, TimeBound, Upstream};
use crate::sink::{SinkMode, SinkSettings};
use crate::source::SourceSettings;
use crate::transform::{FilterProject, Unnest};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::{Column, DFSchemaRef};
use datafusion_expr::{Expr, LogicalPlan, TableScan};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Plans all queries as one.
pub(super) fn plan(
    sources: Vec<(SourceSettings, SchemaRef, String)>,
    statics: Vec<(SourceId, SchemaRef, String)>,
    queries: &[(SinkSettings, LogicalPlan)],
) -> Result<Plan> {
    let statics = statics.into_iter().map(|(id, schema, description)| {
        let settings = statics::settings(id);
        let scan = scan_of(&settings, &schema, queries)?;
        Ok(join::planned(settings, schema, scan, description))
    });
    let statics = statics.collect::<Result<Arc<[PlannedStatic]>>>()?;
    let mut planner = Planner::new(statics);
    for (settings, schema, description) in sources {
        let scan = Arc::new(scan_of(&settings, &schema, queries)?);
        planner.add_source("scan", PlannedSource { settings, schema, scan, description })?;
    }
    let mut sinks = Vec::new();
    let mut logical = String::new();
    for (settings, query) in queries {
        (planner.sink, planner.mode, planner.steps, planner.groups) = (settings.id.to_string(), settings.mode, 0, 0);
        let schema = output_schema(query.schema());
        let translated = planner.translate_for_sink(query).and_then(|translated| planner.in_full(translated, &schema));
        let input = translated.map_err(|error| error.within(format!("sink '{}'", settings.id)))?;
        logical.push_str(&format!("{}\n{}\n", settings.id, indented(&query.display_indent().to_string())));
        sinks.push(PlannedSink { settings: settings.clone(), input, schema });
    }
    Ok(Plan { sources: planner.sources, statics: planner.statics.to_vec(), nodes: planner.nodes, sinks, logical })
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Whatever can be null somewhere can be null in the output: readers see one schema for all batches.
pub(super) fn output_schema(schema: &DFSchemaRef) -> SchemaRef {
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true).with_metadata(Default::default());
    Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()))
}

/// Translates logical plans, one after the other, into the nodes of one physical plan.
pub(super) struct Planner {
    sources: Vec<PlannedSource>,
    statics: Arc<[PlannedStatic]>,
    pub(super) nodes: Vec<Node>,
    /// The calls of functions so far: a stream that goes two ways behind a call goes through it once.
    pub(super) calls: Vec<(MapBatchesNode, NodeId)>,
    /// The same of functions with state.
    pub(super) processes: Vec<(ProcessNode, NodeId)>,
    /// The sink whose query is translated: it names the steps.
    pub(super) sink: String,
    /// What comes out of the next grouping on the way down from the sink.
    pub(super) mode: SinkMode,
    steps: usize,
    /// Groupings of this sink so far: they are named apart from the steps without a memory, so that these can change.
    pub(super) groups: usize,
    /// Groupings that emit rows which changed, up to the first step behind them.
    pub(super) upserts: BTreeMap<NodeId, Aggregate>,
}

impl Planner {
    fn new(statics: Arc<[PlannedStatic]>) -> Self {
        Self {
            sources: Vec::new(),
            statics,
            nodes: Vec::new(),
            calls: Vec::new(),
            processes: Vec::new(),
            sink: String::new(),
            mode: SinkMode::Append,
            steps: 0,
            groups: 0,
            upserts: BTreeMap::new(),
        }
    }

    fn translate_for_sink(&mut self, plan: &LogicalPlan) -> Result<Translated> {
        let translated = self.translate(plan)?;
        if self.mode == SinkMode::Complete && translated.kind != StreamKind::Complete {
            return Err(Error::config(
                "the mode 'complete' gives the whole result with every batch, and this query has no end to its result; use the mode 'append'",
            ));
        }
        if self.mode == SinkMode::Update {
            super::update::check_keys(plan)?;
        }
        Ok(translated)
    }

    pub(super) fn translate(&mut self, plan: &LogicalPlan) -> Result<Translated> {
        let translated = self.translate_node(plan)?;
        self.note_event_times(&translated, translated.upstream, &translated.columns);
        Ok(translated)
    }

    /// Translates the input of an operator with state, which takes final rows: the sink's mode is for the operator nearest to the sink.
    pub(super) fn translate_final(&mut self, plan: &LogicalPlan) -> Result<Translated> {
        let mode = std::mem::replace(&mut self.mode, SinkMode::Append);
        let translated = self.translate(plan);
        self.mode = mode;
        translated
    }

    /// Says of a node which of its columns, in the order of the translated ones, keep an event time.
    fn note_event_times(&mut self, translated: &Translated, node: Upstream, columns: &[usize]) {
        let bounded = |time: &Option<times::TimeColumn>| time.as_ref().is_some_and(|time| time.bound().is_some());
        let kept = columns.iter().zip(&translated.times).filter(|(_, time)| bounded(time)).map(|(column, _)| *column);
        self.nodes[node.node.0].event_times.extend(kept);
    }

    fn translate_node(&mut self, plan: &LogicalPlan) -> Result<Translated> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.translate(&alias.input),
            LogicalPlan::Projection(projection) => self.project(&projection.expr, &projection.input, plan.schema()),
            LogicalPlan::Filter(filter) => {
                let columns = filter.input.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
                self.project(&columns, &Arc::new(plan.clone()), plan.schema())
            }
            LogicalPlan::Union(union) => self.union(&union.inputs, &union.schema),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Extension(extension) => {
                if let Some(node) = MapBatchesNode::of(extension) {
                    return self.map_batches(node);
                }
                if let Some(node) = AggregateNode::of(extension) {
                    return self.group(node);
                }
                if let Some(node) = ProcessNode::of(extension) {
                    return self.process(node);
                }
                Err(Error::config(format!("'{}' can't be run on a stream", extension.node.name())))
            }
            other => Err(Error::config(format!("'{}' can't be run on a stream by this version", other.display()))),
        }
    }

    /// Begins with the rows of a source. All sources come before all other nodes.
    fn add_source(&mut self, step: &str, source: PlannedSource) -> Result<()> {
        let id = OperatorId::from(format!("{step}-{}", source.settings.id));
        self.push(id, NodeKind::Scan(self.sources.len()), Vec::new(), source.scan.projected(&source.schema)?);
        self.sources.push(source);
        Ok(())
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Translated> {
        let name = SourceId::from(scan.table_name.table());
        let index = self.sources.iter().position(|source| source.settings.id == name);
        let index = index.ok_or_else(|| join::not_joined(name.as_str()))?;
        let source = &self.sources[index];
        let wanted = scan.projection.clone().unwrap_or_else(|| (0..source.schema.fields().len()).collect());
        let position = |column: &usize| source.scan.projection.iter().position(|read| read == column);
        let columns = wanted.iter().map(position).collect::<Option<Vec<_>>>();
        let columns = columns.ok_or_else(|| Error::internal(format!("a column of '{name}' is not read")))?;
        let event_time = source.scan.event_time.and_then(|column| wanted.iter().position(|wanted| *wanted == column));
        let times = times::of_scan(wanted.len(), event_time);
        Ok(Translated { upstream: NodeId(index).into(), columns, times, kind: StreamKind::AppendOnly })
    }

    /// A projection, with the filter below it if there is one.
    fn project(&mut self, expressions: &[Expr], input: &Arc<LogicalPlan>, schema: &DFSchemaRef) -> Result<Translated> {
        let (below, predicate) = match input.as_ref() {
            LogicalPlan::Filter(filter) => (&filter.input, Some(&filter.predicate)),
            _ => (input, None),
        };
        let from = self.translate(below)?;
        let physical = |expression: &Expr| physical(expression, below.schema(), &from.columns);
        let made = expressions.iter().map(physical).collect::<Result<Vec<_>>>()?;
        let index = |column: &Column| below.schema().index_of_column(column).ok();
        let time_of = |column: &Column| index(column).and_then(|index| from.times[index].clone());
        let times = expressions.iter().map(|expression| times::derive(expression, &time_of)).collect::<Result<Times>>()?;
        let kind = match &from.kind {
            StreamKind::Upsert(keys) => {
                let is_key = |column: &Column| index(column).is_some_and(|index| keys[index]);
                if let Some(predicate) = predicate {
                    check_filter_of_upserts(predicate, &is_key)?;
                }
                let key = |expression: &Expr| matches!(expression.clone().unalias_nested().data, Expr::Column(column) if is_key(&column));
                StreamKind::Upsert(expressions.iter().map(key).collect())
            }
            other => other.clone(),
        };
        let predicate = predicate.map(physical).transpose()?;
        self.note_reads(from.upstream.node, &made);
        if let (None, Some(columns)) = (&predicate, plain_columns(&made)) {
            return Ok(Translated { upstream: from.upstream, columns, times, kind });
        }
        let step = FilterProject::try_new(self.schema_of(from.upstream), predicate, made, output_schema(schema))?;
        let name = if step.is_filter() { "filter" } else { "project" };
        let made = self.step(name, from.upstream, |id| NodeKind::Transform(Arc::new(step.named(id))), output_schema(schema));
        Ok(Translated { times, kind, ..made })
    }

    /// Tells a grouping that emits changed rows what is read of them: a condition is on keys, which never change.
    fn note_reads(&mut self, node: NodeId, read: &[Arc<dyn PhysicalExpr>]) {
        if let Some(grouping) = self.upserts.remove(&node) {
            self.nodes[node.0].kind = NodeKind::Operator(Arc::new(grouping.reading(read)));
        }
    }

    fn unnest(&mut self, unnest: &datafusion_expr::Unnest) -> Result<Translated> {
        let from = self.translate(&unnest.input)?;
        let taken_apart: BTreeSet<usize> =
            unnest.list_type_columns.iter().map(|(column, _)| *column).chain(unnest.struct_type_columns.iter().copied()).collect();
        let of = |column: &usize| if taken_apart.contains(column) { None } else { from.times.get(*column).cloned().flatten() };
        let times = unnest.dependency_indices.iter().map(of).collect();
        let kind = from.kind.without_key(unnest.schema.fields().len());
        let input = output_schema(unnest.input.schema());
        let upstream = self.in_full(from, &input)?;
        let schema = output_schema(&unnest.schema);
        let step = Unnest::try_new(unnest, Arc::clone(&schema))?;
        let made = self.step("unnest", upstream, |id| NodeKind::Transform(Arc::new(step.named(id))), schema);
        Ok(Translated { times, kind, ..made })
    }

    fn map_batches(&mut self, node: &MapBatchesNode) -> Result<Translated> {
        let width = node.output().fields().len();
        if let Some((_, made)) = self.calls.iter().find(|(call, _)| call.is_same_call(node)) {
            return Ok(rows_of(*made, width));
        }
        let from = self.translate(&node.input)?;
        let kind = from.kind.without_key(width);
        let upstream = self.in_full(from, &output_schema(node.input.schema()))?;
        let id = OperatorId::from(node.id());
        self.check_id(&id)?;
        let made = self.push(id, NodeKind::Transform(Arc::new(node.transform())), vec![(upstream, TimeBound::default())], node.output());
        if kind == StreamKind::AppendOnly {
            self.calls.push((node.clone(), made.upstream.node));
        }
        Ok(Translated { kind, ..made })
    }

    pub(super) fn check_id(&self, id: &OperatorId) -> Result<()> {
        if self.nodes.iter().any(|other| &other.id == id) {
            return Err(Error::config(format!("two operators are called '{id}'; give each its own id")));
        }
        Ok(())
    }

    /// The rows with exactly these columns, by name and position.
    pub(super) fn in_full(&mut self, from: Translated, schema: &SchemaRef) -> Result<Upstream> {
        let given = self.schema_of(from.upstream);
        if given == *schema && from.columns.iter().copied().eq(0..given.fields().len()) {
            return Ok(from.upstream);
        }
        let pick = |&column: &usize| Arc::new(PhysicalColumn::new(given.field(column).name(), column)) as Arc<dyn PhysicalExpr>;
        let columns = from.columns.iter().map(pick).collect();
        let step = FilterProject::try_new(Arc::clone(&given), None, columns, Arc::clone(schema))?;
        let made = self.step("columns", from.upstream, |id| NodeKind::Transform(Arc::new(step.named(id))), Arc::clone(schema));
        self.note_event_times(&from, made.upstream, &made.columns);
        Ok(made.upstream)
    }

    fn step(&mut self, what: &str, input: Upstream, kind: impl FnOnce(&OperatorId) -> NodeKind, schema: SchemaRef) -> Translated {
        let id = self.next_id(what);
        let kind = kind(&id);
        self.push(id, kind, vec![(input, TimeBound::default())], schema)
    }

    /// Adds a node. Each input comes with the bound of the event time that the node goes by.
    pub(super) fn push(&mut self, id: OperatorId, kind: NodeKind, inputs: Vec<(Upstream, TimeBound)>, schema: SchemaRef) -> Translated {
        let (inputs, bounds) = inputs.into_iter().unzip();
        let width = schema.fields().len();
        self.nodes.push(Node { id, kind, inputs, bounds, outputs: vec![schema], event_times: BTreeSet::new() });
        rows_of(NodeId(self.nodes.len() - 1), width)
    }

    fn next_id(&mut self, what: &str) -> OperatorId {
        self.steps += 1;
        OperatorId::from(format!("{}-{what}-{}", self.sink, self.steps))
    }

    pub(super) fn schema_of(&self, upstream: Upstream) -> SchemaRef {
        Arc::clone(&self.nodes[upstream.node.0].outputs[upstream.port.0])
    }
}
