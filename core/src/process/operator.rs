//! The operator around a function: rows as they come, timers and expiry behind them, and all tables in the checkpoint.
//!
//! Rows and output are converted by serde, a morsel at a time. What can fail: a row that does not fit the function's types (`BadData`),
//! state that this function does not know (`Corrupt`), and the function itself, whose error is the batch's.

use super::context::{Memory, ProcessContext};
use super::fields::fields_of;
use super::keys::{Key, Keys};
use super::states::{MakeTable, States};
use super::table::Moment;
use super::timers::Timers;
use super::{ProcessFunction, TimeDomain, Timer};
use crate::batch::BatchContext;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::operator::{Operator, OperatorFactory, Output, Port};
use crate::state::{StateLayer, canonical_key};
use crate::time::{Timestamp, Watermark};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Where in the rows that come in a function finds what it needs: positions of columns.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The columns of the function's rows, with their names there.
    pub(crate) rows: Vec<(usize, Field)>,
    /// The columns of the key, with the names that the function's key has them by.
    pub(crate) keys: Vec<(usize, Field)>,
    /// The name of each of them in the state, and what it is computed from, in words: neither changes with the names that a program gives.
    pub(crate) origins: Vec<(String, String)>,
    /// The event time.
    pub(crate) event_time: Option<usize>,
}

/// A function whose rows' positions are not known yet.
pub(crate) trait Bind: Send + Sync {
    /// The names of the columns that the function's rows are made of; none if they may be made of any. There may be no such columns.
    fn reads(&self) -> Option<&'static [&'static str]>;

    /// The operator's factory.
    fn bind(&self, layout: Layout) -> Result<Arc<dyn OperatorFactory>>;
}

/// A function with its states.
pub(crate) struct Process<F> {
    function: Arc<F>,
    states: Arc<[MakeTable]>,
    /// A state that needs event time.
    by_event_time: Option<String>,
    output: SchemaRef,
}

impl<F: ProcessFunction> Process<F> {
    pub(crate) fn new(make: impl FnOnce(&mut States) -> F, output: SchemaRef) -> Result<Self> {
        let mut states = States::default();
        let function = Arc::new(make(&mut states));
        let by_event_time = states.by_event_time().map(str::to_owned);
        Ok(Self { function, states: states.finish()?.into(), by_event_time, output })
    }
}

impl<F: ProcessFunction> Bind for Process<F> {
    fn reads(&self) -> Option<&'static [&'static str]> {
        fields_of::<F::Input>()
    }

    fn bind(&self, layout: Layout) -> Result<Arc<dyn OperatorFactory>> {
        if let (Some(state), None) = (&self.by_event_time, layout.event_time) {
            return Err(Error::config(format!(
                "the state '{state}' has a time to live by event time, and the stream has no event time; say which column it is by \
                 Stream::watermark, and keep that column up to key_by"
            )));
        }
        layout.all_keys()?;
        let (function, states, output) = (Arc::clone(&self.function), Arc::clone(&self.states), Arc::clone(&self.output));
        Ok(Arc::new(Factory { layout: Arc::new(layout), function, states, output }))
    }
}

impl Layout {
    fn all_keys(&self) -> Result<Keys> {
        let fields: Vec<Field> = self.keys.iter().map(|(_, field)| field.clone()).collect();
        let names: Vec<&str> = self.origins.iter().map(|(name, _)| name.as_str()).collect();
        Keys::new(&fields, &names)
    }

    fn columns(&self, rows: &RecordBatch, positions: &[(usize, Field)]) -> Vec<ArrayRef> {
        positions.iter().map(|(position, _)| Arc::clone(rows.column(*position))).collect()
    }

    /// The function's rows under their names.
    fn named(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let schema = Schema::new(self.rows.iter().map(|(_, field)| field.clone().with_nullable(true)).collect::<Vec<_>>());
        let made = RecordBatch::try_new(Arc::new(schema), self.columns(rows, &self.rows));
        made.or_error(ErrorKind::Internal, || "rows of a process function".into())
    }
}

struct Factory<F> {
    layout: Arc<Layout>,
    function: Arc<F>,
    states: Arc<[MakeTable]>,
    output: SchemaRef,
}

