//! DataFusion's analyzer and optimizer, with the rules that make sense for a stream.

use super::{aggregate, config_error};
use crate::error::Result;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::LogicalPlan;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext};
use std::sync::Arc;

/// Rules that are left out, with the reason.
const LEFT_OUT: [&str; 7] = [
    // It plans two aggregations where the incremental operators have one.
    "single_distinct_aggregation_to_group_by",
    // They replace a filter that nothing passes by an empty relation; a stream would lose its source, and with it its batches.
    "eliminate_filter",
    "propagate_empty_relation",
    // The same for a join on what is never true; and where duplicates don't count it makes joins that give one side only.
    "eliminate_join",
    // A UNION becomes a DISTINCT over an OR of its filters: an operator with a memory either way, and the branches share nothing.
    "unions_to_filter",
    // They cut expressions apart so that a reader can skip fields of structs; no reader here does.
    "extract_leaf_expressions",
    "push_down_leaf_projections",
];

/// The plan that is run.
pub(super) fn optimize(plan: LogicalPlan) -> Result<LogicalPlan> {
    let config = Arc::new(ConfigOptions::new());
    let plan = Analyzer::new().execute_and_check(plan, &config, |_, _| {}).map_err(config_error)?;
    let plan = aggregate::replace(plan)?;
    let rules = Optimizer::new().rules.into_iter().filter(|rule| !LEFT_OUT.contains(&rule.name())).collect();
    let context = OptimizerContext::new_with_config_options(config).without_query_execution_start_time();
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {}).map_err(config_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_that_are_left_out_exist() {
        let known: Vec<String> = Optimizer::new().rules.iter().map(|rule| rule.name().to_owned()).collect();
        for rule in LEFT_OUT {
            assert!(known.iter().any(|name| name == rule), "{rule} is not one of {known:?}");
        }
    }
}
