//! `batches`: the commit log, as a table or as it is.

use super::context::{missing, open_existing};
use super::print;
use waterclock_core::storage::{Location, Storage};
use waterclock_core::{ErrorKind, Result, ResultExt};
use waterclock_scheduler::protocol::record::{BatchRecord, Body};
use waterclock_scheduler::{Record, read_log};

/// Prints the log of a checkpoint.
///
/// # Errors
/// `Unavailable` if there is no checkpoint; `Corrupt` if its log is damaged.
pub(super) fn show(storage: &Storage, location: &Location, json: bool) -> Result<()> {
    let records = read_log(&open_existing(storage, location)?)?;
    if records.is_empty() {
        return Err(missing(location));
    }
    print(&if json { lines(&records)? } else { table(&records) })
}

fn lines(records: &[Record]) -> Result<String> {
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(record).or_error(ErrorKind::Internal, || "writing a record".into())?);
        text.push('\n');
    }
    Ok(text)
}

fn table(records: &[Record]) -> String {
    let mut text = format!(
        "{:>8} {:>6} {:>8}  {:<27} {:>12} {:>12} {:>8} {:>8} {:>6}\n",
        "record", "epoch", "batch", "time", "rows in", "rows out", "bad", "late", "ms"
    );
    for record in records {
        let (seq, epoch, time) = (record.seq, record.epoch, record.time);
        let shown = match &record.body {
            Body::Open(_) => format!("{:>8}  {time} {:>12} {:>12} {:>8} {:>8} {:>6}", "open", "", "", "", "", ""),
            Body::Batch(batch) => {
                let Counts { rows_in, rows_out, bad, late, ms } = Counts::of(batch);
                format!("{:>8}  {time} {rows_in:>12} {rows_out:>12} {bad:>8} {late:>8} {ms:>6}", batch.batch)
            }
        };
        text.push_str(format!("{seq:>8} {epoch:>6} {shown}").trim_end());
        text.push('\n');
    }
    text
}

struct Counts {
    rows_in: u64,
    rows_out: u64,
    bad: u64,
    late: u64,
    ms: u64,
}

impl Counts {
    fn of(batch: &BatchRecord) -> Self {
        let partitions = batch.sources.values().flat_map(|source| &source.partitions);
        let timings = batch.timings;
        Self {
            rows_in: partitions.map(|partition| partition.rows).sum(),
            rows_out: batch.sinks.values().map(|sink| sink.manifest.rows).sum(),
            bad: batch.sources.values().map(|source| source.bad_rows).sum(),
            late: batch.late_rows(),
            ms: timings.cut_ms + timings.run_ms + timings.stage_ms,
        }
    }
}
