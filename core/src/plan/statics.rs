//! Static tables of a plan.

use crate::error::{Error, Result};
use crate::id::SourceId;
use crate::source::Scan;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::{Arc, OnceLock};

/// A static table as the plan uses it: it is joined with streams, and does not change while the job runs.
#[derive(Debug, Clone)]
pub struct PlannedStatic {
    /// The table's name.
    pub id: SourceId,
    /// All its columns.
    pub schema: SchemaRef,
    /// What is read of it.
    pub scan: Arc<Scan>,
    /// Its location, for `explain`.
    pub description: String,
    /// Its rows, which the plan's joins look up.
    pub rows: Arc<StaticRows>,
}

/// The rows of a static table: there from the moment when the job is opened.
#[derive(Debug, Default)]
pub struct StaticRows(OnceLock<RecordBatch>);

impl StaticRows {
    /// Gives the table its rows, in the scan's columns.
    ///
    /// # Errors
    /// `Internal` if it has rows already.
    pub fn set(&self, rows: RecordBatch) -> Result<()> {
        self.0.set(rows).map_err(|_| Error::internal("a static table is read once"))
    }

    /// The rows of the table of this name.
    ///
    /// # Errors
    /// `Internal` if it was not read yet.
    pub fn get(&self, table: &SourceId) -> Result<RecordBatch> {
        self.0.get().cloned().ok_or_else(|| Error::internal(format!("the static table '{table}' was not read")))
    }
}
