//! From a logical GROUP BY to the operator: what bounds its groups in time, and when its results come out.

use super::aggregate::{AggregateNode, GroupKey, Grouping};
use super::config_error;
use super::lineage::{key_origins, shown};
use super::physical::{Planner, StreamKind, Translated, output_schema, physical};
use super::times::{self, TimeColumn, Times};
use crate::aggregate::{Aggregate, CallSpec, Clock, Emit, GroupTime, Origins, OutputColumn, by_arrival};
use crate::error::{Error, Result};
use crate::id::OperatorId;
use crate::plan::{NodeId, NodeKind, TimeBound, is_clocked};
use crate::sink::SinkMode;
use crate::window::{MOST_WINDOWS, WindowPart, WindowSpec, window_part};
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::Column;
use datafusion_expr::expr::{AggregateFunction, NullTreatment};
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use std::sync::Arc;

/// The input of a grouping.
struct Input<'a> {
    node: &'a AggregateNode,
    from: Translated,
    schema: SchemaRef,
}

impl Input<'_> {
    fn index(&self, column: &Column) -> Result<usize> {
        self.node.input.schema().index_of_column(column).map_err(config_error)
    }

    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let position = self.from.columns[self.index(column)?];
        Ok(Arc::new(PhysicalColumn::new(self.schema.field(position).name(), position)))
    }

    fn time(&self, column: &Column) -> Result<Option<&TimeColumn>> {
        Ok(self.from.times[self.index(column)?].as_ref())
    }

    fn key_time(&self, index: usize) -> Result<Option<&TimeColumn>> {
        match &self.node.operation.keys[index] {
            GroupKey::Column(column) => self.time(column),
            GroupKey::Window(..) => Err(Error::internal("a window is no key")),
        }
    }

    /// Whether groups are merged in another order than their rows arrived in.
    fn merges_groups(&self) -> bool {
        self.node.operation.keys.iter().any(|key| matches!(key, GroupKey::Window(WindowSpec::Session { .. }, _)))
    }

    /// What keys and window are computed from, and of which rows.
    fn origins(&self) -> Origins {
        let (windows, keys): (Vec<_>, Vec<_>) =
            self.node.operation.keys.iter().zip(&self.node.operation.origins).partition(|(key, _)| matches!(key, GroupKey::Window(..)));
        let keys = key_origins(keys.into_iter().map(|(_, origin)| origin));
        Origins { keys, window: windows.first().map(|(_, origin)| shown(origin)), rows: self.node.operation.rows.clone() }
    }

    /// The keys without the window.
    fn keys(&self) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let columns = self.node.operation.keys.iter().filter_map(|key| match key {
            GroupKey::Column(column) => Some(self.column(column)),
            GroupKey::Window(..) => None,
        });
        columns.collect()
    }

    /// The calls, under the names of their columns in the output.
    fn calls(&self, output: &Schema) -> Result<Vec<CallSpec>> {
        let Grouping { keys, calls, origins, .. } = &self.node.operation;
        let behind_keys = output.fields().iter().zip(origins).skip(keys.len());
        calls.iter().zip(behind_keys).map(|(call, (field, origin))| self.call(call, field.name(), shown(origin))).collect()
    }

    fn call(&self, call: &AggregateFunction, name: &str, origin: String) -> Result<CallSpec> {
        let params = &call.params;
        let physical = |expression: &datafusion_expr::Expr| physical(expression, self.node.input.schema(), &self.from.columns);
        let arguments = params.args.iter().map(physical).collect::<Result<Vec<_>>>()?;
        let sort = |order: &datafusion_expr::SortExpr| {
            let options = SortOptions { descending: !order.asc, nulls_first: order.nulls_first };
            Ok(PhysicalSortExpr { expr: physical(&order.expr)?, options })
        };
        let mut order = params.order_by.iter().map(sort).collect::<Result<Vec<_>>>()?;
        let collects = matches!(call.func.name(), "array_agg" | "string_agg");
        if params.distinct && order.is_empty() && collects && !arguments.is_empty() {
            // A set has no order that would be the same after a restart.
            order
                .push(PhysicalSortExpr { expr: Arc::clone(&arguments[0]), options: SortOptions { descending: false, nulls_first: false } });
        }
        let mut schema = Arc::clone(&self.schema);
        let is_ordered = !order.is_empty() || self.merges_groups();
        if is_ordered && !params.distinct && matches!(call.func.name(), "array_agg" | "string_agg" | "nth_value") {
            let (with_arrival, arrival) = by_arrival(&schema);
            (schema, order) = (with_arrival, order.into_iter().chain([arrival]).collect());
        }
        let function = AggregateExprBuilder::new(Arc::clone(&call.func), arguments)
            .schema(schema)
            .alias(name)
            .order_by(order)
            .with_ignore_nulls(params.null_treatment == Some(NullTreatment::IgnoreNulls))
            .build()
            .map_err(config_error)?;
        let filter = params.filter.as_ref().map(|filter| physical(filter.as_ref())).transpose()?;
        // What is first, last, least or greatest is so among distinct values too.
        let distinct = params.distinct && !matches!(call.func.name(), "first_value" | "last_value" | "min" | "max");
        let spec = CallSpec { function: Arc::new(function), schema: Arc::clone(&self.schema), distinct, filter, origin };
        spec.check()?;
        Ok(spec)
    }
}

