//! State so large that its layers are merged beside the batches, by a thread of their own: killed at random moments and started again, it
//! holds what it should. `WATERCLOCK_KILLS` says how many kills are made.

use super::{assert_same_state, command, drain, state};
use crate::jobs::Shown;
use crate::kill::{assert_all_part_of, assert_all_same};
use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::output::read;
use crate::support::place::Place;
use crate::support::process::Invocation;
use crate::support::{random, repetitions};
use rand::Rng;
use std::fs;
use std::time::Instant;

const FILES: u64 = 14;
const ROWS: u64 = 16_000;

/// A file per batch, and every id of the day remembered, for one row of output.
fn prepare() -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Parquet, 0..FILES, ROWS);
    let day = "tumble(date_time, INTERVAL '1 day')";
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS PARQUET LOCATION '{{root}}/in/'
             OPTIONS ('max_files_per_batch' '1', 'event_time' 'date_time');
         CREATE EXTERNAL TABLE days STORED AS JSON LOCATION '{{root}}/out/';
         INSERT INTO days SELECT window_start({day}) AS day, count(DISTINCT id) AS ids, count(*) AS bids FROM bid GROUP BY {day};"
    ));
    place
}

fn shown(place: &Place) -> Shown {
    Shown::from([("days", read(&place.path("out")))])
}

/// How many objects of state were merged beside the batches.
fn merged(place: &Place) -> usize {
    let Ok(entries) = fs::read_dir(place.path("checkpoint/state")) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".merged.arrow")).count()
}

#[test]
fn layers_merged_beside_the_batches_survive_kills() {
    let undisturbed = prepare();
    let start = Instant::now();
    Invocation::catch_up(&undisturbed).finish().expect(0);
    let longest = start.elapsed();
    assert!(merged(&undisturbed) > 0, "layers were merged beside the batches");
    let remembered = state(&undisturbed);
    drain(&undisturbed).finish().expect(0);
    let truth = shown(&undisturbed);
    let ids = format!("\"ids\":{}", FILES * ROWS);
    assert!(truth["days"].values().flatten().any(|row| row.contains(&ids)), "{truth:?}");

    let mut random = random("kill beside merging");
    let mut left = repetitions("WATERCLOCK_KILLS", 8);
    while left > 0 {
        let place = prepare();
        while left > 0 {
            let mut run = Invocation::catch_up(&place).threads(1 + left % 3).start();
            if let Some(status) = run.ended_within(longest.mul_f64(random.random_range(0.1..0.8))) {
                assert!(status.success(), "{status}; it wrote:\n{}", run.stderr());
                break;
            }
            left -= usize::from(run.kill());
            assert_all_part_of(&shown(&place), &truth);
        }
        Invocation::catch_up(&place).finish().expect(0);
        assert_same_state(&state(&place), &remembered);
        drain(&place).finish().expect(0);
        assert_all_same(&shown(&place), &truth);
        command(&place, "batches").finish().expect(0);
    }
}
