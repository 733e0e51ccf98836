//! Aggregates and windows: however the input is cut and however often the job is stopped and taken up at another number of threads, what
//! came out in sum, drained, is what DataFusion answers over all input. Its queries say windows with date_bin, and sessions with gaps and
//! islands.

// A panic here is a failure with a place.
#![allow(clippy::unwrap_used)]

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::json::LineDelimitedWriter;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use waterclock_benches::events::data_files;
use waterclock_benches::one_shot::OneShot;
use waterclock_benches::stream::{self, Settings};

/// All kinds of functions: in place, in sets, by order, and through the adapter. Sums of doubles may differ in their last bits.
const AGGREGATES: &str = "count(*) AS n, count(v) AS nv, sum(v) AS s, avg(v) AS a, min(v) AS lo, max(v) AS hi, min(s) AS los, max(s) AS his, \
    min(ts) AS early, count(DISTINCT v) AS d, sum(DISTINCT v) AS sd, count(DISTINCT s) AS ds, \
    round(stddev(v), 6) + 0.0 AS dev, round(var_pop(v), 6) + 0.0 AS var, \
    first_value(v ORDER BY v) AS f, last_value(s ORDER BY s NULLS FIRST) AS l, first_value(s ORDER BY ts, v, s) AS fs, \
    array_agg(v ORDER BY v) AS list, string_agg(s, '|' ORDER BY s) AS text, median(v) AS m, bit_xor(k) AS x, bool_and(v > 0) AS b, \
    round(corr(k, v), 6) + 0.0 AS c, count(*) FILTER (WHERE v > 0) AS nf, sum(v) FILTER (WHERE s IS NOT NULL) AS sf, \
    count(DISTINCT v) FILTER (WHERE k > 0) AS df, sum(CAST(k AS DECIMAL(20, 2))) AS dec, avg(CAST(k AS DECIMAL(20, 2))) AS deca";

const SOME: &str = "count(*) AS n, sum(v) AS s, count(DISTINCT v) AS d, max(s) AS his, array_agg(v ORDER BY v) AS list";

