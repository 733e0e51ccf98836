//! Windows for programs in Rust.
//!
//! The time is a TIMESTAMP: an event time, or [`proc_time()`](crate::expressions::proc_time). Lengths are whole microseconds; what is
//! finer is cut off. Lengths that don't fit are refused when the job is planned.

use crate::window::{WindowFunction, WindowPart};
use arrow::datatypes::IntervalMonthDayNanoType;
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, ScalarUDF, lit};
use std::time::Duration;

/// Windows of one size, side by side; the first of 1970 begins with that year.
pub fn tumbling(time: Expr, size: Duration) -> Expr {
    call(WindowFunction::tumble(), time, [size])
}

/// Windows of one size of which one begins with every slide: they overlap if the slide is shorter.
pub fn hopping(time: Expr, slide: Duration, size: Duration) -> Expr {
    call(WindowFunction::hop(), time, [slide, size])
}

/// Windows that begin together and grow by a step, up to a size, then again from there.
pub fn cumulating(time: Expr, step: Duration, size: Duration) -> Expr {
    call(WindowFunction::cumulate(), time, [step, size])
}

/// For each group, rows of which each is at most a gap from the next.
pub fn session(time: Expr, gap: Duration) -> Expr {
    call(WindowFunction::session(), time, [gap])
}

/// The first microsecond of a window.
pub fn window_start(window: Expr) -> Expr {
    WindowPart::Start.read(window)
}

/// The first microsecond behind a window.
pub fn window_end(window: Expr) -> Expr {
    WindowPart::End.read(window)
}

/// The last microsecond of a window: the event time of what is known once it has closed.
pub fn window_time(window: Expr) -> Expr {
    WindowPart::Time.read(window)
}

fn call<const N: usize>(function: WindowFunction, time: Expr, lengths: [Duration; N]) -> Expr {
    let arguments = std::iter::once(time).chain(lengths.map(length)).collect();
    ScalarUDF::from(function).call(arguments)
}

fn length(length: Duration) -> Expr {
    let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 1_000);
    lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNanoType::make_value(0, 0, micros * 1_000))))
}
