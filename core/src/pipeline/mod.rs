//! Building a job: sources, queries over them, sinks. SQL files and Rust programs both end up here.
//!
//! A query is a DataFusion logical plan, whoever made it: the SQL planner, or the methods of a [`Stream`]. Closures are nodes of the same
//! plan. [`Pipeline::build`] refuses what a stream can't do, lets DataFusion's rules optimize each query, and translates all of them
//! into one physical [`Plan`](crate::plan::Plan), in which each source is read once. Nothing is read or written here, and whatever is wrong
//! is a `Config` error.
//!
//! The way of a query:
//! 1. It is said: in SQL ([`lateral`] plans UNNEST in FROM), or by [`stream`], [`grouped`], [`join`], [`process`] and [`event_time`];
//!    [`statics`] are the tables to join with.
//! 2. [`supported`] refuses what a stream can't do.
//! 3. [`optimize`] runs DataFusion's rules. What these must not take apart is a node of our own before: an [`operation`], which is a GROUP
//!    BY ([`aggregate`]), a [`closure`] or a process function. Of the plan as it was before, [`lineage`] and [`rows`] tell what a
//!    grouping's state means.
//! 4. [`physical`] translates each node into steps of the plan; [`grouping`] and [`process`] make the operators with state. On the way
//!    [`times`] tells which columns keep an event time, [`trial`] tries expressions out, and [`update`] looks at what a sink is given.

mod aggregate;
mod closure;
mod errors;
mod event_time;
mod grouped;
mod grouping;
mod join;
mod lateral;
mod lineage;
mod operation;
mod optimize;
mod physical;
mod process;
mod rows;
mod statics;
mod stream;
mod supported;
mod times;
mod trial;
mod update;

pub(crate) use errors::config_error;
pub use grouped::GroupedStream;
pub use join::JoinKind;
pub use process::KeyedStream;
pub(crate) use statics::settings as static_settings;
pub use stream::Stream;

use crate::error::{Error, Result};
use crate::id::{SinkId, SourceId};
use crate::job::Job;
use crate::sink::{Sink, SinkMode, SinkSettings};
use crate::source::{CutLimits, OnBadRow, Source, SourceSettings};
use crate::sql::language::{Language, StreamTable};
use crate::sql::syntax;
use crate::storage::Location;
use datafusion_common::TableReference;
use datafusion_expr::{LogicalPlan, LogicalPlanBuilder, TableSource, lit};
use datafusion_sql::parser::{DFParser, Statement};
use datafusion_sql::planner::SqlToRel;
use datafusion_sql::sqlparser::ast;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// A job in the making. See the [module](self).
pub struct Pipeline {
    language: Language,
    sources: Vec<SourceEntry>,
    statics: Vec<statics::StaticEntry>,
    sinks: Vec<SinkEntry>,
}

struct SourceEntry {
    settings: SourceSettings,
    source: Box<dyn Source>,
    table: Arc<StreamTable>,
    dead_letter: Option<Arc<dyn Sink>>,
    description: String,
}

