//! UNNEST in FROM without a join.
//!
//! `FROM t, UNNEST(t.l) AS u(e)` is planned by DataFusion as a join of `t` with a subquery that refers to the row at hand. Such a
//! subquery reads no table, it computes rows from one row: so it can stand behind `t` as it is, with the columns of `t` passed along at
//! every step. `LEFT JOIN UNNEST(...) ON true` is the same with an UNNEST that gives a null for an empty or null list.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, NullHandling, Result, ScalarValue, TableReference};
use datafusion_expr::{Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder};

/// The plan with each join that only takes rows apart put in line.
pub(super) fn inline(plan: LogicalPlan) -> Result<LogicalPlan> {
    let inlined = plan.transform_up(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        Ok(match inline_join(join)? {
            Some(plan) => Transformed::yes(plan),
            None => Transformed::no(node),
        })
    })?;
    Ok(inlined.data)
}

fn inline_join(join: &Join) -> Result<Option<LogicalPlan>> {
    let keeps_all = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left if is_true(join.filter.as_ref()) && only_unnests(&join.right) => true,
        _ => return Ok(None),
    };
    if !join.on.is_empty() {
        return Ok(None);
    }
    let left = Left { columns: join.left.schema().columns(), plan: &join.left, keeps_all };
    let Some(behind) = left.with(&join.right)? else { return Ok(None) };
    match join.filter.as_ref().filter(|condition| !is_true(Some(condition))) {
        Some(condition) => LogicalPlanBuilder::from(behind).filter(condition.clone())?.build().map(Some),
        None => Ok(Some(behind)),
    }
}

fn is_true(condition: Option<&Expr>) -> bool {
    matches!(condition, None | Some(Expr::Literal(ScalarValue::Boolean(Some(true)), _)))
}

/// Whether every row of the right side is an element of a list, under whatever names: then nulls stand for the row that a LEFT JOIN adds.
fn only_unnests(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => only_unnests(&alias.input),
        LogicalPlan::Subquery(subquery) => only_unnests(&subquery.subquery),
        LogicalPlan::Projection(projection) => {
            let renames = |expression: &Expr| matches!(expression.clone().unalias_nested().data, Expr::Column(_));
            projection.expr.iter().all(renames) && only_unnests(&projection.input)
        }
        LogicalPlan::Unnest(unnest) => {
            let below = unnest.input.as_ref();
            let computed = matches!(below, LogicalPlan::Projection(below) if is_one_row(&below.input));
            computed && unnest.struct_type_columns.is_empty()
        }
        _ => false,
    }
}

fn is_one_row(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row)
}

/// The left side of a join.
struct Left<'a> {
    columns: Vec<Column>,
    plan: &'a LogicalPlan,
    keeps_all: bool,
}

impl Left<'_> {
    /// The right side's steps behind the left side: its columns stand in front of theirs. None if the right side has rows of its own.
    fn with(&self, right: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        match right {
            right if is_one_row(right) => Ok(Some(self.plan.clone())),
            LogicalPlan::Subquery(subquery) => self.with(&subquery.subquery),
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(below) = self.with(&alias.input)? else { return Ok(None) };
                let renamed = self.renamed(&below, &alias.alias, alias.schema.columns());
                LogicalPlanBuilder::from(below).project(renamed)?.build().map(Some)
            }
            LogicalPlan::Projection(projection) => {
                let Some(below) = self.with(&projection.input)? else { return Ok(None) };
                let computed = projection.expr.iter().cloned().map(of_the_row).collect::<Result<Vec<_>>>()?;
                let all = self.columns.iter().cloned().map(Expr::Column).chain(computed);
                LogicalPlanBuilder::from(below).project(all)?.build().map(Some)
            }
            LogicalPlan::Filter(filter) => {
                let Some(below) = self.with(&filter.input)? else { return Ok(None) };
                LogicalPlanBuilder::from(below).filter(of_the_row(filter.predicate.clone())?)?.build().map(Some)
            }
            LogicalPlan::Unnest(unnest) => {
                let Some(below) = self.with(&unnest.input)? else { return Ok(None) };
                let mut options = unnest.options.clone();
                if self.keeps_all {
                    options.null_handling = NullHandling::PreserveAndExpandEmpty;
                }
                LogicalPlanBuilder::from(below).unnest_columns_with_options(unnest.exec_columns.clone(), options)?.build().map(Some)
            }
            _ => Ok(None),
        }
    }

    fn renamed(&self, below: &LogicalPlan, alias: &TableReference, names: Vec<Column>) -> Vec<Expr> {
        let columns = below.schema().columns();
        let (left, right) = columns.split_at(self.columns.len());
        let right = right.iter().zip(names).map(|(column, name)| {
            let column = Expr::Column(column.clone());
            column.alias_qualified(Some(alias.clone()), name.name)
        });
        left.iter().cloned().map(Expr::Column).chain(right).collect()
    }
}

/// References to the row at hand are columns now.
fn of_the_row(expression: Expr) -> Result<Expr> {
    let plain = |part: Expr| {
        Ok(match part {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    };
    // A name that DataFusion derived from the expression stays as it is.
    let name = expression.schema_name().to_string();
    let is_column = matches!(expression, Expr::Column(_) | Expr::Alias(_));
    let plain = expression.transform(plain)?.data;
    Ok(if is_column || plain.schema_name().to_string() == name { plain } else { plain.alias(name) })
}
