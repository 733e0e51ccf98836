//! `rate://`: so many numbered rows per second of processing time, for trying things out.
//!
//! Columns: `value` BIGINT, from 0, and `timestamp` TIMESTAMP, when the row was due. A row's time is a function of its number and of the
//! time at which the job first ran, which stands in the offset: so a cut can be read again.
//!
//! Parameters, in the location: `rows_per_second` (1), `rows` (after which the stream ends; never, if absent). A job that runs until it
//! has caught up takes all `rows` at once, without waiting until each is due; without `rows`, those that are due when it starts.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use waterclock_core::connector::TableDefinition;
use waterclock_core::id::PartitionId;
use waterclock_core::source::{
    Cut, CutLimits, Fetch, Morsel, Morsels, Offset, Origin, PartitionCut, Positions, Scan, Skipped, Source, SourceCapabilities, Split,
};
use waterclock_core::state::StateLayer;
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Rows of a batch where nothing else limits it: after a pause, more may be due than a batch should have.
const DEFAULT_ROWS: u64 = 1_000_000;
const MORSEL_ROWS: u64 = 8_192;
const SPLIT_ROWS: u64 = 65_536;
/// A number and a time.
const ROW_BYTES: u64 = 16;

/// Where the machine's time comes from.
pub type Clock = fn() -> Timestamp;

/// The machine's clock: the one place of this crate that asks for it.
#[allow(clippy::disallowed_methods)]
pub fn machine_clock() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_micros())
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Position {
    value: u64,
    started: Timestamp,
    rows_per_second: u64,
}

struct RateSource {
    clock: Clock,
    rows_per_second: u64,
    rows: Option<u64>,
    position: Option<Position>,
    end: Option<u64>,
    input: Arc<str>,
}

/// The source of a `rate://` table.
///
/// # Errors
/// `Config` for an unknown parameter, or other columns than the source has.
pub fn rate_source(table: &TableDefinition, clock: Clock) -> Result<Box<dyn Source>> {
    let location = &table.location;
    if table.columns.as_ref().is_some_and(|columns| columns.fields() != schema().fields()) {
        return Err(Error::config(format!("table '{}': rate:// has the columns value BIGINT, timestamp TIMESTAMP", table.name)));
    }
    let (mut rows_per_second, mut rows) = (1, None);
    for (key, value) in location.parameters() {
        let number: u64 =
            value.parse().or_error(ErrorKind::Config, || format!("{location}: '{key}' is '{value}', which is not a number"))?;
        match key.as_str() {
            "rows_per_second" if number == 0 => {
                return Err(Error::config(format!("{location}: 'rows_per_second' is 0, which gives no row")));
            }
            "rows_per_second" => rows_per_second = number,
            "rows" => rows = Some(number),
            _ => return Err(Error::config(format!("{location} has no parameter '{key}'; there are: rows_per_second, rows"))),
        }
    }
    let input = location.to_string().into();
    Ok(Box::new(RateSource { clock, rows_per_second, rows, position: None, end: None, input }))
}

fn schema() -> SchemaRef {
    let time = Timestamp::DATA_TYPE;
    Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true), Field::new("timestamp", time, true)]))
}

impl RateSource {
    /// How many rows are due by now.
    fn due(&self, position: &Position) -> u64 {
        let micros = (self.clock)().0.saturating_sub(position.started.0).max(0);
        let due = (micros as u128 * u128::from(self.rows_per_second) / 1_000_000) as u64;
        due.min(self.rows.unwrap_or(u64::MAX))
    }

    fn position(&mut self) -> Position {
        let clock = self.clock;
        let rows_per_second = self.rows_per_second;
        *self.position.get_or_insert_with(|| Position { value: 0, started: clock(), rows_per_second })
    }
}

fn offset(position: &Position) -> Result<Offset> {
    serde_json::to_value(position).map(Offset).or_error(ErrorKind::Internal, || "writing an offset".into())
}

