//! A function of the user's, from rows to rows.

use crate::batch::BatchContext;
use crate::error::{Error, Result};
use crate::operator::Transform;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::fmt;
use std::sync::Arc;

/// Rows in, rows out, of the declared columns. Called from several threads at once, each time with a part of a batch: it must not depend
/// on how rows are divided among calls.
pub type BatchFunction = Arc<dyn Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync>;

/// See the [module](self).
#[derive(Clone)]
pub struct MapBatches {
    id: String,
    schema: SchemaRef,
    function: BatchFunction,
}

impl MapBatches {
    /// A step that calls a function, whose output has these columns.
    pub fn new(id: impl Into<String>, schema: SchemaRef, function: BatchFunction) -> Self {
        Self { id: id.into(), schema, function }
    }
}

impl fmt::Debug for MapBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapBatches").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Transform for MapBatches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn for_batch(self: Arc<Self>, _batch: &BatchContext) -> Result<Arc<dyn Transform>> {
        Ok(self)
    }

    fn apply(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let out = (self.function)(&rows).map_err(|error| error.within(format!("operator '{}'", self.id)))?;
        let same = |(given, declared): (&Arc<arrow::datatypes::Field>, &Arc<arrow::datatypes::Field>)| {
            given.name() == declared.name() && given.data_type() == declared.data_type()
        };
        let given = out.schema();
        if given.fields().len() != self.schema.fields().len() || !given.fields().iter().zip(self.schema.fields()).all(same) {
            let show = |schema: &SchemaRef| {
                let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
                columns.collect::<Vec<_>>().join(", ")
            };
            return Err(Error::internal(format!(
                "operator '{}' gave the columns ({}), and declared ({})",
                self.id,
                show(&given),
                show(&self.schema)
            )));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), out.columns().to_vec())
            .map_err(|cause| Error::internal(format!("operator '{}'", self.id)).caused_by(cause))
    }

    fn describe(&self) -> String {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("function -> [{}]", columns.join(", "))
    }
}
