//! What queries read: which sources, and what all of them together need of each.

use super::super::config_error;
use crate::error::{Error, Result};
use crate::sink::SinkSettings;
use crate::source::{Scan, SourceSettings};
use arrow::datatypes::SchemaRef;
use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::utils::{conjunction, disjunction, split_conjunction};
use datafusion_expr::{Expr, LogicalPlan, TableScan};
use std::collections::BTreeSet;

/// The names of the sources that queries read.
pub(in crate::pipeline) fn sources_of<'a>(queries: impl Iterator<Item = &'a LogicalPlan>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for query in queries {
        each_scan(query, &mut |scan| {
            names.insert(scan.table_name.table().to_owned());
        })?;
    }
    Ok(names)
}

fn each_scan(query: &LogicalPlan, visit: &mut dyn FnMut(&TableScan)) -> Result<()> {
    let walked = query.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            visit(scan);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map(|_| ()).map_err(config_error)
}

/// What all queries together need of a source.
pub(super) fn scan_of(settings: &SourceSettings, schema: &SchemaRef, queries: &[(SinkSettings, LogicalPlan)]) -> Result<Scan> {
    let mut columns = BTreeSet::new();
    let mut filters: Vec<Option<Expr>> = Vec::new();
    for (_, query) in queries {
        each_scan(query, &mut |scan| {
            if scan.table_name.table() == settings.id.as_str() {
                columns.extend(scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect()));
                filters.push(conjunction(scan.filters.iter().cloned().map(unqualified)));
            }
        })?;
    }
    let event_time = match &settings.event_time {
        Some(event_time) => Some(schema.index_of(&event_time.column).map_err(|cause| Error::config("event time").caused_by(cause))?),
        None => None,
    };
    // What is left out is null.
    let watermark_only = event_time.is_some_and(|column| columns.insert(column) && schema.field(column).is_nullable());
    // A row is of no use only if no consumer wants it: one without a condition wants all.
    let filters = match filters.as_slice() {
        [Some(only)] => split_conjunction(only).into_iter().cloned().collect(),
        several => several.iter().cloned().collect::<Option<Vec<_>>>().and_then(disjunction).into_iter().collect(),
    };
    Ok(Scan { projection: columns.into_iter().collect(), filters, event_time, watermark_only })
}

/// The expression with columns by their plain names.
fn unqualified(expression: Expr) -> Expr {
    let plain = |part: Expr| {
        Ok(match part {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    };
    let original = expression.clone();
    expression.transform(plain).map_or(original, |transformed| transformed.data)
}