/// What stands in each column of the output: keys and window in their order, then the calls.
fn layout(grouping: &Grouping) -> Vec<OutputColumn> {
    let (mut layout, mut keys) = (Vec::new(), 0);
    for key in &grouping.keys {
        match key {
            GroupKey::Window(..) => layout.push(OutputColumn::Window),
            GroupKey::Column(_) => {
                layout.push(OutputColumn::Key(keys));
                keys += 1;
            }
        }
    }
    layout.extend((0..grouping.calls.len()).map(OutputColumn::Call));
    layout
}

/// How groups end, as far as the plan can tell.
struct Ending {
    time: GroupTime,
    bound: TimeBound,
    /// Whether something closes them.
    ends: bool,
}

impl Planner {
    /// A GROUP BY, or a DISTINCT.
    pub(super) fn group(&mut self, node: &AggregateNode) -> Result<Translated> {
        let (from, grouping, mode) = (self.translate_final(&node.input)?, &node.operation, self.mode);
        self.groups += 1;
        let id = OperatorId::from(format!("{}-group-{}", self.sink, self.groups));
        self.check_id(&id)?;
        let upstream = from.upstream;
        let input = Input { node, schema: self.schema_of(upstream), from };
        let ending = ending(&input)?;
        let emit = emit(grouping, mode, &ending).map_err(|error| self.explained(error, mode, upstream.node))?;
        check_windows(grouping, &ending, emit)?;
        let schema = output_schema(&node.schema);
        let (keys, calls, layout) = (input.keys()?, input.calls(&schema)?, layout(grouping));
        let times = times_of(&ending, &layout, &input)?;
        let kind = match emit {
            Emit::Closed | Emit::New => StreamKind::AppendOnly,
            Emit::Updated => StreamKind::Upsert(layout.iter().map(|column| !matches!(column, OutputColumn::Call(_))).collect()),
            Emit::All => StreamKind::Complete,
        };
        let by_clock = ending.clock() == Some(Clock::ProcessingTime);
        let clocked = by_clock || is_clocked(&self.nodes, upstream.node);
        // Of a bound that is computed it is not known when the clock reaches it.
        let timed = by_clock || (clocked && ending.ends && ending.bound.is_identity());
        let Ending { time, bound, .. } = ending;
        let origins = input.origins();
        let aggregate = Aggregate {
            input: input.schema,
            keys,
            time,
            calls,
            layout,
            schema: Arc::clone(&schema),
            emit,
            timed,
            clocked,
            origins,
            reads: None,
        };
        if emit == Emit::Updated {
            self.upserts.insert(NodeId(self.nodes.len()), aggregate.clone());
        }
        let made = self.push(id, NodeKind::Operator(Arc::new(aggregate)), vec![(upstream, bound)], schema);
        Ok(Translated { times, kind, ..made })
    }

    /// An error about a mode, with the function behind which there is no event time, if that is why.
    fn explained(&self, error: Error, mode: SinkMode, node: NodeId) -> Error {
        match self.function_above(node).filter(|_| mode == SinkMode::Append) {
            Some(function) => Error::config(format!(
                "{}. What comes out of the function '{function}' carries no event time: group by the window before it, or within it, where a timer \
                 can write the result at the window's end; a process function can say which column of its output is an event time (EVENT_TIME)",
                error.message()
            )),
            None => error,
        }
    }

    /// The nearest function of the user's that a node's rows come from, if they have no event time from there.
    fn function_above(&self, node: NodeId) -> Option<&OperatorId> {
        if !self.nodes[node.0].event_times.is_empty() {
            return None;
        }
        if self.processes.iter().any(|(_, made)| *made == node) || self.calls.iter().any(|(_, made)| *made == node) {
            return Some(&self.nodes[node.0].id);
        }
        self.nodes[node.0].inputs.iter().find_map(|input| self.function_above(input.node))
    }
}

impl Ending {
    fn clock(&self) -> Option<Clock> {
        match self.time {
            GroupTime::Window { clock, .. } | GroupTime::Key { clock, .. } => Some(clock),
            GroupTime::Unbounded => None,
        }
    }
}

