//! A filter and a projection in one step: the condition is computed on all columns, then only the columns that are still needed are
//! filtered, then the output is computed from those.

use super::clock;
use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::id::OperatorId;
use crate::operator::Transform;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{FilterBuilder, prep_null_mask_filter};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct FilterProject {
    id: Option<OperatorId>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The input's columns that the output is computed from, ascending.
    kept: Vec<usize>,
    kept_schema: SchemaRef,
    /// Over the kept columns.
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    reads_clock: bool,
}

impl FilterProject {
    /// A step over rows of `input`: those for which the predicate is true, as these expressions, under the names of `schema`.
    ///
    /// # Errors
    /// `Internal` if the expressions don't fit the schemas.
    pub fn try_new(
        input: SchemaRef,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        expressions: Vec<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let kept = columns_of(&expressions);
        let expressions = expressions.into_iter().map(|expression| moved(expression, &kept)).collect::<Result<Vec<_>>>()?;
        let kept_schema = Arc::new(input.project(&kept).or_error(ErrorKind::Internal, || "columns of a projection".into())?);
        let reads_clock = expressions.iter().chain(&predicate).any(clock::reads_clock);
        Ok(Self { id: None, predicate, kept, kept_schema, expressions, schema, reads_clock })
    }

    /// The same step, under a name for messages.
    #[must_use]
    pub fn named(mut self, id: &OperatorId) -> Self {
        self.id = Some(id.clone());
        self
    }

    /// Whether rows can be left out.
    pub fn is_filter(&self) -> bool {
        self.predicate.is_some()
    }

    fn failed(&self, what: &str, cause: &DataFusionError) -> Error {
        let id = self.id.as_ref().map_or_else(|| "a projection".to_owned(), |id| format!("operator '{id}'"));
        Error::bad_data(format!("{id} can't compute {what}")).caused_by(cause.find_root().strip_backtrace())
    }

    /// The kept columns of the rows that pass.
    fn filter(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let columns = || self.kept.iter().map(|&column| Arc::clone(rows.column(column)));
        let Some(predicate) = &self.predicate else { return self.batch_of_kept(columns().collect(), rows.num_rows()).map(Some) };
        let value = predicate.evaluate(rows).map_err(|cause| self.failed(&format!("the condition {}", Sql(predicate)), &cause))?;
        let mask = match value {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => {
                return self.batch_of_kept(columns().collect(), rows.num_rows()).map(Some);
            }
            ColumnarValue::Scalar(_) => return Ok(None),
            ColumnarValue::Array(mask) => self.mask(&mask)?,
        };
        let passing = mask.true_count();
        if passing == 0 {
            return Ok(None);
        }
        if passing == rows.num_rows() {
            return self.batch_of_kept(columns().collect(), passing).map(Some);
        }
        let filter = FilterBuilder::new(&mask).optimize().build();
        let filtered = columns().map(|column| filter.filter(&column)).collect::<Result<_, _>>();
        let filtered = filtered.or_error(ErrorKind::Internal, || "filtering rows".into())?;
        self.batch_of_kept(filtered, passing).map(Some)
    }

    /// True where the condition is true, not where it is null.
    fn mask(&self, value: &ArrayRef) -> Result<BooleanArray> {
        let mask = value.as_boolean_opt().ok_or_else(|| Error::internal("a condition is not a boolean"))?;
        Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
    }

    fn batch_of_kept(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // Built with the schema of the declared input: an upstream step may know more about nullability.
        RecordBatch::try_new_with_options(Arc::clone(&self.kept_schema), columns, &options)
            .or_error(ErrorKind::Internal, || "picking columns".into())
    }
}

impl Transform for FilterProject {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn for_batch(self: Arc<Self>, batch: &BatchContext) -> Result<Arc<dyn Transform>> {
        if !self.reads_clock {
            return Ok(self);
        }
        let mut bound = self.as_ref().clone();
        bound.predicate = self.predicate.as_ref().map(|predicate| clock::at(predicate, batch.trigger_time)).transpose()?;
        bound.expressions = self.expressions.iter().map(|expression| clock::at(expression, batch.trigger_time)).collect::<Result<_>>()?;
        bound.reads_clock = false;
        Ok(Arc::new(bound))
    }

    fn apply(&self, rows: RecordBatch) -> Result<RecordBatch> {
        if rows.num_rows() == 0 {
            // Some functions of the library fail without rows.
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let Some(kept) = self.filter(&rows)? else { return Ok(RecordBatch::new_empty(Arc::clone(&self.schema))) };
        let compute = |(expression, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| {
            let value = expression.evaluate(&kept).and_then(|value| value.into_array(kept.num_rows()));
            value.map_err(|cause| self.failed(&format!("{} for the column '{}'", Sql(expression), field.name()), &cause))
        };
        let columns = self.expressions.iter().zip(self.schema.fields()).map(compute).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .or_error(ErrorKind::Internal, || "the output of a projection".into())
    }

    fn describe(&self) -> String {
        let shown = |(expression, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| {
            let (name, expression) = (field.name(), Sql(expression).to_string());
            if *name == expression { expression } else { format!("{name} = {expression}") }
        };
        let columns: Vec<String> = self.expressions.iter().zip(self.schema.fields()).map(shown).collect();
        match &self.predicate {
            Some(predicate) => format!("filter {}, then [{}]", Sql(predicate), columns.join(", ")),
            None => format!("[{}]", columns.join(", ")),
        }
    }
}

/// An expression as a user would write it: columns by name, without their positions.
pub(crate) struct Sql<'a>(pub(crate) &'a Arc<dyn PhysicalExpr>);

impl fmt::Display for Sql<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// The positions of the columns that expressions read, ascending.
pub(crate) fn columns_of(expressions: &[Arc<dyn PhysicalExpr>]) -> Vec<usize> {
    let mut columns = BTreeSet::new();
    for expression in expressions {
        // The visit itself never fails.
        let _ = expression.apply(|part| {
            columns.extend(part.downcast_ref::<Column>().map(Column::index));
            Ok(TreeNodeRecursion::Continue)
        });
    }
    columns.into_iter().collect()
}

/// The expression over the kept columns.
pub(super) fn moved(expression: Arc<dyn PhysicalExpr>, kept: &[usize]) -> Result<Arc<dyn PhysicalExpr>> {
    let place = |part: Arc<dyn PhysicalExpr>| {
        let column = part.downcast_ref::<Column>().and_then(|column| {
            let position = kept.iter().position(|&kept| kept == column.index())?;
            Some(Column::new(column.name(), position))
        });
        Ok(match column {
            Some(column) => Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(part),
        })
    };
    expression.transform(place).map(|placed| placed.data).or_error(ErrorKind::Internal, || "columns of a projection".into())
}
