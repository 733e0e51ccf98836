//! What is aggregated, by what, and when results are emitted: the part of the plan that makes the operators, and says what their state
//! means.

use super::calls::CallSpec;
use super::combine::LocalGroups;
use super::reads::Reads;
use super::sessions::Sessions;
use super::windowed::Windowed;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::operator::{Combiner, Operator, OperatorFactory, Output, Port};
use crate::time::{Timestamp, Watermark};
use crate::window::{Window, WindowSpec, is_window_type};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion_physical_expr::PhysicalExpr;
use serde_json::json;
use std::sync::Arc;

/// When results are emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Once, when the group has closed: append-only.
    Closed,
    /// At once, when the group is new: append-only. For groups without aggregates.
    New,
    /// After each batch, those that it made or changed.
    Updated,
    /// After each batch, all. Nothing closes.
    All,
}

/// By which clock windows close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The watermark.
    EventTime,
    /// The batch's trigger time.
    ProcessingTime,
    /// None: they stay open.
    Never,
}

/// How groups are bounded in time.
#[derive(Debug, Clone)]
pub enum GroupTime {
    /// Not at all: a group lives for ever.
    Unbounded,
    /// A window over a time is part of the key.
    Window {
        /// The windows.
        spec: WindowSpec,
        /// The time.
        time: Arc<dyn PhysicalExpr>,
        /// What closes them.
        clock: Clock,
    },
    /// A key is an event time: the group closes when the watermark is past it. Or it is a window of an operator upstream, or of a column:
    /// then it closes with that.
    Key {
        /// Which of the keys.
        index: usize,
        /// What closes the groups.
        clock: Clock,
    },
}

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputColumn {
    /// The key of this index.
    Key(usize),
    /// The window.
    Window,
    /// The call of this index.
    Call(usize),
}

/// A GROUP BY. See the [module](super).
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The columns of the rows that come in.
    pub input: SchemaRef,
    /// The keys, without the window.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// How groups are bounded in time.
    pub time: GroupTime,
    /// The aggregates.
    pub calls: Vec<CallSpec>,
    /// What stands in each column of the output.
    pub layout: Vec<OutputColumn>,
    /// The columns that come out.
    pub schema: SchemaRef,
    /// When results come out.
    pub emit: Emit,
    /// Whether groups close by the batch's time, so that a batch is due when one does, with rows or without.
    pub timed: bool,
    /// Whether the watermark of the groups is the batch's time: that of their windows, or that of a grouping upstream.
    pub clocked: bool,
    /// What keys and time are computed from.
    pub origins: Origins,
    /// What is read of the rows that come out; none if it is all of them.
    pub(crate) reads: Option<Reads>,
}

/// What a grouping is by, in words that stay the same as long as it means the same: its state goes by them.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Of each key, the name of its column in the state, and the expression that it is.
    pub keys: Vec<(String, String)>,
    /// The window.
    pub window: Option<String>,
    /// Which rows are grouped. State goes on when these change, unless groupings would be taken for each other.
    pub rows: String,
}

impl Aggregate {
    pub(super) fn key_types(&self) -> Result<Vec<DataType>> {
        let of = |key: &Arc<dyn PhysicalExpr>| key.data_type(&self.input).map_err(crate::pipeline::config_error);
        self.keys.iter().map(of).collect()
    }

