//! Columns that are NOT NULL: decoded like others, and then looked at, so that a null makes a bad row that says which column.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use std::sync::Arc;

/// The same columns, any of which may be null.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows of the columns as they are declared.
///
/// # Errors
/// If a column is null that must not be.
pub(super) fn check_nulls(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let null = schema.fields().iter().zip(&columns).find(|(field, column)| !field.is_nullable() && column.null_count() > 0);
    match null {
        Some((field, _)) => Err(ArrowError::ParseError(format!("the column '{}' is NOT NULL, and has no value here", field.name()))),
        None => {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        }
    }
}
