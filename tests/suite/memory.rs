//! A batch fifty times as large as the memory budget runs within it.

use crate::support::input::{COLUMNS, json};
use crate::support::output::read;
use crate::support::place::Place;
use crate::support::process::Invocation;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// What the process is told.
const BUDGET: u64 = 6 * MIB;
/// What it may take on top of what it takes for an empty input, besides the budget: on each of two workers a few morsels and
/// the encoder's open row group, and what the allocator keeps. A tenth of the input: far from holding the batch.
const MARGIN: u64 = 48 * MIB;

const FILES: u64 = 42;
const ROWS: u64 = 80_000;

#[test]
fn a_batch_of_fifty_budgets_stays_within_the_budget() {
    let full = job(FILES, ROWS);
    let input = std::fs::read_dir(full.path("in")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert!(input >= 50 * BUDGET, "the input has only {} MiB", input / MIB);
    let empty = peak(&job(1, 0));
    let peak = peak(&full);
    eprintln!("peak {} MiB, {} MiB of it without input; input {} MiB, budget {} MiB", peak / MIB, empty / MIB, input / MIB, BUDGET / MIB);
    assert!(peak < empty + BUDGET + MARGIN, "{} MiB more than without input", (peak - empty) / MIB);
    let rows: usize = read(&full.path("out")).values().map(Vec::len).sum();
    assert_eq!(rows as u64, FILES * ROWS / 16);
    assert!(read(&full.path("out")).keys().all(|name| name.starts_with("00000000000000000000-")), "it was one batch");
}

/// All files in one batch.
fn job(files: u64, rows: u64) -> Place {
    let place = Place::new();
    let content = json(0..rows);
    for file in 0..files {
        place.write(&format!("in/{file}.json"), &content);
    }
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION 'file://{{root}}/in/';
         CREATE EXTERNAL TABLE out STORED AS JSON LOCATION 'file://{{root}}/out/';
         CREATE EXTERNAL TABLE copy STORED AS PARQUET LOCATION 'file://{{root}}/copy/';
         INSERT INTO out SELECT id, channel, price FROM bid WHERE id % 16 = 0;
         INSERT INTO copy SELECT * FROM bid;"
    ));
    place
}

/// The most memory that a run of the job had resident, in bytes.
fn peak(place: &Place) -> u64 {
    let mut run =
        Invocation::catch_up(place).threads(2).arg("--memory-budget").arg(format!("{}MiB", BUDGET / MIB)).arg("--no-fsync").start();
    let mut peak = 0;
    // The high-water mark never falls, so it is enough to look at it now and then.
    while run.ended_within(Duration::from_millis(2)).is_none() {
        peak = peak.max(run.resident_high_water().unwrap_or(0));
    }
    run.finish().expect(0);
    assert!(peak > 0, "the process ended before it could be looked at");
    peak
}
