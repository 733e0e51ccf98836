//! What is computed of the rows that come out: where changed rows are emitted, one of which that is the same as before is none.
//!
//! It is computed twice, of a group as it was before the batch and as it is. What can't be computed of the group as it was, for the program is
//! another one than it was, has changed.

use super::spec::evaluate;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::transform::{columns_of, reads_clock};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{Column, lit as literal};
use std::sync::Arc;

/// Expressions over the rows that come out. See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Reads(Vec<Arc<dyn PhysicalExpr>>);

impl Reads {
    /// Of expressions, those that read a result, which stand in these columns. None if a row that is read changes with every result, or with
    /// the clock.
    pub(super) fn new(expressions: &[Arc<dyn PhysicalExpr>], results: &[usize]) -> Option<Self> {
        let mut reads = Self(expressions.iter().filter(|expression| reads_any(expression, results)).cloned().collect());
        if reads.0.is_empty() {
            // Keys alone never change: rows are the same once they are there.
            reads.0.push(literal(true));
        }
        let is_all = results.iter().all(|result| reads.holds(*result));
        (!is_all && !expressions.iter().any(reads_clock)).then_some(reads)
    }

    /// Whether a column is read as it is.
    pub(super) fn holds(&self, column: usize) -> bool {
        self.0.iter().any(|expression| expression.downcast_ref::<Column>().is_some_and(|read| read.index() == column))
    }

    /// What is read of each row, to be compared; none where it can't be computed.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Vec<Option<OwnedRow>>> {
        match self.0.iter().map(|expression| evaluate(expression, rows)).collect::<Result<Vec<_>>>() {
            Ok(columns) => Ok(comparable(&columns)?.into_iter().map(Some).collect()),
            Err(_) if rows.num_rows() > 1 => {
                let each = (0..rows.num_rows()).map(|row| self.of(&rows.slice(row, 1)));
                Ok(each.collect::<Result<Vec<_>>>()?.concat())
            }
            Err(_) => Ok(vec![None; rows.num_rows()]),
        }
    }
}

fn reads_any(expression: &Arc<dyn PhysicalExpr>, columns: &[usize]) -> bool {
    columns_of(std::slice::from_ref(expression)).iter().any(|column| columns.contains(column))
}

/// The rows of columns, to be compared.
pub(super) fn comparable(columns: &[ArrayRef]) -> Result<Vec<OwnedRow>> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).or_error(ErrorKind::Config, || "results of this type can't be compared".into())?;
    let converted = converter.convert_columns(columns).or_error(ErrorKind::Internal, || "comparing results".into())?;
    Ok(converted.iter().map(|row| row.owned()).collect())
}
