//! Tables that are read, as sources: their options, columns and event time, handed to the connector of their location. And whether all
//! places of a job are apart.

use super::SqlContext;
use super::language::Language;
use super::statements::{Script, Table};
use crate::connector::TableDefinition;
use crate::error::{Error, Result};
use crate::id::{SinkId, SourceId};
use crate::options::Options;
use crate::pipeline::{Pipeline, config_error, static_settings};
use crate::sink::Sink;
use crate::source::{CutLimits, EventTime, OnBadRow, SourceSettings};
use crate::storage::{Location, StoreOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_sql::planner::SqlToRel;
use std::sync::Arc;
use std::time::Duration;

/// Adds all tables that queries read.
pub(super) fn add_sources(script: &Script, context: &SqlContext, pipeline: &mut Pipeline) -> Result<()> {
    let sources = script.sources();
    for name in &sources {
        let table = script.table(name)?;
        let add = if table.unbounded { add_source } else { add_static };
        add(table, context, pipeline).map_err(|error| in_table(name, error))?;
    }
    Ok(())
}

/// Puts the table's name before a message that does not have it yet.
fn in_table(name: &str, error: Error) -> Error {
    let named = format!("table '{name}'");
    if error.message().contains(&named) { error } else { error.within(named) }
}

fn add_source(table: &Table, context: &SqlContext, pipeline: &mut Pipeline) -> Result<()> {
    let id = SourceId::from(&table.name);
    let mut options = table.options();
    let settings = source_settings(id.clone(), &mut options)?;
    let columns = declared_columns(table)?.or_else(|| context.known_schemas.get(&id).cloned());
    let definition = definition(table, columns);
    let connector = context.connectors.of(&table.location)?;
    let source = connector.source(&definition, &settings, &mut options, &context.connector_context)?;
    options.finish()?;
    check_names(&source.schema())?;
    if let Some(event_time) = &settings.event_time {
        event_time.check(&source.schema())?;
    }
    let dead_letter = match &settings.on_bad_row {
        OnBadRow::Fail => None,
        OnBadRow::DeadLetter(location) => Some(dead_letter_sink(table, location, context)?),
    };
    pipeline.add_source(settings, source, dead_letter, table.location.to_string())
}

/// A table that is read whole when the job starts. What is said of a stream's batches and times is an unknown option here.
fn add_static(table: &Table, context: &SqlContext, pipeline: &mut Pipeline) -> Result<()> {
    let settings = static_settings(SourceId::from(&table.name));
    let mut options = table.options();
    let definition = definition(table, declared_columns(table)?);
    let connector = context.connectors.of(&table.location)?;
    let source = connector.source(&definition, &settings, &mut options, &context.connector_context)?;
    options.finish()?;
    check_names(&source.schema())?;
    pipeline.add_static(settings.id, source, table.location.to_string())
}

/// What the connector gets to see.
pub(super) fn definition(table: &Table, columns: Option<SchemaRef>) -> TableDefinition {
    TableDefinition {
        name: table.name.clone(),
        columns,
        format: table.format.clone(),
        location: table.location.clone(),
        unbounded: table.unbounded,
    }
}

/// The declared columns, if there are any.
pub(super) fn declared_columns(table: &Table) -> Result<Option<SchemaRef>> {
    if table.columns.is_empty() {
        return Ok(None);
    }
    let language = Language::new();
    let planner = SqlToRel::new_with_options(&language, Language::parser_options());
    let schema = planner.build_schema(table.columns.clone()).map_err(config_error);
    let schema = schema.and_then(|schema| check_names(&schema).map(|()| schema));
    schema.map(|schema| Some(Arc::new(schema))).map_err(|error| in_table(&table.name, error))
}

fn check_names(schema: &Schema) -> Result<()> {
    for (index, field) in schema.fields().iter().enumerate() {
        if field.name() == "_op" {
            return Err(Error::config("the column name '_op' is reserved for changes"));
        }
        if schema.fields()[..index].iter().any(|earlier| earlier.name() == field.name()) {
            return Err(Error::config(format!("the column '{}' is declared twice", field.name())));
        }
    }
    Ok(())
}

fn source_settings(id: SourceId, options: &mut Options) -> Result<SourceSettings> {
    let column = options.take("event_time");
    let delay = options.take_duration("watermark_delay")?;
    let idle_timeout = options.take_duration("idle_timeout")?;
    if column.is_none() && (delay.is_some() || idle_timeout.is_some()) {
        return Err(Error::config("'watermark_delay' and 'idle_timeout' need 'event_time', the column that they are about"));
    }
    let event_time = column.map(|column| EventTime { column, delay: delay.unwrap_or(Duration::ZERO), idle_timeout });
    let limits = CutLimits {
        max_files: options.take_count("max_files_per_batch")?,
        max_bytes: options.take_count("max_bytes_per_batch")?,
        max_rows: options.take_count("max_rows_per_batch")?,
    };
    Ok(SourceSettings { id, event_time, limits, on_bad_row: on_bad_row(options)? })
}

fn on_bad_row(options: &mut Options) -> Result<OnBadRow> {
    let place = options.take_with("dead_letter", Location::parse)?;
    match (options.take("on_bad_row").as_deref(), place) {
        (None | Some("fail"), None) => Ok(OnBadRow::Fail),
        (Some("dead_letter"), Some(place)) => Ok(OnBadRow::DeadLetter(place)),
        (Some("dead_letter"), None) => Err(Error::config("'on_bad_row' is 'dead_letter', so 'dead_letter' must say where bad rows go")),
        (None | Some("fail"), Some(_)) => Err(Error::config("'dead_letter' is given, so 'on_bad_row' must be 'dead_letter'")),
        (Some(other), _) => Err(Error::config(format!("'on_bad_row' is '{other}'; it is fail or dead_letter"))),
    }
}

/// A place for bad rows is a sink of JSON files, reached with the table's own credentials.
fn dead_letter_sink(table: &Table, location: &Location, context: &SqlContext) -> Result<Arc<dyn Sink>> {
    if !location.is_store() {
        return Err(Error::config(format!("'dead_letter' is {location}; it must be a directory or a place in an object store")));
    }
    let name = dead_letter_name(&table.name);
    let definition =
        TableDefinition { name: name.clone(), columns: None, format: "json".into(), location: location.clone(), unbounded: false };
    let mut options = Options::new(&name, table.store_options());
    context.connectors.of(location)?.sink(&definition, &mut options, &context.connector_context)
}

fn dead_letter_name(table: &str) -> String {
    format!("{table}.dead_letter")
}

/// No place that is written may be, hold or lie within another place of the job.
pub(super) fn check_places(script: &Script) -> Result<()> {
    let mut read: Vec<(&str, Location)> = Vec::new();
    let mut written: Vec<(SinkId, Location)> = Vec::new();
    for name in script.sources() {
        let table = script.table(name)?;
        read.push((name, table.location.clone()));
        if let OnBadRow::DeadLetter(place) = on_bad_row(&mut table.options())? {
            written.push((SinkId::from(dead_letter_name(name)), place));
        }
    }
    for insert in &script.inserts {
        written.push((SinkId::from(&insert.table), script.table(&insert.table)?.location.clone()));
    }
    for (index, (sink, place)) in written.iter().enumerate().filter(|(_, (_, place))| place.is_store()) {
        if let Some((source, input)) = read.iter().find(|(_, input)| input.overlaps(place)) {
            return Err(Error::config(format!(
                "'{sink}' is written at {place}, and '{source}' is read at {input}: a job can't read what it writes"
            )));
        }
        if let Some((other, taken)) = written[..index].iter().find(|(_, taken)| taken.overlaps(place)) {
            return Err(Error::config(format!("'{sink}' is written at {place}, and '{other}' at {taken}: each needs a place of its own")));
        }
    }
    Ok(())
}

impl Table {
    /// The options that are a store's.
    fn store_options(&self) -> Vec<(String, String)> {
        self.option_values().filter(|(key, _)| StoreOptions::is_store_option(key)).collect()
    }
}
