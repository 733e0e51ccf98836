//! How rows are stored, and which of their columns are wanted: all that a decoder needs besides the bytes.

use super::settings::Settings;
use super::text;
use crate::format::Format;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use waterclock_core::Result;
use waterclock_core::source::Scan;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) settings: Settings,
    /// All columns.
    pub(crate) schema: SchemaRef,
    /// The columns that are read.
    pub(crate) projected: SchemaRef,
    pub(crate) scan: Arc<Scan>,
}

impl Layout {
    /// Rows of which all columns are read.
    ///
    /// # Errors
    /// `Config` if the format can't hold these columns.
    pub(crate) fn new(settings: Settings, schema: SchemaRef) -> Result<Self> {
        match settings.format {
            Format::Text => text::check_columns(&schema)?,
            Format::Csv => text::check_csv_columns(&schema)?,
            _ => {}
        }
        let scan = Arc::new(Scan::all(&schema));
        Ok(Self { settings, projected: Arc::clone(&schema), schema, scan })
    }

    /// The same rows for a scan.
    pub(crate) fn of(&self, scan: &Arc<Scan>) -> Result<Self> {
        Ok(Self {
            settings: self.settings.clone(),
            schema: Arc::clone(&self.schema),
            projected: scan.projected(&self.schema)?,
            scan: Arc::clone(scan),
        })
    }

    /// Whether the ends of records can't be told from line breaks alone.
    pub(crate) fn needs_records(&self) -> bool {
        self.settings.format == Format::Csv && self.settings.csv.newlines_in_values
    }

    /// Whether the first record names the columns.
    pub(crate) fn has_header(&self) -> bool {
        self.settings.format == Format::Csv && self.settings.csv.has_header
    }
}
