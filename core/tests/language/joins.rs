//! Joins of a stream with static tables.

use crate::support::{NoRows, NoSink, assert_says, context, error_of, lines, rows, run, schema};
use arrow::datatypes::DataType;
use datafusion_expr::{col, lit};
use proptest::prelude::*;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use waterclock_core::batch::BatchContext;
use waterclock_core::id::BatchId;
use waterclock_core::job::Job;
use waterclock_core::pipeline::{JoinKind, Pipeline};
use waterclock_core::plan::{NodeKind, Plan, explain};
use waterclock_core::sql::plan_sql;
use waterclock_core::time::Timestamp;
use waterclock_core::{ErrorKind, Result};

const TABLES: &str = "
CREATE UNBOUNDED EXTERNAL TABLE e (id BIGINT, k BIGINT, s VARCHAR, ts TIMESTAMP) STORED AS JSON LOCATION 'test://e';
CREATE UNBOUNDED EXTERNAL TABLE f (id BIGINT, k BIGINT) STORED AS JSON LOCATION 'test://f';
CREATE EXTERNAL TABLE d (n BIGINT, k BIGINT, s VARCHAR, until TIMESTAMP) STORED AS JSON LOCATION 'test://d';
CREATE EXTERNAL TABLE x (k INT, f DOUBLE) STORED AS JSON LOCATION 'test://x';
CREATE EXTERNAL TABLE out STORED AS JSON LOCATION 'test://out';
";

