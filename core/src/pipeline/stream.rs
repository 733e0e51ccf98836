//! Streams: what a program in Rust says instead of SQL.

use super::closure::MapBatchesNode;
use super::config_error;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::sql::functions::on_batch_time;
use crate::transform::BatchFunction;
use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion_common::Column;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use std::sync::Arc;

/// Rows under way from a source to a sink. Cloning makes a second way for the same rows.
#[derive(Debug, Clone)]
pub struct Stream {
    plan: LogicalPlan,
}

impl Stream {
    pub(super) fn of(plan: LogicalPlan) -> Self {
        Self { plan }
    }

    pub(super) fn into_plan(self) -> LogicalPlan {
        self.plan
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    pub(super) fn build(self, step: impl FnOnce(LogicalPlanBuilder) -> datafusion_common::Result<LogicalPlanBuilder>) -> Result<Self> {
        step(LogicalPlanBuilder::from(self.plan)).and_then(LogicalPlanBuilder::build).map(Self::of).map_err(config_error)
    }

    /// The rows for which a condition is true.
    ///
    /// # Errors
    /// `Config` if the condition names an unknown column, or is no condition.
    pub fn filter(self, condition: Expr) -> Result<Self> {
        self.build(|plan| plan.filter(on_batch_time(condition)))
    }

    /// These expressions of each row.
    ///
    /// # Errors
    /// `Config` if an expression names an unknown column, or if its types don't fit.
    pub fn select(self, expressions: impl IntoIterator<Item = Expr>) -> Result<Self> {
        self.build(|plan| plan.project(expressions.into_iter().map(on_batch_time)))
    }

    /// All columns, and one more; or with one replaced, if there is a column of that name.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn with_column(self, name: &str, expression: Expr) -> Result<Self> {
        let columns: Vec<Column> = self.plan.schema().columns();
        let mut expression = Some(expression.alias(name));
        let mut expressions = Vec::new();
        for column in columns {
            let replaced = if column.name == name { expression.take() } else { None };
            expressions.push(replaced.unwrap_or(Expr::Column(column)));
        }
        expressions.extend(expression);
        self.select(expressions)
    }

    /// The rows of both, which have the same columns.
    ///
    /// # Errors
    /// `Config` if the columns differ in number or can't be made the same type.
    pub fn union(self, other: Stream) -> Result<Self> {
        self.build(|plan| plan.union(other.plan))
    }

    /// Each row once, however often it comes. Rows that hold an event time, or a window over one, are remembered until the watermark has
    /// passed it; others for ever.
    ///
    /// # Errors
    /// `Config` if the rows can't be planned.
    pub fn distinct(self) -> Result<Self> {
        self.build(LogicalPlanBuilder::distinct)
    }

    /// What a function makes of the rows, some thousands at a time. `id` names the operator in errors, and in `explain`; it is unique in
    /// the job. `schema` are the columns that come out. The function must not depend on how rows are divided among its calls, which come
    /// from several threads at once.
    ///
    /// # Errors
    /// `Config` if the schema can't be used.
    pub fn map_batches<F>(self, id: &str, schema: SchemaRef, function: F) -> Result<Self>
    where
        F: Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    {
        let function: BatchFunction = Arc::new(function);
        let node = MapBatchesNode::try_new(id.to_owned(), self.plan, schema, function).map_err(config_error)?;
        Ok(Self::of(node.into_plan()))
    }

    /// One row for each row, through types of one's own. Columns and fields are matched by name; a column that can be null is an `Option`.
    ///
    /// # Errors
    /// `Config` if the output's columns can't be told from its type.
    pub fn map<I, O, F>(self, id: &str, function: F) -> Result<Self>
    where
        I: DeserializeOwned,
        O: Serialize + DeserializeOwned,
        F: Fn(I) -> O + Send + Sync + 'static,
    {
        self.flat_map(id, move |row: I| std::iter::once(function(row)))
    }

    /// Any number of rows for each row, in order, through types of one's own. Columns and fields are matched by name; a column that can be
    /// null is an `Option`.
    ///
    /// # Errors
    /// `Config` if the output's columns can't be told from its type.
    pub fn flat_map<I, O, R, F>(self, id: &str, function: F) -> Result<Self>
    where
        I: DeserializeOwned,
        O: Serialize + DeserializeOwned,
        R: IntoIterator<Item = O>,
        F: Fn(I) -> R + Send + Sync + 'static,
    {
        let schema = Arc::new(Schema::new(fields_of::<O>(id, "flat_map_with_schema")?));
        self.flat_map_with_schema(id, schema, function)
    }

    /// As [`flat_map`](Self::flat_map), with the columns that come out given: for types whose columns can't be told from them, such as
    /// times of the crate `chrono`, which need a TIMESTAMP.
    ///
    /// # Errors
    /// `Config` if the schema can't be used.
    pub fn flat_map_with_schema<I, O, R, F>(self, id: &str, schema: SchemaRef, function: F) -> Result<Self>
    where
        I: DeserializeOwned,
        O: Serialize,
        R: IntoIterator<Item = O>,
        F: Fn(I) -> R + Send + Sync + 'static,
    {
        let fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        self.map_batches(id, schema, move |rows| {
            let read: Vec<I> = serde_arrow::from_record_batch(rows).or_error(ErrorKind::BadData, || "reading rows".into())?;
            let made: Vec<O> = read.into_iter().flat_map(&function).collect();
            serde_arrow::to_record_batch(&fields, &made).or_error(ErrorKind::Internal, || "writing rows".into())
        })
    }
}

/// The columns of a type; `otherwise` is what takes them given.
pub(super) fn fields_of<T: DeserializeOwned>(id: &str, otherwise: &str) -> Result<Vec<FieldRef>> {
    let options = TracingOptions::default().strings_as_large_utf8(false).sequence_as_large_list(false);
    Vec::<FieldRef>::from_type::<T>(options).map_err(|cause| {
        let name = std::any::type_name::<T>();
        Error::config(format!("operator '{id}': the columns of {name} can't be told from the type; give them to {otherwise}"))
            .caused_by(cause)
    })
}
