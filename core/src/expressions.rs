//! Expressions for programs in Rust: DataFusion's, and windows over a time.
//!
//! They make the calls that SQL makes: nothing here is computed in another way. A window is a struct of `start` and `end`, which
//! [`window_start`], [`window_end`] and [`window_time`] read.

mod windows;

pub use crate::sql::functions::proc_time;
pub use datafusion_expr::{Expr, ExprFunctionExt, cast, col, lit, when};
pub use datafusion_functions_aggregate::count::count_all;
pub use datafusion_functions_aggregate::expr_fn::{
    avg, count, count_distinct, first_value, last_value, max, min, stddev, stddev_pop, sum, sum_distinct,
};
pub use windows::{cumulating, hopping, session, tumbling, window_end, window_start, window_time};
