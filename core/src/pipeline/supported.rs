//! What a stream can do in this version, judged on the plan before it is optimized. Of SQL, most is refused by its
//! [text](crate::sql::syntax) already; expressions written in Rust are judged here alone.

use crate::error::{Error, Result};
use crate::sql::functions::is_repeatable;
use crate::sql::syntax::refusal;
use crate::window::WindowFunction;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::{Distinct, Expr, LogicalPlan};

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
    Err(refusal(what, instead))
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Join(join) => {
            super::join::Sides::of(join)?;
            check_expressions(node)
        }
        LogicalPlan::EmptyRelation(_) => refuse("a SELECT without a table in FROM", "read a table"),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Extension(_) => check_expressions(node),
        LogicalPlan::Aggregate(aggregate) => {
            // Windows stand here, over anything but windows.
            let keys = aggregate.group_expr.iter().map(|key| Ok(WindowFunction::of(unaliased(key))?.map_or(key, |(time, _)| time)));
            let keys = keys.collect::<Result<Vec<_>>>()?;
            keys.into_iter().chain(&aggregate.aggr_expr).try_for_each(check_parts)
        }
        LogicalPlan::Subquery(_) => refuse(
            "this LATERAL subquery",
            "one can stand there that computes columns from the row at hand alone, or takes its lists apart with UNNEST",
        ),
        other => refuse(&format!("'{}'", other.display()), ""),
    }
}

fn unaliased(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn check_expressions(node: &LogicalPlan) -> Result<()> {
    node.expressions().iter().try_for_each(check_parts)
}

fn check_parts(expression: &Expr) -> Result<()> {
    let mut wrong = None;
    let walked = expression.apply(|part| {
        wrong = check_expression(part).err();
        Ok(if wrong.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
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
        Expr::ScalarFunction(function) if WindowFunction::gives_several(function) => Err(Error::config(format!(
            "{}() puts a row into several windows, so it stands in GROUP BY itself: GROUP BY {0}(...), not over a column of a subquery",
            function.func.name()
        ))),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
            refuse("a subquery in an expression", "")
        }
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
            return Err(Error::config(super::errors::twice(name)));
        }
    }
    Ok(())
}
