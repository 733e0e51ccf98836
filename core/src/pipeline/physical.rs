//! From optimized logical plans to one physical plan.
//!
//! Columns are addressed by position from here on. Picking, reordering and renaming columns costs nothing: a translated node says at which
//! position of its node's output each logical column stands ([`Translated::columns`]), and only a sink, a union or a closure, which
//! need the columns as they are called, make a step of it. A projection over a filter becomes one step.

use super::closure::MapBatchesNode;
use super::config_error;
use crate::error::{Error, Result};
use crate::id::{OperatorId, SourceId};
use crate::plan::{Node, NodeId, NodeKind, Plan, PlannedSink, PlannedSource, Upstream};
use crate::sink::SinkSettings;
use crate::source::{Scan, SourceSettings};
use crate::transform::{FilterProject, Unnest};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DFSchemaRef};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::utils::{conjunction, disjunction};
use datafusion_expr::{Expr, LogicalPlan, TableScan};
use datafusion_physical_expr::expressions::{BinaryExpr, Column as PhysicalColumn};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The names of the sources that queries read.
pub(super) fn sources_of<'a>(queries: impl Iterator<Item = &'a LogicalPlan>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for query in queries {
        each_scan(query, &mut |scan| {
            names.insert(scan.table_name.table().to_owned());
        })?;
    }
    Ok(names)
}

fn each_scan(query: &LogicalPlan, visit: &mut dyn FnMut(&TableScan)) -> Result<()> {
    let walked = query.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            visit(scan);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map(|_| ()).map_err(config_error)
}

/// Plans all queries as one.
pub(super) fn plan(sources: Vec<(SourceSettings, SchemaRef, String)>, queries: &[(SinkSettings, LogicalPlan)]) -> Result<Plan> {
    let mut planner = Planner { sources: Vec::new(), nodes: Vec::new(), calls: Vec::new(), sink: String::new(), steps: 0 };
    for (index, (settings, schema, description)) in sources.into_iter().enumerate() {
        let scan = Arc::new(scan_of(&settings, &schema, queries)?);
        let id = OperatorId::from(format!("scan-{}", settings.id));
        let outputs = vec![scan.projected(&schema)?];
        planner.nodes.push(Node { id, kind: NodeKind::Scan(index), inputs: Vec::new(), outputs });
        planner.sources.push(PlannedSource { settings, schema, scan, description });
    }
    let mut sinks = Vec::new();
    let mut logical = String::new();
    for (settings, query) in queries {
        (planner.sink, planner.steps) = (settings.id.to_string(), 0);
        let schema = output_schema(query.schema());
        let translated = planner.translate(query).and_then(|translated| planner.in_full(translated, &schema));
        let input = translated.map_err(|error| error.within(format!("sink '{}'", settings.id)))?;
        logical.push_str(&format!("{}\n{}\n", settings.id, indented(&query.display_indent().to_string())));
        sinks.push(PlannedSink { settings: settings.clone(), input, schema });
    }
    Ok(Plan { sources: planner.sources, nodes: planner.nodes, sinks, logical })
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// What all queries together need of a source.
fn scan_of(settings: &SourceSettings, schema: &SchemaRef, queries: &[(SinkSettings, LogicalPlan)]) -> Result<Scan> {
    let mut columns = BTreeSet::new();
    let mut filters: Vec<Option<Expr>> = Vec::new();
    for (_, query) in queries {
        each_scan(query, &mut |scan| {
            if scan.table_name.table() == settings.id.as_str() {
                columns.extend(scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect()));
                filters.push(conjunction(scan.filters.iter().cloned().map(unqualified)));
            }
        })?;
    }
    let event_time = match &settings.event_time {
        Some(event_time) => Some(schema.index_of(&event_time.column).map_err(|cause| Error::config("event time").caused_by(cause))?),
        None => None,
    };
    columns.extend(event_time);
    // A row is of no use only if no consumer wants it: one without a condition wants all.
    let filters = match filters.as_slice() {
        [Some(only)] => datafusion_expr::utils::split_conjunction(only).into_iter().cloned().collect(),
        several => several.iter().cloned().collect::<Option<Vec<_>>>().and_then(disjunction).into_iter().collect(),
    };
    Ok(Scan { projection: columns.into_iter().collect(), filters, event_time })
}

