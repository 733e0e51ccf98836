//! `idle_timeout`: a table without rows holds back what it is united with, until the timeout has passed.

use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;
use std::fs;

const JOB: &str = "
CREATE UNBOUNDED EXTERNAL TABLE busy (ts TIMESTAMP) STORED AS JSON LOCATION 'file://{root}/busy/' OPTIONS ('event_time' 'ts');
CREATE UNBOUNDED EXTERNAL TABLE quiet (ts TIMESTAMP) STORED AS JSON LOCATION 'file://{root}/quiet/' OPTIONS ('event_time' 'ts'{timeout});
CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{root}/out/';
INSERT INTO result SELECT window_start(tumble(ts, INTERVAL '10 seconds')) AS start, count(*) AS n
FROM (SELECT ts FROM busy UNION ALL SELECT ts FROM quiet) x GROUP BY tumble(ts, INTERVAL '10 seconds');
";

/// A job whose first batch has seen a row at 25 seconds in one table, and none in the other.
fn place(timeout: &str) -> Place {
    let place = Place::new();
    fs::create_dir_all(place.path("quiet")).unwrap();
    place
        .sql(&JOB.replace("{timeout}", timeout))
        .write("busy/0.json", "{\"ts\": \"2026-01-01T00:00:05\"}\n{\"ts\": \"2026-01-01T00:00:25\"}\n");
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(output(&place), Vec::<Value>::new());
    place
}

fn output(place: &Place) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(place.path("out")) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    paths.sort();
    let text = paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn without_a_timeout_a_table_without_rows_holds_back_for_ever() {
    let place = place("");
    place.write("busy/1.json", "{\"ts\": \"2026-01-01T00:01:00\"}\n");
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(output(&place), Vec::<Value>::new());
}

#[test]
fn an_idle_table_lets_the_others_go_on_and_what_it_brings_later_is_late() {
    let place = place(", 'idle_timeout' '1 microsecond'");
    // No input: the timeout alone is why a batch runs. It is in the record, so that it does not run again.
    let batch = |of: &str| -> Value { serde_json::from_str(of.lines().last().unwrap_or("null")).unwrap() };
    let run = || Invocation::catch_up(&place).arg("--progress").arg("json").finish().expect(0);
    assert_eq!(batch(&run().stderr)["batch"], 1);
    assert_eq!(output(&place), [serde_json::json!({"start": "2026-01-01T00:00:00", "n": 1})]);
    assert!(!run().stderr.contains("\"batch\""));
    place.write("quiet/0.json", "{\"ts\": \"2026-01-01T00:00:07\"}\n{\"ts\": \"2026-01-01T00:00:21\"}\n");
    run();
    let late = Invocation::new(&place, ["batches", "--checkpoint", &place.url("checkpoint"), "--json"]).finish().expect(0).stdout;
    assert_eq!(batch(&late)["operators"]["result-group-1"]["late_rows"], 1, "{late}");
    Invocation::catch_up(&place).arg("--drain").finish().expect(0);
    assert_eq!(output(&place)[1..], [serde_json::json!({"start": "2026-01-01T00:00:20", "n": 2})]);
}
