//! Which columns keep an event time.
//!
//! A column keeps it if it is the event time itself, an alias of it, it plus or minus a constant, or truncated, also to a DATE; or if it is
//! a window over it, and `window_time` or `window_end` of that. A window over the batch's own time is not bounded by the watermark of its
//! rows, but by the batch's time; behind a GROUP BY, by the watermark of that, which is the batch's time too. A watermark bounds such a
//! column through the [`TimeBound`] that its expressions make. Nothing else is an event time downstream.

use super::config_error;
use crate::error::Result;
use crate::plan::TimeBound;
use crate::sql::functions::is_batch_time;
use crate::window::{WindowFunction, WindowPart, WindowSpec, window_part};
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::{Expr, Operator};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use std::sync::Arc;

/// What a column says of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TimeColumn {
    /// An event time.
    Event(TimeBound),
    /// The day of an event time, as a DATE. Groups close by it, but it is not computed with: DATE plus 36 hours is DATE plus a day.
    Day(TimeBound),
    /// A window over an event time, or of a GROUP BY upstream.
    Window(TimeBound),
    /// The batch's trigger time.
    Processing,
    /// A window over the batch's trigger time, before any GROUP BY.
    ProcessingWindow,
}

impl TimeColumn {
    /// The bound of an event time.
    pub(super) fn bound(&self) -> Option<&TimeBound> {
        match self {
            Self::Event(bound) | Self::Day(bound) | Self::Window(bound) => Some(bound),
            Self::Processing | Self::ProcessingWindow => None,
        }
    }
}

/// What an expression says of time, over columns of which `of` knows.
pub(super) fn derive(expression: &Expr, of: &dyn Fn(&Column) -> Option<TimeColumn>) -> Result<Option<TimeColumn>> {
    match expression {
        Expr::Column(column) => return Ok(of(column)),
        Expr::Alias(alias) => return derive(&alias.expr, of),
        _ => {}
    }
    if is_batch_time(expression) {
        return Ok(Some(TimeColumn::Processing));
    }
    if let Some((time, WindowSpec::Tumble { .. })) = WindowFunction::of(expression)? {
        return Ok(match derive(time, of)? {
            Some(TimeColumn::Event(bound)) => Some(TimeColumn::Window(bound)),
            Some(TimeColumn::Processing) => Some(TimeColumn::ProcessingWindow),
            _ => None,
        });
    }
    if let Some((part, window)) = window_part(expression) {
        return Ok(match (part, derive(window, of)?) {
            (WindowPart::Time, Some(TimeColumn::Window(bound))) => Some(TimeColumn::Event(bound)),
            // Windows that are still expected end behind the watermark, not at it.
            (WindowPart::End, Some(TimeColumn::Window(bound))) => {
                let microsecond = ScalarValue::new_interval_mdn(0, 0, 1_000);
                let behind = Expr::Column(Column::new_unqualified("time")) + Expr::Literal(microsecond, None);
                Some(TimeColumn::Event(bound.then(step(&behind)?.0)))
            }
            _ => None,
        });
    }
    let Some(time) = rising_in(expression) else { return Ok(None) };
    let Some(TimeColumn::Event(bound)) = derive(time, of)? else { return Ok(None) };
    let (step, data_type) = step(&replaced(expression, time)?)?;
    Ok(match data_type {
        DataType::Timestamp(_, None) => Some(TimeColumn::Event(bound.then(step))),
        DataType::Date32 => Some(TimeColumn::Day(bound.then(step))),
        _ => None,
    })
}

/// An expression over the one column of a bound, and its type.
fn step(expression: &Expr) -> Result<(Arc<dyn PhysicalExpr>, DataType)> {
    let schema = DFSchema::try_from(TimeBound::input_schema()).map_err(config_error)?;
    let step = create_physical_expr(expression, &schema, &ExecutionProps::new(), &Default::default()).map_err(config_error)?;
    let data_type = step.data_type(schema.as_arrow()).map_err(config_error)?;
    Ok((step, data_type))
}

/// The part in which an expression never goes down, if it is of a known shape.
fn rising_in(expression: &Expr) -> Option<&Expr> {
    // A month more takes the 30th and the 31st to the same day: that goes down.
    let is_constant = |part: &Expr| match part {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => interval.months == 0,
        Expr::Literal(ScalarValue::IntervalYearMonth(_), _) => false,
        other => matches!(other, Expr::Literal(..)),
    };
    match expression {
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::Plus | Operator::Minus) && is_constant(&binary.right) => {
            Some(&binary.left)
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Plus && is_constant(&binary.left) => Some(&binary.right),
        Expr::Cast(cast) => Some(&cast.expr),
        Expr::ScalarFunction(call) if matches!(call.func.name(), "date_trunc" | "date_bin") => match call.args.as_slice() {
            [unit, time, origin @ ..] if is_constant(unit) && origin.iter().all(is_constant) => Some(time),
            _ => None,
        },
        _ => None,
    }
}

/// The expression over the one column of a bound.
fn replaced(expression: &Expr, time: &Expr) -> Result<Expr> {
    let replace = |part: Expr| {
        let is_time = part == *time;
        Ok(if is_time { Transformed::yes(Expr::Column(Column::new_unqualified("time"))) } else { Transformed::no(part) })
    };
    expression.clone().transform_down(replace).map(|replaced| replaced.data).map_err(config_error)
}

/// What a column of a UNION says of time, from what its branches say: the bounds are met by each branch for itself.
pub(super) fn united(branches: &[Option<TimeColumn>]) -> Option<TimeColumn> {
    let (first, others) = branches.split_first()?;
    let first = first.as_ref()?;
    let alike = |other: &Option<TimeColumn>| {
        matches!(
            (first, other),
            (TimeColumn::Event(_), Some(TimeColumn::Event(_)))
                | (TimeColumn::Day(_), Some(TimeColumn::Day(_)))
                | (TimeColumn::Window(_), Some(TimeColumn::Window(_)))
                | (TimeColumn::Processing, Some(TimeColumn::Processing))
                | (TimeColumn::ProcessingWindow, Some(TimeColumn::ProcessingWindow))
        )
    };
    others.iter().all(alike).then(|| first.clone())
}

/// Whether all branches bound the column in the same way.
pub(super) fn same_bound(branches: &[Option<TimeColumn>]) -> bool {
    let bounds: Vec<Option<&TimeBound>> = branches.iter().map(|branch| branch.as_ref().and_then(TimeColumn::bound)).collect();
    bounds.windows(2).all(|pair| pair[0] == pair[1])
}

/// The same with the bound already applied.
pub(super) fn normal(time: &TimeColumn) -> TimeColumn {
    match time {
        TimeColumn::Event(_) => TimeColumn::Event(TimeBound::default()),
        TimeColumn::Day(_) => TimeColumn::Day(TimeBound::default()),
        TimeColumn::Window(_) => TimeColumn::Window(TimeBound::default()),
        TimeColumn::Processing | TimeColumn::ProcessingWindow => time.clone(),
    }
}

pub(super) type Times = Vec<Option<TimeColumn>>;

/// The event time of a source, among the columns of its scan.
pub(super) fn of_scan(columns: usize, event_time: Option<usize>) -> Times {
    (0..columns).map(|column| (Some(column) == event_time).then(|| TimeColumn::Event(TimeBound::default()))).collect()
}
