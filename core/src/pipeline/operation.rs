//! Operations that DataFusion does not know as nodes of a logical plan: what it asks of every such node, once for all of them.
//!
//! Each has one input, of which it needs all columns, and shows the optimizer no expressions of its own. Neither filters nor limits move
//! through it, for nobody but its planner knows what it does.

use datafusion_common::{DFSchemaRef, Result, internal_err};
use datafusion_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What is done with the rows of a node's input. It is displayed as a line of a plan.
pub(super) trait Operation: fmt::Display + Clone + Send + Sync + 'static {
    /// What such a node is called.
    const NAME: &'static str;

    /// What makes it the same operation, where its input is the same.
    fn identity(&self) -> impl Eq + Hash;
}

/// An operation and the rows that it is about.
#[derive(Clone)]
pub(super) struct OperationNode<O> {
    pub(super) operation: O,
    pub(super) input: LogicalPlan,
    pub(super) schema: DFSchemaRef,
}

impl<O: Operation> OperationNode<O> {
    /// The node behind one of DataFusion's, if it is of this kind.
    pub(super) fn of(extension: &Extension) -> Option<&Self> {
        extension.node.as_any().downcast_ref()
    }

    pub(super) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl<O: Operation> fmt::Debug for OperationNode<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl<O: Operation> PartialEq for OperationNode<O> {
    fn eq(&self, other: &Self) -> bool {
        self.operation.identity() == other.operation.identity() && self.input == other.input
    }
}

impl<O: Operation> Eq for OperationNode<O> {}

impl<O: Operation> Hash for OperationNode<O> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.operation.identity().hash(state);
        self.input.hash(state);
    }
}

/// There is no order that would mean anything, but DataFusion asks for one that agrees with equality.
impl<O: Operation> PartialOrd for OperationNode<O> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl<O: Operation> UserDefinedLogicalNodeCore for OperationNode<O> {
    fn name(&self) -> &str {
        O::NAME
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
        self.operation.fmt(f)
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, ..self.clone() }),
            _ => internal_err!("'{}' has one input", O::NAME),
        }
    }
}
