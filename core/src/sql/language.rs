//! What DataFusion's SQL planner asks about: tables, functions, types, settings.

use super::functions::{higher_order_functions, scalar_functions};
use crate::id::SourceId;
use crate::source::EventTime;
use crate::time::Timestamp;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{Result as PlanResult, TableReference, plan_err};
use datafusion_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawAggregateExpr, RelationPlanner, RelationPlannerContext, RelationPlanning, TypePlanner,
};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableProviderFilterPushDown, TableSource, WindowUDF};
use datafusion_sql::planner::ParserOptions;
use datafusion_sql::sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Names and what they stand for.
#[derive(Clone)]
pub(crate) struct Language {
    tables: BTreeMap<String, Arc<dyn TableSource>>,
    functions: BTreeMap<String, Arc<ScalarUDF>>,
    higher_order: BTreeMap<String, Arc<HigherOrderUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
    config: ConfigOptions,
}

impl Language {
    pub(crate) fn new() -> Self {
        let mut aggregates = BTreeMap::new();
        for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
            for alias in function.aliases() {
                aggregates.insert(alias.clone(), Arc::clone(&function));
            }
            aggregates.insert(function.name().to_owned(), function);
        }
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
            Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
        ];
        Self {
            tables: BTreeMap::new(),
            functions: scalar_functions(),
            higher_order: higher_order_functions(),
            aggregates,
            planners,
            relations: vec![Arc::new(LateralUnnest)],
            config: ConfigOptions::new(),
        }
    }

    /// The same language, in which aggregates are named with the casts of their arguments: DataFusion's names leave them out, so `sum(v)`
    /// and `sum(CAST(v AS DOUBLE))` are called the same.
    pub(crate) fn naming_casts(&self) -> Self {
        let mut language = self.clone();
        language.planners.insert(0, Arc::new(NamedCasts));
        language
    }

    /// Makes a table known.
    pub(crate) fn add_table(&mut self, name: &str, table: Arc<dyn TableSource>) {
        self.tables.insert(name.to_owned(), table);
    }

    /// The table of this name.
    pub(crate) fn table(&self, name: &str) -> Option<Arc<dyn TableSource>> {
        self.tables.get(name).map(Arc::clone)
    }

    /// How SQL is read: VARCHAR is Utf8.
    pub(crate) fn parser_options() -> ParserOptions {
        ParserOptions::default().with_map_string_types_to_utf8view(false)
    }
}

impl ContextProvider for Language {
    fn get_table_source(&self, name: TableReference) -> PlanResult<Arc<dyn TableSource>> {
        match self.tables.get(name.table()) {
            Some(table) if name.schema().is_none() => Ok(Arc::clone(table)),
            _ => {
                let known: Vec<&str> = self.tables.keys().map(String::as_str).collect();
                plan_err!("there is no table '{name}'; there are: {}", known.join(", "))
            }
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.higher_order.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// TIMESTAMP, with or without a zone, of any precision, is microseconds without zone.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> PlanResult<Option<FieldRef>> {
        Ok(match sql_type {
            ast::DataType::Timestamp(..) | ast::DataType::Datetime(_) => Some(Arc::new(Field::new("", Timestamp::DATA_TYPE, true))),
            _ => None,
        })
    }
}

/// Gives arguments that are casts a name that says so.
#[derive(Debug)]
struct NamedCasts;

impl ExprPlanner for NamedCasts {
    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> PlanResult<PlannerResult<RawAggregateExpr>> {
        let named = |argument: Expr| {
            let casts = argument.exists(|part| Ok(matches!(part, Expr::Cast(_) | Expr::TryCast(_))))?;
            let name = argument.to_string();
            Ok(if casts { argument.alias(name) } else { argument })
        };
        call.args = call.args.into_iter().map(named).collect::<PlanResult<_>>()?;
        Ok(PlannerResult::Original(call))
    }
}

/// `LATERAL UNNEST(...)` is `UNNEST(...)`, which sees the tables before it anyway.
#[derive(Debug)]
struct LateralUnnest;

impl RelationPlanner for LateralUnnest {
    fn plan_relation(&self, relation: ast::TableFactor, _context: &mut dyn RelationPlannerContext) -> PlanResult<RelationPlanning> {
        let relation = match relation {
            ast::TableFactor::Function { lateral: true, name, args, with_ordinality, alias }
                if name.to_string().eq_ignore_ascii_case("unnest") && args.iter().all(|argument| expression(argument).is_some()) =>
            {
                let array_exprs = args.iter().filter_map(expression).cloned().collect();
                ast::TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_offset_alias: None, with_ordinality }
            }
            other => other,
        };
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}

fn expression(argument: &ast::FunctionArg) -> Option<&ast::Expr> {
    match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    }
}

/// A stream as a table. Filters on it are hints: the plan filters again.
#[derive(Debug)]
pub(crate) struct StreamTable {
    pub(crate) name: SourceId,
    pub(crate) schema: SchemaRef,
    /// The table's own, like its columns, whoever reads it. A program may say it once the table is there.
    pub(crate) event_time: OnceLock<EventTime>,
}

impl TableSource for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