/// The expression with columns by their plain names.
fn unqualified(expression: Expr) -> Expr {
    let plain = |part: Expr| {
        Ok(match part {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    };
    let original = expression.clone();
    expression.transform(plain).map_or(original, |transformed| transformed.data)
}

/// Whatever can be null somewhere can be null in the output: readers see one schema for all batches.
fn output_schema(schema: &DFSchemaRef) -> SchemaRef {
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true).with_metadata(Default::default());
    Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()))
}

/// A logical node's rows: where they come from, and at which position of that output each logical column stands.
struct Translated {
    upstream: Upstream,
    columns: Vec<usize>,
}

struct Planner {
    sources: Vec<PlannedSource>,
    nodes: Vec<Node>,
    /// The calls of functions so far: a stream that goes two ways behind a call goes through it once.
    calls: Vec<(MapBatchesNode, NodeId)>,
    /// The sink whose query is translated: it names the steps.
    sink: String,
    steps: usize,
}

impl Planner {
    fn translate(&mut self, plan: &LogicalPlan) -> Result<Translated> {
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
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<MapBatchesNode>() {
                Some(node) => self.map_batches(node),
                None => Err(Error::config(format!("'{}' can't be run on a stream", extension.node.name()))),
            },
            other => Err(Error::config(format!("'{}' can't be run on a stream by this version", other.display()))),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Translated> {
        let name = SourceId::from(scan.table_name.table());
        let index = self.sources.iter().position(|source| source.settings.id == name);
        let index = index.ok_or_else(|| Error::internal(format!("the plan reads '{name}', which is not among its sources")))?;
        let source = &self.sources[index];
        let wanted = scan.projection.clone().unwrap_or_else(|| (0..source.schema.fields().len()).collect());
        let position = |column: &usize| source.scan.projection.iter().position(|read| read == column);
        let columns = wanted.iter().map(position).collect::<Option<Vec<_>>>();
        let columns = columns.ok_or_else(|| Error::internal(format!("a column of '{name}' is not read")))?;
        Ok(Translated { upstream: NodeId(index).into(), columns })
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
        let predicate = predicate.map(physical).transpose()?;
        if let (None, Some(columns)) = (&predicate, plain_columns(&made)) {
            return Ok(Translated { upstream: from.upstream, columns });
        }
        let step = FilterProject::try_new(self.schema_of(from.upstream), predicate, made, output_schema(schema))?;
        let kind = if step.is_filter() { "filter" } else { "project" };
        Ok(self.step(kind, from.upstream, |id| NodeKind::Transform(Arc::new(step.named(id))), output_schema(schema)))
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchemaRef) -> Result<Translated> {
        let schema = output_schema(schema);
        let mut upstreams = Vec::new();
        for input in inputs {
            let translated = self.translate(input)?;
            upstreams.push(self.in_full(translated, &schema)?);
        }
        let id = self.next_id("union");
        let columns = (0..schema.fields().len()).collect();
        self.nodes.push(Node { id, kind: NodeKind::Union, inputs: upstreams, outputs: vec![schema] });
        Ok(Translated { upstream: NodeId(self.nodes.len() - 1).into(), columns })
    }

    fn unnest(&mut self, unnest: &datafusion_expr::Unnest) -> Result<Translated> {
        let from = self.translate(&unnest.input)?;
        let input = output_schema(unnest.input.schema());
        let upstream = self.in_full(from, &input)?;
        let schema = output_schema(&unnest.schema);
        let step = Unnest::try_new(unnest, Arc::clone(&schema))?;
        Ok(self.step("unnest", upstream, |id| NodeKind::Transform(Arc::new(step.named(id))), schema))
    }

    fn map_batches(&mut self, node: &MapBatchesNode) -> Result<Translated> {
        let columns = (0..node.output().fields().len()).collect();
        if let Some((_, made)) = self.calls.iter().find(|(call, _)| call.is_same_call(node)) {
            return Ok(Translated { upstream: (*made).into(), columns });
        }
        let from = self.translate(&node.input)?;
        let upstream = self.in_full(from, &output_schema(node.input.schema()))?;
        let id = OperatorId::from(&node.id);
        if self.nodes.iter().any(|other| other.id == id) {
            return Err(Error::config(format!("two operators are called '{id}'; give each its own id")));
        }
        let schema = node.output();
        let kind = NodeKind::Transform(Arc::new(node.transform()));
        self.nodes.push(Node { id, kind, inputs: vec![upstream], outputs: vec![schema] });
        self.calls.push((node.clone(), NodeId(self.nodes.len() - 1)));
        Ok(Translated { upstream: NodeId(self.nodes.len() - 1).into(), columns })
    }

    /// The rows with exactly these columns, by name and position.
    fn in_full(&mut self, from: Translated, schema: &SchemaRef) -> Result<Upstream> {
        let given = self.schema_of(from.upstream);
        if given == *schema && from.columns.iter().copied().eq(0..given.fields().len()) {
            return Ok(from.upstream);
        }
        let pick = |&column: &usize| Arc::new(PhysicalColumn::new(given.field(column).name(), column)) as Arc<dyn PhysicalExpr>;
        let columns = from.columns.iter().map(pick).collect();
        let step = FilterProject::try_new(Arc::clone(&given), None, columns, Arc::clone(schema))?;
        let made = self.step("columns", from.upstream, |id| NodeKind::Transform(Arc::new(step.named(id))), Arc::clone(schema));
        Ok(made.upstream)
    }

    fn step(&mut self, what: &str, input: Upstream, kind: impl FnOnce(&OperatorId) -> NodeKind, schema: SchemaRef) -> Translated {
        let id = self.next_id(what);
        let columns = (0..schema.fields().len()).collect();
        self.nodes.push(Node { kind: kind(&id), id, inputs: vec![input], outputs: vec![schema] });
        Translated { upstream: NodeId(self.nodes.len() - 1).into(), columns }
    }

    fn next_id(&mut self, what: &str) -> OperatorId {
        self.steps += 1;
        OperatorId::from(format!("{}-{what}-{}", self.sink, self.steps))
    }

    fn schema_of(&self, upstream: Upstream) -> SchemaRef {
        Arc::clone(&self.nodes[upstream.node.0].outputs[upstream.port.0])
    }
}

/// An expression over positions. Integer arithmetic that overflows is an error: a wrapped sum is a wrong answer that nobody notices.
fn physical(expression: &Expr, schema: &DFSchema, columns: &[usize]) -> Result<Arc<dyn PhysicalExpr>> {
    let made = create_physical_expr(expression, schema, &ExecutionProps::new(), &Default::default()).map_err(config_error)?;
    let adapted = |part: Arc<dyn PhysicalExpr>| {
        if let Some(column) = part.downcast_ref::<PhysicalColumn>() {
            let moved = PhysicalColumn::new(column.name(), columns[column.index()]);
            return Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>));
        }
        if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
            return Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>));
        }
        Ok(Transformed::no(part))
    };
    made.transform(adapted).map(|transformed| transformed.data).map_err(config_error)
}

/// The positions, if the expressions are columns and nothing else.
fn plain_columns(expressions: &[Arc<dyn PhysicalExpr>]) -> Option<Vec<usize>> {
    expressions.iter().map(|expression| expression.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index)).collect()
}
