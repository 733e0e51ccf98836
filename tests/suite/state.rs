//! `state`: what a job remembers, as a table, and what is said where there is nothing to show.

use crate::support::input::{Format, auctions, lay_down};
use crate::support::place::Place;
use crate::support::process::Invocation;
use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: u64 = 4;
const ROWS: u64 = 300;

/// A counter that has read all its input: tests/src/counter.rs says what it remembers.
fn caught_up() -> Place {
    caught_up_with(ROWS)
}

/// The same, with so many rows in each file.
fn caught_up_with(rows: u64) -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..FILES, rows);
    let root = place.root().display().to_string();
    let run = ["counter", "run", &root, "--checkpoint", &place.url("checkpoint"), "--until-caught-up"];
    Invocation::new(&place, run).finish().expect(0);
    place
}

fn state(place: &Place, arguments: &[&str]) -> Invocation {
    let invocation = Invocation::new(place, ["state", "--checkpoint", &place.url("checkpoint")]);
    arguments.iter().fold(invocation, |invocation, argument| invocation.arg(argument))
}

/// All files below a directory with their bytes.
pub fn bytes_below(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => found.extend(bytes_below(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    found
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every bid is either in the output, with its closed auction, or remembered.
#[test]
fn what_is_not_yet_shown_is_remembered() {
    let place = caught_up();
    let before = bytes_below(&place.path("checkpoint"));
    let sum = |rows: &[Value], field: fn(&Value) -> &Value| rows.iter().map(|row| field(row).as_i64().unwrap()).sum::<i64>();
    let mut remembered = Vec::new();
    for batch in 0..FILES {
        let out = state(&place, &["--operator", "counter", "--json", "--batch", &batch.to_string()]).finish().expect(0).stdout;
        let rows = objects(&out);
        assert!(rows.iter().all(|row| row["table"] == "counts" && row["row"]["latest"].is_string()), "{out}");
        let shown = fs::read_dir(place.path("out")).unwrap().map(|file| file.unwrap().path());
        let until = shown.filter(|path| path.file_name().unwrap().to_str().unwrap() < format!("{:020}", batch + 1).as_str());
        let published: String = until.filter(|path| path.extension().is_some()).map(|path| fs::read_to_string(path).unwrap()).collect();
        let closed = objects(&published);
        assert_eq!(sum(&rows, |row| &row["row"]["bids"]) + sum(&closed, |row| &row["bids"]), ((batch + 1) * ROWS) as i64);
        remembered = rows;
    }
    let table = state(&place, &["--operator", "counter"]).finish().expect(0).stdout;
    assert!(table.contains("| auction |") && table.contains("counts, behind batch 3"), "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("| ")).count(), remembered.len() + 1);
    assert!(remembered.iter().all(|row| auctions(0..FILES * ROWS).any(|auction| row["row"]["auction"] == auction)));
    assert_eq!(bytes_below(&place.path("checkpoint")), before, "looking changes nothing");
}

#[test]
fn tables_are_listed_with_their_sizes() {
    let place = caught_up();
    let tables = objects(&state(&place, &["--json"]).finish().expect(0).stdout);
    let owners: Vec<&str> = tables.iter().map(|table| table["operator"].as_str().unwrap()).collect();
    assert_eq!(owners, ["counter", "source bid"]);
    assert!(tables.iter().all(|table| table["rows"].as_u64() > Some(0) && table["layers"].as_u64() > Some(0)), "{tables:?}");
    assert_eq!(tables[0]["key_columns"], 1);
    let list = state(&place, &[]).finish().expect(0).stdout;
    assert!(list.contains("source bid") && list.contains("counts"), "{list}");
    let seen = state(&place, &["--operator", "source bid", "--json"]).finish().expect(0).stdout;
    assert!(seen.contains(".json"), "the files that were read: {seen}");
}

/// With nothing but a reader of Arrow files.
#[test]
fn the_files_of_state_are_arrow_files() {
    let place = caught_up_with(5_000);
    let mut read = 0;
    for path in fs::read_dir(place.path("checkpoint/state")).unwrap().map(|file| file.unwrap().path()) {
        assert_eq!(path.extension().unwrap(), "arrow");
        let batches: Vec<_> = FileReader::try_new(fs::File::open(&path).unwrap(), None).unwrap().collect::<Result<_, _>>().unwrap();
        let is_named = |field: &str| batches[0].column_by_name(field).is_some();
        assert!(is_named("auction") && is_named("bids") && is_named("_removed"), "{:?}", batches[0].schema());
        read += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    }
    assert!(read > 0, "the state of so many rows stands in files");
}

#[test]
fn what_is_not_there_is_named() {
    let place = caught_up();
    state(&place, &["--operator", "cuonter"]).finish().expect(2).says(&["'cuonter'", "'counter', 'source bid'"]);
    state(&place, &["--batch", "9"]).finish().expect(2).says(&["no batch 9", "0 to 3"]);
}

#[test]
fn a_checkpoint_that_is_not_there_is_missing_to_every_command() {
    let place = caught_up();
    let (root, output, empty) = (place.root().display().to_string(), place.url("again"), place.directory("empty").display().to_string());
    let replay = ["counter", "replay", &root, "--batches", "0..0", "--output", &output];
    for checkpoint in [place.url("nowhere"), empty] {
        for words in [&["state"][..], &["batches"], &["batches", "--json"], &replay] {
            let words = words.iter().copied().chain(["--checkpoint", &checkpoint]);
            Invocation::new(&place, words).finish().expect(4).says(&["there is no checkpoint at", &checkpoint]);
        }
    }
}

#[test]
fn damaged_state_is_not_shown() {
    let place = caught_up();
    let objects = bytes_below(&place.path("checkpoint/state"));
    assert!(!objects.is_empty(), "there is state beyond the records");
    for (path, mut bytes) in objects {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    state(&place, &["--operator", "counter"]).finish().expect(6).says(&["damaged", "'counts'"]);
}
