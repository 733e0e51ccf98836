//! Event time, GROUP BY and DISTINCT from Rust: the same plans as SQL makes, and the same refusals.

use crate::support::{NoRows, NoSink, assert_says, error, job, schema, timestamp};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::Expr;
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::expressions::{
    ExprFunctionExt, avg, col, count, count_all, count_distinct, cumulating, first_value, hopping, lit, max, proc_time, session, sum,
    tumbling, window_end, window_start, window_time,
};
use waterclock_core::job::Job;
use waterclock_core::pipeline::{Pipeline, Stream};
use waterclock_core::plan::{Node, NodeKind, Plan};
use waterclock_core::sink::SinkMode;
use waterclock_core::source::EventTime;
use waterclock_core::{Error, ErrorKind, Result};

const SECOND: Duration = Duration::from_secs(1);

/// Columns as in SQL's table `t`, as far as they are used here.
fn columns() -> SchemaRef {
    schema([("a", DataType::Int64), ("b", DataType::Int64), ("s", DataType::Utf8), ("f", DataType::Float64), ("ts", timestamp())])
}

fn source() -> (Pipeline, Stream) {
    let mut pipeline = Pipeline::new();
    let stream = pipeline.source("t", Box::new(NoRows(columns()))).unwrap();
    (pipeline, stream)
}

fn planned(mode: SinkMode, query: impl FnOnce(Stream) -> Result<Stream>) -> Result<Job> {
    let (mut pipeline, stream) = source();
    let stream = query(stream.watermark("ts", Duration::ZERO)?)?;
    pipeline.sink_in_mode("out", Arc::new(NoSink), mode, stream)?;
    pipeline.build()
}

