//! Which columns keep an event time.
//!
//! A column keeps it if it is the event time itself, an alias of it, it plus or minus a constant, or truncated, also to a DATE; or if it is
//! a window over it, and `window_time`, `window_end` and, where all windows are of one size, `window_start` of that. A window over the batch's own time is not bounded by the watermark of its
//! rows, but by the batch's time; behind a GROUP BY, by the watermark of that, which is the batch's time too. A watermark bounds such a
//! column through the [`TimeBound`] that its expressions make. Nothing else is an event time downstream.

use super::config_error;
use crate::error::{Error, Result};
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

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// What a column says of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TimeColumn {
    /// An event time.
    Event(TimeBound),
    /// The day of an event time, as a DATE. Groups close by it, but it is not computed with: DATE plus 36 hours is DATE plus a day.
    Day(TimeBound),
    /// A window over an event time, or of a GROUP BY upstream.
    Window {
        /// What bounds its last microsecond.
        bound: TimeBound,
        /// How long all such windows are, in microseconds; none if they are not of one length.
        size: Option<i64>,
    },
    /// The batch's trigger time.
    Processing,
    /// A window over the batch's trigger time, before any GROUP BY, of this size.
    ProcessingWindow(Option<i64>),
}

impl TimeColumn {
    /// The bound of an event time.
    pub(super) fn bound(&self) -> Option<&TimeBound> {
        match self {
            Self::Event(bound) | Self::Day(bound) | Self::Window { bound, .. } => Some(bound),
            Self::Processing | Self::ProcessingWindow(_) => None,
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
    if let Some((time, spec @ WindowSpec::Tumble { .. })) = WindowFunction::of(expression)? {
        return Ok(match derive(time, of)? {
            Some(TimeColumn::Event(bound)) => Some(TimeColumn::Window { bound, size: spec.size() }),
            Some(TimeColumn::Processing) => Some(TimeColumn::ProcessingWindow(spec.size())),
            _ => None,
        });
    }
    if let Some((part, window)) = window_part(expression) {
        return Ok(match (part, derive(window, of)?) {
            (WindowPart::Time, Some(TimeColumn::Window { bound, .. })) => Some(TimeColumn::Event(bound)),
            // Windows that are still expected end behind the watermark, not at it.
            (WindowPart::End, Some(TimeColumn::Window { bound, .. })) => Some(TimeColumn::Event(bound.then(later(1)?))),
            (WindowPart::Start, Some(TimeColumn::Window { bound, size: Some(size) })) => {
                Some(TimeColumn::Event(bound.then(later(1 - size)?)))
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

/// The time of a bound so many microseconds later.
fn later(microseconds: i64) -> Result<Arc<dyn PhysicalExpr>> {
    // In nanoseconds alone, some centuries would be the most.
    let (days, rest) = (microseconds / DAY, microseconds % DAY);
    let days = i32::try_from(days).map_err(|_| Error::internal(format!("{days} days are no length of a window")))?;
    let interval = ScalarValue::new_interval_mdn(0, days, rest * 1_000);
    Ok(step(&(Expr::Column(Column::new_unqualified("time")) + Expr::Literal(interval, None)))?.0)
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
                | (TimeColumn::Window { .. }, Some(TimeColumn::Window { .. }))
                | (TimeColumn::Processing, Some(TimeColumn::Processing))
                | (TimeColumn::ProcessingWindow(_), Some(TimeColumn::ProcessingWindow(_)))
        )
    };
    let size = size_of(first).filter(|_| others.iter().all(|other| other.as_ref().and_then(size_of) == size_of(first)));
    others.iter().all(alike).then(|| match first {
        TimeColumn::Window { bound, .. } => TimeColumn::Window { bound: bound.clone(), size },
        TimeColumn::ProcessingWindow(_) => TimeColumn::ProcessingWindow(size),
        other => other.clone(),
    })
}

/// How long all windows of a column are.
pub(super) fn size_of(time: &TimeColumn) -> Option<i64> {
    match time {
        TimeColumn::Window { size, .. } | TimeColumn::ProcessingWindow(size) => *size,
        _ => None,
    }
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
        TimeColumn::Window { size, .. } => TimeColumn::Window { bound: TimeBound::default(), size: *size },
        TimeColumn::Processing | TimeColumn::ProcessingWindow(_) => time.clone(),
    }
}

pub(super) type Times = Vec<Option<TimeColumn>>;

/// The event time of a source, among the columns of its scan.
pub(super) fn of_scan(columns: usize, event_time: Option<usize>) -> Times {
    (0..columns).map(|column| (Some(column) == event_time).then(|| TimeColumn::Event(TimeBound::default()))).collect()
}
