//! GROUP BY and DISTINCT as nodes of a logical plan.
//!
//! DataFusion's own node would be optimized as if all input were there, so it is replaced between the analyzer and the optimizer: below
//! stands a projection of keys, times and arguments under names of their own, which the optimizer may treat as any other; the node itself
//! goes by these names. Its output has the columns of the node that it replaces.

use super::config_error;
use super::lineage::{resolved, shown};
use super::operation::{Operation, OperationNode};
use super::rows::rows_in_words;
use crate::error::{Error, Result};
use crate::plan::readable;
use crate::window::{WindowFunction, WindowSpec};
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DFSchemaRef};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, when};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// A grouping of its input's rows. See the [module](self).
pub(super) type AggregateNode = OperationNode<Grouping>;

/// What is grouped by, and what is computed of each group.
#[derive(Clone)]
pub(super) struct Grouping {
    /// In the order of the output's columns; the calls follow.
    pub(super) keys: Vec<GroupKey>,
    /// Calls over the input's columns.
    pub(super) calls: Vec<AggregateFunction>,
    /// What each column of the output is computed from.
    pub(super) origins: Vec<Expr>,
    /// Which rows are grouped, in words.
    pub(super) rows: String,
    /// As the user wrote it, for messages.
    pub(super) text: String,
}

/// What is grouped by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum GroupKey {
    /// A column of the input.
    Column(Column),
    /// Windows over a column of the input.
    Window(WindowSpec, Column),
}

