//! INSERT INTO: the query planned alone, then fitted to the sink's columns.

use super::SqlContext;
use super::not_null::not_null;
use super::statements::{Insert, Script};
use super::tables::{declared_columns, definition};
use crate::error::{Error, Result};
use crate::id::SinkId;
use crate::pipeline::{Pipeline, config_error};
use crate::sink::{SinkMode, SinkSettings};
use arrow::datatypes::SchemaRef;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

/// Adds the table that an INSERT writes, and what it writes there.
pub(super) fn add_sink(insert: &Insert, script: &Script, context: &SqlContext, pipeline: &mut Pipeline) -> Result<()> {
    let here = |error: Error| error.within(format!("INSERT INTO {}", insert.table));
    let table = script.table(&insert.table)?;
    let mut options = table.options();
    let mode = options.take_with("mode", str::parse::<SinkMode>)?.unwrap_or_default();
    let declared = declared_columns(table)?;
    let definition = definition(table, declared.clone());
    let sink = context.connectors.of(&table.location)?.sink(&definition, &mut options, &context.connector_context).map_err(here)?;
    options.finish()?;
    let query = pipeline.plan_query(insert.query.clone()).map_err(here)?;
    let query = fit(query, &insert.columns, declared.as_ref()).map_err(here)?;
    let settings = SinkSettings { id: SinkId::from(&insert.table), mode, location: table.location.clone() };
    pipeline.add_sink(settings, sink, query).map_err(here)
}

/// The query's columns, in the sink's order, under its names and types.
fn fit(query: LogicalPlan, named: &[String], declared: Option<&SchemaRef>) -> Result<LogicalPlan> {
    if let Some((_, name)) = named.iter().enumerate().find(|(index, name)| named[..*index].contains(name)) {
        return Err(Error::config(format!("the column '{name}' is named twice; leave one out")));
    }
    let columns = query.schema().columns();
    let Some(declared) = declared else {
        return if named.is_empty() { Ok(query) } else { rename(query, named) };
    };
    let names: Vec<&String> =
        if named.is_empty() { declared.fields().iter().map(|field| field.name()).collect() } else { named.iter().collect() };
    if columns.len() != names.len() {
        return Err(miscounted(columns.len(), &names));
    }
    if let Some(unknown) = names.iter().find(|name| declared.field_with_name(name).is_err()) {
        let known: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::config(format!("the table has no column '{unknown}'; it has: {}", known.join(", "))));
    }
    let mut written = Vec::new();
    for field in declared.fields() {
        let position = names.iter().position(|name| *name == field.name());
        let Some(position) = position else {
            if !field.is_nullable() {
                return Err(Error::config(format!("the column '{}' is NOT NULL, and nothing is given for it", field.name())));
            }
            let null = datafusion_common::ScalarValue::try_from(field.data_type()).map_err(config_error)?;
            written.push(Expr::Literal(null, None).alias(field.name()));
            continue;
        };
        let given = query.schema().field(position);
        if !arrow::compute::can_cast_types(given.data_type(), field.data_type()) {
            return Err(Error::config(format!(
                "the column '{}' is {}, and the SELECT gives {} for it; CAST it",
                field.name(),
                field.data_type(),
                given.data_type()
            )));
        }
        let value = cast(Expr::Column(columns[position].clone()), field.data_type().clone());
        let value = if field.is_nullable() { value } else { not_null(value, field.name()) };
        written.push(value.alias(field.name()));
    }
    LogicalPlanBuilder::from(query).project(written).and_then(LogicalPlanBuilder::build).map_err(config_error)
}

fn miscounted(selected: usize, written: &[&String]) -> Error {
    let names: Vec<&str> = written.iter().map(|name| name.as_str()).collect();
    Error::config(format!(
        "the SELECT gives {selected} columns, and {} are written: {}; make them the same, column by column",
        names.len(),
        names.join(", ")
    ))
}

fn rename(query: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let columns = query.schema().columns();
    if columns.len() != names.len() {
        return Err(miscounted(columns.len(), &names.iter().collect::<Vec<_>>()));
    }
    let written = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    LogicalPlanBuilder::from(query).project(written).and_then(LogicalPlanBuilder::build).map_err(config_error)
}
