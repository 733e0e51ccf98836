//! Standard input that stays open.

use crate::log::records;
use crate::support::place::Place;
use crate::support::process::Invocation;
use rustix::process::Signal;
use std::fs;
use std::io::Write;

/// A job that copies what it reads from its standard input.
fn place() -> Place {
    let place = Place::new();
    place.sql(
        "CREATE UNBOUNDED EXTERNAL TABLE lines (k BIGINT) STORED AS JSON LOCATION 'stdin://';
         CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{root}/out/';
         INSERT INTO result SELECT k FROM lines;",
    );
    place
}

/// The rows come when they come: one batch is what has arrived first, and nothing only if the input ends before.
#[test]
fn once_waits_for_the_first_rows() {
    let place = place();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut job = Invocation::job(&place).arg("--once").piped(reader).start();
    job.until("it has been opened", || !records(&place.path("checkpoint")).is_empty());
    writer.write_all(b"{\"k\": 1}\n").unwrap();
    job.finish().expect(0);
    assert_eq!(fs::read_to_string(place.path("out").join("00000000000000000000-00000.json")).unwrap(), "{\"k\":1}\n");
    drop(writer);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    Invocation::job(&place).arg("--once").piped(reader).finish().expect(0);
}

#[test]
fn a_job_that_waits_for_its_end_ends_when_it_is_told_to() {
    let place = place();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut job = Invocation::catch_up(&place).piped(reader).start();
    writer.write_all(b"{\"k\": 1}\n").unwrap();
    job.until("its first batch is committed", || records(&place.path("checkpoint")).iter().any(|record| record.contains("\"batch\"")));
    job.signal(Signal::TERM);
    job.finish().expect(0);
    drop(writer);
    let files: Vec<_> = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    let text: String = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(text, "{\"k\":1}\n");
}