fn refused(mode: SinkMode, query: impl FnOnce(Stream) -> Result<Stream>) -> String {
    let error = planned(mode, query).expect_err("this is refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

/// What each operator with a memory remembers and emits, what bounds it in time, and the columns of the sink. Not the
/// names of keys and results on the way, which SQL makes up.
fn meaning(plan: &Plan) -> (Vec<String>, SchemaRef) {
    let of = |node: &Node| match &node.kind {
        NodeKind::Operator(factory) => {
            let described = factory.describe();
            let emits = described.rsplit_once("], ").unwrap().1;
            Some(format!("{} {} {emits} {:?}", node.id, factory.fingerprint(), node.bounds))
        }
        _ => None,
    };
    (plan.nodes.iter().filter_map(of).collect(), Arc::clone(&plan.sinks[0].schema))
}

/// Asserts that a query in Rust and one in SQL plan the same operators, up to the positions of columns that the sources differ in.
fn assert_same(sql: &str, query: impl FnOnce(Stream) -> Result<Stream>) {
    let from_sql = job(&format!("INSERT INTO out {sql}")).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let from_rust = planned(SinkMode::Append, query).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(!meaning(&from_sql.plan).0.is_empty(), "{sql}: no operator with a memory");
    assert_eq!(meaning(&from_rust.plan), meaning(&from_sql.plan), "{sql}");
}

fn by_window(window: Expr) -> impl FnOnce(Stream) -> Result<Stream> {
    |stream: Stream| {
        let counted = stream.group_by([window.alias("w"), col("a")]).aggregate([count_all().alias("n"), sum(col("b")).alias("v")])?;
        counted.select([window_start(col("w")).alias("start"), col("a"), col("n"), col("v")])
    }
}

#[test]
fn windows_are_those_of_sql() {
    let select =
        |window: &str| format!("SELECT window_start({window}) AS start, a, count(*) AS n, sum(b) AS v FROM t GROUP BY {window}, a");
    let cases = [
        (tumbling(col("ts"), SECOND * 10), "tumble(ts, INTERVAL '10 seconds')"),
        (hopping(col("ts"), SECOND * 2, SECOND * 10), "hop(ts, INTERVAL '2 seconds', INTERVAL '10 seconds')"),
        (cumulating(col("ts"), SECOND, SECOND * 60), "cumulate(ts, INTERVAL '1 second', INTERVAL '1 minute')"),
        (session(col("ts"), Duration::from_micros(1)), "session(ts, INTERVAL '1 microsecond')"),
        (tumbling(proc_time(), SECOND * 86_400), "tumble(proc_time(), INTERVAL '1 day')"),
    ];
    for (in_rust, in_sql) in cases {
        assert_same(&select(in_sql), by_window(in_rust));
    }
}

#[test]
fn aggregates_are_those_of_sql() {
    let sql = "SELECT a, ts, count(b) AS c, count(DISTINCT b) AS d, avg(f) AS e, max(b) FILTER (WHERE a > 1) AS g,
               first_value(s ORDER BY b) AS h FROM t GROUP BY a, ts";
    assert_same(sql, |stream| {
        let aggregates = [
            count(col("b")).alias("c"),
            count_distinct(col("b")).alias("d"),
            avg(col("f")).alias("e"),
            max(col("b")).filter(col("a").gt(lit(1_i64))).build().unwrap().alias("g"),
            first_value(col("s"), vec![col("b").sort(true, false)]).alias("h"),
        ];
        stream.group_by([col("a"), col("ts")]).aggregate(aggregates)
    });
}

#[test]
fn windows_over_windows_and_their_parts_are_those_of_sql() {
    let sql = "SELECT window_end(w) AS end, max(n) AS most FROM (
                   SELECT tumble(ts, INTERVAL '1 second') AS w, a, count(*) AS n FROM t GROUP BY 1, a) GROUP BY w";
    assert_same(sql, |stream| {
        let counted = stream.group_by([tumbling(col("ts"), SECOND).alias("w"), col("a")]).aggregate([count_all().alias("n")])?;
        let most = counted.group_by([col("w")]).aggregate([max(col("n")).alias("most")])?;
        most.select([window_end(col("w")).alias("end"), col("most")])
    });
    let sql = "SELECT tumble(t, INTERVAL '1 minute') AS w, sum(n) AS n FROM (
                   SELECT window_time(w) AS t, n FROM (
                       SELECT tumble(ts, INTERVAL '1 second') AS w, count(*) AS n FROM t GROUP BY 1)) GROUP BY 1";
    assert_same(sql, |stream| {
        let counted = stream.group_by([tumbling(col("ts"), SECOND).alias("w")]).aggregate([count_all().alias("n")])?;
        let timed = counted.select([window_time(col("w")).alias("t"), col("n")])?;
        timed.group_by([tumbling(col("t"), SECOND * 60).alias("w")]).aggregate([sum(col("n")).alias("n")])
    });
}

#[test]
fn distinct_is_that_of_sql() {
    assert_same("SELECT DISTINCT a, ts FROM t", |stream| stream.select([col("a"), col("ts")])?.distinct());
    assert_same("SELECT a, ts FROM t GROUP BY a, ts", |stream| stream.group_by([col("a"), col("ts")]).aggregate([]));
}

#[test]
fn a_mode_is_said_of_the_sink() {
    let count_all_rows = |stream: Stream| stream.group_by([]).aggregate([count_all().alias("n")]);
    for (mode, emits) in [(SinkMode::Update, "emits what has changed"), (SinkMode::Complete, "emits all")] {
        let job = planned(mode, count_all_rows).unwrap();
        assert_eq!(job.plan.sinks[0].settings.mode, mode);
        assert_says(&meaning(&job.plan).0[0], &[emits]);
    }
    assert_says(&refused(SinkMode::Append, count_all_rows), &["sink 'out'", "without GROUP BY", "'append'", "never close"]);
    assert_says(&refused(SinkMode::Complete, Ok), &["'complete'", "no end"]);
}

