//! Whether a sink in the mode `update` gets what tells the rows of a changelog apart.
//!
//! A row replaces the one before it of the same group, so what is written must name the group. Refused is only what clearly does not: a key
//! that no column of the output is computed from, and that no other key decides. A window need not be named: when a row was written may
//! tell.

use super::aggregate::{AggregateNode, GroupKey, Grouping};
use super::lineage::shown;
use crate::error::{Error, Result};
use datafusion_common::Column;
use datafusion_expr::{Expr, LogicalPlan};
use std::collections::{BTreeSet, HashSet};

/// # Errors
/// `Config` if two groups would be written as the same row.
pub(super) fn check_keys(query: &LogicalPlan) -> Result<()> {
    let mut plan = query;
    let mut wanted: BTreeSet<usize> = (0..query.schema().fields().len()).collect();
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => {
                let read = wanted.iter().map(|index| &projection.expr[*index]);
                wanted = read.flat_map(|expression| columns_of(expression, &projection.input)).collect();
                &projection.input
            }
            LogicalPlan::Filter(filter) => {
                wanted.extend(columns_of(&filter.predicate, &filter.input));
                &filter.input
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Extension(extension) => {
                return match AggregateNode::of(extension).map(|node| &node.operation) {
                    Some(grouping) if !grouping.calls.is_empty() => check(grouping, &wanted),
                    _ => Ok(()),
                };
            }
            _ => return Ok(()),
        }
    }
}

fn columns_of(expression: &Expr, input: &LogicalPlan) -> BTreeSet<usize> {
    expression.column_refs().into_iter().filter_map(|column| input.schema().index_of_column(column).ok()).collect()
}

fn check(grouping: &Grouping, wanted: &BTreeSet<usize>) -> Result<()> {
    let origins = &grouping.origins[..grouping.keys.len()];
    let is_written = |index: &usize| wanted.contains(index);
    let decided: HashSet<&Column> = (0..origins.len()).filter(is_written).flat_map(|index| origins[index].column_refs()).collect();
    let is_told = |index: &usize| {
        let is_window = matches!(grouping.keys[*index], GroupKey::Window(..));
        is_window || is_written(index) || origins[*index].column_refs().is_subset(&decided)
    };
    let missing = (0..origins.len()).find(|index| !is_told(index));
    match missing {
        None => Ok(()),
        Some(index) => Err(Error::config(format!(
            "{}: the mode 'update' writes the new row of each group that changed, and no column that is written tells which group it is: '{}' is \
             missing; add it to the SELECT, or use the mode 'complete'",
            grouping.text,
            shown(&origins[index])
        ))),
    }
}
