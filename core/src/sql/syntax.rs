//! What a query must not say in this version, judged on its text as it was parsed, before names are resolved.
//!
//! The planner turns EXCEPT into a join and DISTINCT into a grouping, and passes over words that it does not know what to do with
//! (TABLESAMPLE, FOR UPDATE). Here an error can still speak of what the user wrote, and nothing is passed over.

use super::language::Language;
use crate::error::{Error, Result};
use datafusion_expr::planner::ContextProvider;
use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, ObjectNamePart, Query, Select, SetExpr, SetOperator, Statement, TableFactor, Value, Visit,
    Visitor,
};
use std::ops::ControlFlow;

/// # Errors
/// `Config` for the first construct that is not supported, by its name, with what to do instead.
pub(crate) fn check(query: &Statement, language: &Language) -> Result<()> {
    match query.visit(&mut Check { language }) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

type Verdict = ControlFlow<Box<Error>>;

/// The first of these constructs that is there.
fn refuse_any<const N: usize>(constructs: [(bool, &str, &str); N]) -> Verdict {
    match constructs.into_iter().find(|(given, ..)| *given) {
        Some((_, what, instead)) => refuse(what, instead),
        None => Verdict::Continue(()),
    }
}

fn refuse(what: &str, instead: &str) -> Verdict {
    Verdict::Break(Box::new(refusal(what, instead)))
}

/// The error for a construct that this version can't run.
pub(crate) fn refusal(what: &str, instead: &str) -> Error {
    let separator = if instead.is_empty() { "" } else { "; " };
    Error::config(format!("{what} is not supported by this version{separator}{instead}"))
}

const INSTEAD_OF_LIMIT: &str = "a stream has no end; leave it out, or bound the run with --max-batches";
const INSTEAD_OF_ORDER: &str = "a stream has no last row; leave it out, and sort where the rows are read";
const INSTEAD_OF_SUBQUERY: &str = "a subquery can stand in FROM";

struct Check<'a> {
    language: &'a Language,
}

impl Visitor for Check<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &Query) -> Verdict {
        refuse_any([
            (query.with.as_ref().is_some_and(|with| with.recursive), "WITH RECURSIVE", ""),
            (query.order_by.is_some(), "ORDER BY", INSTEAD_OF_ORDER),
            (query.limit_clause.is_some(), "LIMIT or OFFSET", INSTEAD_OF_LIMIT),
            (query.fetch.is_some(), "FETCH", INSTEAD_OF_LIMIT),
            (!query.locks.is_empty(), "FOR UPDATE or FOR SHARE", "leave it out"),
            (query.for_clause.is_some(), "FOR", "leave it out"),
            (query.settings.is_some(), "SETTINGS", "leave it out"),
            (query.format_clause.is_some(), "FORMAT", "a sink's table says STORED AS"),
            (!query.pipe_operators.is_empty(), "the operator |>", "write a SELECT"),
        ])?;
        set_operations(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Verdict {
        let (all, modified) = match &select.group_by {
            GroupByExpr::All(_) => (true, false),
            GroupByExpr::Expressions(_, modifiers) => (false, !modifiers.is_empty()),
        };
        refuse_any([
            (matches!(select.distinct, Some(Distinct::On(_))), "DISTINCT ON", ""),
            (select.top.is_some(), "TOP", INSTEAD_OF_LIMIT),
            (select.into.is_some(), "SELECT INTO", "write INSERT INTO before the SELECT"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW", "write CROSS JOIN UNNEST(...)"),
            (select.prewhere.is_some(), "PREWHERE", "write WHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY", ""),
            (all, "GROUP BY ALL", "name the columns"),
            (modified, "GROUP BY WITH ...", "write a query for each grouping, united by UNION ALL"),
            (!select.cluster_by.is_empty(), "CLUSTER BY", ""),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY", ""),
            (!select.sort_by.is_empty(), "SORT BY", INSTEAD_OF_ORDER),
            (!select.named_window.is_empty(), "a window function (WINDOW)", ""),
            (select.qualify.is_some(), "QUALIFY", ""),
        ])
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> Verdict {
        match table {
            TableFactor::Table { sample, version, with_ordinality, .. } => refuse_any([
                (sample.is_some(), "TABLESAMPLE", "a sample differs from run to run; filter by a hash of a column"),
                (version.is_some(), "a version of a table (AS OF)", ""),
                (*with_ordinality, "WITH ORDINALITY", ""),
            ]),
            TableFactor::Derived { sample, .. } => refuse_any([(sample.is_some(), "TABLESAMPLE", "")]),
            TableFactor::UNNEST { with_offset, with_ordinality, .. } => {
                refuse_any([(*with_offset, "WITH OFFSET", ""), (*with_ordinality, "WITH ORDINALITY", "")])
            }
            TableFactor::Function { .. } | TableFactor::NestedJoin { .. } => Verdict::Continue(()),
            other => refuse(&format!("{} in FROM", first_word(&other.to_string())), "read a table"),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> Verdict {
        match expression {
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => refuse("a subquery in an expression", INSTEAD_OF_SUBQUERY),
            Expr::Function(function) => self.function(function),
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => {
                    Verdict::Break(Box::new(Error::config(format!("the parameter {name} has no value; write the value itself"))))
                }
                _ => Verdict::Continue(()),
            },
            _ => Verdict::Continue(()),
        }
    }
}

impl Check<'_> {
    fn function(&self, function: &Function) -> Verdict {
        if function.over.is_some() {
            return refuse(&format!("a window function ({} OVER)", function.name), "");
        }
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Verdict::Continue(()) };
        let name = super::statements::identifier(name);
        if self.language.get_aggregate_meta(&name).is_some() {
            return Verdict::Continue(());
        }
        refuse_any([
            (function.filter.is_some(), &format!("FILTER of {name}(), which is no aggregate,"), "write CASE"),
            (!function.within_group.is_empty(), &format!("WITHIN GROUP of {name}(), which is no aggregate,"), ""),
            (function.null_treatment.is_some(), &format!("IGNORE or RESPECT NULLS of {name}(), which is no aggregate,"), ""),
        ])
    }
}

/// The queries on both sides are visited by themselves.
fn set_operations(body: &SetExpr) -> Verdict {
    match body {
        SetExpr::SetOperation { op: SetOperator::Union, left, right, .. } => {
            set_operations(left)?;
            set_operations(right)
        }
        SetExpr::SetOperation { op, .. } => refuse(&op.to_string(), ""),
        SetExpr::Values(_) => refuse("VALUES", "read a table"),
        SetExpr::Select(_) | SetExpr::Query(_) => Verdict::Continue(()),
        other => refuse(&first_word(&other.to_string()), "write a SELECT"),
    }
}

fn first_word(text: &str) -> String {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').find(|word| !word.is_empty()).unwrap_or("this").to_owned()
}
