//! What is computed of static tables alone: the side of a join that does not stream.
//!
//! It is computed from rows that are there before the first batch, once for all batches; or once per batch if a step of it reads the
//! batch's clock.

use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::id::{OperatorId, SourceId};
use crate::operator::Transform;
use crate::plan::StaticRows;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Steps, each behind those that it reads; the last one's rows are the query's. See the [module](self).
#[derive(Debug, Clone)]
pub struct StaticQuery {
    steps: Vec<StaticStep>,
}

/// A step of a [`StaticQuery`].
#[derive(Debug, Clone)]
pub struct StaticStep {
    /// Its name.
    pub id: OperatorId,
    /// What it does.
    pub kind: StaticStepKind,
    /// Its columns.
    pub schema: SchemaRef,
}

/// What a step does. Other steps are given by their positions.
#[derive(Debug, Clone)]
pub enum StaticStepKind {
    /// Gives the rows of a static table.
    Table(SourceId, Arc<StaticRows>),
    /// A function of rows.
    Transform(Arc<dyn Transform>, usize),
    /// The rows of all of these.
    Union(Vec<usize>),
}

impl StaticQuery {
    /// A query of these steps.
    ///
    /// # Errors
    /// `Internal` if there is no step, or if one reads a step that does not stand before it.
    pub fn try_new(steps: Vec<StaticStep>) -> Result<Self> {
        let in_order = |(position, step): (usize, &StaticStep)| step.kind.inputs().iter().all(|&input| input < position);
        if steps.is_empty() || !steps.iter().enumerate().all(in_order) {
            return Err(Error::internal("the steps of a query over static tables are not in order"));
        }
        Ok(Self { steps })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.steps.last().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), |last| Arc::clone(&last.schema))
    }

    /// The query for one batch, and whether it is another one than that of any other batch.
    pub(super) fn for_batch(&self, batch: &BatchContext) -> Result<(Self, bool)> {
        let (mut query, mut reads_clock) = (self.clone(), false);
        for step in &mut query.steps {
            if let StaticStepKind::Transform(transform, _) = &mut step.kind {
                let bound = Arc::clone(transform).for_batch(batch)?;
                reads_clock |= !Arc::ptr_eq(transform, &bound);
                *transform = bound;
            }
        }
        Ok((query, reads_clock))
    }

    /// The rows.
    pub(super) fn rows(&self) -> Result<RecordBatch> {
        let mut done: Vec<RecordBatch> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let rows = match &step.kind {
                StaticStepKind::Table(id, rows) => rows.get(id)?,
                StaticStepKind::Transform(transform, input) => step.apply(transform.as_ref(), &done[*input])?,
                StaticStepKind::Union(inputs) => concat_batches(&step.schema, inputs.iter().map(|&input| &done[input]))
                    .or_error(ErrorKind::Internal, || format!("the output of operator '{}'", step.id))?,
            };
            done.push(rows);
        }
        done.pop().ok_or_else(|| Error::internal("a query over static tables without steps"))
    }
}

impl StaticStep {
    /// As on a stream: a user's function never sees an empty batch, and its panic is an error.
    fn apply(&self, transform: &dyn Transform, rows: &RecordBatch) -> Result<RecordBatch> {
        if rows.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        catch_unwind(AssertUnwindSafe(|| transform.apply(rows.clone()))).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
            let said = said.unwrap_or_else(|| "no message".to_owned());
            Err(Error::internal(format!("operator '{}' panicked on static rows: {said}", self.id)))
        })
    }
}

impl StaticStepKind {
    fn inputs(&self) -> &[usize] {
        match self {
            Self::Table(..) => &[],
            Self::Transform(_, input) => std::slice::from_ref(input),
            Self::Union(inputs) => inputs,
        }
    }
}

/// The steps as `explain` shows them.
impl fmt::Display for StaticQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            match &step.kind {
                StaticStepKind::Table(id, _) => write!(f, "{separator}static table {id}")?,
                StaticStepKind::Transform(transform, _) => write!(f, "{separator}{}: {}", step.id, transform.describe())?,
                StaticStepKind::Union(_) => write!(f, "{separator}{}: union", step.id)?,
            }
        }
        Ok(())
    }
}
