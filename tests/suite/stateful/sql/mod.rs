//! Jobs in SQL that remember something, each kind of memory in one job: killed, aborted, overtaken, damaged, and left to run for long.

mod abort;
mod cost;
mod damage;
mod fencing;
mod kill;
mod merging;
mod soak;

use crate::jobs::Shown;
use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::output::read;
use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const SINKS: [&str; 3] = ["closed", "totals", "channels"];

/// Every row of state of every owner, as JSON, sorted.
type State = BTreeMap<String, Vec<String>>;

/// What a run that nothing disturbed leaves behind.
struct Truth {
    /// What its sinks show once it is drained.
    shown: Shown,
    caught_up: State,
    drained: State,
}

impl Truth {
    fn of(files: u64, rows: u64) -> Self {
        let place = prepare(files, rows);
        Invocation::catch_up(&place).finish().expect(0);
        let caught_up = state(&place);
        assert!(caught_up.len() >= 10, "every kind of memory holds something: {:?}", caught_up.keys());
        drain(&place).finish().expect(0);
        let shown = shown(&place);
        let every_kind = shown["closed"].values().flatten().map(|row| field(row, "kind").to_string()).collect::<BTreeSet<_>>();
        assert_eq!(every_kind.len(), 6, "{every_kind:?}");
        Self { shown, caught_up, drained: state(&place) }
    }
}

fn field(row: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(row).unwrap()[name].clone()
}

/// A place with so many files of so many bids, a file per batch.
fn prepare(files: u64, rows: u64) -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..files, rows);
    place.sql(&sql());
    place
}

/// Every kind of window and a DISTINCT into one sink; groups that live for ever into two more, by update and as a whole.
fn sql() -> String {
    let windows = [
        ("tumble", "tumble(date_time, INTERVAL '250 milliseconds')", "count(*)"),
        ("hop", "hop(date_time, INTERVAL '200 milliseconds', INTERVAL '600 milliseconds')", "count(*)"),
        ("cumulate", "cumulate(date_time, INTERVAL '200 milliseconds', INTERVAL '600 milliseconds')", "count(DISTINCT channel)"),
        ("session", "session(date_time, INTERVAL '150 milliseconds')", "count(*)"),
    ];
    let windowed = windows.map(|(kind, window, bids)| {
        format!(
            "SELECT '{kind}' AS kind, window_start({window}) AS start, auction AS item, {bids} AS bids, max(price) AS price
             FROM bid GROUP BY {window}, auction"
        )
    });
    let hop = windows[1].1;
    format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION '{{root}}/in/'
             OPTIONS ('max_files_per_batch' '1', 'event_time' 'date_time', 'watermark_delay' '100 milliseconds');
         CREATE EXTERNAL TABLE closed STORED AS PARQUET LOCATION '{{root}}/out/closed/';
         CREATE EXTERNAL TABLE totals STORED AS JSON LOCATION '{{root}}/out/totals/' OPTIONS ('mode' 'update');
         CREATE EXTERNAL TABLE channels STORED AS JSON LOCATION '{{root}}/out/channels/' OPTIONS ('mode' 'complete');
         INSERT INTO closed {}
             UNION ALL SELECT 'hottest', window_start(w), max(bids), count(*), min(bids)
                 FROM (SELECT {hop} AS w, auction, count(*) AS bids FROM bid GROUP BY {hop}, auction) GROUP BY w
             UNION ALL SELECT DISTINCT 'distinct', date_trunc('second', date_time), auction % 100, 0, 0 FROM bid;
         INSERT INTO totals SELECT auction, count(*) AS bids, sum(price) AS price, count(DISTINCT channel) AS channels,
                 last_value(id) AS latest FROM bid GROUP BY auction;
         INSERT INTO channels SELECT channel, count(*) AS bids, avg(price) AS price FROM bid GROUP BY channel;",
        windowed.join(" UNION ALL ")
    )
}

fn drain(place: &Place) -> Invocation {
    Invocation::job(place).arg("--drain")
}

fn shown(place: &Place) -> Shown {
    SINKS.into_iter().map(|sink| (sink, read(&place.path(&format!("out/{sink}"))))).collect()
}

/// The tables behind a batch, or behind the newest: an object for each, as `state --json` lists them.
fn tables(place: &Place, batch: Option<u64>) -> Vec<Value> {
    let mut list = command(place, "state").arg("--json");
    if let Some(batch) = batch {
        list = list.arg("--batch").arg(batch.to_string());
    }
    list.finish().expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All rows of state behind the newest batch.
fn state(place: &Place) -> State {
    let owners: BTreeSet<String> = tables(place, None).iter().map(|table| table["operator"].as_str().unwrap().to_owned()).collect();
    let rows = |owner: &String| {
        let text = command(place, "state").arg("--json").arg("--operator").arg(owner).finish().expect(0).stdout;
        let mut rows: Vec<String> = text.lines().map(|row| row.replace(&place.root().display().to_string(), "{root}")).collect();
        rows.sort();
        rows
    };
    owners.iter().map(|owner| (owner.clone(), rows(owner))).collect()
}

/// A command over the job's checkpoint.
fn command(place: &Place, word: &str) -> Invocation {
    Invocation::new(place, [word, "--checkpoint", &place.url("checkpoint")])
}

#[track_caller]
fn assert_same_state(found: &State, truth: &State) {
    assert_eq!(found.keys().collect::<Vec<_>>(), truth.keys().collect::<Vec<_>>(), "who remembers something");
    for (owner, rows) in truth {
        let difference = rows.iter().zip(&found[owner]).find(|(expected, row)| expected != row);
        assert!(found[owner] == *rows, "{owner}: {} rows, not {}; first difference: {difference:?}", found[owner].len(), rows.len());
    }
}
