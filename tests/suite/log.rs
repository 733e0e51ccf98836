//! What a commit log and the sinks' directories tell about the moment at which a process was killed.

use std::fs;
use std::path::{Path, PathBuf};

/// A state in which a kill can leave a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// No record yet, or an `open` record is the newest: between the opening and the first commit.
    Opened,
    /// Staged files that no record names: before a commit.
    Staged,
    /// Staged files that the newest records name: between commit and publication.
    Committed,
    /// All that is committed is published.
    Published,
}

impl Moment {
    pub const ALL: [Moment; 4] = [Moment::Opened, Moment::Staged, Moment::Committed, Moment::Published];
}

/// The records of a commit log, oldest first, as text.
pub fn records(checkpoint: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(checkpoint.join("commits")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// How many records of a kind there are: `open` or `batch`.
pub fn of_kind(checkpoint: &Path, wanted: &str) -> usize {
    records(checkpoint).iter().filter(|record| kind(record) == wanted).count()
}

/// All that a kill left behind.
pub fn moments(checkpoint: &Path, sinks: &[PathBuf]) -> Vec<Moment> {
    let records = records(checkpoint);
    let staged: Vec<String> = sinks.iter().flat_map(|sink| staged(sink)).collect();
    let named = |file: &String| records.iter().rev().any(|record| record.contains(file.as_str()));
    let mut moments = Vec::new();
    if records.last().is_none_or(|record| kind(record) == "open") {
        moments.push(Moment::Opened);
    }
    if staged.iter().any(|file| !named(file)) {
        moments.push(Moment::Staged);
    }
    if staged.iter().any(named) {
        moments.push(Moment::Committed);
    } else if records.iter().any(|record| kind(record) == "batch") {
        moments.push(Moment::Published);
    }
    moments
}

fn kind(record: &str) -> String {
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    record["kind"].as_str().unwrap_or_else(|| panic!("a record without a kind: {record}")).to_owned()
}

/// The staged files of a sink, as the records name them: relative to its root. Half-written ones, whose names end in `#` and a
/// number, are staged too.
fn staged(sink: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![sink.join("_staged")];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() { directories.push(path) } else { found.push(path.strip_prefix(sink).unwrap().display().to_string()) }
        }
    }
    found
}
