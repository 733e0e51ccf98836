//! What a program's job is built with: connectors, storage, and the columns that an earlier run inferred.

use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_connectors::connectors;
use waterclock_core::connector::{ConnectorContext, Connectors, TableDefinition};
use waterclock_core::id::SourceId;
use waterclock_core::job::Job;
use waterclock_core::options::Options;
use waterclock_core::pipeline::{Pipeline, Stream};
use waterclock_core::sink::Sink;
use waterclock_core::source::{CutLimits, OnBadRow, SourceSettings};
use waterclock_core::sql::{SqlContext, plan_sql};
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};
use waterclock_core::{Error, Result};
use waterclock_scheduler::stored_schemas;

/// What a job is built with: connectors, storage, and the columns that an earlier run inferred.
pub struct JobContext {
    storage: Storage,
    connectors: Connectors,
    known_schemas: BTreeMap<SourceId, SchemaRef>,
}

/// A table to read, as a stream or as a static table: where it is, and what SQL would say of it.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// The source's name.
    pub name: &'a str,
    /// A location, as behind LOCATION.
    pub location: &'a str,
    /// A format, as behind STORED AS.
    pub format: &'a str,
    /// The columns; none to infer them from what is there.
    pub columns: Option<SchemaRef>,
    /// Limits of a batch.
    pub limits: CutLimits,
    /// Options of the connector, as in OPTIONS.
    pub options: Vec<(&'a str, &'a str)>,
}

/// A table to write.
#[derive(Debug, Clone)]
pub struct OutputTable<'a> {
    /// The sink's name.
    pub name: &'a str,
    /// A location, as behind LOCATION.
    pub location: &'a str,
    /// A format, as behind STORED AS.
    pub format: &'a str,
    /// Options of the connector, as in OPTIONS.
    pub options: Vec<(&'a str, &'a str)>,
}

impl<'a> Table<'a> {
    /// A table without declared columns, limits and options.
    pub fn new(name: &'a str, location: &'a str, format: &'a str) -> Self {
        Self { name, location, format, columns: None, limits: CutLimits::default(), options: Vec::new() }
    }

    /// Declares the columns.
    #[must_use]
    pub fn columns(mut self, columns: SchemaRef) -> Self {
        self.columns = Some(columns);
        self
    }

    /// Limits a batch.
    #[must_use]
    pub fn limits(mut self, limits: CutLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds an option of the connector.
    #[must_use]
    pub fn option(mut self, key: &'a str, value: &'a str) -> Self {
        self.options.push((key, value));
        self
    }
}

impl<'a> OutputTable<'a> {
    /// A table without options.
    pub fn new(name: &'a str, location: &'a str, format: &'a str) -> Self {
        Self { name, location, format, options: Vec::new() }
    }

    /// Adds an option of the connector.
    #[must_use]
    pub fn option(mut self, key: &'a str, value: &'a str) -> Self {
        self.options.push((key, value));
        self
    }
}

impl JobContext {
    pub(super) fn new(storage: Storage, checkpoint: Option<&Location>) -> Result<Self> {
        let known_schemas = match checkpoint.map(|location| open_if_there(&storage, location)).transpose()?.flatten() {
            Some(checkpoint) => stored_schemas(&checkpoint)?,
            None => BTreeMap::new(),
        };
        Ok(Self { storage, connectors: connectors(), known_schemas })
    }

    /// The storage thread.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// A job from SQL.
    ///
    /// # Errors
    /// `Config` for anything wrong in the text.
    pub fn sql_job(&self, text: &str) -> Result<Job> {
        let connector_context = self.connector_context();
        let (connectors, known_schemas) = (self.connectors.clone(), self.known_schemas.clone());
        plan_sql(text, &SqlContext { connectors, connector_context, known_schemas })
    }

    /// Adds a table as a static table of a pipeline: read whole when the job is opened, to be [joined](Stream::join) with a stream.
    ///
    /// # Errors
    /// As [`source`](Self::source); also if limits of a batch are given, or if the table has no end.
    pub fn static_table(&self, pipeline: &mut Pipeline, table: &Table<'_>) -> Result<Stream> {
        if table.limits != CutLimits::default() {
            return Err(Error::config(format!("table '{}': a static table is read whole; leave the limits of a batch out", table.name)));
        }
        let (id, location) = (SourceId::from(table.name), Location::parse(table.location)?);
        let settings = SourceSettings { id, event_time: None, limits: table.limits, on_bad_row: OnBadRow::Fail };
        let definition = TableDefinition {
            name: table.name.to_owned(),
            columns: table.columns.clone(),
            format: table.format.to_lowercase(),
            location,
            unbounded: false,
        };
        let mut options = options(table.name, &table.options);
        let connector = self.connectors.of(&definition.location)?;
        let source = connector.source(&definition, &settings, &mut options, &self.connector_context())?;
        options.finish()?;
        pipeline.add_static(settings.id, source, definition.location.to_string())?;
        pipeline.stream(table.name)
    }

    fn connector_context(&self) -> ConnectorContext {
        ConnectorContext { storage: self.storage.clone() }
    }

    /// Adds a table as a source of a pipeline.
    ///
    /// # Errors
    /// `Config` if the definition is wrong; `Unavailable` if columns are to be inferred and can't be.
    pub fn source(&self, pipeline: &mut Pipeline, table: &Table<'_>) -> Result<Stream> {
        let id = SourceId::from(table.name);
        let definition = TableDefinition {
            name: table.name.to_owned(),
            columns: table.columns.clone().or_else(|| self.known_schemas.get(&id).cloned()),
            format: table.format.to_lowercase(),
            location: Location::parse(table.location)?,
            unbounded: true,
        };
        let settings = SourceSettings { id, event_time: None, limits: table.limits, on_bad_row: OnBadRow::Fail };
        let mut options = options(table.name, &table.options);
        let connector = self.connectors.of(&definition.location)?;
        let source = connector.source(&definition, &settings, &mut options, &self.connector_context())?;
        options.finish()?;
        pipeline.add_source(settings, source, None, definition.location.to_string())?;
        pipeline.stream(table.name)
    }

    /// The sink of a table.
    ///
    /// # Errors
    /// `Config` if the definition is wrong.
    pub fn sink(&self, table: &OutputTable<'_>) -> Result<Arc<dyn Sink>> {
        let definition = TableDefinition {
            name: table.name.to_owned(),
            columns: None,
            format: table.format.to_lowercase(),
            location: Location::parse(table.location)?,
            unbounded: false,
        };
        let mut options = options(table.name, &table.options);
        let sink = self.connectors.of(&definition.location)?.sink(&definition, &mut options, &self.connector_context())?;
        options.finish()?;
        Ok(sink)
    }
}

fn options(table: &str, values: &[(&str, &str)]) -> Options {
    Options::new(table, values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
}

/// A checkpoint on a local disk that is not there yet is that of a new job.
pub(super) fn open_if_there(storage: &Storage, location: &Location) -> Result<Option<Store>> {
    if location.local_path().is_some_and(|path| !path.exists()) {
        return Ok(None);
    }
    storage.open(location, &StoreOptions::from_environment(), Access::Read).map(Some)
}

/// A checkpoint to look into.
///
/// # Errors
/// `Unavailable` if there is none.
pub(super) fn open_existing(storage: &Storage, location: &Location) -> Result<Store> {
    open_if_there(storage, location)?.ok_or_else(|| missing(location))
}

/// What is said of a place without a checkpoint.
pub(super) fn missing(location: &Location) -> Error {
    Error::unavailable(format!("there is no checkpoint at {location}"))
}
