//! Closures as nodes of a logical plan.

use super::operation::{Operation, OperationNode};
use crate::transform::{BatchFunction, MapBatches};
use arrow::datatypes::SchemaRef;
use datafusion_common::{DFSchema, Result as PlanResult};
use datafusion_expr::LogicalPlan;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// A call of a function with the rows below.
pub(super) type MapBatchesNode = OperationNode<MapBatchesCall>;

/// A function of rows, and its name, which is unique in a job.
#[derive(Clone)]
pub(super) struct MapBatchesCall {
    id: String,
    function: BatchFunction,
}

impl MapBatchesNode {
    pub(super) fn try_new(id: String, input: LogicalPlan, output: SchemaRef, function: BatchFunction) -> PlanResult<Self> {
        let schema = Arc::new(DFSchema::try_from(output)?);
        Ok(Self { operation: MapBatchesCall { id, function }, input, schema })
    }

    pub(super) fn id(&self) -> &str {
        &self.operation.id
    }

    pub(super) fn output(&self) -> SchemaRef {
        Arc::clone(self.schema.inner())
    }

    pub(super) fn transform(&self) -> MapBatches {
        MapBatches::new(self.id(), self.output(), Arc::clone(&self.operation.function))
    }

    /// Whether it is the same call, met again on another way from the same stream.
    pub(super) fn is_same_call(&self, other: &Self) -> bool {
        self == other && Arc::ptr_eq(&self.operation.function, &other.operation.function)
    }
}

impl Operation for MapBatchesCall {
    const NAME: &'static str = "MapBatches";

    fn identity(&self) -> impl Eq + Hash {
        &self.id
    }
}

impl fmt::Display for MapBatchesCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapBatches: {}", self.id)
    }
}
