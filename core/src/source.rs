//! Sources: where rows come from, cut into ranges that can be read again.
//!
//! A source knows how far it has been cut. Once per batch the driver asks it for a [`Cut`]: for each partition a range
//! `[start, end)` of offsets, within limits. The cut is written into the commit record as it is, so it must hold all that is needed
//! to read the very same rows again, in this process or another. Reading is separate: [`Source::splits`] turns a cut, newly made or
//! taken from an old record, into [`Split`]s, pieces that are read side by side.
//!
//! A split is read in two steps, so that workers of the thread pool never wait for a store: what [`Split::fetch`] gives is awaited on the
//! storage thread, where there is something to wait for, and brings what must be in memory; the [`Morsels`] that come of it decode it on a
//! worker.
//!
//! IMPORTANT: how a cut falls into splits, and a split into morsels, depends on the cut and the scan alone, never on the number of
//! threads, for the order of the rows must not.
//!
//! A source's memory of what it has read (the seen-set of a directory, say) is state like an operator's: [`Source::checkpoint`]
//! hands out what the cut changed, and [`Source::restore`] takes the layers back.

use crate::error::{Error, Result};
use crate::id::{PartitionId, SourceId};
use crate::state::StateLayer;
use crate::storage::Location;
use crate::time::Timestamp;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion_expr::Expr;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What a source can do; the driver and the planner act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// Whether a cut can be read again, later and by another process. If not, the driver spools each cut before the batch runs.
    pub replayable: bool,
    /// Whether the source has an end that [`Source::fix_end`] can find.
    pub has_end: bool,
}

/// Limits of one batch, per source. `None` is no limit. Each cut takes at least one row, or one file, if there is any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutLimits {
    /// Files begun per batch.
    pub max_files: Option<u64>,
    /// Bytes of stored input per batch.
    pub max_bytes: Option<u64>,
    /// Rows per batch.
    pub max_rows: Option<u64>,
}

/// A position in a partition, in the source's own form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub serde_json::Value);

/// A range `[start, end)` of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCut {
    /// The partition.
    pub partition: PartitionId,
    /// The first position of the range.
    pub start: Offset,
    /// The position behind the range: the next cut's start.
    pub end: Offset,
    /// What else is needed to read the range again: paths, sizes and ETags of files, for example. Null if nothing is.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

/// One source's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The ranges, at most one per partition; a partition without new data is left out.
    pub partitions: Vec<PartitionCut>,
    /// Whether a limit kept something back that could be cut at once.
    pub more: bool,
    /// How much is known to wait behind this cut, in the source's unit (rows, else files); `None` if unknown.
    pub lag: Option<u64>,
}

impl Cut {
    /// A cut without anything in it.
    pub fn empty() -> Self {
        Self { partitions: Vec::new(), more: false, lag: Some(0) }
    }

    /// Whether nothing was there to cut. A file without rows is something.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

/// What a plan wants of a source: fixed when the job is planned, the same for every batch.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The columns to read, as indices into the source's schema, ascending. Morsels have these columns, in this order.
    pub projection: Vec<usize>,
    /// Conditions that every consumer puts on the rows, all of them (AND), over the source's columns by name. A source may use
    /// them to leave out rows that can't pass, counted in [`Morsel::skipped`]; it need not, for the plan filters again.
    pub filters: Vec<Expr>,
    /// The event-time column, as an index into the source's schema, always part of the projection.
    pub event_time: Option<usize>,
    /// Whether the watermark alone needs the event time, and no consumer does: see [`Morsel::latest`].
    pub watermark_only: bool,
}

impl Scan {
    /// All columns of a schema.
    pub fn all(schema: &SchemaRef) -> Self {
        Self { projection: (0..schema.fields().len()).collect(), filters: Vec::new(), event_time: None, watermark_only: false }
    }

    /// The schema of the morsels.
    ///
    /// # Errors
    /// `Internal` if the projection names a column that the schema has not.
    pub fn projected(&self, schema: &SchemaRef) -> Result<SchemaRef> {
        schema.project(&self.projection).map(Arc::new).map_err(|cause| Error::internal("projection of a source").caused_by(cause))
    }
}

