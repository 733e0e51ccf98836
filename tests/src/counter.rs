//! A keyed operator with a memory and timers, behind the public traits: how often each key was seen.
//!
//! Rows in: a key (BIGINT, column 0) and an event time (TIMESTAMP, column 1). Rows out: `auction`, `bids`, `why`.
//! - A key that was not seen for [`GAP`] of event time is `closed`: its count goes out and its state goes.
//! - A key that was not seen for [`PAUSE`] of processing time is `idle`: its count goes out, once, and stays. That takes a batch
//!   without rows, which the operator asks for with its timer. Off unless wanted, for it depends on the clock.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::operator::{Operator, OperatorFactory, Output, Port};
use waterclock_core::state::{StateLayer, StateTable, merge};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// After so many microseconds of event time without a row a key is closed.
const GAP: i64 = 500_000;
/// After so many microseconds of processing time without a row a key is idle.
const PAUSE: i64 = 200_000;

/// Makes [`Counter`]s.
#[derive(Debug)]
pub struct CounterFactory {
    /// Whether keys become idle.
    pub idle: bool,
}

impl CounterFactory {
    /// The columns that come out.
    pub fn output() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("auction", DataType::Int64, false),
            Field::new("bids", DataType::Int64, false),
            Field::new("why", DataType::Utf8, false),
        ]))
    }
}

impl OperatorFactory for CounterFactory {
    fn keys(&self) -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
        vec![vec![Arc::new(Column::new("auction", 0))]]
    }

    fn outputs(&self) -> Vec<SchemaRef> {
        vec![Self::output()]
    }

    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Counter { idle: self.idle, keys: BTreeMap::new(), touched: BTreeSet::new(), changed: BTreeSet::new() }))
    }

    fn fingerprint(&self) -> String {
        "counts per auction".into()
    }

    fn describe(&self) -> String {
        "Counter: bids per auction".into()
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    bids: i64,
    /// The latest event time, in microseconds.
    latest: i64,
    /// The processing time at which it becomes idle, in microseconds; none once it has.
    due: Option<i64>,
}

/// One instance: the keys of its key groups.
struct Counter {
    idle: bool,
    keys: BTreeMap<i64, Count>,
    /// Seen in this batch.
    touched: BTreeSet<i64>,
    /// Changed or gone since the last checkpoint.
    changed: BTreeSet<i64>,
}

fn table() -> StateTable {
    StateTable::new("counts", 1)
}

impl Counter {
    fn closed(&self, watermark: Watermark) -> Vec<i64> {
        let end = match watermark {
            Watermark::Unknown => return Vec::new(),
            Watermark::At(Timestamp(time)) => time.saturating_sub(GAP),
            Watermark::End => i64::MAX,
        };
        self.keys.iter().filter(|(_, count)| count.latest < end).map(|(key, _)| *key).collect()
    }

    fn due(&self, now: Timestamp) -> Vec<i64> {
        self.keys.iter().filter(|(_, count)| count.due.is_some_and(|due| due <= now.0)).map(|(key, _)| *key).collect()
    }

    /// Rows for these keys.
    fn report(&self, keys: &[i64], why: &str) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(keys.iter().copied())),
            Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| self.keys[key].bids))),
            Arc::new(StringArray::from_iter_values(keys.iter().map(|_| why))),
        ];
        RecordBatch::try_new(CounterFactory::output(), columns).or_error(ErrorKind::Internal, || "rows of the counter".into())
    }
}

impl Operator for Counter {
    fn process(&mut self, _port: Port, rows: RecordBatch, _output: &mut Output) -> Result<()> {
        let keys = rows.column(0).as_primitive::<Int64Type>();
        let times = rows.column(1).as_primitive::<TimestampMicrosecondType>();
        for row in 0..rows.num_rows() {
            let count = self.keys.entry(keys.value(row)).or_default();
            count.bids += 1;
            count.latest = count.latest.max(times.value(row));
            self.touched.insert(keys.value(row));
        }
        Ok(())
    }

    fn advance(&mut self, _port: Port, watermark: Watermark, batch: &BatchContext, output: &mut Output) -> Result<Watermark> {
        let touched = std::mem::take(&mut self.touched);
        for key in touched.iter().filter(|_| self.idle) {
            if let Some(count) = self.keys.get_mut(key) {
                count.due = Some(batch.trigger_time.0 + PAUSE);
            }
        }
        self.changed.extend(touched);
        let closed = self.closed(watermark);
        output.emit(Port(0), self.report(&closed, "closed")?);
        for key in closed {
            self.keys.remove(&key);
            self.changed.insert(key);
        }
        let due = self.due(batch.trigger_time);
        output.emit(Port(0), self.report(&due, "idle")?);
        for key in due {
            self.keys.entry(key).or_default().due = None;
            self.changed.insert(key);
        }
        Ok(watermark)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.keys.values().filter_map(|count| count.due).min().map(Timestamp)
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let changed = std::mem::take(&mut self.changed);
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let count = |key: &i64| self.keys.get(key).copied().unwrap_or_default();
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("auction", Arc::new(Int64Array::from_iter_values(changed.iter().copied())), false),
            ("bids", Arc::new(Int64Array::from_iter_values(changed.iter().map(|key| count(key).bids))), false),
            ("latest", Arc::new(TimestampMicrosecondArray::from_iter_values(changed.iter().map(|key| count(key).latest))), false),
            ("due", Arc::new(changed.iter().map(|key| count(key).due).collect::<TimestampMicrosecondArray>()), true),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).or_error(ErrorKind::Internal, || "state of the counter".into())?;
        let removed = changed.iter().map(|key| Some(!self.keys.contains_key(key))).collect();
        Ok(vec![StateLayer { table: table(), rows, removed }])
    }

    fn restore(&mut self, layers: &[StateLayer], _watermark: Watermark) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        let rows = merge(layers, true, Watermark::Unknown)?.rows;
        let expected = DataType::Timestamp(TimeUnit::Microsecond, None);
        if rows.num_columns() != 4 || rows.column(3).data_type() != &expected {
            return Err(Error::corrupt("the counter's state has other columns"));
        }
        let (keys, bids) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Int64Type>());
        let (latest, due) =
            (rows.column(2).as_primitive::<TimestampMicrosecondType>(), rows.column(3).as_primitive::<TimestampMicrosecondType>());
        for row in 0..rows.num_rows() {
            let due = due.is_valid(row).then(|| due.value(row));
            self.keys.insert(keys.value(row), Count { bids: bids.value(row), latest: latest.value(row), due });
        }
        Ok(())
    }
}
