//! Process functions in a plan: a node of the logical plan, and what the planner makes of it.
//!
//! Below the node stands a projection of the rows' columns and then the keys, under names of their own, which the optimizer treats as any
//! other; the node finds both by their positions. Columns that the function does not read are left out, so that they are neither read from
//! the source nor brought to the tasks; but not those that may turn out to be the event time.

use super::aggregate::decoded;
use super::config_error;
use super::lineage::{key_origins, resolved};
use super::operation::{Operation, OperationNode};
use super::physical::{Planner, StreamKind, Translated, rows_of};
use super::stream::{Stream, fields_of};
use super::times::{self, TimeColumn, Times};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::id::OperatorId;
use crate::plan::{NodeKind, TimeBound};
use crate::process::{Bind, Layout, Process, ProcessFunction, States};
use crate::sql::functions::on_batch_time;
use crate::time::Timestamp;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use serde::de::DeserializeOwned;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// A stream with a key. See [`Stream::key_by`].
#[derive(Debug, Clone)]
#[must_use = "a keyed stream gives rows once it is processed"]
pub struct KeyedStream {
    stream: Stream,
    keys: Vec<Expr>,
}

impl Stream {
    /// Keys rows by what these expressions give, for a function with state and timers of one's own. The columns stay as they are.
    pub fn key_by(self, keys: impl IntoIterator<Item = Expr>) -> KeyedStream {
        KeyedStream { stream: self, keys: keys.into_iter().map(on_batch_time).collect() }
    }
}

impl KeyedStream {
    /// What a function with state and timers makes of the rows and the watermarks: see [`crate::process`]. `id` names the operator in
    /// errors and in `explain`, and its state in the checkpoint: it is unique in the job. `make` declares the states and makes the
    /// function.
    ///
    /// The columns that come out are those of the function's output; one of them is an event time if
    /// [the function says so](ProcessFunction::EVENT_TIME).
    ///
    /// # Errors
    /// `Config` if the output's columns can't be told from its type, if a key is an unknown column, if there is none, or if states are
    /// declared wrongly.
    pub fn process<F: ProcessFunction>(self, id: &str, make: impl FnOnce(&mut States) -> F) -> Result<Stream>
    where
        F::Output: DeserializeOwned,
    {
        let schema = Schema::new(fields_of::<F::Output>(id, "process_with_schema")?);
        self.process_with_schema(id, Arc::new(schema), make)
    }

    /// As [`process`](Self::process), with the columns that come out given: for types whose columns can't be told from them, and for
    /// TIMESTAMPs, which an `i64` of microseconds is written into.
    ///
    /// # Errors
    /// The same.
    pub fn process_with_schema<F: ProcessFunction>(
        self,
        id: &str,
        schema: SchemaRef,
        make: impl FnOnce(&mut States) -> F,
    ) -> Result<Stream> {
        let here = |error: Error| error.within(format!("operator '{id}'"));
        let function = Process::new(make, Arc::clone(&schema)).map_err(here)?;
        let event_time = F::EVENT_TIME.map(|column| event_time_of(column, &schema)).transpose().map_err(here)?;
        let node = ProcessNode::try_new(id, self, schema, event_time, Arc::new(function)).map_err(here)?;
        Ok(Stream::of(node.into_plan()))
    }
}

/// A call of a function with state.
pub(super) type ProcessNode = OperationNode<ProcessCall>;

/// A function over the columns of its input but the last, which are its keys.
#[derive(Clone)]
pub(super) struct ProcessCall {
    id: String,
    /// The rows' columns that are kept, as the function knows them.
    rows: SchemaRef,
    /// The keys' names.
    keys: Vec<String>,
    /// The keys' names in the state, and what they are computed from.
    origins: Vec<(String, String)>,
    /// The output's column that is its event time.
    event_time: Option<usize>,
    function: Arc<dyn Bind>,
}

impl ProcessNode {
    fn try_new(id: &str, keyed: KeyedStream, output: SchemaRef, event_time: Option<usize>, function: Arc<dyn Bind>) -> Result<Self> {
        let KeyedStream { stream, keys } = keyed;
        let names: Vec<String> = keys.iter().map(|key| key.qualified_name().1).collect();
        if names.is_empty() {
            return Err(Error::config("key_by names no key; give it at least one column, or a constant if all rows belong together"));
        }
        if let Some(twice) = names.iter().enumerate().find_map(|(index, name)| names[..index].contains(name).then_some(name)) {
            return Err(Error::config(format!("two keys are called '{twice}'; leave one out, or name it by alias")));
        }
        let rows = stream.schema();
        let kept = kept(&rows, function.reads());
        let rows = Arc::new(rows.project(&kept).or_error(ErrorKind::Internal, || "the columns of a function's rows".into())?);
        let columns = stream.plan().schema().columns();
        let columns = kept.into_iter().map(|index| Expr::Column(columns[index].clone()).alias(format!("__row_{index}")));
        let origins: Vec<Expr> = keys.iter().map(|key| resolved(key, stream.plan())).collect();
        let origins = key_origins(origins.iter());
        let named = keys.into_iter().enumerate().map(|(index, key)| {
            let key = decoded(key.unalias_nested().data, stream.plan().schema())?;
            Ok(key.alias(format!("__key_{index}")))
        });
        let below = columns.map(Ok).chain(named).collect::<Result<Vec<Expr>>>()?;
        let input = stream.build(|plan| plan.project(below))?.into_plan();
        let schema = Arc::new(DFSchema::try_from(output).map_err(config_error)?);
        Ok(Self { operation: ProcessCall { id: id.to_owned(), rows, keys: names, origins, event_time, function }, input, schema })
    }