/// Where unbounded input comes from.
///
/// All calls but those of a [`Split`] come from the driver's thread, which may wait on storage.
pub trait Source: Send {
    /// All columns, as declared or inferred. Names are unique; times are microseconds without zone.
    fn schema(&self) -> SchemaRef;

    /// What the source can do.
    fn capabilities(&self) -> SourceCapabilities;

    /// Takes up the position of the last commit. Called once, before the first cut, with the state that this source handed out, in parts
    /// that follow each other and have no key in common, and the last range committed of each partition.
    ///
    /// # Errors
    /// `Corrupt` if the layers don't fit together; `Config` if they are of a source with another meaning.
    fn restore(&mut self, layers: &[StateLayer], last: &[PartitionCut]) -> Result<()>;

    /// Fixes the end of the input to what is there now: later cuts stop there, and the one that reaches it has `more == false`.
    ///
    /// # Errors
    /// `Config` for a source that has no end.
    fn fix_end(&mut self) -> Result<()>;

    /// Cuts what is new, in the source's order, up to the limits, and moves the source's position behind it.
    ///
    /// # Errors
    /// `Unavailable` if the source can't be reached, `BadData` if what was read before has changed. After an error the source is
    /// not asked again.
    fn cut(&mut self, limits: &CutLimits) -> Result<Cut>;

    /// What must be stored so that a cut just made can be read again, of a source that can't replay. The driver stores it before the batch
    /// runs.
    fn spool(&mut self, cut: &Cut) -> Result<Option<Bytes>> {
        let _ = cut;
        Ok(None)
    }

    /// Makes a cut readable from what [`spool`](Self::spool) gave for it, in this process or an earlier one.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are not of this cut; `Internal` for a source that has no spool.
    fn unspool(&mut self, cut: &Cut, bytes: Bytes) -> Result<()> {
        let _ = (cut, bytes);
        Err(Error::internal("this source has no spool"))
    }

    /// What the last cut changed in the source's state; none if the ranges say it all.
    fn checkpoint(&mut self) -> Result<Vec<StateLayer>>;

    /// The pieces of a cut, in the order of its rows. Must not depend on the source's position: the cut may be an old one.
    fn splits(&self, cut: &Cut, scan: &Arc<Scan>) -> Result<Vec<Box<dyn Split>>>;

    /// Replaces a position within a split by one that the user can look up (a line number), reading what it needs again.
    fn locate(&self, place: Place) -> Place {
        place
    }

    /// The batch of this cut is committed and published: what only it needed may be forgotten. Done again after a crash.
    fn acknowledge(&mut self, cut: &Cut) -> Result<()> {
        let _ = cut;
        Ok(())
    }
}

/// A piece of a cut that one task reads.
pub trait Split: Send {
    /// The partition that its rows belong to: rows and event time are recorded per partition.
    fn partition(&self) -> &PartitionId;

    /// Bytes of memory that the piece holds between fetch and decode, for the budget.
    fn held_bytes(&self) -> usize;

    /// About how many bytes it decodes to: tasks are balanced by this.
    fn work_bytes(&self) -> usize;

    /// Brings what the piece needs.
    fn fetch(self: Box<Self>) -> Result<Fetch>;
}

/// The way of a split into memory.
pub enum Fetch {
    /// There is nothing to wait for: rows are made, or the worker opens a local file.
    AtHand(Box<dyn Morsels>),
    /// What it needs is on its way. Awaited on the storage thread.
    Awaited(BoxFuture<'static, Result<Box<dyn Morsels>>>),
}

impl Fetch {
    /// The split's rows, once all that they need is there.
    pub async fn finish(self) -> Result<Box<dyn Morsels>> {
        match self {
            Self::AtHand(morsels) => Ok(morsels),
            Self::Awaited(morsels) => morsels.await,
        }
    }
}

/// Decodes a split, a morsel at a time, on a worker. Never waits on the storage thread.
pub trait Morsels: Send {
    /// The next rows; none at the end.
    fn next(&mut self) -> Result<Option<Morsel>>;
}

/// Some rows of a source, in order.
#[derive(Debug, Clone)]
pub struct Morsel {
    /// The rows that could be read, in the scan's columns.
    pub rows: RecordBatch,
    /// The latest event time of the rows, where the source knows it without reading them all, and vouches for it: none of them is null
    /// or outside the years that are plausible. The values of that column are then left out: they are null. Only of a scan whose event
    /// time is for the [watermark only](Scan::watermark_only).
    pub latest: Option<Timestamp>,
    /// Where they stand.
    pub origin: Origin,
    /// Rows that could not be read.
    pub bad: Vec<BadRow>,
    /// Rows that were left out because they can't pass the scan's filters.
    pub skipped: Skipped,
}

/// Rows left out by statistics: they count as read, for the watermark too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub rows: u64,
    /// Their latest event time, if the source has that column and any of them has a value.
    pub latest: Option<Timestamp>,
}