/// The plan with every GROUP BY and DISTINCT replaced.
pub(super) fn replace(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut failure = None;
    let replaced = plan.transform_up(|node| {
        let made = match &node {
            LogicalPlan::Aggregate(aggregate) => {
                let shown = |key: &Expr| readable(&key.clone().unalias_nested().data.to_string());
                let keys: Vec<String> = aggregate.group_expr.iter().map(shown).collect();
                let text =
                    if keys.is_empty() { "an aggregate without GROUP BY".to_owned() } else { format!("GROUP BY {}", keys.join(", ")) };
                AggregateNode::new(&aggregate.input, &aggregate.group_expr, &aggregate.aggr_expr, &aggregate.schema, text)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
                AggregateNode::new(input, &columns, &[], input.schema(), "DISTINCT".into())
            }
            _ => return Ok(Transformed::no(node)),
        };
        match made {
            Ok(made) => Ok(Transformed::yes(made.into_plan())),
            Err(error) => {
                failure = Some(error);
                Ok(Transformed::new(node, false, TreeNodeRecursion::Stop))
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => replaced.map(|replaced| replaced.data).map_err(config_error),
    }
}

/// Gathers what the projection below the node computes.
struct InputProjection {
    expressions: Vec<Expr>,
    /// The columns of what is projected.
    schema: DFSchemaRef,
}

impl InputProjection {
    /// The column of an expression; the same one for the same expression.
    fn column(&mut self, expression: &Expr) -> Result<Column> {
        let plain = decoded(expression.clone().unalias_nested().data, &self.schema)?;
        let position = self.expressions.iter().position(|other| *other == plain).unwrap_or_else(|| {
            self.expressions.push(plain);
            self.expressions.len() - 1
        });
        Ok(Column::new_unqualified(format!("__{position}")))
    }

    /// The expression as a column, unless it is a constant.
    fn argument(&mut self, expression: &Expr) -> Result<Expr> {
        match expression {
            Expr::Literal(..) => Ok(expression.clone()),
            other => self.column(other).map(Expr::Column),
        }
    }

    fn build(self, input: &LogicalPlan) -> Result<LogicalPlan> {
        let mut named: Vec<Expr> =
            self.expressions.into_iter().enumerate().map(|(index, expression)| expression.alias(format!("__{index}"))).collect();
        if named.is_empty() {
            // Rows without a column that is needed are counted all the same: the first column stands for them.
            named.extend(input.schema().columns().into_iter().take(1).map(|column| Expr::Column(column).alias("__0")));
        }
        LogicalPlanBuilder::from(input.clone()).project(named).and_then(LogicalPlanBuilder::build).map_err(config_error)
    }
}

/// The expression without dictionaries in its type: groups outlive the batch whose dictionary it is. The output has its type again.
pub(super) fn decoded(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    let data_type = expression.get_type(schema).map_err(config_error)?;
    let plain = plain_type(&data_type);
    Ok(if plain == data_type { expression } else { cast(expression, plain) })
}

fn plain_type(data_type: &DataType) -> DataType {
    let plain = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(plain_type(field.data_type())));
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(field) => DataType::List(plain(field)),
        DataType::LargeList(field) => DataType::LargeList(plain(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(plain(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        other => other.clone(),
    }
}

impl AggregateNode {
    fn new(input: &LogicalPlan, groups: &[Expr], aggregates: &[Expr], schema: &DFSchemaRef, text: String) -> Result<Self> {
        let mut projection = InputProjection { expressions: Vec::new(), schema: Arc::clone(input.schema()) };
        let keys = groups.iter().map(|group| group_key(group, &mut projection)).collect::<Result<Vec<_>>>()?;
        if keys.iter().filter(|key| matches!(key, GroupKey::Window(..))).count() > 1 {
            return Err(Error::config("GROUP BY has two windows; group by one, and by the other in a query over its result"));
        }
        let calls = aggregates.iter().map(|aggregate| call(aggregate, &mut projection)).collect::<Result<Vec<_>>>()?;
        let of_keys = keys.iter().zip(groups).map(|(key, group)| key_origin(key, group, input));
        let origins = of_keys.chain(aggregates.iter().map(|aggregate| Ok(resolved(aggregate, input)))).collect::<Result<_>>()?;
        let operation = Grouping { keys, calls, origins, rows: rows_in_words(input), text };
        Ok(Self { operation, input: projection.build(input)?, schema: Arc::clone(schema) })
    }
}

fn group_key(expression: &Expr, projection: &mut InputProjection) -> Result<GroupKey> {
    let plain = expression.clone().unalias_nested().data;
    if matches!(plain, Expr::GroupingSet(_)) {
        return Err(Error::config("GROUPING SETS, CUBE and ROLLUP are not supported; write a query for each, united by UNION ALL"));
    }
    if let Some((time, spec)) = WindowFunction::of(&plain)? {
        let time = time.clone();
        return Ok(GroupKey::Window(spec, projection.column(&time)?));
    }
    Ok(GroupKey::Column(projection.column(&plain)?))
}

/// A window by what it is of its time, however its lengths are written.
fn key_origin(key: &GroupKey, expression: &Expr, input: &LogicalPlan) -> Result<Expr> {
    let plain = expression.clone().unalias_nested().data;
    Ok(match (key, WindowFunction::of(&plain)?) {
        (GroupKey::Window(spec, _), Some((time, _))) => {
            Expr::Column(Column::new_unqualified(format!("{spec} of {}", shown(&resolved(time, input)))))
        }
        _ => resolved(&plain, input),
    })
}

fn call(expression: &Expr, projection: &mut InputProjection) -> Result<AggregateFunction> {
    let Expr::AggregateFunction(call) = expression.clone().unalias_nested().data else {
        return Err(Error::internal(format!("'{expression}' stands where an aggregate should")));
    };
    let mut call = call;
    let filter = call.params.filter.clone();
    let guarded = |expression: &Expr| guarded(expression, filter.as_deref());
    call.params.args = call.params.args.iter().map(|argument| projection.argument(&guarded(argument)?)).collect::<Result<_>>()?;
    for order in &mut call.params.order_by {
        order.expr = Expr::Column(projection.column(&guarded(&order.expr)?)?);
    }
    let filter = filter.as_ref().map(|filter| projection.column(filter)).transpose()?;
    call.params.filter = filter.map(|filter| Box::new(Expr::Column(filter)));
    Ok(call)
}

/// An argument that is computed, and so may fail, only for the rows that the call's FILTER passes.
fn guarded(expression: &Expr, filter: Option<&Expr>) -> Result<Expr> {
    match (expression, filter) {
        (Expr::Column(_) | Expr::Literal(..), _) | (_, None) => Ok(expression.clone()),
        (computed, Some(filter)) => when(filter.clone(), computed.clone()).end().map_err(config_error),
    }
}

impl Operation for Grouping {
    const NAME: &'static str = "Group";

    fn identity(&self) -> impl Eq + Hash {
        (&self.keys, &self.calls)
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<String> = self.calls.iter().map(|call| Expr::AggregateFunction(call.clone()).human_display().to_string()).collect();
        write!(f, "Group: {}, aggregates [{}]", self.text, calls.join(", "))
    }
}