/// By a window, if there is one; else by a key.
fn ending(input: &Input<'_>) -> Result<Ending> {
    let window = input.node.operation.keys.iter().find_map(|key| match key {
        GroupKey::Window(spec, column) => Some((*spec, column)),
        GroupKey::Column(_) => None,
    });
    if let Some((spec, column)) = window {
        let (clock, bound) = match input.time(column)? {
            Some(TimeColumn::Event(bound)) => (Clock::EventTime, bound.clone()),
            Some(TimeColumn::Processing) => (Clock::ProcessingTime, TimeBound::default()),
            _ => (Clock::Never, TimeBound::default()),
        };
        let time = GroupTime::Window { spec, time: input.column(column)?, clock };
        return Ok(Ending { time, bound, ends: clock != Clock::Never });
    }
    Ok(match bounding_key(input)? {
        Some((index, clock, bound)) => Ending { time: GroupTime::Key { index, clock }, bound, ends: true },
        None => Ending { time: GroupTime::Unbounded, bound: TimeBound::default(), ends: false },
    })
}

/// The first key that is an event time or a window of an operator upstream; where there are others, not a window's start, for it is the end
/// that goes on as the time of what is known once the window has closed.
fn bounding_key(input: &Input<'_>) -> Result<Option<(usize, Clock, TimeBound)>> {
    let Grouping { keys, origins, .. } = &input.node.operation;
    let mut start = None;
    for (index, key) in keys.iter().enumerate() {
        let GroupKey::Column(column) = key else { continue };
        let time = input.time(column)?;
        let found = match (time, time.and_then(TimeColumn::bound)) {
            (Some(TimeColumn::ProcessingWindow(_)), _) => (index, Clock::ProcessingTime, TimeBound::default()),
            (_, Some(bound)) => (index, Clock::EventTime, bound.clone()),
            _ => continue,
        };
        if !matches!(window_part(&origins[index]), Some((WindowPart::Start, _))) {
            return Ok(Some(found));
        }
        start = start.or(Some(found));
    }
    Ok(start)
}

fn emit(grouping: &Grouping, mode: SinkMode, ending: &Ending) -> Result<Emit> {
    let is_session = matches!(ending.time, GroupTime::Window { spec: WindowSpec::Session { .. }, .. });
    let refuse = |why: &str| Err(Error::config(format!("{}: {why}", grouping.text)));
    match mode {
        SinkMode::Complete => Ok(Emit::All),
        SinkMode::Changelog => refuse("the mode 'changelog' of a grouping is not supported by this version; use 'update' or 'complete'"),
        SinkMode::Update if is_session => refuse(
            "the mode 'update' can't be given: a session that grows has another start or end, and so another key; use the mode 'append', which \
             writes a session once it has closed, or 'complete'",
        ),
        SinkMode::Append | SinkMode::Update if grouping.calls.is_empty() && !is_session => Ok(Emit::New),
        SinkMode::Update => Ok(Emit::Updated),
        SinkMode::Append if ending.ends => Ok(Emit::Closed),
        SinkMode::Append if matches!(ending.time, GroupTime::Window { .. }) => refuse(
            "the mode 'append' writes a window once it has closed, and nothing closes these: their time is no event time; give the table the \
             option 'event_time' with this column (it stays one through aliases, plus and minus a constant, date_trunc, and what is read of a window), or \
             use proc_time(), or the sink's mode 'update' or 'complete'",
        ),
        SinkMode::Append => refuse(
            "the mode 'append' writes a group once it has closed, and these groups never close; group by a window over the event time, such \
             as tumble(ts, INTERVAL '10 seconds'), of a table with the option 'event_time', or set the sink's mode to 'update' or 'complete'",
        ),
    }
}

/// Where results come out before their window closes, each window is kept by itself.
fn check_windows(grouping: &Grouping, ending: &Ending, emit: Emit) -> Result<()> {
    match ending.time {
        GroupTime::Window { spec, .. } if emit != Emit::Closed && spec.windows_of_a_row() > MOST_WINDOWS => Err(Error::config(format!(
            "{}: a row would be in up to {} windows, and where windows are written before they have closed {MOST_WINDOWS} are the most; use a longer \
             slide, a shorter size, or the sink's mode 'append'",
            grouping.text,
            spec.windows_of_a_row()
        ))),
        _ => Ok(()),
    }
}

/// What bounds the groups is an event time downstream; nothing else is. A grouping that goes by processing time says so in its watermark,
/// which bounds its windows as that of an event time does.
fn times_of(ending: &Ending, layout: &[OutputColumn], input: &Input<'_>) -> Result<Times> {
    let chosen = match ending.time {
        GroupTime::Window { spec, clock: Clock::EventTime | Clock::ProcessingTime, .. } => {
            Some((OutputColumn::Window, TimeColumn::Window { bound: TimeBound::default(), size: spec.size() }))
        }
        GroupTime::Key { index, clock: Clock::ProcessingTime } => {
            let size = input.key_time(index)?.and_then(times::size_of);
            Some((OutputColumn::Key(index), TimeColumn::Window { bound: TimeBound::default(), size }))
        }
        GroupTime::Key { index, .. } => input.key_time(index)?.map(|time| (OutputColumn::Key(index), times::normal(time))),
        _ => None,
    };
    let of = |column: &OutputColumn| chosen.as_ref().filter(|(chosen, _)| chosen == column).map(|(_, time)| time.clone());
    Ok(layout.iter().map(of).collect())
}
