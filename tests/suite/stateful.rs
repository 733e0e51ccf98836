//! An operator with state and timers, behind the public traits: killed, and restored at another number of threads.

mod sql;

use crate::log::records;
use crate::support::input::{Format, lay_down};
use crate::support::output::{Files, assert_part_of, assert_same, read};
use crate::support::place::Place;
use crate::support::process::Invocation;
use crate::support::{random, repetitions};
use rand::Rng;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const FILES: u64 = 20;
const ROWS: u64 = 300;

fn prepare(files: u64) -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..files, ROWS);
    place
}

/// The job that `tests/src/counter.rs` describes: bids per auction, a file per batch.
fn counter(place: &Place) -> Invocation {
    let root = place.root().display().to_string();
    Invocation::new(place, ["counter", "run", &root, "--checkpoint", &place.url("checkpoint")])
}

fn shown(place: &Place) -> Files {
    read(&place.path("out"))
}

/// Runs to the end of the input, and then to the end of the stream, where what is left is closed.
fn finish(place: &Place) {
    counter(place).arg("--until-caught-up").finish().expect(0);
    counter(place).arg("--drain").threads(2).finish().expect(0);
}

#[test]
fn state_survives_kills_at_any_number_of_threads() {
    let mut random = random("kill with state");
    let alone = prepare(FILES);
    let start = Instant::now();
    finish(&alone);
    let (truth, took) = (shown(&alone), start.elapsed());
    let total: i64 = truth.values().flatten().map(|row| field(row, "bids")).sum();
    assert_eq!(total, (FILES * ROWS) as i64, "every bid is counted once, in a truth worth comparing with");
    let wanted = repetitions("WATERCLOCK_KILLS", 20);
    let mut kills = 0;
    while kills < wanted {
        let place = prepare(FILES);
        for threads in [1, 5, 2, 3].into_iter().cycle() {
            let mut run = counter(&place).arg("--until-caught-up").threads(threads).start();
            let patience = took.mul_f64(random.random_range(0.05..0.9));
            if kills == wanted || run.ended_within(patience).is_some() || !run.kill() {
                break;
            }
            kills += 1;
            assert_part_of(&shown(&place), &truth);
        }
        finish(&place);
        assert_same(&shown(&place), &truth);
    }
}

fn field(row: &str, name: &str) -> i64 {
    serde_json::from_str::<serde_json::Value>(row).unwrap()[name].as_i64().unwrap()
}

#[test]
fn the_commit_record_holds_the_deltas() {
    let place = prepare(3);
    counter(&place).arg("--until-caught-up").finish().expect(0);
    let records: Vec<serde_json::Value> =
        records(&place.path("checkpoint")).iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let batches: Vec<_> = records.iter().filter(|record| record["kind"] == "batch").collect();
    assert_eq!(batches.len(), 3);
    for batch in batches {
        let operator = &batch["operators"]["counter"];
        let layers = operator["layers"].as_array().unwrap();
        assert!(!layers.is_empty() && layers.iter().all(|layer| layer["name"] == "counts" && layer["checksum"].is_string()), "{operator}");
        assert!(operator["watermark"].is_string(), "{operator}");
    }
}

/// A timer in processing time makes a batch without rows, also when another process set it.
#[test]
fn a_timer_survives_a_kill() {
    let place = prepare(1);
    let endless = |threads: usize| counter(&place).arg("--idle").arg("--interval").arg("20ms").threads(threads).start();
    let committed = || records(&place.path("checkpoint")).iter().any(|record| record.contains("\"batch\""));
    let mut first = endless(1);
    first.until("its first batch is committed", committed);
    first.kill();
    let mut second = endless(5);
    let auctions: BTreeSet<i64> = crate::support::input::auctions(0..ROWS).collect();
    let idle = || -> Vec<i64> {
        let rows = shown(&place).into_values().flatten().filter(|row| row.contains("idle"));
        rows.map(|row| field(&row, "auction")).collect()
    };
    second.until("every auction was found idle", || idle().into_iter().collect::<BTreeSet<_>>() == auctions);
    // Nothing happens any more: no further rows, and so the state at its end is what it is now.
    assert!(second.ended_within(Duration::from_millis(300)).is_none());
    second.signal(Signal::TERM);
    second.finish().expect(0);
    assert_eq!(idle().len(), auctions.len(), "each is reported once");
}