fn position(offset: &Offset) -> Result<Position> {
    serde_json::from_value(offset.0.clone()).or_error(ErrorKind::Corrupt, || format!("'{}' is no offset of rate://", offset.0))
}

impl Source for RateSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { replayable: true, has_end: true }
    }

    fn restore(&mut self, _layers: &[StateLayer], last: &[PartitionCut]) -> Result<()> {
        self.position = last.last().map(|cut| position(&cut.end)).transpose()?;
        match self.position {
            Some(position) if position.rows_per_second != self.rows_per_second => Err(Error::config(format!(
                "{}: this checkpoint was begun with rows_per_second={}, by which its rows are dated; keep it, or begin with a new checkpoint",
                self.input, position.rows_per_second
            ))),
            _ => Ok(()),
        }
    }

    fn fix_end(&mut self) -> Result<()> {
        let position = self.position();
        // Those that are not due yet exist all the same: they are numbered and dated.
        self.end = Some(self.rows.unwrap_or_else(|| self.due(&position)));
        Ok(())
    }

    fn cut(&mut self, limits: &CutLimits) -> Result<Cut> {
        let start = self.position();
        let due = self.end.unwrap_or_else(|| self.due(&start));
        let limit = limits.max_bytes.map(|bytes| (bytes / ROW_BYTES).max(1)).into_iter().chain(limits.max_rows).min();
        let end = due.min(start.value.saturating_add(limit.unwrap_or(DEFAULT_ROWS)));
        if end <= start.value {
            return Ok(Cut::empty());
        }
        let next = Position { value: end, ..start };
        self.position = Some(next);
        let partition = PartitionCut {
            partition: PartitionId::from("rows"),
            start: offset(&start)?,
            end: offset(&next)?,
            detail: serde_json::Value::Null,
        };
        Ok(Cut { partitions: vec![partition], more: end < due, lag: Some(due - end) })
    }

    fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        Ok(Vec::new())
    }

    fn splits(&self, cut: &Cut, scan: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>> {
        let mut splits: Vec<Box<dyn Split>> = Vec::new();
        for range in &cut.partitions {
            let (start, end) = (position(&range.start)?, position(&range.end)?);
            for first in (start.value..end.value).step_by(SPLIT_ROWS as usize) {
                splits.push(Box::new(Rows {
                    partition: range.partition.clone(),
                    input: Arc::clone(&self.input),
                    scan: Arc::clone(scan),
                    rows: first..(first + SPLIT_ROWS).min(end.value),
                    started: start.started,
                    rows_per_second: start.rows_per_second,
                }));
            }
        }
        Ok(splits)
    }
}

struct Rows {
    partition: PartitionId,
    input: Arc<str>,
    scan: Arc<Scan>,
    rows: Range<u64>,
    started: Timestamp,
    rows_per_second: u64,
}

impl Split for Rows {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn held_bytes(&self) -> usize {
        0
    }

    fn work_bytes(&self) -> usize {
        (ROW_BYTES * (self.rows.end - self.rows.start)) as usize
    }

    fn fetch(self: Box<Self>) -> Result<Fetch> {
        Ok(Fetch::AtHand(self))
    }
}

impl Morsels for Rows {
    fn next(&mut self) -> Result<Option<Morsel>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let rows = self.rows.start..(self.rows.start + MORSEL_ROWS).min(self.rows.end);
        self.rows.start = rows.end;
        let due = |value: u64| self.started.0 + (u128::from(value) * 1_000_000 / u128::from(self.rows_per_second)) as i64;
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone().map(|value| value as i64)));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.clone().map(due)));
        let batch = RecordBatch::try_new(schema(), vec![values, times]).and_then(|batch| batch.project(&self.scan.projection));
        let rows_made = batch.or_error(ErrorKind::Internal, || "making rows".into())?;
        let origin = Origin { input: Arc::clone(&self.input), positions: Positions::Rows(rows.start + 1) };
        Ok(Some(Morsel { rows: rows_made, latest: None, origin, bad: Vec::new(), skipped: Skipped::default() }))
    }
}