struct SinkEntry {
    settings: SinkSettings,
    sink: Arc<dyn Sink>,
    query: LogicalPlan,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipeline {
    /// A pipeline without sources and sinks.
    pub fn new() -> Self {
        Self { language: Language::new(), sources: Vec::new(), statics: Vec::new(), sinks: Vec::new() }
    }

    /// Adds a source without event time and limits, whose bad rows fail their batch. The name is the table's in SQL.
    ///
    /// # Errors
    /// `Config` if there is a source of that name.
    pub fn source(&mut self, name: &str, source: Box<dyn Source>) -> Result<Stream> {
        let settings =
            SourceSettings { id: SourceId::from(name), event_time: None, limits: CutLimits::default(), on_bad_row: OnBadRow::Fail };
        self.add_source(settings, source, None, format!("{name} (in process)"))?;
        self.stream(name)
    }

    /// Adds a source with all its settings. `dead_letter` is where bad rows go, if the settings say so; `description` is for `explain`.
    ///
    /// # Errors
    /// `Config` if there is a source of that name, or if the settings and `dead_letter` disagree.
    pub fn add_source(
        &mut self,
        settings: SourceSettings,
        source: Box<dyn Source>,
        dead_letter: Option<Arc<dyn Sink>>,
        description: String,
    ) -> Result<()> {
        let id = settings.id.clone();
        self.check_unknown(&id)?;
        if dead_letter.is_some() != matches!(settings.on_bad_row, OnBadRow::DeadLetter(_)) {
            return Err(Error::config(format!("source '{id}': 'on_bad_row' and the place for bad rows disagree")));
        }
        let event_time = settings.event_time.clone().map_or_else(OnceLock::new, OnceLock::from);
        let table = Arc::new(StreamTable { name: id.clone(), schema: source.schema(), event_time });
        self.language.add_table(id.as_str(), Arc::clone(&table) as Arc<dyn TableSource>);
        self.sources.push(SourceEntry { settings, source, table, dead_letter, description });
        Ok(())
    }

    /// The rows of a source, or of a static table.
    ///
    /// # Errors
    /// `Config` if there is no such source.
    pub fn stream(&self, name: &str) -> Result<Stream> {
        let table = self.language.table(name).ok_or_else(|| Error::config(format!("there is no source '{name}'")))?;
        LogicalPlanBuilder::scan(TableReference::bare(name), table, None)
            .and_then(LogicalPlanBuilder::build)
            .map(Stream::of)
            .map_err(config_error)
    }

    /// The rows of a SELECT over the sources.
    ///
    /// # Errors
    /// `Config` for anything wrong in the text.
    pub fn sql(&self, select: &str) -> Result<Stream> {
        let mut statements = DFParser::parse_sql(select).map_err(config_error)?;
        match (statements.pop_front(), statements.is_empty()) {
            (Some(Statement::Statement(statement)), true) if matches!(*statement, ast::Statement::Query(_)) => {
                self.plan_query(*statement).map(Stream::of)
            }
            _ => Err(Error::config("this is not one SELECT")),
        }
    }

    pub(crate) fn plan_query(&self, query: ast::Statement) -> Result<LogicalPlan> {
        syntax::check(&query, &self.language)?;
        let plan = |language: &Language, query| {
            let planner = SqlToRel::new_with_options(language, Language::parser_options());
            planner.sql_statement_to_plan(query).and_then(lateral::inline)
        };
        let planned = match plan(&self.language, query.clone()) {
            Err(error) if errors::is_about_names(&error) => plan(&self.language.naming_casts(), query).map_err(|_| error),
            planned => planned,
        };
        let plan = planned.map_err(config_error)?;
        supported::check(&plan)?;
        Ok(plan)
    }

    /// Sends a stream to a sink in the mode [`SinkMode::Append`]: rows that are final, groups once they have closed.
    ///
    /// # Errors
    /// `Config` if there is a sink of that name, or if the columns can't be written.
    pub fn sink(&mut self, name: &str, sink: Arc<dyn Sink>, stream: Stream) -> Result<()> {
        self.sink_in_mode(name, sink, SinkMode::Append, stream)
    }

    /// Sends a stream to a sink in a mode: how results come out that later rows may change.
    ///
    /// # Errors
    /// As [`sink`](Self::sink), and if the sink can't take the mode. Whether the stream can give it is seen by [`build`](Self::build).
    pub fn sink_in_mode(&mut self, name: &str, sink: Arc<dyn Sink>, mode: SinkMode, stream: Stream) -> Result<()> {
        let location = sink.location().map_or_else(|| Location::parse(&format!("process://{name}")), Ok)?;
        let settings = SinkSettings { id: SinkId::from(name), mode, location };
        self.add_sink(settings, sink, stream.into_plan())
    }

    pub(crate) fn add_sink(&mut self, settings: SinkSettings, sink: Arc<dyn Sink>, query: LogicalPlan) -> Result<()> {
        if self.sinks.iter().any(|entry| entry.settings.id == settings.id) {
            return Err(Error::config(format!("there are two sinks '{}'", settings.id)));
        }
        supported::check(&query)?;
        supported::check_columns(&query)?;
        if !sink.modes().contains(&settings.mode) {
            return Err(Error::config(format!("the sink can't take the mode '{}'", settings.mode)));
        }
        let query = in_mode(query, settings.mode)?;
        self.sinks.push(SinkEntry { settings, sink, query });
        Ok(())
    }

    /// Plans the job.
    ///
    /// # Errors
    /// `Config` if there is no source or no sink, or if a query can't be planned.
    pub fn build(self) -> Result<Job> {
        if self.sinks.is_empty() {
            return Err(Error::config("a job needs a sink: nothing would be computed"));
        }
        let mut queries = Vec::new();
        for entry in &self.sinks {
            let here = |error: Error| error.within(format!("sink '{}'", entry.settings.id));
            queries.push((entry.settings.clone(), optimize::optimize(entry.query.clone()).map_err(here)?));
        }
        let used = physical::sources_of(queries.iter().map(|(_, query)| query))?;
        if !self.sources.iter().any(|entry| used.contains(entry.settings.id.as_str())) {
            return Err(reads_no_stream(&used));
        }
        let (mut planned, mut sources, mut dead_letters) = (Vec::new(), Vec::new(), Vec::new());
        for entry in self.sources.into_iter().filter(|entry| used.contains(entry.settings.id.as_str())) {
            let settings = SourceSettings { event_time: entry.table.event_time.get().cloned(), ..entry.settings };
            planned.push((settings, Arc::clone(&entry.table.schema), entry.description));
            sources.push(entry.source);
            dead_letters.push(entry.dead_letter);
        }
        let (mut planned_statics, mut statics) = (Vec::new(), Vec::new());
        for entry in self.statics.into_iter().filter(|entry| used.contains(entry.id.as_str())) {
            planned_statics.push((entry.id, entry.schema, entry.description));
            statics.push(entry.source);
        }
        let plan = Arc::new(physical::plan(planned, planned_statics, &queries)?);
        let sinks = self.sinks.into_iter().map(|entry| entry.sink).collect();
        Ok(Job { plan, sources, statics, sinks, dead_letters })
    }
}

fn reads_no_stream(tables: &BTreeSet<String>) -> Error {
    let tables: Vec<String> = tables.iter().map(|table| format!("'{table}'")).collect();
    Error::config(format!(
        "the job reads no UNBOUNDED table, only static ones ({}): it would have no batch to run; write CREATE UNBOUNDED EXTERNAL TABLE to \
         read a table as a stream",
        tables.join(", ")
    ))
}

/// An append-only stream in the form that a sink of this mode takes.
fn in_mode(query: LogicalPlan, mode: SinkMode) -> Result<LogicalPlan> {
    match mode {
        SinkMode::Append | SinkMode::Update | SinkMode::Complete => Ok(query),
        SinkMode::Changelog => {
            let columns = query.schema().columns().into_iter().map(datafusion_expr::Expr::Column);
            let change = std::iter::once(lit("+I").alias("_op"));
            LogicalPlanBuilder::from(query).project(change.chain(columns)).and_then(LogicalPlanBuilder::build).map_err(config_error)
        }
    }
}
