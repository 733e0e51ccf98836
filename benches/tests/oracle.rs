//! However the input is cut, into files and into batches, in whatever format and on however many threads: what the stream gave in sum is
//! what DataFusion answers over all of it at once.

// A panic here is a failure with a place.
#![allow(clippy::unwrap_used)]

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::json::LineDelimitedWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use waterclock_benches::events::data_files;
use waterclock_benches::one_shot::OneShot;
use waterclock_benches::stream::{self, Settings};

/// Queries over `t (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP)`; `{n}` is a random number.
const QUERIES: [&str; 12] = [
    "SELECT * FROM t",
    "SELECT k, v + {n} AS v, upper(s) AS s FROM t WHERE v % 3 = 1",
    "SELECT k FROM t WHERE NOT (v > {n}) OR s IS NULL",
    "SELECT k, CASE WHEN v > {n} THEN s WHEN v IS NULL THEN 'none' END AS c FROM t",
    "SELECT v, k FROM t WHERE v BETWEEN -{n} AND {n} UNION ALL SELECT k AS v, v AS k FROM t WHERE s LIKE '%a%'",
    "SELECT k, unnest(string_to_array(s, 'a')) AS part FROM t WHERE k <> {n}",
    "SELECT date_trunc('minute', ts) AS minute, coalesce(v, {n}) AS v FROM t WHERE ts > TIMESTAMP '1970-01-01T00:00:30'",
    "SELECT a.k2 AS k FROM (SELECT k * 2 AS k2, v FROM t WHERE v > 0) AS a WHERE a.k2 > {n}",
    "SELECT k, make_array(k, v) AS pair, named_struct('s', s, 'n', length(s)) AS info FROM t",
    "SELECT s || '!' AS s, concat(s, '!') AS c, v IN (1, 2, {n}) AS member FROM t",
    "SELECT k FROM t WHERE v = {n} OR v IS DISTINCT FROM k",
    "WITH x AS (SELECT k, v FROM t WHERE v < {n}) SELECT k, v FROM x UNION ALL SELECT v AS k, k AS v FROM x WHERE k > v",
];

#[derive(Debug, Clone)]
struct Row {
    k: i64,
    v: Option<i64>,
    s: Option<String>,
    ts: Option<i64>,
}

fn row() -> impl Strategy<Value = Row> {
    let small = prop_oneof![4 => -20i64..20, 1 => any::<i32>().prop_map(i64::from)];
    (
        small.clone(),
        prop::option::weighted(0.8, small),
        prop::option::weighted(0.8, "[aAb é\"\\\\,]{0,6}"),
        prop::option::of(0i64..200_000_000),
    )
        .prop_map(|(k, v, s, ts)| Row { k, v, s, ts })
}

/// A way of cutting: files of so many rows, and the limits of a batch.
#[derive(Debug, Clone)]
struct Cut {
    files: Vec<usize>,
    parquet: bool,
    max_files: u64,
    max_rows: Option<u64>,
    threads: usize,
}

fn cut() -> impl Strategy<Value = Cut> {
    (prop::collection::vec(0usize..40, 1..6), any::<bool>(), 1u64..4, prop::option::weighted(0.3, 1u64..50), 1usize..5)
        .prop_map(|(files, parquet, max_files, max_rows, threads)| Cut { files, parquet, max_files, max_rows, threads })
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(rows.iter().map(|row| Some(row.k)).collect::<Int64Array>())),
        ("v", Arc::new(rows.iter().map(|row| row.v).collect::<Int64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.s.as_deref()).collect::<StringArray>())),
        ("ts", Arc::new(rows.iter().map(|row| row.ts).collect::<TimestampMicrosecondArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn write(directory: &Path, cut: &Cut, mut rows: &[Row]) {
    fs::create_dir_all(directory).unwrap();
    for (number, size) in cut.files.iter().enumerate() {
        // The last file takes what is left.
        let size = if number + 1 == cut.files.len() { rows.len() } else { (*size).min(rows.len()) };
        let (now, later) = rows.split_at(size);
        rows = later;
        if cut.parquet {
            let file = File::create(directory.join(format!("{number}.parquet"))).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch(&[]).schema(), None).unwrap();
            writer.write(&batch(now)).unwrap();
            writer.close().unwrap();
        } else {
            fs::write(directory.join(format!("{number}.json")), lines(&[batch(now)])).unwrap();
        }
    }
}

fn lines(batches: &[RecordBatch]) -> Vec<u8> {
    let mut json = LineDelimitedWriter::new(Vec::new());
    for batch in batches {
        json.write(batch).unwrap();
    }
    json.into_inner()
}

/// Rows in one spelling, sorted.
fn sorted(batches: &[RecordBatch]) -> Vec<String> {
    let text = String::from_utf8(lines(batches)).unwrap();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

fn streamed(root: &Path, cut: &Cut, query: &str) -> Vec<String> {
    let limit = cut.max_rows.map(|rows| format!(", 'max_rows_per_batch' '{rows}'")).unwrap_or_default();
    let sql = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE t (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP) STORED AS {} LOCATION '{}/in/'
             OPTIONS ('max_files_per_batch' '{}'{limit});
         CREATE EXTERNAL TABLE result STORED AS PARQUET LOCATION '{}/out/';
         INSERT INTO result {query};",
        if cut.parquet { "PARQUET" } else { "JSON" },
        root.display(),
        cut.max_files,
        root.display()
    );
    let threads = NonZeroUsize::new(cut.threads).unwrap();
    stream::run(&sql, &root.join("checkpoint"), &Settings { threads, fsync: false, ..Settings::default() }).unwrap();
    let mut batches = Vec::new();
    for file in data_files(&root.join("out")).unwrap() {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap();
        batches.extend(reader.map(Result::unwrap));
    }
    sorted(&batches)
}

/// `PROPTEST_CASES` chooses how many; the default suits a debug build.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(48);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_sum_of_the_batches_is_the_answer_over_all(
        rows in prop::collection::vec(row(), 0..120),
        cut in cut(),
        query in prop::sample::select(&QUERIES[..]),
        n in 0i64..15,
    ) {
        let query = query.replace("{n}", &n.to_string());
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("in"), &cut, &rows);
        let expected = sorted(&OneShot::over("t", batch(&rows)).unwrap().rows(&query).unwrap());
        prop_assert_eq!(streamed(root.path(), &cut, &query), expected, "{}", query);
    }
}