/// Where the rows of a morsel stand.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file, or what the source calls its input.
    pub input: Arc<str>,
    /// The position of each row.
    pub positions: Positions,
}

/// The positions of a morsel's rows.
#[derive(Debug, Clone)]
pub enum Positions {
    /// Row numbers from this one on, without gaps; the first row of an input is 1.
    Rows(u64),
    /// A line or a byte offset for each row.
    Each(Arc<[Position]>),
}

impl Origin {
    /// Where the row of this index stands.
    pub fn place(&self, index: usize) -> Place {
        let position = match &self.positions {
            Positions::Rows(first) => Position::Row(first + index as u64),
            Positions::Each(positions) => positions.get(index).copied().unwrap_or(Position::Row(index as u64 + 1)),
        };
        Place { input: Arc::clone(&self.input), position }
    }
}

/// A position within an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The row's number, from 1.
    Row(u64),
    /// The line's number, from 1.
    Line(u64),
    /// The byte at which the row begins, from 0. [`Source::locate`] turns it into a line.
    Byte(u64),
}

/// A row's place: an input and a position in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or what the source calls its input.
    pub input: Arc<str>,
    /// The position.
    pub position: Position,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Row(row) => write!(f, "row {row}"),
            Position::Line(line) => write!(f, "line {line}"),
            Position::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.input, self.position)
    }
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Where it stands.
    pub place: Place,
    /// Why it was refused, in words for the user.
    pub reason: String,
    /// The row as it was found, if it is text.
    pub text: Option<String>,
}

/// What to do with bad rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnBadRow {
    /// The batch fails with an error that names the first one; nothing of it is committed.
    Fail,
    /// They are written, with their reasons, to this place, and counted in the record.
    DeadLetter(Location),
}

/// The columns of bad rows in a dead-letter place: source, input and position in it, reason, and the row as it was found. All text.
pub fn dead_letter_schema() -> SchemaRef {
    let column = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(["source", "input", "position", "reason", "row"].map(column).to_vec()))
}

/// Event time of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// The column's name.
    pub column: String,
    /// How far the watermark stays behind the latest event time.
    pub delay: std::time::Duration,
    /// After how long without rows a partition no longer holds the table's watermark back; `None` is never.
    pub idle_timeout: Option<std::time::Duration>,
}

impl EventTime {
    /// # Errors
    /// `Config` if a source of this schema has no such column, or if it is no TIMESTAMP.
    pub(crate) fn check(&self, schema: &SchemaRef) -> Result<()> {
        let Self { column, .. } = self;
        match schema.field_with_name(column) {
            Ok(field) if field.data_type() == &Timestamp::DATA_TYPE => Ok(()),
            Ok(field) => Err(Error::config(format!("the event time '{column}' is {}; it must be a TIMESTAMP", field.data_type()))),
            Err(_) => {
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Err(Error::config(format!("there is no column '{column}' for the event time; there are: {}", known.join(", "))))
            }
        }
    }
}

/// What a table says of its source besides the connector's own options.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The source's name.
    pub id: SourceId,
    /// Event time, if the table has any.
    pub event_time: Option<EventTime>,
    /// Limits of a batch.
    pub limits: CutLimits,
    /// What to do with bad rows.
    pub on_bad_row: OnBadRow,
}
