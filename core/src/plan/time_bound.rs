//! What a watermark says of a column that is computed from an event time.
//!
//! If rows before W are not expected, then rows whose `f(event time)` is before `f(W)` are not expected either, for every f that never
//! goes down: plus or minus a constant, truncation. A bound is such an f, as the expressions that made the column, one after the other.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::{Timestamp, Watermark};
use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion_physical_expr::PhysicalExpr;
use std::fmt;
use std::sync::Arc;

/// See the [module](self). The default is the event time itself.
#[derive(Clone, Default)]
pub struct TimeBound {
    steps: Vec<Arc<dyn PhysicalExpr>>,
}

impl TimeBound {
    /// The columns that a step of a bound is computed over: one, the time.
    pub fn input_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("time", Timestamp::DATA_TYPE, true)]))
    }

    /// The bound behind one more step: an expression over [`input_schema`](Self::input_schema) that never goes down.
    #[must_use]
    pub fn then(&self, step: Arc<dyn PhysicalExpr>) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { steps }
    }

    /// Whether it is the event time itself.
    pub fn is_identity(&self) -> bool {
        self.steps.is_empty()
    }

    /// The watermark of the column.
    ///
    /// # Errors
    /// `BadData` if a step takes the watermark beyond what a time can be; `Internal` if it gives no time.
    pub fn apply(&self, watermark: Watermark) -> Result<Watermark> {
        let Watermark::At(mut time) = watermark else { return Ok(watermark) };
        for step in &self.steps {
            let column = Arc::new(TimestampMicrosecondArray::from(vec![time.0])) as ArrayRef;
            let failed = || format!("computing {step} of the watermark {time}");
            let row = RecordBatch::try_new(Self::input_schema(), vec![column]).or_error(ErrorKind::Internal, failed)?;
            let value = step.evaluate(&row).and_then(|value| value.into_array(1)).or_error(ErrorKind::BadData, failed)?;
            let value = cast(&value, &Timestamp::DATA_TYPE).or_error(ErrorKind::Internal, failed)?;
            let value = value.as_primitive::<TimestampMicrosecondType>().iter().next().flatten();
            time = Timestamp(value.ok_or_else(|| Error::internal(format!("{step} of the watermark {time} is null")))?);
        }
        Ok(Watermark::At(time))
    }
}

impl PartialEq for TimeBound {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for TimeBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.steps.iter().map(|step| step.to_string()).collect();
        f.write_str(&steps.join(", "))
    }
}

impl fmt::Debug for TimeBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeBound({self})")
    }
}
