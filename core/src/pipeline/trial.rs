//! Expressions tried out: a misspelt unit, encoding or pattern is an error of the job, not of its first batch.
//!
//! What is computed of no rows, or of one row of nulls, can be computed of some rows at least, and is not refused.

use crate::error::{Error, Result};
use crate::plan::readable;
use crate::time::Timestamp;
use crate::transform::{Sql, at_time};
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::Schema;
use datafusion_common::DFSchema;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, Literal};
use std::sync::Arc;

/// # Errors
/// `Config` if the expression, whose columns are those of the schema, can't be computed whatever its rows are.
pub(super) fn check(expression: &Arc<dyn PhysicalExpr>, schema: &DFSchema) -> Result<()> {
    if expression.downcast_ref::<Column>().is_some() || expression.downcast_ref::<Literal>().is_some() {
        return Ok(());
    }
    let expression = at_time(expression, Timestamp(0))?;
    let columns = |rows| schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
    let nulls = |rows| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(nullable(schema)), columns(rows), &options)
    };
    let tried = |rows| expression.evaluate(&nulls(rows)?);
    let (Err(cause), Err(_)) = (tried(1), tried(0)) else { return Ok(()) };
    let what = readable(&Sql(&expression).to_string());
    Err(Error::config(format!("{what} can't be computed")).caused_by(cause.find_root().strip_backtrace()))
}

fn nullable(schema: &DFSchema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>())
}
