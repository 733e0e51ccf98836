//! The connectors of tables in SQL.

use crate::blackhole::Blackhole;
use crate::file::{file_sink, file_source};
use crate::format::Format;
use crate::nexmark::nexmark_source;
use crate::rate::{machine_clock, rate_source};
use crate::stdin::stdin_source;
use crate::stdout::{PrintSink, Style};
use std::sync::Arc;
use waterclock_core::connector::{Connector, ConnectorContext, Connectors, TableDefinition};
use waterclock_core::options::Options;
use waterclock_core::sink::Sink;
use waterclock_core::source::{Source, SourceSettings};
use waterclock_core::{Error, Result};

/// All connectors that come with Waterclock.
pub fn connectors() -> Connectors {
    Connectors::default()
        .with(FileConnector)
        .with(NexmarkConnector)
        .with(RateConnector)
        .with(StdinConnector)
        .with(StdoutConnector)
        .with(BlackholeConnector)
}

/// The word behind STORED AS is free where there is only one way, but it must be the connector's or a format's.
fn check_word(table: &TableDefinition, own: &str) -> Result<()> {
    if table.format == own || Format::parse(&table.format).is_ok() {
        return Ok(());
    }
    let (word, name) = (table.format.to_uppercase(), &table.name);
    Err(Error::config(format!("table '{name}': STORED AS {word} is neither {} nor a format of files", own.to_uppercase())))
}

struct FileConnector;

impl Connector for FileConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["file", "memory", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss"]
    }

    fn source(
        &self,
        table: &TableDefinition,
        settings: &SourceSettings,
        options: &mut Options,
        context: &ConnectorContext,
    ) -> Result<Box<dyn Source>> {
        file_source(table, settings, options, context)
    }

    fn sink(&self, table: &TableDefinition, options: &mut Options, context: &ConnectorContext) -> Result<Arc<dyn Sink>> {
        file_sink(table, options, context)
    }
}

struct NexmarkConnector;

impl Connector for NexmarkConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["nexmark"]
    }

    fn source(
        &self,
        table: &TableDefinition,
        settings: &SourceSettings,
        options: &mut Options,
        context: &ConnectorContext,
    ) -> Result<Box<dyn Source>> {
        check_word(table, "nexmark")?;
        nexmark_source(table, settings, options, context)
    }
}

struct RateConnector;

impl Connector for RateConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["rate"]
    }

    fn source(&self, table: &TableDefinition, _: &SourceSettings, _: &mut Options, _: &ConnectorContext) -> Result<Box<dyn Source>> {
        check_word(table, "rate")?;
        rate_source(table, machine_clock)
    }
}

struct StdinConnector;

impl Connector for StdinConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["stdin"]
    }

    fn source(&self, table: &TableDefinition, _: &SourceSettings, options: &mut Options, _: &ConnectorContext) -> Result<Box<dyn Source>> {
        stdin_source(table, options)
    }
}

struct StdoutConnector;

impl Connector for StdoutConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["stdout"]
    }

    fn sink(&self, table: &TableDefinition, _: &mut Options, _: &ConnectorContext) -> Result<Arc<dyn Sink>> {
        check_word(table, "stdout")?;
        let style = if table.format == "json" { Style::Json } else { Style::Table };
        Ok(PrintSink::stdout(style))
    }
}

struct BlackholeConnector;

impl Connector for BlackholeConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["blackhole"]
    }

    fn sink(&self, table: &TableDefinition, _: &mut Options, _: &ConnectorContext) -> Result<Arc<dyn Sink>> {
        check_word(table, "blackhole")?;
        Ok(Blackhole::sink())
    }
}
