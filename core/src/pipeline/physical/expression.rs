//! Logical expressions as physical ones, over the positions of a step's columns.

use super::super::{config_error, trial};
use super::guard;
use crate::error::Result;
use datafusion_common::DFSchema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use std::sync::Arc;

/// An expression over positions, in which conditions [guard] what may fail. Integer arithmetic that overflows is an error: a wrapped
/// sum is a wrong answer that nobody notices.
pub(in crate::pipeline) fn physical(expression: &Expr, schema: &DFSchema, columns: &[usize]) -> Result<Arc<dyn PhysicalExpr>> {
    let made = create_physical_expr(expression, schema, &ExecutionProps::new(), &Default::default()).map_err(config_error)?;
    let guard = |part: Arc<dyn PhysicalExpr>| {
        let guarded = part.downcast_ref::<BinaryExpr>().and_then(|condition| guard::guarded(condition, schema.as_arrow()));
        Ok(guarded.map_or_else(|| Transformed::no(part), Transformed::yes))
    };
    let made = made.transform(guard).map_err(config_error)?.data;
    trial::check(&made, schema)?;
    let adapted = |part: Arc<dyn PhysicalExpr>| {
        if let Some(column) = part.downcast_ref::<Column>() {
            let moved = Column::new(column.name(), columns[column.index()]);
            return Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>));
        }
        if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
            return Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>));
        }
        Ok(Transformed::no(part))
    };
    made.transform(adapted).map(|transformed| transformed.data).map_err(config_error)
}

/// The positions, if the expressions are columns and nothing else.
pub(super) fn plain_columns(expressions: &[Arc<dyn PhysicalExpr>]) -> Option<Vec<usize>> {
    expressions.iter().map(|expression| expression.downcast_ref::<Column>().map(Column::index)).collect()
}
