//! A watermark is the latest event time of all rows ever read less the delay of the program that runs, over restarts with other delays.

use crate::support::place::Place;
use crate::support::process::{Exit, Invocation};
use crate::support::random;
use rand::Rng;
use serde_json::{Value, json};
use std::fs;

/// The job with a delay in seconds.
fn set_delay(place: &Place, delay: i64) {
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE events (ts TIMESTAMP) STORED AS JSON LOCATION 'file://{{root}}/in/'
             OPTIONS ('event_time' 'ts', 'watermark_delay' '{delay} seconds', 'max_files_per_batch' '1');
         CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{{root}}/out/';
         INSERT INTO result SELECT window_end(tumble(ts, INTERVAL '10 seconds')) AS e, count(*) AS n
         FROM events GROUP BY tumble(ts, INTERVAL '10 seconds');"
    ));
}

/// One file with rows at these seconds, read as one batch.
fn run(place: &Place, batch: usize, delay: i64, seconds: &[i64]) {
    set_delay(place, delay);
    let line = |second: &i64| format!("{}\n", json!({ "ts": second * 1_000_000 }));
    place.write(&format!("in/{batch:04}.json"), seconds.iter().map(line).collect::<String>());
    Invocation::catch_up(place).finish().expect(0);
}

/// What the log says of the newest batch.
fn newest(place: &Place) -> Value {
    let log = Invocation::new(place, ["batches", "--json", "--checkpoint", &place.url("checkpoint")]).finish().expect(0).stdout;
    serde_json::from_str(log.lines().last().unwrap()).unwrap()
}

/// The watermark of the source behind the newest batch, in seconds.
fn watermark(place: &Place) -> i64 {
    let newest = newest(place);
    let time = newest["sources"]["events"]["watermark"].as_str().unwrap();
    chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp()
}

/// Batches again, by the job as it stands, compared with what was committed.
fn replay(place: &Place, output: &str, batches: &str) -> Exit {
    let job = place.path("job.sql");
    let invocation = Invocation::new(place, ["replay", job.to_str().unwrap(), "--checkpoint", &place.url("checkpoint")]);
    invocation.arg("--batches").arg(batches).arg("--output").arg(place.url(output)).arg("--diff").finish()
}

fn ends(place: &Place) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.path("out")) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    paths.sort();
    paths.iter().flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn a_shorter_delay_counts_from_the_latest_row_ever_read() {
    let place = Place::new();
    run(&place, 0, 10, &[5, 14]);
    assert_eq!(watermark(&place), 4);
    run(&place, 1, 0, &[9]);
    assert_eq!(watermark(&place), 14);
    assert_eq!(newest(&place)["operators"]["result-group-1"]["late_rows"], 0, "the batch is judged by the watermark before it");
    assert_eq!(ends(&place), [r#"{"e":"1970-01-01T00:00:10","n":2}"#]);
}

#[test]
fn a_longer_delay_waits_until_the_rows_have_caught_up() {
    let place = Place::new();
    run(&place, 0, 0, &[14]);
    run(&place, 1, 10, &[15]);
    assert_eq!(watermark(&place), 14, "it does not go back");
    run(&place, 2, 10, &[20]);
    assert_eq!(watermark(&place), 14);
    run(&place, 3, 10, &[30]);
    assert_eq!(watermark(&place), 20);
}

#[test]
fn watermarks_follow_any_delays_and_each_batch_replays() {
    let mut random = random("changed delays");
    let place = Place::new();
    let (mut latest, mut expected) = (i64::MIN, i64::MIN);
    for batch in 0..15usize {
        let delay = random.random_range(0..30);
        let rows: Vec<i64> = (0..random.random_range(1..4)).map(|_| random.random_range(0..20) + 5 * batch as i64).collect();
        run(&place, batch, delay, &rows);
        latest = latest.max(rows.into_iter().max().unwrap());
        expected = expected.max(latest - delay);
        assert_eq!(watermark(&place), expected, "behind batch {batch}");
        replay(&place, &format!("again/{batch}"), &format!("{batch}..{batch}")).expect(0);
    }
    // No delay of theirs is that of the program now, which nobody changed since.
    set_delay(&place, 31);
    run(&place, 15, 31, &[100]);
    replay(&place, "again/all", "0..15").expect(0);
    replay(&place, "again/middle", "3..12").expect(0);
}

#[test]
fn another_delay_is_replayed_to_show_what_it_does() {
    let place = Place::new();
    let batches: [&[i64]; 4] = [&[5], &[15], &[9], &[40]];
    for (batch, seconds) in batches.into_iter().enumerate() {
        run(&place, batch, 0, seconds);
    }
    assert_eq!(ends(&place), ["{\"e\":\"1970-01-01T00:00:10\",\"n\":1}", "{\"e\":\"1970-01-01T00:00:20\",\"n\":1}"]);
    set_delay(&place, 10);
    let said = replay(&place, "longer", "0..3").expect(1).stdout;
    assert!(
        said.contains("- {\"e\":\"1970-01-01T00:00:10\",\"n\":1}") && said.contains("+ {\"e\":\"1970-01-01T00:00:10\",\"n\":2}"),
        "{said}"
    );
    set_delay(&place, 0);
    replay(&place, "same", "0..3").expect(0);
}