    /// The operator's name.
    pub(super) fn id(&self) -> &str {
        &self.operation.id
    }

    /// What the output's columns say of time: the watermark behind the function is that of its input.
    fn times(&self) -> Times {
        times::of_scan(self.schema.fields().len(), self.operation.event_time)
    }

    /// Whether it is the same function, met again on another way from the same stream.
    fn is_same_call(&self, other: &Self) -> bool {
        self == other && Arc::ptr_eq(&self.operation.function, &other.operation.function)
    }
}

impl ProcessCall {
    /// Where the operator finds its columns among those that come in.
    fn layout(&self, from: &Translated, given: &Schema) -> Layout {
        let (rows, keys) = from.columns.split_at(self.rows.fields().len());
        let renamed = |position: &usize, name: &str| (*position, given.field(*position).clone().with_name(name));
        let read = read(&self.rows, self.function.reads()).into_iter();
        Layout {
            rows: read.map(|index| renamed(&rows[index], self.rows.field(index).name())).collect(),
            keys: keys.iter().zip(&self.keys).map(|(position, name)| renamed(position, name)).collect(),
            origins: self.origins.clone(),
            event_time: event_time(from, given).map(|(index, _)| from.columns[index]),
        }
    }
}

/// The positions of the columns that a function reads. All if it reads none, for rows of no columns have no number.
fn read(rows: &Schema, reads: Option<&[&str]>) -> Vec<usize> {
    let is_read = |index: &usize| reads.is_none_or(|reads| reads.contains(&rows.field(*index).name().as_str()));
    let all = 0..rows.fields().len();
    let read: Vec<usize> = all.clone().filter(is_read).collect();
    if read.is_empty() { all.collect() } else { read }
}

/// The positions of the columns that a function reads, and of those that may be the event time.
fn kept(rows: &Schema, reads: Option<&[&str]>) -> Vec<usize> {
    let read = read(rows, reads);
    let is_time = |index: &usize| rows.field(*index).data_type() == &Timestamp::DATA_TYPE;
    (0..rows.fields().len()).filter(|index| read.contains(index) || is_time(index)).collect()
}

/// The position of the column that a function says is its output's event time.
fn event_time_of(column: &str, output: &Schema) -> Result<usize> {
    match output.column_with_name(column) {
        Some((index, field)) if field.data_type() == &Timestamp::DATA_TYPE => Ok(index),
        Some((_, field)) => Err(Error::config(format!(
            "the function's EVENT_TIME '{column}' is {}, not TIMESTAMP; give the columns by process_with_schema",
            field.data_type()
        ))),
        None => Err(Error::config(format!("the function's EVENT_TIME '{column}' is no column of its output"))),
    }
}

/// The first column that is an event time in microseconds, and what bounds it.
fn event_time<'a>(from: &'a Translated, given: &Schema) -> Option<(usize, &'a TimeBound)> {
    let is_micros = |index: usize| given.field(from.columns[index]).data_type() == &Timestamp::DATA_TYPE;
    from.times.iter().enumerate().find_map(|(index, time)| match time {
        Some(TimeColumn::Event(bound)) if is_micros(index) => Some((index, bound)),
        _ => None,
    })
}

impl Planner {
    /// A process function. It takes rows that are final.
    pub(super) fn process(&mut self, node: &ProcessNode) -> Result<Translated> {
        let output = Arc::clone(node.schema.inner());
        let width = output.fields().len();
        if let Some((_, made)) = self.processes.iter().find(|(other, _)| other.is_same_call(node)) {
            return Ok(Translated { times: node.times(), ..rows_of(*made, width) });
        }
        let id = OperatorId::from(node.id());
        let from = self.translate_final(&node.input)?;
        if from.kind != StreamKind::AppendOnly {
            return Err(Error::config(format!(
                "operator '{id}': a process function takes final rows, and these are changed by later ones"
            )));
        }
        self.check_id(&id)?;
        let given = self.schema_of(from.upstream);
        let bound = event_time(&from, &given).map(|(_, bound)| bound.clone());
        if let (Some(column), None) = (node.operation.event_time, &bound) {
            return Err(Error::config(format!(
                "operator '{id}': its output has the event time '{}', and the rows that come in have none, so that nothing would close by it; say \
                 which column of the source it is (Stream::watermark), and keep it up to here",
                output.field(column).name()
            )));
        }
        let factory =
            node.operation.function.bind(node.operation.layout(&from, &given)).map_err(|error| error.within(format!("operator '{id}'")))?;
        let made = self.push(id, NodeKind::Operator(factory), vec![(from.upstream, bound.unwrap_or_default())], output);
        self.processes.push((node.clone(), made.upstream.node));
        Ok(Translated { times: node.times(), ..made })
    }
}

impl Operation for ProcessCall {
    const NAME: &'static str = "Process";

    fn identity(&self) -> impl Eq + Hash {
        &self.id
    }
}

impl fmt::Display for ProcessCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process: {}, by [{}]", self.id, self.keys.join(", "))
    }
}