    pub(super) fn key_columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.keys.iter().map(|key| evaluate(key, rows)).collect()
    }

    /// The name of each key column in the state.
    pub(super) fn key_names(&self) -> Vec<String> {
        self.origins.keys.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The name of a key in the output.
    fn output_name(&self, key: usize) -> &str {
        let column = self.layout.iter().position(|column| *column == OutputColumn::Key(key));
        column.map_or("its key", |column| self.schema.field(column).name())
    }

    /// Whether nothing closes, and nothing is late.
    pub(super) fn keeps_all(&self) -> bool {
        self.emit == Emit::All
    }

    /// When windows close by: the watermark, or the batch's clock.
    pub(super) fn clock_of(&self, watermark: Watermark, trigger_time: Timestamp) -> Watermark {
        match self.time {
            _ if watermark == Watermark::End => watermark,
            GroupTime::Window { clock, .. } | GroupTime::Key { clock, .. } => match clock {
                Clock::EventTime => watermark,
                Clock::ProcessingTime => Watermark::At(trigger_time),
                Clock::Never => Watermark::Unknown,
            },
            GroupTime::Unbounded => watermark,
        }
    }

    /// When a batch is due, of the times at which groups close.
    pub(super) fn timer(&self, next_end: Option<i64>) -> Option<Timestamp> {
        next_end.filter(|_| self.timed && self.emit == Emit::Closed).map(Timestamp)
    }

    /// What closes groups, in words.
    fn ending(&self) -> String {
        let by_session = matches!(self.time, GroupTime::Window { spec: WindowSpec::Session { .. }, .. });
        let passes = if by_session { "passes" } else { "reaches" };
        let by = if self.clocked { "the batch's time" } else { "the watermark" };
        match &self.time {
            _ if self.keeps_all() => "never closing".to_owned(),
            GroupTime::Unbounded => "never closing: no key is an event time".to_owned(),
            GroupTime::Window { clock: Clock::Never, .. } => "never closing: the window's time is no event time".to_owned(),
            GroupTime::Window { spec, .. } => format!("closing when {by} {passes} the end of {spec}"),
            GroupTime::Key { index, .. } => {
                let is_window = self.key_types().is_ok_and(|types| matches!(types[*index], DataType::Struct(_)));
                let mark = if is_window { "reaches the end of" } else { "passes" };
                format!("closing when {by} {mark} {}", self.output_name(*index))
            }
        }
    }

    /// The same grouping, of whose rows no more is read than these expressions: where changed rows are emitted, those of which these have
    /// changed.
    pub(crate) fn reading(mut self, expressions: &[Arc<dyn PhysicalExpr>]) -> Self {
        let results: Vec<usize> = (0..self.layout.len()).filter(|column| matches!(self.layout[*column], OutputColumn::Call(_))).collect();
        self.reads = Reads::new(expressions, &results);
        self
    }

    /// Whether a batch may change groups of which what is read stays the same.
    pub(super) fn compares(&self) -> bool {
        let always_changes = |(column, part): (usize, &OutputColumn)| match part {
            OutputColumn::Call(call) => {
                self.calls[*call].changes_with_every_row() && self.reads.as_ref().is_none_or(|reads| reads.holds(column))
            }
            _ => false,
        };
        self.emit == Emit::Updated && !self.layout.iter().enumerate().any(always_changes)
    }

    /// Emits groups: their keys, the window that all share or each one's, and their results.
    pub(super) fn emit(&self, keys: Vec<ArrayRef>, windows: &[Window], results: Vec<ArrayRef>, output: &mut Output) -> Result<()> {
        output.emit(Port(0), self.rows(&keys, windows, &results)?);
        Ok(())
    }

    /// The rows of groups.
    pub(super) fn rows(&self, keys: &[ArrayRef], windows: &[Window], results: &[ArrayRef]) -> Result<RecordBatch> {
        let column = |(index, column): (usize, &OutputColumn)| {
            let array = match column {
                OutputColumn::Key(key) => Arc::clone(&keys[*key]),
                OutputColumn::Window => window_column(windows)?,
                OutputColumn::Call(call) => Arc::clone(&results[*call]),
            };
            let declared = self.schema.field(index).data_type();
            if array.data_type() == declared {
                return Ok(array);
            }
            cast(&array, declared).or_error(ErrorKind::Internal, || format!("the column '{}'", self.schema.field(index).name()))
        };
        let columns = self.layout.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).or_error(ErrorKind::Internal, || "results of groups".into())
    }
}

pub(super) fn evaluate(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    let value = expression.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
    value.or_error(ErrorKind::BadData, || format!("computing {expression}"))
}

/// A column of times.
pub(super) fn times(column: &ArrayRef) -> Result<&TimestampMicrosecondArray> {
    column.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| Error::internal(format!("a time came as {}", column.data_type())))
}

