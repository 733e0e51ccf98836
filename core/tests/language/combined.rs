//! Rows that are combined before they reach an operator: what comes out and what is remembered is, bit for bit, what the rows give.

use crate::stateful::{Pieces, Running};
use crate::support::rows;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::FieldRef;
use proptest::prelude::*;
use std::sync::Arc;
use waterclock_core::time::{Timestamp, Watermark};

/// Aggregates whose states add up exactly.
const EXACT: &str = "count(*) AS n, count(f) AS nf, sum(a) AS sa, min(a) AS lo, max(f) AS hi, min(s) AS first, max(ts) AS late, \
     sum(CAST(a AS DECIMAL(10, 2))) AS d, count(*) FILTER (WHERE a > 1) AS big, sum(a) FILTER (WHERE s = 'x') AS xs";

/// How groups are made: the sink's mode, what stands before the aggregates, and what is grouped by.
const GROUPINGS: [(&str, &str, &str); 11] = [
    ("append", "s", "s, tumble(ts, INTERVAL '5 seconds')"),
    ("append", "a, s", "hop(ts, INTERVAL '2 seconds', INTERVAL '6 seconds'), a, s"),
    ("append", "1 AS one", "cumulate(ts, INTERVAL '2 seconds', INTERVAL '6 seconds')"),
    ("append", "ts, s", "ts, s"),
    ("append", "date_trunc('minute', ts) AS t, a", "date_trunc('minute', ts), a"),
    ("update", "a", "a"),
    ("update", "a, s", "a, s"),
    ("update", "1 AS one", "()"),
    ("update", "window_start(w) AS w, s", "w, s"),
    ("update", "s", "s, hop(ts, INTERVAL '2 seconds', INTERVAL '6 seconds')"),
    ("complete", "s, f", "s, f"),
];

/// Groupings whose aggregates are combined no further than their own operator, or not at all.
const OTHERS: [&str; 4] = [
    "SELECT DISTINCT s, date_trunc('second', ts) AS t FROM t",
    "SELECT max(n) AS n, min(s) AS s FROM (SELECT hop(ts, INTERVAL '2 seconds', INTERVAL '6 seconds') AS w, s, count(*) AS n FROM t GROUP BY 1, s)
     GROUP BY w",
    "SELECT s, sum(f) AS f, avg(a) AS g, first_value(f) AS v, count(DISTINCT a) AS d FROM t GROUP BY s, tumble(ts, INTERVAL '5 seconds')",
    "SELECT s, count(*) AS n FROM t GROUP BY s, session(ts, INTERVAL '2 seconds')",
];

const BY_KEY: &str = "CREATE EXTERNAL TABLE counted STORED AS JSON LOCATION 'test://c' OPTIONS ('mode' 'update');
     INSERT INTO counted SELECT a, count(*) AS n FROM t GROUP BY a";

fn statements(which: usize) -> String {
    let Some((mode, columns, groups)) = GROUPINGS.get(which) else { return format!("INSERT INTO out {}", OTHERS[which - GROUPINGS.len()]) };
    let from = if groups.starts_with("w,") { "(SELECT *, tumble(ts, INTERVAL '5 seconds') AS w FROM t) AS t" } else { "t" };
    let group_by = if *groups == "()" { String::new() } else { format!(" GROUP BY {groups}") };
    format!(
        "CREATE EXTERNAL TABLE grouped STORED AS JSON LOCATION 'test://g' OPTIONS ('mode' '{mode}');
         INSERT INTO grouped SELECT {columns}, {EXACT} FROM {from}{group_by}"
    )
}

#[derive(Debug, Clone)]
struct Row {
    a: Option<i64>,
    s: Option<&'static str>,
    f: Option<f64>,
    seconds: Option<i64>,
}

fn row() -> impl Strategy<Value = Row> {
    let doubles = prop::sample::select(vec![None, Some(0.0), Some(-0.0), Some(1.5), Some(-7.25)]);
    let texts = prop::sample::select(vec![None, Some("x"), Some("y")]);
    let seconds = prop::option::weighted(0.99, 0i64..20);
    (prop::option::of(0i64..3), texts, doubles, seconds).prop_map(|(a, s, f, seconds)| Row { a, s, f, seconds })
}

fn json(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let micros = row.seconds.map(|seconds| seconds * 1_000_000);
        format!("{}\n", serde_json::json!({ "a": row.a, "s": row.s, "f": row.f, "ts": micros }))
    };
    rows.iter().map(line).collect()
}

