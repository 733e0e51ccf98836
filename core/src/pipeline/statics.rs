//! Static tables: tables that are read whole when a job is opened, to be joined with streams.

use super::{Pipeline, Stream};
use crate::error::{Error, Result};
use crate::id::SourceId;
use crate::source::{CutLimits, OnBadRow, Source, SourceSettings};
use arrow::datatypes::SchemaRef;
use datafusion_common::Result as PlanResult;
use datafusion_common::tree_node::TreeNodeRecursion;
use datafusion_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableSource};
use std::sync::Arc;

/// A static table as a table of the language. Filters on it are hints: the plan filters again.
#[derive(Debug)]
struct StaticTable {
    schema: SchemaRef,
}

impl TableSource for StaticTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// What a plan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reads {
    /// No table.
    Nothing,
    /// Static tables alone: its rows are all there before the first batch.
    Statics,
    /// A stream, perhaps among others.
    Streams,
}

impl Reads {
    pub(super) fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut reads = Self::Nothing;
        let walked = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let is_static = scan.source.downcast_ref::<StaticTable>().is_some();
                reads = reads.max(if is_static { Self::Statics } else { Self::Streams });
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.map_err(super::config_error)?;
        Ok(reads)
    }
}

/// How a static table is read.
pub(crate) fn settings(id: SourceId) -> SourceSettings {
    SourceSettings { id, event_time: None, limits: CutLimits::default(), on_bad_row: OnBadRow::Fail }
}

/// A static table of a pipeline.
pub(super) struct StaticEntry {
    pub(super) id: SourceId,
    pub(super) source: Box<dyn Source>,
    pub(super) schema: SchemaRef,
    pub(super) description: String,
}

impl Pipeline {
    /// Adds a static table: read whole when the job is opened, to be [joined](Stream::join) with a stream. The name is the table's in SQL.
    ///
    /// # Errors
    /// `Config` if there is a source of that name, or if this one has no end or can't be read again.
    pub fn static_table(&mut self, name: &str, source: Box<dyn Source>) -> Result<Stream> {
        self.add_static(SourceId::from(name), source, format!("{name} (in process)"))?;
        self.stream(name)
    }

    /// Adds a static table; `description` is for `explain`.
    ///
    /// # Errors
    /// As [`static_table`](Self::static_table).
    pub fn add_static(&mut self, id: SourceId, source: Box<dyn Source>, description: String) -> Result<()> {
        self.check_unknown(&id)?;
        let capabilities = source.capabilities();
        let lacks = [(!capabilities.has_end, "has no end"), (!capabilities.replayable, "can't be read twice")];
        if let Some((_, lack)) = lacks.iter().find(|(lacks, _)| *lacks) {
            return Err(Error::config(format!(
                "the table '{id}' is not UNBOUNDED, so it is read whole when the job starts, and {description} {lack}; read it as a stream \
                 (CREATE UNBOUNDED EXTERNAL TABLE), or put its rows into files"
            )));
        }
        let schema = source.schema();
        self.language.add_table(id.as_str(), Arc::new(StaticTable { schema: Arc::clone(&schema) }));
        self.statics.push(StaticEntry { id, source, schema, description });
        Ok(())
    }

    /// The name is free.
    pub(super) fn check_unknown(&self, id: &SourceId) -> Result<()> {
        let mut known = self.sources.iter().map(|entry| &entry.settings.id).chain(self.statics.iter().map(|entry| &entry.id));
        if known.any(|known| known == id) { Err(Error::config(format!("there are two sources '{id}'"))) } else { Ok(()) }
    }
}
