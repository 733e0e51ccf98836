//! `replay`: old batches run again, into files of JSON in another place, and compared with what was committed. A comparison for which no
//! sink's rows could be read back is no success: it would end as one that found no difference.

use super::context::{JobContext, open_existing};
use super::flags::ReplayFlags;
use super::print;
use super::run::executor_settings;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use waterclock_connectors::file::file_sink;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::{BatchId, SinkId};
use waterclock_core::job::Job;
use waterclock_core::options::Options;
use waterclock_core::sink::Sink;
use waterclock_core::storage::{Location, Storage, StorageBuilder};
use waterclock_core::{Error, Result};
use waterclock_scheduler::{Comparison, Replay, ReplaySettings, ReplayedBatch, Seams};

/// Differing rows that are shown of each sink.
const SHOWN: usize = 10;

/// The exit code of a comparison that found differences.
const DIFFERENT: u8 = 1;

/// Replays batches of a job. Returns 1 if a comparison was wanted and found differences.
///
/// # Errors
/// `Unavailable` if there is no checkpoint; `Config` if a comparison was wanted and nothing could be compared; else those of [`Replay`].
pub(super) fn replay(storage: StorageBuilder, flags: &ReplayFlags, build: impl FnOnce(&JobContext) -> Result<Job>) -> Result<ExitCode> {
    let storage = storage.start()?;
    let location = &flags.checkpoint.checkpoint;
    let checkpoint = open_existing(&storage, location)?;
    let job = build(&JobContext::new(storage.clone(), Some(location))?)?;
    let settings = ReplaySettings {
        first: flags.batches.first,
        last: flags.batches.last,
        output: flags.output.clone(),
        diff: flags.diff,
        executor: executor_settings(flags.threads, flags.memory_budget),
    };
    let sink = |id: &SinkId| json_files(&storage, &flags.output, id);
    let replay = Replay::open(job, settings, &checkpoint, Seams::system().nonces.as_ref(), sink)?;
    let mut report = Report::default();
    replay.run(|batch| print(&report.batch(batch)))?;
    print(&report.summary(&flags.output))?;
    if flags.diff && !report.has_compared() {
        return Err(nothing_compared());
    }
    Ok(if report.differs() { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}

fn nothing_compared() -> Error {
    Error::config(
        "the batches were replayed, and nothing was compared: rows are read back from files of JSON, Parquet and Arrow, for those of CSV have no \
         types and other sinks keep none; leave --diff out, or let the job write a sink of such files, too",
    )
}

/// The sink that stands in for one of the job: a directory by its name.
fn json_files(storage: &Storage, output: &Location, id: &SinkId) -> Result<Arc<dyn Sink>> {
    let (name, location) = (id.to_string(), output.join(id.as_str())?);
    let table = TableDefinition { name, columns: None, format: "json".into(), location, unbounded: false };
    file_sink(&table, &mut Options::new(id.as_str(), []), &ConnectorContext { storage: storage.clone() })
}

/// What was found of a sink so far.
#[derive(Debug, Default)]
struct Found {
    committed: u64,
    replayed: u64,
    missing: u64,
    surplus: u64,
    shown: usize,
    /// Whether it could be compared in any batch.
    compared: bool,
    impossible: Option<String>,
}

/// What is told of a replay, as text.
#[derive(Debug, Default)]
struct Report {
    sinks: BTreeMap<SinkId, Found>,
    first: Option<BatchId>,
    last: Option<BatchId>,
    rows_in: u64,
    rows_out: u64,
}

impl Report {
    /// Takes a batch; returns the rows that differ, as far as they are to be shown.
    fn batch(&mut self, replayed: ReplayedBatch) -> String {
        self.first = self.first.or(Some(replayed.batch));
        self.last = Some(replayed.batch);
        self.rows_in += replayed.rows_in;
        self.rows_out += replayed.rows_out;
        let mut text = String::new();
        for (id, comparison) in replayed.sinks {
            text.push_str(&self.sinks.entry(id.clone()).or_default().take(&id, replayed.batch, comparison));
        }
        text
    }

    /// Whether any sink could be compared in any batch.
    fn has_compared(&self) -> bool {
        self.sinks.values().any(|found| found.compared)
    }

    fn differs(&self) -> bool {
        self.sinks.values().any(|found| found.missing + found.surplus > 0)
    }

    fn summary(&self, output: &Location) -> String {
        let batches = match (self.first, self.last) {
            (Some(first), Some(last)) if first < last => format!("batches {first} to {last}"),
            (Some(batch), _) => format!("batch {batch}"),
            _ => "no batch".into(),
        };
        let mut text = format!("replayed {batches}: {} rows in, {} rows out, at {output}\n", self.rows_in, self.rows_out);
        for (id, found) in &self.sinks {
            text.push_str(&format!("sink '{id}': {}\n", found.summary()));
        }
        text
    }
}

impl Found {
    fn take(&mut self, id: &SinkId, batch: BatchId, comparison: Comparison) -> String {
        let difference = match comparison {
            Comparison::Impossible(why) => {
                self.impossible = Some(why);
                return String::new();
            }
            Comparison::Possible(difference) => difference,
        };
        self.compared = true;
        self.committed += difference.committed;
        self.replayed += difference.replayed;
        self.missing += difference.missing.len() as u64;
        self.surplus += difference.surplus.len() as u64;
        if difference.is_none() || self.shown >= SHOWN {
            return String::new();
        }
        let mut text = format!("sink '{id}', batch {batch}:\n");
        // Half of them of each kind, unless there are fewer of one.
        let left = SHOWN - self.shown;
        let missing = difference.missing.len().min(left - (left / 2).min(difference.surplus.len()));
        let surplus = difference.surplus.len().min(left - missing);
        self.shown += missing + surplus;
        let lines = |sign, rows: &[String]| rows.iter().map(|row| format!("{sign} {row}\n")).collect::<String>();
        text.push_str(&lines('-', &difference.missing[..missing]));
        text.push_str(&lines('+', &difference.surplus[..surplus]));
        text
    }

    fn summary(&self) -> String {
        let Self { committed, replayed, missing, surplus, .. } = self;
        match &self.impossible {
            Some(why) if !self.compared => format!("not comparable: {why}"),
            Some(why) => format!("not comparable in every batch: {why}; {missing} rows are missing and {surplus} are new elsewhere"),
            None if missing + surplus == 0 => format!("{committed} rows committed, the same replayed"),
            None => format!("{committed} rows committed, {replayed} replayed: {missing} are missing, {surplus} are new"),
        }
    }
}
