//! Damaged or missing objects of the checkpoint: exit code 6, naming the object; never a silent restart from zero.

use super::{ROWS, rows, run, shown, with_files};
use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::place::Place;
use std::fs;
use std::path::PathBuf;

/// A job of three batches, with its records.
fn three_batches() -> (Place, Vec<PathBuf>) {
    let place = with_files(3);
    run(&place).expect(0);
    let mut records: Vec<PathBuf> = fs::read_dir(place.path("checkpoint/commits")).unwrap().map(|entry| entry.unwrap().path()).collect();
    records.sort();
    assert_eq!(records.len(), 4, "an open record and three batches");
    lay_down(&place, "in", Format::Json, 3..4, ROWS);
    (place, records)
}

fn corrupt(place: &Place, name: &str) {
    let before = shown(place);
    run(place).expect(6).says(&[name]);
    assert_eq!(shown(place), before, "a damaged checkpoint changes nothing that is visible");
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_damaged_newest_record_is_corrupt() {
    for damage in [|text: &str| text[..text.len() / 2].to_owned(), |_: &str| String::new(), |_: &str| "{}".to_owned()] {
        let (place, records) = three_batches();
        let newest = records.last().unwrap();
        let intact = fs::read_to_string(newest).unwrap();
        fs::write(newest, damage(&intact)).unwrap();
        corrupt(&place, &name(newest));
        fs::write(newest, intact).unwrap();
        run(&place).expect(0);
        assert_eq!(rows(&place) as u64, 4 * ROWS);
    }
}

#[test]
fn a_record_that_was_edited_is_corrupt() {
    let (place, records) = three_batches();
    let edited =
        fs::read_to_string(&records[2]).unwrap().replacen("\"rows\": 20", "\"rows\": 21", 1).replacen("\"rows\":20", "\"rows\":21", 1);
    assert!(edited.contains("21"), "{edited}");
    fs::write(&records[2], edited).unwrap();
    corrupt(&place, &name(&records[2]));
}

#[test]
fn a_missing_record_is_corrupt() {
    for missing in [0, 1, 2] {
        let (place, records) = three_batches();
        fs::remove_file(&records[missing]).unwrap();
        corrupt(&place, &name(&records[missing]));
    }
}

#[test]
fn a_missing_job_file_is_corrupt() {
    let (place, _) = three_batches();
    fs::remove_file(place.path("checkpoint/job.json")).unwrap();
    corrupt(&place, "job.json");
}

#[test]
fn a_lost_log_is_noticed_by_the_output() {
    let (place, _) = three_batches();
    let before = shown(&place);
    fs::remove_dir_all(place.path("checkpoint")).unwrap();
    run(&place).expect(2).says(&["out"]);
    assert_eq!(shown(&place), before);
}

#[test]
fn an_older_copy_of_the_log_is_noticed_by_the_output() {
    let (place, records) = three_batches();
    let before = shown(&place);
    fs::remove_file(&records[3]).unwrap();
    fs::remove_file(&records[2]).unwrap();
    run(&place).expect(2).says(&["out"]);
    assert_eq!(shown(&place), before);
}

#[test]
fn a_program_that_means_something_else_is_told_by_what_differs() {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..1, ROWS);
    let set = |aggregate: &str, key: &str| {
        place.sql(&format!(
            "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION 'file://{{root}}/in/';
             CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{{root}}/out/' OPTIONS ('mode' 'complete');
             INSERT INTO copy SELECT {key} AS k, count(*) AS n, {aggregate} AS s FROM bid GROUP BY {key};"
        ));
    };
    set("sum(price)", "auction");
    run(&place).expect(0);
    for (aggregate, key, told, same) in [
        ("max(price)", "auction", "aggregates: 'sum(bid.price) of Int64: Int64' became 'max(bid.price) of Int64: Int64'", "keys"),
        ("sum(price)", "id", "keys: 'bid.auction: Int64' became 'bid.id: Int64'", "sum"),
    ] {
        set(aggregate, key);
        let exit = run(&place).expect(2).says(&["'copy-group-1' means something else", told]);
        assert!(!exit.stderr.contains("count(") && !exit.stderr.contains(same), "{}", exit.stderr);
    }
}
