//! The batch's clock in expressions: functions that read it become literals, once per batch.

use crate::error::{ErrorKind, Result, ResultExt};
use crate::sql::functions::BatchTime;
use crate::time::Timestamp;
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::expressions::Literal;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

fn value(expression: &Arc<dyn PhysicalExpr>, time: Timestamp) -> Option<ScalarValue> {
    let function = expression.downcast_ref::<ScalarFunctionExpr>()?;
    Some(function.fun().inner().downcast_ref::<BatchTime>()?.value(time))
}

/// Whether the expression reads the clock.
pub(crate) fn reads_clock(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let mut found = false;
    let walked = expression.apply(|part| {
        found = value(part, Timestamp(0)).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

/// The expression with the clock's value in place.
pub(crate) fn at(expression: &Arc<dyn PhysicalExpr>, time: Timestamp) -> Result<Arc<dyn PhysicalExpr>> {
    let replace = |part: Arc<dyn PhysicalExpr>| {
        Ok(match value(&part, time) {
            Some(value) => Transformed::yes(Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(part),
        })
    };
    let replaced = Arc::clone(expression).transform(replace).or_error(ErrorKind::Internal, || "setting the batch's time".into())?;
    Ok(replaced.data)
}
