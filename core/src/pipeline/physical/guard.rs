//! AND and OR that guard: `v <> 0 AND 10 / v > 1` divides by no zero, whatever the rows beside it are.
//!
//! What can't fail is computed first, whichever side it stands on: the optimizer merges conditions of subqueries into one, and makes CASE
//! with a boolean result AND and OR. What can fail is then computed only for the rows that are not decided yet. So whether a row is an
//! error depends on the row alone, not on how many of its batch pass.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, is_null, not, or_kleene};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr, TryCastExpr,
};
use std::fmt;
use std::sync::Arc;

/// AND or OR, whose right side may fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Guarded(BinaryExpr);

/// The same condition, if a part of it may fail: that stands behind what can't, and is guarded by it.
pub(super) fn guarded(condition: &BinaryExpr, schema: &Schema) -> Option<Arc<dyn PhysicalExpr>> {
    let op = *condition.op();
    if !op.is_logic_operator() {
        return None;
    }
    let mut parts = Vec::new();
    collect(condition, op, &mut parts);
    let (risky, safe): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| may_fail(part, schema));
    let first_risky = safe.len();
    if risky.is_empty() {
        return None;
    }
    let join = |left: Arc<dyn PhysicalExpr>, (index, right): (usize, Arc<dyn PhysicalExpr>)| {
        let both = BinaryExpr::new(left, op, right);
        if index < first_risky { Arc::new(both) as Arc<dyn PhysicalExpr> } else { Arc::new(Guarded(both)) }
    };
    let mut parts = safe.into_iter().chain(risky).enumerate();
    let (_, first) = parts.next()?;
    Some(parts.fold(first, join))
}

/// The operands of a chain of one operator, in their order.
fn collect(condition: &BinaryExpr, op: Operator, parts: &mut Vec<Arc<dyn PhysicalExpr>>) {
    for side in [condition.left(), condition.right()] {
        let inner = side.downcast_ref::<BinaryExpr>().or_else(|| side.downcast_ref::<Guarded>().map(|guarded| &guarded.0));
        match inner.filter(|inner| *inner.op() == op) {
            Some(inner) => collect(inner, op, parts),
            None => parts.push(Arc::clone(side)),
        }
    }
}

/// Whether it may be an error for some row. Unknown functions may.
fn may_fail(expression: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let mut found = false;
    let walked = expression.apply(|part| {
        found = !is_total(part, schema);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

/// Whether it has a value whatever those of its parts are.
fn is_total(part: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    if let Some(binary) = part.downcast_ref::<BinaryExpr>() {
        let on_floats = || binary.left().data_type(schema).is_ok_and(|data_type| data_type.is_floating());
        return match binary.op() {
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => on_floats(),
            op => op.is_logic_operator() || op.supports_propagation(),
        };
    }
    if let Some(cast) = part.downcast_ref::<CastExpr>() {
        return cast.expr().data_type(schema).is_ok_and(|from| widens(&from, cast.cast_type()));
    }
    let part: &dyn PhysicalExpr = part.as_ref();
    part.is::<Column>()
        || part.is::<Literal>()
        || part.is::<IsNullExpr>()
        || part.is::<IsNotNullExpr>()
        || part.is::<NotExpr>()
        || part.is::<InListExpr>()
        || part.is::<LikeExpr>()
        || part.is::<CaseExpr>()
        || part.is::<TryCastExpr>()
        || part.is::<Guarded>()
}

/// Whether every value of the one type is one of the other.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, LargeUtf8, Utf8, Utf8View};
    let is_text = |data_type: &DataType| matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
    let is_wider = || from.primitive_width() < to.primitive_width();
    match (from, to) {
        _ if from == to => true,
        (from, to) if is_text(from) && is_text(to) => true,
        (from, Float32 | Float64) => from.is_integer() || *from == Float32,
        (from, to) if from.is_unsigned_integer() => to.is_integer() && is_wider(),
        (from, to) => from.is_signed_integer() && to.is_signed_integer() && is_wider(),
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.0.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.0.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.0.return_field(input)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let is_and = *self.0.op() == Operator::And;
        let left = self.0.left().evaluate(rows)?.into_array(rows.num_rows())?;
        let Some(left) = left.as_boolean_opt() else { return internal_err!("{} is not a boolean", self.0.left()) };
        let open = undecided(left, is_and)?;
        if !open.has_true() {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.0.right().evaluate_selection(rows, &open)?.into_array(rows.num_rows())?;
        let Some(right) = right.as_boolean_opt() else { return internal_err!("{} is not a boolean", self.0.right()) };
        // Where the left side decides, the right one has no meaning, and no say.
        let both = if is_and { and_kleene(left, right)? } else { or_kleene(left, right)? };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.0.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.as_slice() {
            [left, right] => Ok(Arc::new(Self(BinaryExpr::new(Arc::clone(left), *self.0.op(), Arc::clone(right))))),
            _ => internal_err!("a condition has two sides"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// The rows that one side does not decide: those where it is not false, for AND, or not true.
fn undecided(side: &BooleanArray, is_and: bool) -> Result<BooleanArray> {
    let value = if is_and { side.clone() } else { not(side)? };
    Ok(match side.null_count() {
        0 => value,
        _ => or_kleene(&is_null(side)?, &value)?,
    })
}
