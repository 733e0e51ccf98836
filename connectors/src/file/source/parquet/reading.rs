//! Which row groups of a file a split reads, and which columns of them: told from the metadata, before any row is read.

use super::super::Shared;
use super::super::conform::Conform;
use super::super::prune::RowGroups;
use super::super::version::Range;
use super::ends;
use datafusion_common::ScalarValue;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use std::collections::VecDeque;
use std::sync::Arc;
use waterclock_core::Result;
use waterclock_core::source::{Scan, Skipped};
use waterclock_core::time::Timestamp;

/// What a split reads of a file.
pub(super) struct Reading {
    pub(super) runs: VecDeque<Run>,
    pub(super) skipped: Skipped,
    all: Columns,
    /// All but the event time, where the watermark alone needs that and statistics tell the latest.
    timeless: Columns,
}

/// Row groups that follow each other.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) groups: Vec<usize>,
    /// The rows to pass over at their start, and how many rows to read.
    pub(super) offset: u64,
    pub(super) rows: u64,
    /// The number of its first row, from 0.
    pub(super) first: u64,
    /// The latest event time, if the column itself is not read.
    pub(super) latest: Option<Timestamp>,
}

/// The columns that are read of a row group, and what they become.
pub(super) struct Columns {
    pub(super) conform: Conform,
    pub(super) mask: ProjectionMask,
}

impl Columns {
    fn new(conform: Conform, metadata: &ArrowReaderMetadata) -> Self {
        Self { mask: ProjectionMask::roots(metadata.parquet_schema(), conform.needed()), conform }
    }
}

/// Decides by the file's metadata.
pub(super) fn plan(shared: &Shared, name: &Arc<str>, metadata: &ArrowReaderMetadata, range: Range) -> Result<Reading> {
    let Scan { projection, event_time, watermark_only, .. } = shared.layout.scan.as_ref();
    let conform = Conform::new(&shared.layout.projected, metadata.schema(), name)?;
    let time = event_time.and_then(|time| projection.iter().position(|column| *column == time));
    let timeless = time.map_or_else(|| conform.clone(), |time| conform.clone().without(time));
    let (all, timeless) = (Columns::new(conform, metadata), Columns::new(timeless, metadata));
    let mut statistics = RowGroups::new(metadata, &shared.layout.schema);
    let mut reading = Reading { runs: VecDeque::new(), skipped: Skipped::default(), all, timeless };
    let mut group_start = 0;
    for (group, end) in ends(metadata).into_iter().enumerate() {
        let (from, to) = (range.start().max(group_start), range.end().min(end));
        if from < to {
            let is_whole = from == group_start && to == end;
            match skippable(shared, &mut statistics, group, is_whole) {
                Some(latest) => {
                    reading.skipped.rows += to - from;
                    reading.skipped.latest = reading.skipped.latest.max(latest);
                }
                None => {
                    let latest = if *watermark_only && is_whole { known_latest(shared, &mut statistics, group) } else { None };
                    reading.add(Run { groups: vec![group], offset: from - group_start, rows: to - from, first: from, latest });
                }
            }
        }
        group_start = end;
    }
    Ok(reading)
}

impl Reading {
    fn add(&mut self, next: Run) {
        match self.runs.back_mut() {
            Some(run) if run.first + run.rows == next.first && run.latest.is_some() == next.latest.is_some() => {
                run.groups.extend(next.groups);
                run.rows += next.rows;
                run.latest = run.latest.max(next.latest);
            }
            _ => self.runs.push_back(next),
        }
    }

    pub(super) fn columns(&self, run: &Run) -> &Columns {
        if run.latest.is_some() { &self.timeless } else { &self.all }
    }
}

/// Whether a row group can be left out, and then its latest event time. With an event time only where all rows of the group are of this
/// batch: the watermark must not depend on what is left out.
fn skippable(shared: &Shared, statistics: &mut RowGroups<'_>, group: usize, is_whole: bool) -> Option<Option<Timestamp>> {
    if shared.layout.scan.filters.is_empty() || statistics.may_pass(&shared.layout.scan.filters, group) {
        return None;
    }
    if shared.layout.scan.event_time.is_none() {
        return Some(None);
    }
    if is_whole { known_latest(shared, statistics, group).map(Some) } else { None }
}

/// The latest event time of a row group, where that is known to be good in every row.
fn known_latest(shared: &Shared, statistics: &mut RowGroups<'_>, group: usize) -> Option<Timestamp> {
    let column = shared.layout.scan.event_time?;
    let known = statistics.known(shared.layout.schema.field(column).name(), group)?;
    let time = |value: Option<ScalarValue>| match value?.cast_to(&Timestamp::DATA_TYPE) {
        Ok(ScalarValue::TimestampMicrosecond(Some(time), _)) => Some(Timestamp(time)).filter(|time| time.is_plausible()),
        _ => None,
    };
    let (_, latest) = (time(known.least)?, time(known.most)?);
    (known.nulls == Some(0)).then_some(latest)
}
