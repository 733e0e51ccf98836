//! Static tables: read whole when a job is opened, and the same until it ends.
//!
//! What flows in: the tables' sources. What flows out: rows, for the joins of the plan, and the version that was read: its ranges, which
//! go into the record of the opening. With these the same rows can be read again, as long as the source still has them.

use crate::protocol::record::StaticRecord;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use std::collections::BTreeMap;
use waterclock_core::id::SourceId;
use waterclock_core::plan::PlannedStatic;
use waterclock_core::source::{BadRow, Cut, CutLimits, PartitionCut, Source};
use waterclock_core::storage::Storage;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Gives all static tables of a job their rows, as they are now. Returns the versions that were read.
///
/// # Errors
/// `Unavailable` if a table can't be reached, `BadData` if it holds a bad row.
pub(super) fn read(
    planned: &[PlannedStatic],
    sources: Vec<Box<dyn Source>>,
    storage: &Storage,
) -> Result<BTreeMap<SourceId, StaticRecord>> {
    let mut versions = BTreeMap::new();
    for (planned, mut source) in paired(planned, sources)? {
        let version = newest(source.as_mut()).and_then(|ranges| load(planned, source.as_ref(), ranges, storage));
        let version = version.map_err(|error| error.within(format!("static table '{}'", planned.id)))?;
        tracing::info!(table = %planned.id, rows = version.rows, "read");
        versions.insert(planned.id.clone(), version);
    }
    Ok(versions)
}

/// Gives all static tables of a job the rows that they had: `versions` are those that were read then.
///
/// # Errors
/// `Config` if a table was not read then, `Unavailable` if its rows are no longer there.
pub(crate) fn read_again(
    planned: &[PlannedStatic],
    sources: Vec<Box<dyn Source>>,
    versions: &BTreeMap<SourceId, StaticRecord>,
    storage: &Storage,
) -> Result<()> {
    for (planned, source) in paired(planned, sources)? {
        let id = &planned.id;
        let version = versions.get(id).ok_or_else(|| Error::config(format!("the job had no static table '{id}' then")))?;
        load(planned, source.as_ref(), version.ranges.clone(), storage).map_err(|error| match error.kind() {
            ErrorKind::BadData => Error::unavailable(format!("the static table '{id}' is not what it was")).caused_by(error),
            _ => error.within(format!("static table '{id}', as it was")),
        })?;
    }
    Ok(())
}

fn paired(planned: &[PlannedStatic], sources: Vec<Box<dyn Source>>) -> Result<impl Iterator<Item = (&PlannedStatic, Box<dyn Source>)>> {
    if sources.len() != planned.len() {
        return Err(Error::internal("a job has other static tables than its plan"));
    }
    Ok(planned.iter().zip(sources))
}

/// The ranges of all that a source holds now.
fn newest(source: &mut dyn Source) -> Result<Vec<PartitionCut>> {
    source.restore(&[], &[])?;
    source.fix_end()?;
    let mut ranges = Vec::new();
    loop {
        let cut = source.cut(&CutLimits::default())?;
        ranges.extend(cut.partitions);
        if !cut.more {
            return Ok(ranges);
        }
    }
}

/// Gives a table the rows of these ranges.
fn load(planned: &PlannedStatic, source: &dyn Source, ranges: Vec<PartitionCut>, storage: &Storage) -> Result<StaticRecord> {
    let mut read: Vec<RecordBatch> = Vec::new();
    for range in &ranges {
        let cut = Cut { partitions: vec![range.clone()], more: false, lag: None };
        for split in source.splits(&cut, &planned.scan)? {
            let mut morsels = storage.wait(split.fetch()?.finish())?;
            while let Some(mut morsel) = morsels.next()? {
                if !morsel.bad.is_empty() {
                    return Err(bad_row(source, morsel.bad.swap_remove(0)));
                }
                read.push(morsel.rows);
            }
        }
    }
    let schema = planned.scan.projected(&planned.schema)?;
    let rows = concat_batches(&schema, &read).or_error(ErrorKind::Config, || "it can't be held in memory as one".into())?;
    let count = rows.num_rows() as u64;
    planned.rows.set(rows)?;
    Ok(StaticRecord { ranges, rows: count })
}

fn bad_row(source: &dyn Source, bad: BadRow) -> Error {
    let place = source.locate(bad.place);
    Error::bad_data(format!("a bad row: {place}: {}; mend it and start again", bad.reason))
}
