//! What a column of a logical plan is computed from: an expression over columns of the tables, or of the nearest step that is more than
//! expressions: a union, a closure, a process function, the elements of a list.
//!
//! State goes by it: a column of another name is the same column if it is computed from the same, and none if not. It is told of the plan
//! as it was written, before the optimizer, which may write the same in other ways in another version.

use super::aggregate::AggregateNode;
use super::closure::MapBatchesNode;
use super::process::ProcessNode;
use crate::plan::readable;
use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::{Distinct, Expr, LogicalPlan};
use xxhash_rust::xxh3::xxh3_64;

/// What is longer than this many bytes is told by its hash: expressions over expressions double in length with every step.
pub(super) const READABLE: usize = 1 << 12;

/// An expression over the columns of a plan, down to what they are computed from.
pub(super) fn resolved(expression: &Expr, plan: &LogicalPlan) -> Expr {
    let plain = expression.clone().unalias_nested().data;
    let down = |part: Expr| {
        let index = match &part {
            Expr::Column(column) => plan.schema().index_of_column(column).ok(),
            _ => None,
        };
        Ok(index.map_or_else(|| Transformed::no(part), |index| Transformed::yes(origin(plan, index))))
    };
    let original = plain.clone();
    let resolved = plain.transform_up(down).map_or(original, |transformed| transformed.data);
    let text = resolved.to_string();
    if text.len() <= READABLE { resolved } else { named(format!("expression {:016x}", xxh3_64(text.as_bytes()))) }
}

/// An origin in words.
pub(super) fn shown(origin: &Expr) -> String {
    readable(&origin.to_string())
}

/// For the columns of keys: a name each for the state, no two of them the same, and what it is computed from, in words.
pub(super) fn key_origins<'a>(origins: impl Iterator<Item = &'a Expr>) -> Vec<(String, String)> {
    let mut made: Vec<(String, String)> = Vec::new();
    for origin in origins {
        let plain = match origin {
            Expr::Column(column) => column.name.clone(),
            other => shown(other),
        };
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let is_new = |name: &String| made.iter().all(|(known, _)| known != name);
        let name = std::iter::once(plain.clone()).chain(numbered).find(is_new).unwrap_or_default();
        made.push((name, shown(origin)));
    }
    made
}

fn named(name: String) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// What the column at a position is computed from.
fn origin(plan: &LogicalPlan, index: usize) -> Expr {
    match plan {
        LogicalPlan::Projection(projection) => resolved(&projection.expr[index], &projection.input),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, index),
        LogicalPlan::Filter(filter) => origin(&filter.input, index),
        LogicalPlan::Aggregate(aggregate) => {
            let columns = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).nth(index);
            columns.map_or_else(|| named(plan.schema().field(index).name().clone()), |column| resolved(column, &aggregate.input))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => origin(input, index),
        LogicalPlan::TableScan(scan) => Expr::Column(Column::new(Some(scan.table_name.table()), scan.projected_schema.field(index).name())),
        LogicalPlan::Join(join) => match index.checked_sub(join.left.schema().fields().len()) {
            None => origin(&join.left, index),
            Some(index) => origin(&join.right, index),
        },
        LogicalPlan::Union(union) => of_branches(union.inputs.iter().map(|input| origin(input, index)).collect()),
        LogicalPlan::Unnest(unnest) => of_unnest(unnest, index),
        LogicalPlan::Extension(extension) => {
            let field = plan.schema().field(index).name();
            if let Some(node) = AggregateNode::of(extension) {
                return node.operation.origins[index].clone();
            }
            if let Some(node) = MapBatchesNode::of(extension) {
                return Expr::Column(Column::new(Some(node.id()), field));
            }
            if let Some(node) = ProcessNode::of(extension) {
                return Expr::Column(Column::new(Some(node.id()), field));
            }
            named(field.clone())
        }
        other => named(other.schema().field(index).name().clone()),
    }
}

fn of_branches(mut branches: Vec<Expr>) -> Expr {
    branches.dedup();
    match branches.as_slice() {
        [only] => only.clone(),
        several => named(several.iter().map(shown).collect::<Vec<_>>().join(" | ")),
    }
}

/// Elements of a list, the fields of a struct by their numbers, or a column that stays as it is.
fn of_unnest(unnest: &datafusion_expr::Unnest, index: usize) -> Expr {
    let input = unnest.dependency_indices[index];
    let whole = origin(&unnest.input, input);
    let field = unnest.dependency_indices[..index].iter().filter(|other| **other == input).count();
    if unnest.list_type_columns.iter().any(|(column, _)| *column == input) {
        return named(format!("unnest({})[{field}]", shown(&whole)));
    }
    if unnest.struct_type_columns.contains(&input) { named(format!("{}.{field}", shown(&whole))) } else { whole }
}
