//! Conformance cases, run against the command from outside, as a user would: one test for each case and mode.
//!
//! A case is a TOML file below this directory; `case.rs` says what stands in it. Mode `restart` lays one batch of input down, runs the
//! job until it has caught up, lets the process end, and compares what was added to the sink's directory before it feeds the next:
//! every batch is a process of its own and resumes from the checkpoint. Mode `single`, for cases whose output is append-only, lays
//! all files down first and compares the union. What a case says of late rows and of errors is looked at batch by batch.

// A panic here is a failure with a place.
#![allow(clippy::unwrap_used)]

mod case;
mod values;

/// Places and processes, as the suite has them.
#[allow(dead_code)]
#[path = "../suite/support"]
mod support {
    pub mod place;
    pub mod process;
}

use case::Case;
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::place::Place;
use support::process::{Exit, Invocation};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"), &mut files);
    assert!(!files.is_empty(), "no cases");
    let trials = files.iter().flat_map(|file| trials(Case::read(file))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
}

fn trials(case: Case) -> Vec<Trial> {
    let case = Arc::new(case);
    let restart = Arc::clone(&case);
    let mut trials = vec![Trial::test(format!("{} (restart)", case.name), move || run_restarted(&restart))];
    if case.is_append() && case.batches.iter().all(|batch| batch.fails.is_none()) {
        trials.push(Trial::test(format!("{} (single)", case.name), move || run_single(&case)));
    }
    trials
}

fn run_restarted(case: &Case) -> Result<(), Failed> {
    let place = Place::new();
    let mut seen = BTreeSet::new();
    case.prepare(&place);
    for (number, batch) in case.batches.iter().enumerate() {
        case.feed(&place, number);
        let exit = run(&place, case.drain && number + 1 == case.batches.len());
        match &batch.fails {
            Some(words) if !exit.status.success() && exit.stderr.contains(words) => {}
            Some(words) => return Err(format!("batch {number} should fail with '{words}'; {}: {}", exit.status, exit.stderr).into()),
            None => succeeded(&exit)?,
        }
        compare(&format!("batch {number}"), &case.added(&place, &mut seen), &case.expected([batch]))?;
        if let Some(late) = batch.late {
            compare(&format!("late rows of batch {number}"), &[late_rows(&place, number)?.to_string()], &[late.to_string()])?;
        }
    }
    Ok(())
}

fn run_single(case: &Case) -> Result<(), Failed> {
    let place = Place::new();
    case.prepare(&place);
    (0..case.batches.len()).for_each(|number| case.feed(&place, number));
    succeeded(&run(&place, case.drain))?;
    compare("all batches", &case.added(&place, &mut BTreeSet::new()), &case.expected(&case.batches))
}

fn run(place: &Place, drain: bool) -> Exit {
    Invocation::job(place).arg("--no-fsync").arg(if drain { "--drain" } else { "--until-caught-up" }).finish()
}

fn succeeded(exit: &Exit) -> Result<(), Failed> {
    if exit.status.success() { Ok(()) } else { Err(format!("{}: {}", exit.status, exit.stderr).into()) }
}

/// Rows that the record of a batch counts as late.
fn late_rows(place: &Place, batch: usize) -> Result<u64, Failed> {
    let exit = Invocation::new(place, ["batches", "--json", "--checkpoint", &place.url("checkpoint")]).finish();
    succeeded(&exit)?;
    let mut records = exit.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let record = records.find(|record| record["batch"] == batch).ok_or_else(|| format!("there is no batch {batch}"))?;
    Ok(record["operators"].as_object().unwrap().values().map(|operator| operator["late_rows"].as_u64().unwrap()).sum())
}

fn compare(what: &str, found: &[String], expected: &[String]) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}\nexpected:\n  {}\nfound:\n  {}", expected.join("\n  "), found.join("\n  ")).into())
}