impl<F> fmt::Debug for Factory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<F: ProcessFunction> OperatorFactory for Factory<F> {
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        let column = |(position, field): &(usize, Field)| Arc::new(Column::new(field.name(), *position)) as Arc<dyn PhysicalExpr>;
        vec![self.layout.keys.iter().map(column).collect()]
    }

    fn outputs(&self) -> Vec<SchemaRef> {
        vec![Arc::clone(&self.output)]
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        let memory = Memory {
            tables: self.states.iter().map(|make| make()).collect(),
            event_timers: Timers::new(TimeDomain::EventTime),
            processing_timers: Timers::new(TimeDomain::ProcessingTime),
            has_event_time: self.layout.event_time.is_some(),
            set_at_once: HashMap::new(),
        };
        Ok(Box::new(ProcessOperator {
            layout: Arc::clone(&self.layout),
            function: Arc::clone(&self.function),
            fields: self.output.fields().iter().cloned().collect(),
            keys: self.layout.all_keys()?,
            memory,
            watermark: Watermark::Unknown,
            trigger_time: Timestamp(i64::MIN),
        }))
    }

    /// The keys, down to the columns of the tables, and the shapes of the states. What the function does with them is no part of it.
    fn fingerprint(&self) -> String {
        let key = |((_, field), (_, origin)): (&(usize, Field), &(String, String))| format!("{origin}: {}", field.data_type());
        let keys: Vec<String> = self.layout.keys.iter().zip(&self.layout.origins).map(key).collect();
        let states: BTreeMap<String, serde_json::Value> =
            self.states.iter().map(|make| make()).map(|table| (table.name().to_owned(), table.shape())).collect();
        json!({ "keys": keys, "states": states }).to_string()
    }

    fn describe(&self) -> String {
        let keys: Vec<&str> = self.layout.keys.iter().map(|(_, field)| field.name().as_str()).collect();
        let states: Vec<String> =
            self.states.iter().map(|make| make()).map(|table| format!("{} {}", table.name(), table.shape())).collect();
        format!("process by [{}], states [{}]", keys.join(", "), states.join(", "))
    }
}

struct ProcessOperator<F: ProcessFunction> {
    layout: Arc<Layout>,
    function: Arc<F>,
    fields: Vec<FieldRef>,
    keys: Keys,
    memory: Memory,
    watermark: Watermark,
    trigger_time: Timestamp,
}

impl<F: ProcessFunction> ProcessOperator<F> {
    fn emit(&self, made: &[F::Output], output: &mut Output) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let rows = serde_arrow::to_record_batch(&self.fields, &made).or_error(ErrorKind::Internal, || "writing rows".into())?;
        if let Some(column) = F::EVENT_TIME {
            check_event_time(&rows, column)?;
        }
        output.emit(Port(0), rows);
        Ok(())
    }

    /// The keys of some timers as the function has them. A timer sets timers for its own key alone, so these are all that can fire.
    fn typed<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<HashMap<Key, F::Key>> {
        let mut distinct: Vec<&Key> = keys.collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.is_empty() {
            return Ok(HashMap::new());
        }
        let typed = self.keys.typed(self.keys.columns(distinct.iter().map(|key| key.as_key()))?)?;
        Ok(distinct.into_iter().cloned().zip(typed).collect())
    }

    /// Fires timers of processing time that are due now. Those that they set for now wait for the next batch.
    fn fire_processing(&mut self, firing: &mut Firing<F::Output>) -> Result<()> {
        let due: Vec<(i64, Key)> = self.memory.processing_timers.due(self.trigger_time.0).cloned().collect();
        let typed = self.typed(due.iter().map(|(_, key)| key))?;
        for (time, key) in due {
            if self.memory.processing_timers.delete(time, key.clone()) {
                self.fire(Timer::processing_time(time), &key, &typed, firing)?;
            }
        }
        Ok(())
    }

    /// Fires timers of event time up to the watermark, those too that they set themselves.
    fn fire_event(&mut self, firing: &mut Firing<F::Output>) -> Result<()> {
        let until = match self.watermark {
            Watermark::Unknown => return Ok(()),
            Watermark::At(time) => time.0,
            Watermark::End => i64::MAX,
        };
        let typed = self.typed(self.memory.event_timers.due(until).map(|(_, key)| key))?;
        while let Some((time, key)) = self.memory.event_timers.take_first(until) {
            self.fire(Timer::event_time(time), &key, &typed, firing)?;
        }
        Ok(())
    }

    fn fire(&mut self, timer: Timer, key: &Key, typed: &HashMap<Key, F::Key>, firing: &mut Firing<F::Output>) -> Result<()> {
        let typed = typed.get(key).ok_or_else(|| Error::internal("a timer of a key that no timer was set for"))?;
        let event_time = (timer.domain == TimeDomain::EventTime).then_some(timer.time);
        let now = Moment { event_time, trigger_time: self.trigger_time, watermark: self.watermark };
        let (memory, output, late_rows) = (&mut self.memory, &mut firing.rows, &mut firing.late_rows);
        let mut context = ProcessContext { memory, key: key.as_key(), now, timer: Some(timer), output, late_rows };
        self.function.on_timer(typed, timer, &mut context)
    }
}

