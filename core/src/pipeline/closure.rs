//! Closures as nodes of a logical plan.

use crate::transform::{BatchFunction, MapBatches};
use arrow::datatypes::SchemaRef;
use datafusion_common::{DFSchema, DFSchemaRef, Result as PlanResult};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A call of a function with the rows below. All columns below are needed; no filter moves through it, for nobody knows what it does.
#[derive(Clone)]
pub(super) struct MapBatchesNode {
    pub(super) id: String,
    pub(super) input: LogicalPlan,
    schema: DFSchemaRef,
    output: SchemaRef,
    function: BatchFunction,
}

impl MapBatchesNode {
    pub(super) fn try_new(id: String, input: LogicalPlan, output: SchemaRef, function: BatchFunction) -> PlanResult<Self> {
        let schema = Arc::new(DFSchema::try_from(Arc::clone(&output))?);
        Ok(Self { id, input, schema, output, function })
    }

    pub(super) fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    pub(super) fn transform(&self) -> MapBatches {
        MapBatches::new(&self.id, self.output(), Arc::clone(&self.function))
    }

    /// Whether it is the same call, met again on another way from the same stream.
    pub(super) fn is_same_call(&self, other: &Self) -> bool {
        self == other && Arc::ptr_eq(&self.function, &other.function)
    }

    /// What makes it the same node: its name, which is unique in a job, and what it stands on.
    fn identity(&self) -> (&str, &LogicalPlan) {
        (&self.id, &self.input)
    }
}

impl fmt::Debug for MapBatchesNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl PartialEq for MapBatchesNode {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for MapBatchesNode {}

impl PartialOrd for MapBatchesNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.identity().partial_cmp(&other.identity())
    }
}

impl Hash for MapBatchesNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for MapBatchesNode {
    fn name(&self) -> &str {
        "MapBatches"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapBatches: {}", self.id)
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, ..self.clone() }),
            _ => datafusion_common::internal_err!("a function has one input"),
        }
    }
}