fn job(query: &str) -> Job {
    plan_sql(&format!("{TABLES}INSERT INTO out {query}"), &context()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn refusal(query: &str) -> String {
    error_of(&format!("{TABLES}INSERT INTO out {query}"))
}

/// Gives the static tables these rows.
fn load(plan: &Plan, tables: &[(&str, &str)]) {
    for table in &plan.statics {
        let text = tables.iter().find(|(name, _)| *name == table.id.as_str()).map_or("", |(_, rows)| rows);
        table.rows.set(rows(&table.schema, text).project(&table.scan.projection).unwrap()).unwrap();
    }
}

/// What a query gives for these rows of `e`.
fn joined(query: &str, stream: &str, tables: &[(&str, &str)]) -> Vec<String> {
    let job = job(query);
    load(&job.plan, tables);
    let input = rows(&job.plan.sources[0].schema, stream);
    lines(&run(&job.plan, &[("e", input)].into()).unwrap()["out"])
}

/// A row of either side: its number, and a key of two parts.
type Row = (i64, Option<i64>, Option<String>);

fn side() -> impl Strategy<Value = Vec<Row>> {
    let key = (prop::option::weighted(0.8, 0..4_i64), prop::option::weighted(0.8, "[ab]?"));
    prop::collection::vec(key, 0..30).prop_map(|keys| (0..).zip(keys).map(|(number, (k, s))| (number, k, s)).collect())
}

fn text(side: &[Row], number: &str) -> String {
    side.iter().fold(String::new(), |mut text, (n, k, s)| {
        writeln!(text, "{}", serde_json::json!({number: n, "k": k, "s": s})).unwrap();
        text
    })
}

/// The shape of a join, and what it means.
#[derive(Debug, Clone, Copy)]
struct Shape {
    query: &'static str,
    keeps: bool,
    fits: fn(&Row, &Row) -> bool,
}

fn equal<T: PartialEq>(left: &Option<T>, right: &Option<T>) -> bool {
    left.is_some() && left == right
}

const SHAPES: &[Shape] = &[
    Shape { query: "SELECT id, n FROM e JOIN d ON e.k = d.k", keeps: false, fits: |e, d| equal(&e.1, &d.1) },
    Shape { query: "SELECT id, n FROM e LEFT JOIN d ON e.k = d.k", keeps: true, fits: |e, d| equal(&e.1, &d.1) },
    Shape { query: "SELECT id, n FROM d RIGHT JOIN e USING (k, s)", keeps: true, fits: |e, d| equal(&e.1, &d.1) && equal(&e.2, &d.2) },
    Shape { query: "SELECT id, n FROM d NATURAL JOIN e", keeps: false, fits: |e, d| equal(&e.1, &d.1) && equal(&e.2, &d.2) },
    Shape { query: "SELECT id, n FROM e JOIN d ON e.k = d.k AND e.id < d.n", keeps: false, fits: |e, d| equal(&e.1, &d.1) && e.0 < d.0 },
    Shape {
        query: "SELECT id, n FROM e LEFT JOIN d ON e.s = d.s AND e.k < d.k",
        keeps: true,
        fits: |e, d| equal(&e.2, &d.2) && matches!((e.1, d.1), (Some(left), Some(right)) if left < right),
    },
    Shape {
        query: "SELECT id, n FROM e LEFT JOIN d ON e.k = d.k AND e.id > 3 AND d.n > 5",
        keeps: true,
        fits: |e, d| equal(&e.1, &d.1) && e.0 > 3 && d.0 > 5,
    },
    Shape { query: "SELECT id, n FROM e LEFT JOIN d ON e.id = d.n + 1", keeps: true, fits: |e, d| e.0 == d.0 + 1 },
    Shape { query: "SELECT id, n FROM d, e WHERE e.id > d.n", keeps: false, fits: |e, d| e.0 > d.0 },
    Shape { query: "SELECT id, n FROM e JOIN d ON e.k IS NOT DISTINCT FROM d.k", keeps: false, fits: |e, d| e.1 == d.1 },
    Shape {
        query: "SELECT id, n FROM e LEFT JOIN (SELECT n, k + 1 AS k FROM d WHERE s = 'a') p ON e.k = p.k",
        keeps: true,
        fits: |e, d| d.2.as_deref() == Some("a") && equal(&e.1, &d.1.map(|k| k + 1)),
    },
    Shape { query: "SELECT id, n FROM e JOIN d ON false", keeps: false, fits: |_, _| false },
    Shape { query: "SELECT id, n FROM e LEFT JOIN d ON e.k = d.k AND NULL", keeps: true, fits: |_, _| false },
];

/// Every pair is looked at, in the order of the stream and then of the static rows.
fn nested_loop(shape: &Shape, stream: &[Row], table: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for row in stream {
        let before = lines.len();
        for partner in table.iter().filter(|partner| (shape.fits)(row, partner)) {
            lines.push(format!(r#"{{"id":{},"n":{}}}"#, row.0, partner.0));
        }
        if shape.keeps && lines.len() == before {
            lines.push(format!(r#"{{"id":{}}}"#, row.0));
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn joins_are_nested_loops(stream in side(), table in side()) {
        for shape in SHAPES {
            let found = joined(shape.query, &text(&stream, "id"), &[("d", &text(&table, "n"))]);
            prop_assert_eq!(found, nested_loop(shape, &stream, &table), "{}", shape.query);
        }
    }
}

#[test]
fn many_candidates_are_taken_in_pieces() {
    let all = |count: i64| (0..count).map(|number| (number, Some(number), None)).collect::<Vec<Row>>();
    let (stream, table) = (text(&all(500), "id"), text(&all(400), "n"));
    let query = "SELECT id, n FROM e LEFT JOIN d ON e.id + d.n = 450";
    let found = joined(query, &stream, &[("d", &table)]);
    let shape = Shape { query, keeps: true, fits: |e, d| e.0 + d.0 == 450 };
    assert_eq!(found, nested_loop(&shape, &all(500), &all(400)));
    assert_eq!(found.len(), 500);
}

#[test]
fn static_tables_are_joined_with_each_other_first_or_last() {
    let tables = [("d", "{\"n\":1,\"k\":7}\n{\"n\":2,\"k\":8}\n"), ("x", "{\"k\":7,\"f\":0.5}\n{\"k\":7,\"f\":1.5}\n")];
    let stream = "{\"id\":2}\n{\"id\":1}\n";
    let expected = [r#"{"id":1,"f":0.5}"#, r#"{"id":1,"f":1.5}"#];
    for query in [
        "SELECT id, f FROM e JOIN d ON e.id = d.n JOIN x ON d.k = x.k",
        "SELECT id, f FROM e JOIN (d JOIN x ON d.k = x.k) ON e.id = d.n",
        "SELECT id, f FROM d, x, e WHERE d.k = x.k AND e.id = d.n",
    ] {
        assert_eq!(joined(query, stream, &tables), expected, "{query}");
    }
    let kept = "SELECT id, f FROM e JOIN (x RIGHT JOIN d ON d.k = x.k) ON e.id = d.n";
    assert_eq!(joined(kept, stream, &tables), [r#"{"id":2}"#, expected[0], expected[1]]);
    let united = "SELECT id, p.k FROM e JOIN (SELECT k FROM d UNION ALL SELECT k FROM x) p ON e.id = p.k - 6";
    assert_eq!(joined(united, "{\"id\":1}\n", &tables), [r#"{"id":1,"k":7}"#; 3]);
}

#[test]
fn lists_of_the_stream_are_taken_apart_beside_a_join() {
    let query = "SELECT id, n, u.v FROM e JOIN d ON e.k = d.k CROSS JOIN UNNEST(make_array(e.id, d.n)) AS u(v)";
    assert_eq!(
        joined(query, "{\"id\":1,\"k\":1}\n", &[("d", "{\"n\":5,\"k\":1}\n")]),
        [r#"{"id":1,"n":5,"v":1}"#, r#"{"id":1,"n":5,"v":5}"#]
    );
}

#[test]
fn the_clock_of_the_batch_counts_on_both_sides() {
    for query in [
        "SELECT id, n FROM e JOIN (SELECT * FROM d WHERE until > now()) p ON e.k = p.k",
        "SELECT id, n FROM e JOIN d ON e.k = d.k AND d.until > now()",
    ] {
        let job = job(query);
        load(
            &job.plan,
            &[("d", "{\"n\":1,\"k\":1,\"until\":\"1970-01-01T00:00:10\"}\n{\"n\":2,\"k\":1,\"until\":\"1970-01-01T00:00:20\"}\n")],
        );
        let input = rows(&job.plan.sources[0].schema, "{\"id\":1,\"k\":1}\n").project(&job.plan.sources[0].scan.projection).unwrap();
        let at = |seconds: i64| {
            let batch = BatchContext { batch: BatchId(0), trigger_time: Timestamp(seconds * 1_000_000) };
            let mut found = input.clone();
            for node in &job.plan.nodes {
                if let NodeKind::Transform(transform) = &node.kind {
                    found = Arc::clone(transform).for_batch(&batch).unwrap().apply(found).unwrap();
                }
            }
            found.num_rows()
        };
        assert_eq!([at(0), at(15), at(30), at(0)], [2, 1, 0, 2], "{query}");
    }
}

#[test]
fn only_what_is_needed_of_a_static_table_is_read() {
    let job = job("SELECT e.id, d.s FROM e JOIN d ON e.k = d.k WHERE d.n > 3");
    let table = &job.plan.statics[0];
    let read: Vec<&str> = table.scan.projection.iter().map(|&column| table.schema.field(column).name().as_str()).collect();
    let filters: Vec<String> = table.scan.filters.iter().map(ToString::to_string).collect();
    assert_eq!((read, filters, job.statics.len(), job.sources.len()), (vec!["n", "k", "s"], vec!["n > Int64(3)".to_owned()], 1, 1));
}

#[test]
fn a_plan_shows_its_joins_and_static_tables() {
    let text = explain(&job("SELECT e.id, d.s FROM e LEFT JOIN d ON e.k = d.k AND e.id > d.n").plan);
    assert_says(&text, &["Static tables, read when the job is opened\n  d: read test://d columns [n, k, s]"]);
    assert_says(&text, &["out-join-", "left join on k = k AND id > n with [static table d]"]);
}

#[test]
fn joins_that_a_stream_cannot_have_say_what_can_be_done() {
    let cases = [
        ("SELECT e.id FROM e JOIN f ON e.k = f.k", "a join of two streams", "static table"),
        ("SELECT e.id FROM e CROSS JOIN f", "a join of two streams", "static table"),
        ("SELECT e.id FROM e LEFT JOIN (SELECT f.k FROM f JOIN d ON f.k = d.k) g ON e.k = g.k", "a join of two streams", ""),
        ("SELECT e.id FROM e RIGHT JOIN d ON e.k = d.k", "a RIGHT JOIN that keeps the rows of a static table", "keep the stream's rows"),
        ("SELECT e.id FROM d LEFT JOIN e ON e.k = d.k", "a LEFT JOIN that keeps the rows of a static table", "keep the stream's rows"),
        ("SELECT e.id FROM e FULL JOIN d ON e.k = d.k", "a FULL JOIN that keeps the rows of a static table", "INNER JOIN"),
        ("SELECT e.id FROM e LEFT SEMI JOIN d ON e.k = d.k", "a LeftSemi JOIN", "INNER JOIN"),
    ];
    for (query, construct, instead) in cases {
        assert_says(&refusal(query), &["INSERT INTO out", construct, "is not supported by this version", instead]);
    }
}

#[test]
fn a_static_table_is_no_stream() {
    assert_says(&refusal("SELECT n FROM d"), &["no UNBOUNDED table", "'d'", "CREATE UNBOUNDED EXTERNAL TABLE"]);
    assert_says(&refusal("SELECT d.n FROM d JOIN x ON d.k = x.k"), &["no UNBOUNDED table", "'d'", "'x'"]);
    assert_says(&refusal("SELECT id FROM e UNION ALL SELECT n FROM d"), &["'d'", "not UNBOUNDED", "joined"]);
    let option = "CREATE EXTERNAL TABLE o (k BIGINT) STORED AS JSON LOCATION 'test://o' OPTIONS ('event_time' 'k');";
    let query = format!("{TABLES}{option}INSERT INTO out SELECT id FROM e JOIN o ON e.k = o.k");
    assert_says(&error_of(&query), &["table 'o'", "'event_time'"]);
}

#[test]
fn what_is_read_as_a_static_table_is_not_written() {
    let same = "CREATE EXTERNAL TABLE o (k BIGINT) STORED AS JSON LOCATION 'memory://place/a';
                CREATE EXTERNAL TABLE w STORED AS JSON LOCATION 'memory://place/';";
    let query = format!("{TABLES}{same}INSERT INTO w SELECT id FROM e JOIN o ON e.k = o.k");
    assert_says(&error_of(&query), &["'w'", "'o'", "can't read what it writes"]);
}

#[test]
fn a_function_of_static_rows_is_called_once_and_its_panic_is_an_error() {
    let run = |text: &str| {
        let mut pipeline = Pipeline::new();
        let stream = pipeline.source("e", Box::new(NoRows(schema([("id", DataType::Int64)])))).unwrap();
        let of_table = schema([("k", DataType::Int64)]);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let table = pipeline.static_table("d", Box::new(NoRows(Arc::clone(&of_table)))).unwrap();
        let table = table.map_batches("checked", of_table, move |rows| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert!(rows.num_rows() < 2, "too many");
            Ok(rows.clone())
        });
        let joined = stream.join(table.unwrap(), JoinKind::Left, vec![(col("id"), col("k"))]).unwrap();
        pipeline.sink("out", Arc::new(NoSink), joined).unwrap();
        let job = pipeline.build().unwrap();
        load(&job.plan, &[("d", text)]);
        let input = rows(&job.plan.sources[0].schema, "{\"id\":1}\n");
        let output = || Ok(lines(&run(&job.plan, &[("e", input.clone())].into())?["out"]));
        let both: Result<[Vec<String>; 2]> = output().and_then(|first| Ok([first, output()?]));
        (both, calls.load(Ordering::Relaxed))
    };
    let found = |text: &str| {
        let (output, calls) = run(text);
        (output.unwrap(), calls)
    };
    assert_eq!(found("{\"k\":1}\n"), ([(); 2].map(|()| vec![r#"{"id":1,"k":1}"#.to_owned()]), 1));
    assert_eq!(found(""), ([(); 2].map(|()| vec![r#"{"id":1}"#.to_owned()]), 0));
    let error = run("{\"k\":1}\n{\"k\":2}\n").0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_says(&error.to_string(), &["operator 'checked'", "panicked", "too many"]);
}

#[test]
fn streams_are_joined_in_rust() {
    let columns = schema([("id", DataType::Int64), ("k", DataType::Int64)]);
    let of_table = schema([("k", DataType::Int32), ("label", DataType::Utf8)]);
    let query = |kind: JoinKind| {
        let mut pipeline = Pipeline::new();
        let stream = pipeline.source("e", Box::new(NoRows(Arc::clone(&columns)))).unwrap();
        let table = pipeline.static_table("d", Box::new(NoRows(Arc::clone(&of_table)))).unwrap();
        let table = table.filter(col("label").not_eq(lit("no"))).unwrap();
        let joined = stream.join(table, kind, vec![(col("e.k"), col("d.k"))]).unwrap().select([col("id"), col("label")]).unwrap();
        pipeline.sink("out", Arc::new(NoSink), joined).unwrap();
        let job = pipeline.build().unwrap();
        load(&job.plan, &[("d", "{\"k\":1,\"label\":\"one\"}\n{\"k\":2,\"label\":\"no\"}\n")]);
        let input = rows(&job.plan.sources[0].schema, "{\"id\":5,\"k\":2}\n{\"id\":6,\"k\":1}\n");
        lines(&run(&job.plan, &[("e", input)].into()).unwrap()["out"])
    };
    assert_eq!(query(JoinKind::Inner), [r#"{"id":6,"label":"one"}"#]);
    assert_eq!(query(JoinKind::Left), [r#"{"id":5}"#, r#"{"id":6,"label":"one"}"#]);
    let mut pipeline = Pipeline::new();
    let stream = pipeline.source("e", Box::new(NoRows(Arc::clone(&columns)))).unwrap();
    let other = pipeline.source("f", Box::new(NoRows(columns))).unwrap();
    let error = stream.join(other, JoinKind::Inner, vec![(col("e.k"), col("f.k"))]).unwrap_err();
    assert_says(&error.to_string(), &["a join of two streams"]);
    assert!(pipeline.static_table("e", Box::new(NoRows(of_table))).is_err());
}
