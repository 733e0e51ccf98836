//! Which rows a step of a logical plan gives, in words: the tables, and what is left out of them and put beside them on the way.
//!
//! Told of the plan as it was written, as [`lineage`](super::lineage) is, and with the same expressions: other names are the same rows.

use super::aggregate::AggregateNode;
use super::closure::MapBatchesNode;
use super::lineage::{READABLE, resolved, shown};
use super::process::ProcessNode;
use datafusion_expr::{Expr, Join, LogicalPlan};
use xxhash_rust::xxh3::xxh3_64;

/// The rows of a plan.
pub(super) fn rows_in_words(plan: &LogicalPlan) -> String {
    let text = told(plan);
    if text.len() <= READABLE { text } else { format!("rows {:016x}", xxh3_64(text.as_bytes())) }
}

fn told(plan: &LogicalPlan) -> String {
    let computed = |expression: &Expr, input: &LogicalPlan| shown(&resolved(expression, input));
    match plan {
        LogicalPlan::TableScan(scan) => scan.table_name.table().to_owned(),
        LogicalPlan::Projection(projection) => told(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => told(&alias.input),
        LogicalPlan::Filter(filter) => format!("{} where {}", told(&filter.input), computed(&filter.predicate, &filter.input)),
        LogicalPlan::Join(join) => told_of_join(join),
        LogicalPlan::Union(union) => {
            let branches: Vec<String> = union.inputs.iter().map(|input| told(input)).collect();
            format!("({})", branches.join(" | "))
        }
        LogicalPlan::Unnest(unnest) => format!("elements of ({})", told(&unnest.input)),
        LogicalPlan::Extension(extension) => {
            if let Some(node) = AggregateNode::of(extension) {
                let keys: Vec<String> = node.operation.origins[..node.operation.keys.len()].iter().map(shown).collect();
                return format!("groups by [{}] of ({})", keys.join(", "), node.operation.rows);
            }
            if let Some(node) = MapBatchesNode::of(extension) {
                return node.id().to_owned();
            }
            ProcessNode::of(extension).map_or_else(|| extension.node.name().to_owned(), |node| node.id().to_owned())
        }
        other => other.display().to_string(),
    }
}

fn told_of_join(join: &Join) -> String {
    let on =
        join.on.iter().map(|(left, right)| format!("{} = {}", shown(&resolved(left, &join.left)), shown(&resolved(right, &join.right))));
    let both = LogicalPlan::Join(join.clone());
    let conditions: Vec<String> = on.chain(join.filter.iter().map(|filter| shown(&resolved(filter, &both)))).collect();
    format!("({} {} join {} on {})", told(&join.left), join.join_type, told(&join.right), conditions.join(" and "))
}