#[test]
fn what_sql_refuses_is_refused() {
    let two = |stream: Stream| stream.group_by([tumbling(col("ts"), SECOND), session(col("ts"), SECOND)]).aggregate([count_all()]);
    assert_says(&refused(SinkMode::Append, two), &["two windows"]);
    let empty = |stream: Stream| stream.group_by([tumbling(col("ts"), Duration::ZERO)]).aggregate([count_all()]);
    assert_says(&refused(SinkMode::Append, empty), &["above zero"]);
    let alone = |stream: Stream| stream.select([hopping(col("ts"), SECOND, SECOND * 2)]);
    assert_says(&refused(SinkMode::Append, alone), &["hop()", "GROUP BY"]);
    let unknown = |stream: Stream| stream.group_by([col("z")]).aggregate([count_all()]);
    assert_says(&refused(SinkMode::Append, unknown), &["'z'"]);
    let no_time = |stream: Stream| stream.group_by([tumbling(col("a"), SECOND)]).aggregate([count_all()]);
    assert_says(&refused(SinkMode::Append, no_time), &["tumble()", "TIMESTAMP"]);
}

fn wrong(result: Result<Stream>) -> String {
    let error: Error = result.expect_err("this is refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[test]
fn an_event_time_is_the_sources() {
    let (mut pipeline, before) = source();
    let stream = pipeline.stream("t").unwrap().watermark("ts", SECOND * 5).unwrap();
    stream.watermark("ts", SECOND * 5).expect("the same may be said again");
    let grouped = before.group_by([tumbling(col("ts"), SECOND)]).aggregate([count_all().alias("n")]).unwrap();
    pipeline.sink("out", Arc::new(NoSink), grouped.select([col("n")]).unwrap()).unwrap();
    let job = pipeline.build().unwrap();
    let said = EventTime { column: "ts".into(), delay: SECOND * 5, idle_timeout: None };
    assert_eq!(job.plan.sources[0].settings.event_time, Some(said));
    assert_eq!(job.plan.sources[0].scan.event_time.map(|index| job.plan.sources[0].schema.field(index).name().as_str()), Some("ts"));
}

#[test]
fn an_event_time_that_cannot_be_is_refused() {
    let (_, stream) = source();
    assert_says(&wrong(stream.clone().watermark("at", SECOND)), &["source 't'", "no column 'at'", "a, b, s, f, ts"]);
    assert_says(&wrong(stream.clone().watermark("a", SECOND)), &["source 't'", "'a' is Int64", "TIMESTAMP"]);
    let filtered = stream.clone().filter(col("a").gt(lit(1_i64))).unwrap();
    assert_says(&wrong(filtered.watermark("ts", SECOND)), &["'ts'", "before any other step"]);
    let stream = stream.watermark("ts", SECOND).unwrap();
    assert_says(&wrong(stream.watermark("ts", SECOND * 2)), &["source 't'", "'ts'", "1s", "no other"]);
    let mut pipeline = Pipeline::new();
    let table = pipeline.static_table("d", Box::new(NoRows(columns()))).unwrap();
    assert_says(&wrong(table.watermark("ts", SECOND)), &["static"]);
}

#[test]
fn without_event_time_a_window_does_not_close() {
    let (mut pipeline, stream) = source();
    let grouped = stream.group_by([tumbling(col("ts"), SECOND)]).aggregate([count_all().alias("n")]).unwrap();
    pipeline.sink("out", Arc::new(NoSink), grouped.select([col("n")]).unwrap()).unwrap();
    let message = pipeline.build().expect_err("nothing closes it").to_string();
    assert_says(&message, &["'append'", "no event time"]);
    // SQL says it in the same words.
    let of_sql = error("INSERT INTO out SELECT count(*) AS n FROM u GROUP BY tumble(CAST(b AS TIMESTAMP), INTERVAL '1 second')");
    assert_says(&of_sql, &["'append'", "no event time"]);
}
