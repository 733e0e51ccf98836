//! A process function in Rust: killed and restored at another number of threads, the same at any number, replayed, and its state shown.

use crate::support::input::{Format, auctions, lay_down};
use crate::support::output::{Files, assert_part_of, assert_same, read};
use crate::support::place::Place;
use crate::support::process::Invocation;
use crate::support::{random, repetitions};
use rand::Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Instant;

const FILES: u64 = 12;
const ROWS: u64 = 300;

fn prepare() -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..FILES, ROWS);
    place
}

/// The job that `tests/src/visits.rs` describes.
fn visits(place: &Place, what: &str) -> Invocation {
    let root = place.root().display().to_string();
    Invocation::new(place, ["visits", what, &root, "--checkpoint", &place.url("checkpoint")])
}

fn shown(place: &Place) -> Files {
    read(&place.path("out"))
}

/// Runs to the end of the input, and then to the end of the stream.
fn finish(place: &Place, threads: usize) {
    visits(place, "run").arg("--until-caught-up").threads(threads).finish().expect(0);
    visits(place, "run").arg("--drain").threads(threads).finish().expect(0);
}

fn rows(files: &Files) -> Vec<Value> {
    files.values().flatten().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Every bid is in one visit, and visits that follow each other are counted.
#[test]
fn every_bid_is_in_one_visit() {
    let place = prepare();
    finish(&place, 2);
    let visits = rows(&shown(&place));
    let bids: usize = visits.iter().map(|visit| visit["prices"].as_array().unwrap().len()).sum();
    assert_eq!(bids as u64, FILES * ROWS);
    let seen: BTreeSet<i64> = visits.iter().map(|visit| visit["auction"].as_i64().unwrap()).collect();
    assert_eq!(seen, auctions(0..FILES * ROWS).collect());
    let most = |field: fn(&Value) -> u64| visits.iter().map(field).max().unwrap();
    assert!(most(|visit| visit["prices"].as_array().unwrap().len() as u64) > 1, "no visit has two bids");
    assert!(most(|visit| visit["earlier"].as_u64().unwrap()) > 0, "no auction has two visits");
}

#[test]
fn a_function_survives_kills_at_any_number_of_threads() {
    let mut random = random("kill a process function");
    let alone = prepare();
    let start = Instant::now();
    finish(&alone, 3);
    let (truth, took) = (shown(&alone), start.elapsed());
    let wanted = repetitions("WATERCLOCK_KILLS", 10);
    let mut kills = 0;
    while kills < wanted {
        let place = prepare();
        for threads in [1, 5, 2, 3].into_iter().cycle() {
            let mut run = visits(&place, "run").arg("--until-caught-up").threads(threads).start();
            let patience = took.mul_f64(random.random_range(0.05..0.9));
            if kills == wanted || run.ended_within(patience).is_some() || !run.kill() {
                break;
            }
            kills += 1;
            assert_part_of(&shown(&place), &truth);
        }
        finish(&place, 1);
        assert_same(&shown(&place), &truth);
    }
}

/// Not sorted rows: the bytes of the files.
#[test]
fn the_number_of_threads_changes_no_byte_of_a_functions_output() {
    let bytes = |threads: usize| {
        let place = prepare();
        finish(&place, threads);
        let files = shown(&place).into_keys();
        files.map(|file| (file.clone(), std::fs::read(place.path(&format!("out/{file}"))).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(bytes(1), bytes(5));
}

#[test]
fn a_replayed_function_differs_nowhere() {
    let place = prepare();
    finish(&place, 2);
    let last = shown(&place).len() - 1;
    let replay = visits(&place, "replay").arg("--batches").arg(format!("1..{last}")).arg("--output").arg(place.url("again"));
    replay.arg("--diff").threads(5).finish().expect(0);
}

/// What is open is remembered, and nothing else but how many visits were before.
#[test]
fn the_state_of_a_function_can_be_read() {
    let place = prepare();
    visits(&place, "run").arg("--until-caught-up").finish().expect(0);
    let state = |arguments: &[&str]| {
        let invocation = Invocation::new(&place, ["state", "--checkpoint", &place.url("checkpoint"), "--operator", "visits"]);
        arguments.iter().fold(invocation, |invocation, argument| invocation.arg(argument)).finish().expect(0).stdout
    };
    let rows_of_state: Vec<Value> = state(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |table: &'static str| rows_of_state.iter().filter(move |row| row["table"] == table).map(|row| &row["row"]);
    let tables: BTreeSet<&str> = rows_of_state.iter().map(|row| row["table"].as_str().unwrap()).collect();
    assert_eq!(tables, BTreeSet::from(["channels", "earlier", "event_timers", "open", "prices"]));
    assert_eq!(of("open").count(), of("event_timers").count(), "an open visit has one timer");
    assert!(of("open").all(|row| row["value"]["start"].as_i64() <= row["value"]["last"].as_i64()));
    let closed: usize = rows(&shown(&place)).iter().map(|visit| visit["prices"].as_array().unwrap().len()).sum();
    assert_eq!(of("prices").count() + closed, (FILES * ROWS) as usize, "every bid is remembered or was shown");
    assert!(of("earlier").all(|row| row["value"].as_u64() > Some(0) && row["expires"].is_string()));
    assert!(state(&[]).contains("| auction | key "), "a table for people");
}

#[test]
fn a_drained_function_remembers_nothing() {
    let place = prepare();
    finish(&place, 2);
    let invocation = Invocation::new(&place, ["state", "--checkpoint", &place.url("checkpoint"), "--operator", "visits", "--json"]);
    assert_eq!(invocation.finish().expect(0).stdout, "");
}
