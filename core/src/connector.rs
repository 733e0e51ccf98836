//! Connectors: how a table's definition becomes a source or a sink. The scheme of its location chooses the connector.

use crate::error::{Error, Result};
use crate::options::Options;
use crate::sink::Sink;
use crate::source::{Source, SourceSettings};
use crate::storage::{Location, Storage};
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A `CREATE [UNBOUNDED] EXTERNAL TABLE`.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// The table's name.
    pub name: String,
    /// The columns, as declared, or as inferred on the job's first run; none if they are still to be inferred.
    pub columns: Option<SchemaRef>,
    /// The word behind STORED AS, in lower case.
    pub format: String,
    /// Where it is.
    pub location: Location,
    /// Whether it is a stream.
    pub unbounded: bool,
}

/// What connectors need of their surroundings.
#[derive(Debug, Clone)]
pub struct ConnectorContext {
    /// The storage thread.
    pub storage: Storage,
}

/// Makes sources and sinks for some schemes. What it does not make is refused by default.
pub trait Connector: Send + Sync {
    /// The schemes of the locations that it serves.
    fn schemes(&self) -> &'static [&'static str];

    /// The source of a table. Takes its options out of `options`. Does no I/O, except to infer columns that are not declared.
    ///
    /// # Errors
    /// `Config` if the definition is wrong or the connector has no source; `Unavailable` if columns can't be inferred.
    fn source(
        &self,
        table: &TableDefinition,
        settings: &SourceSettings,
        options: &mut Options,
        context: &ConnectorContext,
    ) -> Result<Box<dyn Source>> {
        let _ = (settings, options, context);
        Err(Error::config(format!("table '{}': {}:// can be written, not read", table.name, table.location.scheme())))
    }

    /// The sink of a table. Takes its options out of `options`. Does no I/O.
    ///
    /// # Errors
    /// `Config` if the definition is wrong or the connector has no sink.
    fn sink(&self, table: &TableDefinition, options: &mut Options, context: &ConnectorContext) -> Result<Arc<dyn Sink>> {
        let _ = (options, context);
        Err(Error::config(format!("table '{}': {}:// can be read, not written", table.name, table.location.scheme())))
    }
}

/// The connectors that a program knows.
#[derive(Clone, Default)]
pub struct Connectors {
    by_scheme: BTreeMap<&'static str, Arc<dyn Connector>>,
}

impl Connectors {
    /// Adds a connector; it replaces earlier ones of the same schemes.
    #[must_use]
    pub fn with(mut self, connector: impl Connector + 'static) -> Self {
        let connector: Arc<dyn Connector> = Arc::new(connector);
        for scheme in connector.schemes() {
            self.by_scheme.insert(scheme, Arc::clone(&connector));
        }
        self
    }

    /// The connector of a location.
    ///
    /// # Errors
    /// `Config` if there is none; the message lists the schemes that there are.
    pub fn of(&self, location: &Location) -> Result<&dyn Connector> {
        self.by_scheme.get(location.scheme()).map(Arc::as_ref).ok_or_else(|| {
            let known: Vec<&str> = self.by_scheme.keys().copied().collect();
            Error::config(format!("{location}: no connector for '{}://'; there are: {}", location.scheme(), known.join(", ")))
        })
    }
}

impl std::fmt::Debug for Connectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_scheme.keys()).finish()
    }
}