/// Queries that append: Waterclock's, and DataFusion's.
const APPEND: [(&str, &str); 14] = [
    (
        "SELECT window_start(w) AS w0, k, {all} FROM (SELECT *, tumble(ts, INTERVAL '10 seconds') AS w FROM t) x GROUP BY w, k",
        "SELECT date_bin(INTERVAL '10 seconds', ts) AS w0, k, {all} FROM t GROUP BY 1, 2",
    ),
    (
        "SELECT window_start(tumble(ts, INTERVAL '7 seconds', INTERVAL '2 seconds')) AS w0, {some} FROM t \
         GROUP BY tumble(ts, INTERVAL '7 seconds', INTERVAL '2 seconds')",
        "SELECT date_bin(INTERVAL '7 seconds', ts, TIMESTAMP '1970-01-01T00:00:02') AS w0, {some} FROM t GROUP BY 1",
    ),
    (
        "SELECT window_end(hop(ts, INTERVAL '5 seconds', INTERVAL '15 seconds')) AS w1, k, {all} FROM t \
         GROUP BY k, hop(ts, INTERVAL '5 seconds', INTERVAL '15 seconds')",
        "SELECT w0 + INTERVAL '15 seconds' AS w1, k, {all} FROM ( \
           SELECT *, date_bin(INTERVAL '5 seconds', ts) AS w0 FROM t \
           UNION ALL SELECT *, date_bin(INTERVAL '5 seconds', ts) - INTERVAL '5 seconds' FROM t \
           UNION ALL SELECT *, date_bin(INTERVAL '5 seconds', ts) - INTERVAL '10 seconds' FROM t) x GROUP BY w0, k",
    ),
    (
        "SELECT window_start(hop(ts, INTERVAL '10 seconds', INTERVAL '4 seconds')) AS w0, {some} FROM t \
         GROUP BY hop(ts, INTERVAL '10 seconds', INTERVAL '4 seconds')",
        "SELECT date_bin(INTERVAL '10 seconds', ts) AS w0, {some} FROM t \
         WHERE ts < date_bin(INTERVAL '10 seconds', ts) + INTERVAL '4 seconds' GROUP BY 1",
    ),
    (
        "SELECT window_start(cumulate(ts, INTERVAL '5 seconds', INTERVAL '15 seconds')) AS w0, \
           window_end(cumulate(ts, INTERVAL '5 seconds', INTERVAL '15 seconds')) AS w1, k, {some} FROM t \
           GROUP BY cumulate(ts, INTERVAL '5 seconds', INTERVAL '15 seconds'), k",
        "SELECT w0, w1, k, {some} FROM ( \
           SELECT *, date_bin(INTERVAL '15 seconds', ts) AS w0, date_bin(INTERVAL '15 seconds', ts) + INTERVAL '15 seconds' AS w1 FROM t \
           UNION ALL SELECT *, date_bin(INTERVAL '15 seconds', ts), date_bin(INTERVAL '15 seconds', ts) + INTERVAL '10 seconds' FROM t \
             WHERE ts < date_bin(INTERVAL '15 seconds', ts) + INTERVAL '10 seconds' \
           UNION ALL SELECT *, date_bin(INTERVAL '15 seconds', ts), date_bin(INTERVAL '15 seconds', ts) + INTERVAL '5 seconds' FROM t \
             WHERE ts < date_bin(INTERVAL '15 seconds', ts) + INTERVAL '5 seconds') x GROUP BY w0, w1, k",
    ),
    (
        "SELECT k, window_start(session(ts, INTERVAL '7 seconds')) AS w0, window_end(session(ts, INTERVAL '7 seconds')) AS w1, {all} FROM t \
         GROUP BY k, session(ts, INTERVAL '7 seconds')",
        "SELECT k, min(ts) AS w0, max(ts) + INTERVAL '7 seconds' AS w1, {all} FROM ( \
           SELECT *, sum(new) OVER (PARTITION BY k ORDER BY ts, new DESC ROWS UNBOUNDED PRECEDING) AS island FROM ( \
             SELECT *, CASE WHEN ts <= lag(ts) OVER (PARTITION BY k ORDER BY ts) + INTERVAL '7 seconds' THEN 0 ELSE 1 END AS new FROM t \
           ) x) y GROUP BY k, island",
    ),
    (
        "SELECT window_start(session(ts, INTERVAL '1 second')) AS w0, {some} FROM t GROUP BY session(ts, INTERVAL '1 second')",
        "SELECT min(ts) AS w0, {some} FROM ( \
           SELECT *, sum(new) OVER (ORDER BY ts, new DESC ROWS UNBOUNDED PRECEDING) AS island FROM ( \
             SELECT *, CASE WHEN ts <= lag(ts) OVER (ORDER BY ts) + INTERVAL '1 second' THEN 0 ELSE 1 END AS new FROM t) x) y GROUP BY island",
    ),
    ("SELECT ts, k, {all} FROM t GROUP BY ts, k", "SELECT ts, k, {all} FROM t GROUP BY ts, k"),
    (
        "SELECT date_trunc('minute', ts) AS minute, {some} FROM t GROUP BY 1",
        "SELECT date_trunc('minute', ts) AS minute, {some} FROM t GROUP BY 1",
    ),
    (
        "SELECT window_start(tumble(ts, INTERVAL '7 seconds', INTERVAL '2 seconds')) AS w0, k, {some} FROM t GROUP BY 1, 2",
        "SELECT date_bin(INTERVAL '7 seconds', ts, TIMESTAMP '1970-01-01T00:00:02') AS w0, k, {some} FROM t GROUP BY 1, 2",
    ),
    (
        "SELECT w0, max(n) AS most, sum(n) AS n, count(*) AS groups FROM ( \
           SELECT window_start(hop(ts, INTERVAL '5 seconds', INTERVAL '10 seconds')) AS w0, k, count(*) AS n FROM t \
           GROUP BY hop(ts, INTERVAL '5 seconds', INTERVAL '10 seconds'), k) x GROUP BY w0",
        "SELECT w0, max(n) AS most, sum(n) AS n, count(*) AS groups FROM ( \
           SELECT w0, k, count(*) AS n FROM ( \
             SELECT *, date_bin(INTERVAL '5 seconds', ts) AS w0 FROM t \
             UNION ALL SELECT *, date_bin(INTERVAL '5 seconds', ts) - INTERVAL '5 seconds' FROM t) y GROUP BY w0, k) x GROUP BY w0",
    ),
    ("SELECT DISTINCT k, s FROM t", "SELECT DISTINCT k, s FROM t"),
    (
        "SELECT DISTINCT date_trunc('second', ts) AS second, k FROM t WHERE v > 0",
        "SELECT DISTINCT date_trunc('second', ts) AS second, k FROM t WHERE v > 0",
    ),
    (
        "SELECT window_start(tumble(e, INTERVAL '20 seconds')) AS w0, max(n) AS most, sum(n) AS n, count(*) AS groups FROM ( \
           SELECT window_time(tumble(ts, INTERVAL '5 seconds')) AS e, k, count(*) AS n FROM t GROUP BY k, tumble(ts, INTERVAL '5 seconds')) x \
         GROUP BY tumble(e, INTERVAL '20 seconds') HAVING sum(n) > 1",
        "SELECT date_bin(INTERVAL '20 seconds', e) AS w0, max(n) AS most, sum(n) AS n, count(*) AS groups FROM ( \
           SELECT date_bin(INTERVAL '5 seconds', ts) AS e, k, count(*) AS n FROM t GROUP BY 1, 2) x \
         GROUP BY 1 HAVING sum(n) > 1",
    ),
];

