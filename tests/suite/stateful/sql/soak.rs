//! Many windows with a short memory for old batches: what is kept does not grow with what has passed.

use super::tables;
use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;
use std::fs;

const FILES: u64 = 60;
const ROWS: u64 = 100;
const RETAIN: u64 = 5;

/// What was kept behind a batch.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Rows of state of the operators: the source remembers every file, and grows.
    rows: u64,
    /// Objects of state, and their bytes.
    objects: u64,
    bytes: u64,
}

/// A window of a tenth of a second for each file, 60 of them, hopping ones of twice that, and sessions.
fn prepare() -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..FILES, ROWS);
    let [tumble, hop, session] = [
        "tumble(date_time, INTERVAL '100 milliseconds')",
        "hop(date_time, INTERVAL '100 milliseconds', INTERVAL '200 milliseconds')",
        "session(date_time, INTERVAL '50 milliseconds')",
    ];
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION '{{root}}/in/'
             OPTIONS ('max_files_per_batch' '1', 'event_time' 'date_time');
         CREATE EXTERNAL TABLE closed STORED AS JSON LOCATION '{{root}}/out/';
         INSERT INTO closed SELECT window_end({tumble}) AS until, auction, count(*) AS bids FROM bid GROUP BY {tumble}, auction
             UNION ALL SELECT window_end({hop}), auction, count(DISTINCT channel) FROM bid GROUP BY {hop}, auction
             UNION ALL SELECT window_end({session}), auction, count(*) FROM bid GROUP BY {session}, auction
             UNION ALL SELECT DISTINCT date_trunc('second', date_time), auction % 50, 0 FROM bid;"
    ));
    place
}

fn kept(place: &Place, batch: u64) -> Kept {
    let tables = tables(place, Some(batch));
    let of_operators = |table: &&Value| !table["operator"].as_str().unwrap().starts_with("source ");
    let rows = tables.iter().filter(of_operators).filter_map(|table| table["rows"].as_u64()).sum();
    let sizes: Vec<u64> = match fs::read_dir(place.path("checkpoint/state")) {
        Ok(entries) => entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect(),
        Err(_) => Vec::new(),
    };
    Kept { rows, objects: sizes.len() as u64, bytes: sizes.iter().sum() }
}

#[test]
fn state_stays_flat_over_sixty_windows() {
    let place = prepare();
    let mut observed = Vec::new();
    // Two batches at a time, so that objects go in a driver that runs on as well as in one that opens.
    for until in (2..=FILES).step_by(2) {
        let run = Invocation::job(&place).arg("--until-caught-up").arg("--max-batches").arg("2");
        run.arg("--retain").arg(RETAIN.to_string()).finish().expect(0);
        observed.push(kept(&place, until - 1));
    }
    let length = observed.len();
    let (second_quarter, last_half) = (&observed[length / 4..length / 2], &observed[length / 2..]);
    type Measure = fn(&Kept) -> u64;
    let most = |kept: &[Kept], of: Measure| kept.iter().map(of).max().unwrap();
    let measures: [(&str, Measure); 3] = [("rows", |kept| kept.rows), ("objects", |kept| kept.objects), ("bytes", |kept| kept.bytes)];
    for (what, of) in measures {
        let (early, late) = (most(second_quarter, of), most(last_half, of));
        assert!(early > 0, "there are {what} of state");
        assert!(late * 4 <= early * 5, "{what} of state grew from {early} to {late}: {observed:#?}");
    }
}
