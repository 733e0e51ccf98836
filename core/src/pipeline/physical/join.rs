//! Joins with static rows as steps of a stream. The static side is planned as a stream of its own, over static tables in the place of
//! sources, and becomes a query that is computed once.

use super::super::join::Sides;
use super::super::statics;
use super::super::times::Times;
use super::{Planner, StreamKind, Translated, output_schema, physical};
use crate::error::{Error, Result};
use crate::plan::{Node, NodeKind, PlannedSource, PlannedStatic, StaticRows, TimeBound};
use crate::sink::SinkMode;
use crate::source::SourceSettings;
use crate::transform::{StaticJoin, StaticJoinSpec, StaticQuery, StaticStep, StaticStepKind};
use arrow::datatypes::SchemaRef;
use datafusion_common::{Column, NullEquality};
use datafusion_expr::{Expr, Join, LogicalPlan};
use datafusion_physical_expr::PhysicalExpr;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A static table with what the queries need of it.
pub(super) fn planned(settings: SourceSettings, schema: SchemaRef, scan: crate::source::Scan, description: String) -> PlannedStatic {
    PlannedStatic { id: settings.id, schema, scan: Arc::new(scan), description, rows: Arc::new(StaticRows::default()) }
}

/// What is said of a static table that is read like a stream.
pub(super) fn not_joined(table: &str) -> Error {
    Error::config(format!(
        "the table '{table}' is not UNBOUNDED, so it is static, and can only be joined with a stream; write CREATE UNBOUNDED EXTERNAL TABLE \
         to read it as a stream"
    ))
}

impl Planner {
    pub(super) fn join(&mut self, join: &Join) -> Result<Translated> {
        let sides = Sides::of(join)?;
        let (stream, table) = sides.split(&join.left, &join.right);
        let from = self.translate(stream)?;
        let (times, kind) = of_rows(join, &sides, stream, &from)?;
        let (query, table_columns) = self.static_side(table)?;
        let keys = join.on.iter().map(|(left, right)| {
            let (of_stream, of_table) = sides.split(left, right);
            Ok((physical(of_stream, stream.schema(), &from.columns)?, physical(of_table, table.schema(), &table_columns)?))
        });
        let keys = keys.collect::<Result<Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>>>()?;
        // Where the columns of the join stand when the static columns are put behind the stream's.
        let input = self.schema_of(from.upstream);
        let behind: Vec<usize> = table_columns.iter().map(|column| input.fields().len() + column).collect();
        let columns = if sides.stream_is_left { [from.columns, behind].concat() } else { [behind, from.columns].concat() };
        let condition = join.filter.as_ref().map(|filter| physical(filter, &join.schema, &columns)).transpose()?;
        let schema = output_schema(&join.schema);
        let spec = StaticJoinSpec {
            stream: input,
            query,
            keeps_stream: sides.keeps_stream,
            keys,
            nulls_equal: join.null_equality == NullEquality::NullEqualsNull,
            condition,
            columns,
            schema: Arc::clone(&schema),
        };
        let id = self.next_id("join");
        let step = NodeKind::Transform(Arc::new(StaticJoin::try_new(id.clone(), spec)?));
        Ok(Translated { times, kind, ..self.push(id, step, vec![(from.upstream, TimeBound::default())], schema) })
    }

    /// A plan over static tables, and at which position each of its columns stands.
    fn static_side(&mut self, plan: &LogicalPlan) -> Result<(StaticQuery, Vec<usize>)> {
        let mut names = BTreeSet::new();
        looked_through(plan, &mut names)?;
        let tables: Vec<&PlannedStatic> = self.statics.iter().filter(|table| names.contains(table.id.as_str())).collect();
        let mut planner = Planner::new(Arc::clone(&self.statics));
        (planner.sink, planner.mode, planner.steps) = (self.sink.clone(), SinkMode::Complete, self.steps);
        for table in &tables {
            let (settings, schema, scan) = (statics::settings(table.id.clone()), Arc::clone(&table.schema), Arc::clone(&table.scan));
            planner.add_source("static", PlannedSource { settings, schema, scan, description: table.description.clone() })?;
        }
        let translated = planner.translate(plan)?;
        // Whatever stands behind the output is not read for it.
        planner.nodes.truncate(translated.upstream.node.0 + 1);
        let steps = planner.nodes.into_iter().map(|node| step(node, &tables)).collect::<Result<_>>()?;
        self.steps = planner.steps;
        Ok((StaticQuery::try_new(steps)?, translated.columns))
    }
}

/// What the joined rows say of time, and what they mean. Static rows stay as they are, so a key of the stream's goes on to be one if the
/// rows that it meets depend on it alone.
fn of_rows(join: &Join, sides: &Sides, stream: &LogicalPlan, from: &Translated) -> Result<(Times, StreamKind)> {
    let others = join.schema.fields().len() - from.times.len();
    let none = vec![None; others];
    let times = if sides.stream_is_left { [from.times.clone(), none].concat() } else { [none, from.times.clone()].concat() };
    let StreamKind::Upsert(keys) = &from.kind else { return Ok((times, from.kind.clone())) };
    let conditions = join.on.iter().map(|(left, right)| sides.split(left, right).0).chain(&join.filter);
    let changes = |column: &&Column| stream.schema().index_of_column(column).is_ok_and(|index| !keys[index]);
    if let Some(column) = conditions.flat_map(Expr::column_refs).find(changes) {
        return Err(Error::config(format!(
            "the join is on '{}', which changes: rows that were joined before would have to be deleted, and the mode 'update' writes new rows \
             only; use the mode 'complete', or join where the rows are read",
            column.name
        )));
    }
    let of_static = vec![true; others];
    let keys = if sides.stream_is_left { [keys.clone(), of_static].concat() } else { [of_static, keys.clone()].concat() };
    Ok((times, StreamKind::Upsert(keys)))
}

/// The static tables whose rows go through a plan; those that are looked up on their way belong to the joins.
fn looked_through(plan: &LogicalPlan, names: &mut BTreeSet<String>) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            names.insert(scan.table_name.table().to_owned());
            Ok(())
        }
        LogicalPlan::Join(join) => looked_through(Sides::of(join)?.split(&join.left, &join.right).0, names),
        other => other.inputs().into_iter().try_for_each(|input| looked_through(input, names)),
    }
}

fn step(node: Node, tables: &[&PlannedStatic]) -> Result<StaticStep> {
    let inputs: Vec<usize> = node.inputs.iter().map(|input| input.node.0).collect();
    let wrong = || Error::internal(format!("the step '{}' can't be computed from static tables", node.id));
    let kind = match (node.kind, inputs.as_slice()) {
        (NodeKind::Scan(index), []) => {
            let table = tables.get(index).ok_or_else(wrong)?;
            StaticStepKind::Table(table.id.clone(), Arc::clone(&table.rows))
        }
        (NodeKind::Transform(transform), &[input]) => StaticStepKind::Transform(transform, input),
        (NodeKind::Union, _) => StaticStepKind::Union(inputs),
        (NodeKind::Operator(operator), _) => {
            return Err(Error::config(format!(
                "an operator with a memory between a static table and its join is not supported by this version ({}); write its result into \
                 the table's files",
                operator.describe()
            )));
        }
        _ => return Err(wrong()),
    };
    let schema = node.outputs.first().map(Arc::clone).ok_or_else(wrong)?;
    Ok(StaticStep { id: node.id, kind, schema })
}
