//! Results are the same, to the last bit, whether a job runs in one process or is taken up again after every batch.
//!
//! Sums of doubles depend on the order of what is summed, so they tell of any order that a restored operator does not keep.

use crate::stateful::Running;
use crate::support::rows;
use proptest::prelude::*;
use waterclock_core::time::{Timestamp, Watermark};

/// Groups that close, alone and with aggregates above them that go by order.
const QUERIES: [&str; 11] = [
    "SELECT a, sum(f) AS f, avg(f) AS g, count(*) AS n FROM t GROUP BY a, tumble(ts, INTERVAL '5 seconds')",
    "SELECT sum(f) AS f, array_agg(a) AS a, array_agg(s) AS s FROM (
         SELECT tumble(ts, INTERVAL '5 seconds') AS w, a, s, sum(f) AS f FROM t GROUP BY 1, a, s) GROUP BY w",
    "SELECT sum(f) AS f, array_agg(s) AS s FROM (
         SELECT hop(ts, INTERVAL '2 seconds', INTERVAL '6 seconds') AS w, s, sum(f) AS f FROM t GROUP BY 1, s) GROUP BY w",
    "SELECT sum(f) AS f, array_agg(a) AS a FROM (
         SELECT hop(ts, INTERVAL '2 seconds', INTERVAL '6 seconds') AS w, a, sum(DISTINCT f) AS f FROM t GROUP BY 1, a) GROUP BY w",
    "SELECT sum(f) AS f, array_agg(a) AS a FROM (SELECT ts, a, s, sum(f) AS f FROM t GROUP BY ts, a, s) GROUP BY ts",
    "SELECT sum(f) AS f, array_agg(a) AS a FROM (
         SELECT a, window_time(session(ts, INTERVAL '2 seconds')) AS e, sum(f) AS f FROM t GROUP BY a, session(ts, INTERVAL '2 seconds'))
     GROUP BY tumble(e, INTERVAL '20 seconds')",
    "SELECT a, sum(DISTINCT f) AS f, avg(DISTINCT f) AS g FROM t GROUP BY a, session(ts, INTERVAL '2 seconds')",
    "SELECT sum(DISTINCT f) AS f, array_agg(DISTINCT s) AS s FROM t GROUP BY session(ts, INTERVAL '1 second')",
    "SELECT a, sum(DISTINCT f) AS f, stddev(DISTINCT f) AS g FROM t GROUP BY a, cumulate(ts, INTERVAL '2 seconds', INTERVAL '6 seconds')",
    "SELECT d, count(DISTINCT f) AS n, sum(f) AS f FROM (SELECT ts, f, arrow_cast(s, 'Dictionary(Int32, Utf8)') AS d FROM t)
     GROUP BY d, tumble(ts, INTERVAL '5 seconds')",
    "SELECT a, count(DISTINCT d) AS n, min(d) AS lo, max(d) AS hi, first_value(d ORDER BY f) AS f, last_value(d) AS l, array_agg(d) AS all
     FROM (SELECT ts, a, f, arrow_cast(s, 'Dictionary(Int32, Utf8)') AS d FROM t) GROUP BY a, session(ts, INTERVAL '2 seconds')",
];

/// Groups that collect rows, many of which are equal by their order.
const COLLECTED: &str = "array_agg(f ORDER BY s) AS l, string_agg(CAST(f AS VARCHAR), ' ' ORDER BY s DESC) AS t, nth_value(f, 2 ORDER BY s) AS n, \
     nth_value(f, -2 ORDER BY s) AS m, first_value(f ORDER BY s) AS fi, last_value(f ORDER BY s) AS la";

#[derive(Debug, Clone)]
struct Row {
    a: i64,
    s: &'static str,
    f: f64,
    seconds: i64,
}

fn row() -> impl Strategy<Value = Row> {
    // No two orders of these have the same sum.
    let doubles = prop::sample::select(vec![0.1, 0.7, 1e-3, 3.3, 1e16, -1e16, 1e15 + 0.3, -7.7]);
    (0i64..4, prop::sample::select(vec!["x", "y", "z"]), doubles, 0i64..30).prop_map(|(a, s, f, seconds)| Row { a, s, f, seconds })
}

fn json(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let micros = row.seconds * 1_000_000;
        format!("{}\n", serde_json::json!({ "a": row.a, "s": row.s, "f": row.f, "ts": micros }))
    };
    rows.iter().map(line).collect()
}

/// What each batch emits; the watermark follows the rows at so many seconds, and ends with them.
fn emitted(query: &str, batches: &[Vec<Row>], delay: i64, restarts: bool) -> Vec<Vec<String>> {
    let mut running = Running::new(&format!("INSERT INTO out {query}"));
    let mut latest = 0;
    let mut all = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        latest = batch.iter().map(|row| row.seconds - delay).fold(latest, i64::max);
        let watermark = if index + 1 == batches.len() { Watermark::End } else { Watermark::At(Timestamp(latest * 1_000_000)) };
        all.push(running.batch(&rows(&running.schema(), &json(batch)), watermark).unwrap());
        if restarts {
            running.restart().unwrap();
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_changes_no_bit(
        query in prop::sample::select(&QUERIES[..]),
        batches in prop::collection::vec(prop::collection::vec(row(), 0..20), 1..6),
    ) {
        prop_assert_eq!(emitted(query, &batches, 3, true), emitted(query, &batches, 3, false), "{}", query);
    }

    #[test]
    fn rows_that_are_equal_by_an_order_are_in_that_of_their_arrival(
        window in prop::sample::select(vec!["tumble(ts, INTERVAL '20 seconds')", "session(ts, INTERVAL '1 second')"]),
        batches in prop::collection::vec(prop::collection::vec(row(), 0..20), 1..6),
        restarts in any::<bool>(),
    ) {
        let collected = if window.starts_with("session") { format!("{COLLECTED}, array_agg(f) AS plain") } else { COLLECTED.to_owned() };
        let query = format!("SELECT a, {collected} FROM t GROUP BY a, {window}");
        let at_once = emitted(&query, &[batches.concat()], 100, false);
        prop_assert_eq!(emitted(&query, &batches, 100, restarts).concat(), at_once.concat());
    }
}