/// What each batch emitted, and what it left behind.
type Course = Vec<(Vec<String>, Vec<String>)>;

/// The course of the batches, how many rows were late, and how many pieces were combined.
fn run(mut running: Running, batches: &[Vec<Row>], restarts: bool) -> (Course, u64, u64) {
    let mut latest = 0;
    let mut all = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        latest = batch.iter().filter_map(|row| row.seconds).map(|seconds| seconds - 4).fold(latest, i64::max);
        let watermark = if index + 1 == batches.len() { Watermark::End } else { Watermark::At(Timestamp(latest * 1_000_000)) };
        let emitted = running.batch(&rows(&running.schema(), &json(batch)), watermark).unwrap();
        all.push((emitted, running.state().unwrap()));
        if restarts {
            running.restart().unwrap();
        }
    }
    (all, running.late_rows(), running.combined)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn combined_rows_give_what_the_rows_give(
        which in 0..GROUPINGS.len() + OTHERS.len(),
        batches in prop::collection::vec(prop::collection::vec(row(), 0..60), 1..5),
        rows in 1usize..40,
        gathered: bool,
        restarts: bool,
    ) {
        let statements = statements(which);
        let run = |combined| run(Running::new(&statements).in_pieces(Pieces { rows, combined, gathered }), &batches, restarts);
        let ((expected, late, _), (found, found_late, _)) = (run(false), run(true));
        prop_assert_eq!(found, expected, "{}", statements);
        prop_assert_eq!(found_late, late, "{}", statements);
    }
}

#[test]
fn rows_are_combined_where_keys_repeat_and_states_add_up() {
    let row = |id: i64| Row { a: Some(id % 3), s: Some("x"), f: Some(0.1), seconds: Some(id % 20) };
    let repeating: Vec<Row> = (0..200).map(row).collect();
    let combined = |statements: &str, rows: &[Row]| {
        let pieces = Pieces { rows: 200, combined: true, gathered: false };
        run(Running::new(statements).in_pieces(pieces), &[rows.to_vec()], false).2
    };
    for which in 0..GROUPINGS.len() {
        assert_eq!(combined(&statements(which), &repeating), 1, "{}", statements(which));
    }
    let distinct: Vec<Row> = (0..200).map(|id| Row { a: Some(id), ..row(id) }).collect();
    let by_a = "INSERT INTO out SELECT a, count(*) AS n FROM t GROUP BY a, tumble(ts, INTERVAL '1 day')";
    assert_eq!((combined(by_a, &distinct), combined(by_a, &repeating)), (0, 1));
    for which in GROUPINGS.len() + 2..GROUPINGS.len() + OTHERS.len() {
        assert_eq!(combined(&statements(which), &repeating), 0, "{}", statements(which));
    }
}

/// Keys that repeat too seldom among the first rows may do so among all.
#[test]
fn keys_that_seldom_repeat_are_judged_by_more_rows() {
    let schema = Running::new(BY_KEY).schema();
    let combined = |rows: i64, key: &dyn Fn(i64) -> i64| {
        let column = |field: &FieldRef| match field.name().as_str() {
            "a" => Arc::new(Int64Array::from_iter_values((0..rows).map(key))) as ArrayRef,
            _ => new_null_array(field.data_type(), rows as usize),
        };
        let rows = RecordBatch::try_new(Arc::clone(&schema), schema.fields().iter().map(column).collect()).unwrap();
        let run = |combined| {
            let mut running = Running::new(BY_KEY).in_pieces(Pieces { rows: usize::MAX, combined, gathered: false });
            (running.batch(&rows, Watermark::Unknown).unwrap(), running.combined)
        };
        let ((expected, _), (found, combined)) = (run(false), run(true));
        assert_eq!(found, expected);
        combined
    };
    let random = |row: i64, keys: u64| {
        let mixed = (row as u64).wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(32).wrapping_mul(0x14c8_2cc0_f6d9_b1e5);
        (mixed % keys) as i64
    };
    assert_eq!(combined(140_000, &|row| random(row, 20_000)), 1, "each key has seven rows");
    assert_eq!(combined(100_000, &|row| random(row, 20_000)), 0, "too few rows to look at so many of them");
    assert_eq!(combined(140_000, &|row| random(row, 1 << 40)), 0, "no key has two rows");
    assert_eq!(combined(140_000, &|row| if row % 5 == 0 { 0 } else { row }), 0, "all keys but one are of one row");
    assert_eq!(combined(140_000, &|row| if row < 8_000 { row } else { 0 }), 0, "no key of the first rows repeats");
}