/// As of a source, an event time that is null or can't be true is bad data.
fn check_event_time(rows: &RecordBatch, column: &str) -> Result<()> {
    let times = rows.column_by_name(column).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| Error::internal(format!("the event time '{column}' is no time")))?;
    let wrong = |time: &Option<i64>| time.is_none_or(|time| !Timestamp(time).is_plausible());
    match times.iter().find(wrong) {
        None => Ok(()),
        Some(None) => Err(Error::bad_data(format!("a function gave a row whose event time '{column}' is null"))),
        Some(Some(time)) => Err(Error::bad_data(format!(
            "a function gave a row whose event time '{column}' is {}, outside the years 1900 to 2200",
            Timestamp(time)
        ))),
    }
}

/// What functions give while they are called.
struct Firing<O> {
    rows: Vec<O>,
    late_rows: u64,
}

impl<O> Firing<O> {
    fn new() -> Self {
        Self { rows: Vec::new(), late_rows: 0 }
    }
}

impl<F: ProcessFunction> Operator for ProcessOperator<F> {
    fn begin(&mut self, batch: &BatchContext) {
        self.trigger_time = batch.trigger_time;
        self.memory.set_at_once.clear();
    }

    fn process(&mut self, _port: Port, rows: RecordBatch, output: &mut Output) -> Result<()> {
        let key_columns = self.layout.columns(&rows, &self.layout.keys);
        let key_columns = key_columns.iter().map(canonical_key).collect::<Result<Vec<_>>>()?;
        let keys = self.keys.encode(&key_columns)?;
        let typed: Vec<F::Key> = self.keys.typed(key_columns)?;
        let named = self.layout.named(&rows)?;
        let inputs: Vec<F::Input> = serde_arrow::from_record_batch(&named).or_error(ErrorKind::BadData, || "reading rows".into())?;
        let times = self.layout.event_time.map(|position| rows.column(position).as_primitive::<TimestampMicrosecondType>());
        let mut made = Firing::new();
        for (row, ((key, typed), input)) in keys.iter().zip(&typed).zip(inputs).enumerate() {
            let event_time = times.filter(|times| times.is_valid(row)).map(|times| Timestamp(times.value(row)));
            let now = Moment { event_time, trigger_time: self.trigger_time, watermark: self.watermark };
            let (memory, output, late_rows) = (&mut self.memory, &mut made.rows, &mut made.late_rows);
            let mut context = ProcessContext { memory, key, now, timer: None, output, late_rows };
            self.function.process(typed, input, &mut context)?;
        }
        output.count_late(made.late_rows);
        self.emit(&made.rows, output)
    }

    fn advance(&mut self, _port: Port, watermark: Watermark, _batch: &BatchContext, output: &mut Output) -> Result<Watermark> {
        self.watermark = self.watermark.max(watermark);
        let mut firing = Firing::new();
        self.fire_processing(&mut firing)?;
        self.fire_event(&mut firing)?;
        let now = Moment { event_time: None, trigger_time: self.trigger_time, watermark: self.watermark };
        self.memory.tables.iter_mut().for_each(|table| table.forget(&now));
        output.count_late(firing.late_rows);
        self.emit(&firing.rows, output)?;
        Ok(self.watermark)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let timer = self.memory.processing_timers.next().map(Timestamp);
        self.memory.tables.iter().filter_map(|table| table.next_timer()).chain(timer).min()
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let mut changes = Vec::new();
        for table in &mut self.memory.tables {
            changes.extend(table.checkpoint(&self.keys)?);
        }
        changes.extend(self.memory.event_timers.checkpoint(&self.keys)?);
        changes.extend(self.memory.processing_timers.checkpoint(&self.keys)?);
        Ok(changes)
    }

    fn restore(&mut self, layers: &[StateLayer], watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        for layer in layers {
            self.restore_table(layer)?;
        }
        Ok(())
    }
}

impl<F: ProcessFunction> ProcessOperator<F> {
    fn restore_table(&mut self, layer: &StateLayer) -> Result<()> {
        let memory = &mut self.memory;
        for timers in [&mut memory.event_timers, &mut memory.processing_timers] {
            if layer.table.name == timers.table() {
                return timers.restore(layer, &self.keys);
            }
        }
        let found = memory.tables.iter_mut().find(|table| table.name() == layer.table.name);
        let table = found.ok_or_else(|| Error::corrupt(format!("the function has no state '{}', which is stored", layer.table.name)))?;
        table.restore(layer, &self.keys)
    }
}