/// Queries whose groups are replaced as they change, by the key `k`; the same for both.
const UPDATE: [&str; 4] = [
    "SELECT k, {all} FROM t GROUP BY k",
    "SELECT k, max(v) AS hi FROM t WHERE v > 0 GROUP BY k",
    "SELECT s AS k, count(*) AS n, avg(v) AS a FROM t GROUP BY s",
    "SELECT 1 AS k, {some} FROM t",
];

#[derive(Debug, Clone)]
struct Row {
    k: i64,
    v: Option<i64>,
    s: Option<String>,
    ts: i64,
}

fn row() -> impl Strategy<Value = Row> {
    let time = prop_oneof![0i64..100, 0i64..100_000].prop_map(|units| units * 1_000_000 % 100_000_000 + units / 100 * 7);
    (-3i64..3, prop::option::weighted(0.8, -5i64..6), prop::option::weighted(0.8, "[ab]{0,2}"), time).prop_map(|(k, v, s, ts)| Row {
        k,
        v,
        s,
        ts,
    })
}

/// How the input is cut, and how often the job is stopped: after so many batches, to go on with so many threads.
#[derive(Debug, Clone)]
struct Cut {
    files: Vec<usize>,
    max_files: u64,
    runs: Vec<(u64, usize)>,
}

