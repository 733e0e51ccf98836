//! What a stream can do in this version, judged on the plan as the user wrote it, so that the error can speak of what they wrote.

use crate::error::{Error, Result};
use crate::sql::functions::is_repeatable;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::{Expr, LogicalPlan};

/// # Errors
/// `Config` for the first thing that is not supported.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut wrong = None;
    let walked = plan.apply_with_subqueries(|node| {
        wrong = check_node(node).err();
        Ok(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(super::config_error)?;
    wrong.map_or(Ok(()), Err)
}

fn refuse(what: &str, instead: &str) -> Result<()> {
    let separator = if instead.is_empty() { "" } else { "; " };
    Err(Error::config(format!("{what} is not supported on a stream by this version{separator}{instead}")))
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Aggregate(_) => refuse("an aggregate or GROUP BY", "select the rows, and aggregate where they are read"),
        LogicalPlan::Distinct(_) => refuse("DISTINCT", "for UNION, write UNION ALL"),
        LogicalPlan::Sort(_) => refuse("ORDER BY", "a stream has no last row; leave it out, and sort where the rows are read"),
        LogicalPlan::Limit(_) => refuse("LIMIT", "a stream has no end; leave it out, or bound the run with --max-batches"),
        LogicalPlan::Window(_) => refuse("a window function (OVER)", ""),
        LogicalPlan::Join(_) => refuse("a join", ""),
        LogicalPlan::RecursiveQuery(_) => refuse("WITH RECURSIVE", ""),
        LogicalPlan::Values(_) => refuse("VALUES", "read a table"),
        LogicalPlan::EmptyRelation(_) => refuse("a SELECT without FROM", "read a table"),
        LogicalPlan::Subquery(_) => refuse("a subquery in an expression", ""),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Extension(_) => check_expressions(node),
        other => refuse(&format!("'{}'", other.display()), ""),
    }
}

fn check_expressions(node: &LogicalPlan) -> Result<()> {
    let mut wrong = None;
    let walked = node.apply_expressions(|expression| {
        expression.apply(|part| {
            wrong = check_expression(part).err();
            Ok(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    walked.map_err(super::config_error)?;
    wrong.map_or(Ok(()), Err)
}

fn check_expression(expression: &Expr) -> Result<()> {
    match expression {
        Expr::ScalarFunction(function) if !is_repeatable(&function.func) => Err(Error::config(format!(
            "{}() gives another value each time, so a batch could not be repeated after a crash; derive the value from the row's columns",
            function.func.name()
        ))),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
            refuse("a subquery in an expression", "")
        }
        Expr::AggregateFunction(_) => refuse("an aggregate", "select the rows, and aggregate where they are read"),
        Expr::WindowFunction(_) => refuse("a window function (OVER)", ""),
        _ => Ok(()),
    }
}

/// Output columns need different names, and `_op` is taken.
pub(super) fn check_columns(plan: &LogicalPlan) -> Result<()> {
    let fields = plan.schema().fields();
    for (index, field) in fields.iter().enumerate() {
        let name = field.name();
        if name == "_op" {
            return Err(Error::config("the column name '_op' is reserved for changes; give the column another name with AS"));
        }
        if fields[..index].iter().any(|earlier| earlier.name() == name) {
            return Err(Error::config(format!("two columns of the output are called '{name}'; give one another name with AS")));
        }
    }
    Ok(())
}