/// When each key of a column that is a time of any unit, or a window, expires: the first watermark that closes it.
pub(super) fn expiries(column: &ArrayRef) -> Result<Vec<Option<i64>>> {
    match column.as_struct_opt() {
        Some(windows) => {
            let ends = times(windows.column(1))?;
            Ok((0..windows.len()).map(|row| (windows.is_valid(row) && ends.is_valid(row)).then(|| ends.value(row))).collect())
        }
        None => {
            let column = cast(column, &Timestamp::DATA_TYPE).or_error(ErrorKind::Internal, || "the event time of groups".into())?;
            Ok(times(&column)?.iter().map(|time| time.map(|time| time.saturating_add(1))).collect())
        }
    }
}

fn window_column(windows: &[Window]) -> Result<ArrayRef> {
    let starts = TimestampMicrosecondArray::from_iter_values(windows.iter().map(|window| window.start));
    let ends = TimestampMicrosecondArray::from_iter_values(windows.iter().map(|window| window.end));
    let fields = vec![Field::new("start", Timestamp::DATA_TYPE, true), Field::new("end", Timestamp::DATA_TYPE, true)];
    let windows = StructArray::try_new(fields.into(), vec![Arc::new(starts), Arc::new(ends)], None);
    Ok(Arc::new(windows.or_error(ErrorKind::Internal, || "a column of windows".into())?))
}

/// A table of state of these columns: all can be null.
pub(super) fn state_rows(names: Vec<String>, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let fields = names.into_iter().zip(&columns).map(|(name, column)| Field::new(name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns).or_error(ErrorKind::Internal, || "a table of groups".into())
}

impl OperatorFactory for Aggregate {
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        // Windows alone, from a grouping upstream, are few: one task takes all of them, and they come out in the order of their ends.
        let windows_alone = matches!((&self.time, self.keys.as_slice()), (GroupTime::Key { .. }, [only])
            if only.data_type(&self.input).is_ok_and(|data_type| is_window_type(&data_type)));
        if windows_alone { vec![Vec::new()] } else { vec![self.keys.clone()] }
    }

    fn combiner(&self, _port: Port) -> Option<Arc<dyn Combiner>> {
        LocalGroups::of(self).map(|combiner| Arc::new(combiner) as Arc<dyn Combiner>)
    }

    fn outputs(&self) -> Vec<SchemaRef> {
        vec![Arc::clone(&self.schema)]
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let spec = Arc::new(self.clone());
        match self.time {
            GroupTime::Window { spec: WindowSpec::Session { gap }, .. } => Ok(Box::new(Sessions::new(spec, gap)?)),
            _ => Ok(Box::new(Windowed::new(spec)?)),
        }
    }

    /// What the stored state means: keys, windows and aggregates, down to the columns of the tables, and their types. Names that are given
    /// on the way are no part of it.
    fn fingerprint(&self) -> String {
        let types = self.key_types().unwrap_or_default();
        let keys = self.origins.keys.iter().zip(types).map(|((_, expression), data_type)| format!("{expression}: {data_type}"));
        let time = match &self.time {
            GroupTime::Unbounded => json!("unbounded"),
            GroupTime::Window { clock, .. } => json!({ "window": self.origins.window, "clock": format!("{clock:?}") }),
            GroupTime::Key { index, clock: Clock::EventTime } => json!({ "key": index }),
            GroupTime::Key { index, clock } => json!({ "key": index, "clock": format!("{clock:?}") }),
        };
        let calls: Vec<String> = self.calls.iter().map(CallSpec::meaning).collect();
        let emit = format!("{:?}", self.emit);
        json!({ "keys": keys.collect::<Vec<_>>(), "time": time, "aggregates": calls, "emit": emit }).to_string()
    }

    fn input(&self) -> Option<String> {
        Some(self.origins.rows.clone())
    }

    fn is_clocked(&self) -> bool {
        self.clocked
    }

    fn describe(&self) -> String {
        let named = |calls: bool| {
            let columns = self.layout.iter().zip(self.schema.fields());
            let columns = columns.filter(|(column, _)| matches!(column, OutputColumn::Call(_)) == calls);
            columns.map(|(_, field)| field.name().as_str()).collect::<Vec<_>>().join(", ")
        };
        let emit = match self.emit {
            Emit::Closed => "emits what has closed",
            Emit::New => "emits what is new",
            Emit::Updated => "emits what has changed",
            Emit::All => "emits all",
        };
        format!("group by [{}], {}, aggregates [{}], {emit}", named(false), self.ending(), named(true))
    }
}
