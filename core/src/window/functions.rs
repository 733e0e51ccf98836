//! The functions of SQL that make windows and read them.
//!
//! A window is a struct of `start` and `end`. `tumble` is a function like any other; `hop`, `cumulate` and `session` give no single window
//! per row, so they stand in GROUP BY alone, where the planner takes them out.

use super::{WindowSpec, check_times};
use crate::error::{Error, Result};
use crate::time::Timestamp;
use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimestampMicrosecondType};
use datafusion_common::{Result as PlanResult, ScalarValue, exec_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

const LENGTH: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// The fields of a window.
pub(crate) fn window_fields() -> Fields {
    Fields::from(vec![Field::new("start", Timestamp::DATA_TYPE, true), Field::new("end", Timestamp::DATA_TYPE, true)])
}

/// Whether values of a type are windows.
pub(crate) fn is_window_type(data_type: &DataType) -> bool {
    data_type == &DataType::Struct(window_fields())
}

/// `tumble`, `hop`, `cumulate`, `session`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowFunction {
    kind: Kind,
    signature: Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl WindowFunction {
    fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    pub(crate) fn tumble() -> Self {
        Self::new(Kind::Tumble)
    }

    pub(crate) fn hop() -> Self {
        Self::new(Kind::Hop)
    }

    pub(crate) fn cumulate() -> Self {
        Self::new(Kind::Cumulate)
    }

    pub(crate) fn session() -> Self {
        Self::new(Kind::Session)
    }

    /// The call's time, and its windows, if the expression is a call.
    ///
    /// # Errors
    /// `Config` if a length is no constant, or wrong.
    pub(crate) fn of(expression: &Expr) -> Result<Option<(&Expr, WindowSpec)>> {
        let Expr::ScalarFunction(call) = expression else { return Ok(None) };
        let Some(function) = call.func.inner().downcast_ref::<Self>() else { return Ok(None) };
        let [time, lengths @ ..] = call.args.as_slice() else { return Ok(None) };
        let lengths = lengths.iter().map(|length| function.length(length)).collect::<Result<Vec<_>>>()?;
        Ok(Some((time, function.spec(&lengths)?)))
    }

    /// Whether a call is one of those that stand in GROUP BY alone.
    pub(crate) fn gives_several(call: &ScalarFunction) -> bool {
        call.func.inner().downcast_ref::<Self>().is_some_and(|function| function.kind != Kind::Tumble)
    }

    fn spec(&self, lengths: &[i64]) -> Result<WindowSpec> {
        let spec = match (self.kind, lengths) {
            (Kind::Tumble, &[size]) => WindowSpec::Tumble { size, offset: 0 },
            (Kind::Tumble, &[size, offset]) => WindowSpec::Tumble { size, offset },
            (Kind::Hop, &[slide, size]) => WindowSpec::Hop { slide, size, offset: 0 },
            (Kind::Hop, &[slide, size, offset]) => WindowSpec::Hop { slide, size, offset },
            (Kind::Cumulate, &[step, size]) => WindowSpec::Cumulate { step, size, offset: 0 },
            (Kind::Cumulate, &[step, size, offset]) => WindowSpec::Cumulate { step, size, offset },
            (Kind::Session, &[gap]) => WindowSpec::Session { gap },
            _ => return Err(Error::config(format!("write {}", self.usage()))),
        };
        spec.check()
    }

    fn length(&self, expression: &Expr) -> Result<i64> {
        match expression {
            Expr::Alias(alias) => self.length(&alias.expr),
            Expr::Literal(value, _) => self.micros(value),
            other => Err(Error::config(format!("{}: '{other}' must be a constant, such as INTERVAL '10 seconds'", self.name()))),
        }
    }

    fn micros(&self, value: &ScalarValue) -> Result<i64> {
        const DAY_US: i64 = 86_400_000_000;
        let wrong = |what: &str| Err(Error::config(format!("{}: {what}; write {}", self.name(), self.usage())));
        let ScalarValue::IntervalMonthDayNano(Some(interval)) = value else { return wrong("a length must be an INTERVAL") };
        if interval.months != 0 {
            return wrong("months and years have no fixed length; use days");
        }
        if interval.nanoseconds % 1_000 != 0 {
            return wrong("a length must be whole microseconds");
        }
        let micros = i64::from(interval.days).checked_mul(DAY_US).and_then(|days| days.checked_add(interval.nanoseconds / 1_000));
        micros.map_or_else(|| wrong("a length is too long"), Ok)
    }

    fn usage(&self) -> &'static str {
        match self.kind {
            Kind::Tumble => "tumble(time, size [, offset])",
            Kind::Hop => "hop(time, slide, size [, offset])",
            Kind::Cumulate => "cumulate(time, step, size [, offset])",
            Kind::Session => "session(time, gap)",
        }
    }

    fn counts(&self) -> std::ops::RangeInclusive<usize> {
        match self.kind {
            Kind::Tumble => 2..=3,
            Kind::Hop | Kind::Cumulate => 3..=4,
            Kind::Session => 2..=2,
        }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Tumble => "tumble",
            Kind::Hop => "hop",
            Kind::Cumulate => "cumulate",
            Kind::Session => "session",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> PlanResult<Vec<DataType>> {
        if !self.counts().contains(&given.len()) {
            return plan_err!("{}() has {} arguments; write {}", self.name(), given.len(), self.usage());
        }
        if !matches!(given[0], DataType::Timestamp(..)) {
            return plan_err!("{}() goes by a TIMESTAMP, and is given {}; write {}", self.name(), given[0], self.usage());
        }
        if let Some(other) = given[1..].iter().find(|given| !matches!(given, DataType::Interval(_))) {
            return plan_err!("{}() takes lengths as INTERVAL, and is given {other}; write {}", self.name(), self.usage());
        }
        Ok(std::iter::once(Timestamp::DATA_TYPE).chain(given[1..].iter().map(|_| LENGTH)).collect())
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(DataType::Struct(window_fields()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        if self.kind != Kind::Tumble {
            return exec_err!("{}() stands in GROUP BY alone", self.name());
        }
        let length = |value: &ColumnarValue| match value {
            ColumnarValue::Scalar(value) => self.micros(value).map_err(|error| exec_datafusion(&error)),
            ColumnarValue::Array(_) => exec_err!("the lengths of {}() must be constants", self.name()),
        };
        let lengths = arguments.args[1..].iter().map(length).collect::<PlanResult<Vec<_>>>()?;
        let spec = self.spec(&lengths).map_err(|error| exec_datafusion(&error))?;
        let times = arguments.args[0].to_array(arguments.number_rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        check_times(times).map_err(|error| exec_datafusion(&error))?;
        let length = spec.pane().unwrap_or(0);
        // Not over the slots of nulls, where anything may stand.
        let starts: TimestampMicrosecondArray = times.iter().map(|time| time.map(|time| spec.pane_of(time))).collect();
        let ends: TimestampMicrosecondArray = starts.iter().map(|start| start.map(|start| start + length)).collect();
        let nulls = times.nulls().cloned();
        let windows = StructArray::try_new(window_fields(), vec![Arc::new(starts), Arc::new(ends)], nulls)?;
        Ok(ColumnarValue::Array(Arc::new(windows)))
    }
}

fn exec_datafusion(error: &Error) -> datafusion_common::DataFusionError {
    datafusion_common::DataFusionError::Execution(error.to_string())
}

/// What of a window a function reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WindowPart {
    Start,
    End,
    /// The last microsecond: the event time of what is known once the window has closed.
    Time,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ReadWindow {
    part: WindowPart,
    signature: Signature,
}

impl WindowPart {
    /// This part of a window.
    pub(crate) fn read(self, window: Expr) -> Expr {
        ScalarUDF::from(ReadWindow::new(self)).call(vec![window])
    }
}

impl ReadWindow {
    fn new(part: WindowPart) -> Self {
        Self { part, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Which part of which window an expression reads, if it is such a call.
pub(crate) fn window_part(expression: &Expr) -> Option<(WindowPart, &Expr)> {
    let Expr::ScalarFunction(call) = expression else { return None };
    let function = call.func.inner().downcast_ref::<ReadWindow>()?;
    call.args.first().map(|window| (function.part, window))
}

impl ScalarUDFImpl for ReadWindow {
    fn name(&self) -> &str {
        match self.part {
            WindowPart::Start => "window_start",
            WindowPart::End => "window_end",
            WindowPart::Time => "window_time",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> PlanResult<Vec<DataType>> {
        match given {
            [window] if is_window_type(window) => Ok(given.to_vec()),
            [other] => {
                plan_err!("{}() reads a window, as tumble(), hop(), cumulate() and session() make them, and is given {other}", self.name())
            }
            _ => plan_err!("write {}(window)", self.name()),
        }
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(Timestamp::DATA_TYPE)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let windows = arguments.args[0].to_array(arguments.number_rows)?;
        let windows = windows.as_struct();
        let column = usize::from(self.part != WindowPart::Start);
        let times = windows.column(column).as_primitive::<TimestampMicrosecondType>();
        let before = i64::from(self.part == WindowPart::Time);
        // What makes windows gives none that ends with the first time that there is; a struct that the query made may.
        let part = |(row, time): (usize, Option<i64>)| time.filter(|_| windows.is_valid(row)).map(|time| time.saturating_sub(before));
        let times: TimestampMicrosecondArray = times.iter().enumerate().map(part).collect();
        Ok(ColumnarValue::Array(Arc::new(times) as ArrayRef))
    }
}

/// All functions of windows.
pub(crate) fn window_functions() -> Vec<ScalarUDF> {
    let makes = [Kind::Tumble, Kind::Hop, Kind::Cumulate, Kind::Session].map(|kind| ScalarUDF::from(WindowFunction::new(kind)));
    let reads = [WindowPart::Start, WindowPart::End, WindowPart::Time].map(|part| ScalarUDF::from(ReadWindow::new(part)));
    makes.into_iter().chain(reads).collect()
}