fn cut() -> impl Strategy<Value = Cut> {
    let runs = prop::collection::vec((1u64..4, 1usize..5), 0..3);
    (prop::collection::vec(0usize..30, 1..8), 1u64..3, runs).prop_map(|(files, max_files, runs)| Cut { files, max_files, runs })
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(rows.iter().map(|row| Some(row.k)).collect::<Int64Array>())),
        ("v", Arc::new(rows.iter().map(|row| row.v).collect::<Int64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.s.as_deref()).collect::<StringArray>())),
        ("ts", Arc::new(rows.iter().map(|row| Some(row.ts)).collect::<TimestampMicrosecondArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut json = LineDelimitedWriter::new(Vec::new());
    batches.iter().for_each(|batch| json.write(batch).unwrap());
    String::from_utf8(json.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

fn write(directory: &Path, files: &[usize], mut rows: &[Row]) {
    fs::create_dir_all(directory).unwrap();
    for (number, size) in files.iter().enumerate() {
        let size = if number + 1 == files.len() { rows.len() } else { (*size).min(rows.len()) };
        let (now, later) = rows.split_at(size);
        rows = later;
        let text = if now.is_empty() { String::new() } else { lines(&[batch(now)]).join("\n") + "\n" };
        fs::write(directory.join(format!("{number}.json")), text).unwrap();
    }
}

/// The rows of each published file, in the order of the batches.
fn streamed(root: &Path, cut: &Cut, query: &str, mode: &str) -> Vec<Vec<String>> {
    let sql = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE t (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP) STORED AS JSON LOCATION '{root}/in/'
             OPTIONS ('max_files_per_batch' '{}', 'event_time' 'ts', 'watermark_delay' '200 seconds');
         CREATE EXTERNAL TABLE result STORED AS JSON LOCATION '{root}/out/' OPTIONS ('mode' '{mode}');
         INSERT INTO result {query};",
        cut.max_files,
        root = root.display(),
    );
    let checkpoint = root.join("checkpoint");
    let settings = |threads| Settings { threads: NonZeroUsize::new(threads).unwrap(), fsync: false, ..Settings::default() };
    for (batches, threads) in &cut.runs {
        let settings = Settings { max_batches: NonZeroU64::new(*batches), ..settings(*threads) };
        stream::run(&sql, &checkpoint, &settings).unwrap();
    }
    stream::run(&sql, &checkpoint, &Settings { drain: true, ..settings(3) }).unwrap();
    let text = |path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    data_files(&root.join("out")).unwrap().into_iter().map(text).collect()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

fn in_full(query: &str) -> String {
    query.replace("{all}", AGGREGATES).replace("{some}", SOME)
}

fn answer(rows: &[Row], query: &str) -> Vec<String> {
    sorted(lines(&OneShot::over("t", batch(rows)).unwrap().rows(&in_full(query)).unwrap()))
}

/// `PROPTEST_CASES` chooses how many; the default suits a debug build.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(32);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_appended_is_the_answer_over_all(
        rows in prop::collection::vec(row(), 0..100),
        cut in cut(),
        (query, oracle) in prop::sample::select(&APPEND[..]),
    ) {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("in"), &cut.files, &rows);
        let found = streamed(root.path(), &cut, &in_full(query), "append").concat();
        prop_assert_eq!(sorted(found), answer(&rows, oracle), "{}", query);
    }

    #[test]
    fn the_last_row_of_each_key_is_the_answer_over_all(
        rows in prop::collection::vec(row(), 1..100),
        cut in cut(),
        query in prop::sample::select(&UPDATE[..]),
    ) {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("in"), &cut.files, &rows);
        let mut last = BTreeMap::new();
        for row in streamed(root.path(), &cut, &in_full(query), "update").concat() {
            let parsed: serde_json::Value = serde_json::from_str(&row).unwrap();
            last.insert(parsed["k"].to_string(), row);
        }
        prop_assert_eq!(sorted(last.into_values().collect()), answer(&rows, query), "{}", query);
    }

    #[test]
    fn the_last_full_result_is_the_answer_over_all(
        rows in prop::collection::vec(row(), 1..100),
        cut in cut(),
        query in prop::sample::select(&UPDATE[..3]),
    ) {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("in"), &cut.files, &rows);
        let last = streamed(root.path(), &cut, &in_full(query), "complete").pop().unwrap_or_default();
        prop_assert_eq!(sorted(last), answer(&rows, query), "{}", query);
    }
}
