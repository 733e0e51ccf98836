//! What a sink gets of an append-only stream, by mode and by its columns.

use crate::support::{assert_says, context, error, error_of, lines, rows, run};
use waterclock_core::job::Job;
use waterclock_core::sink::SinkMode;
use waterclock_core::sql::plan_sql;

const T: &str = "CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT, s VARCHAR) STORED AS JSON LOCATION 'test://t';";
const ROWS: &str = "{\"a\":1,\"s\":\"x\"}\n{\"s\":\"y\"}\n";

fn job(sink: &str, insert: &str) -> Job {
    plan_sql(&format!("{T} CREATE EXTERNAL TABLE o {sink}; {insert}"), &context()).unwrap()
}

fn output(sink: &str, insert: &str) -> Vec<String> {
    let job = job(sink, insert);
    let input = rows(&job.plan.sources[0].schema, ROWS);
    lines(&run(&job.plan, &[("t", input)].into()).unwrap()["o"])
}

fn in_mode(mode: &str) -> String {
    format!("STORED AS JSON LOCATION 'test://o' OPTIONS ('mode' '{mode}')")
}

#[test]
fn append_and_update_are_the_same_and_a_changelog_has_the_change_first() {
    let rows = ["{\"a\":1,\"s\":\"x\"}", "{\"s\":\"y\"}"];
    for mode in ["append", "update", "APPEND"] {
        assert_eq!(output(&in_mode(mode), "INSERT INTO o SELECT a, s FROM t"), rows);
    }
    let changes = ["{\"_op\":\"+I\",\"a\":1,\"s\":\"x\"}", "{\"_op\":\"+I\",\"s\":\"y\"}"];
    assert_eq!(output(&in_mode("changelog"), "INSERT INTO o SELECT a, s FROM t"), changes);
    assert_eq!(job(&in_mode("update"), "INSERT INTO o SELECT a FROM t").plan.sinks[0].settings.mode, SinkMode::Update);
}

#[test]
fn the_full_result_of_an_endless_query_is_refused() {
    let text = format!("{T} CREATE EXTERNAL TABLE o {}; INSERT INTO o SELECT a FROM t", in_mode("complete"));
    assert_says(&error_of(&text), &["sink 'o'", "'complete'", "no end", "'append'"]);
}

#[test]
fn a_mode_that_does_not_exist() {
    let text = format!("{T} CREATE EXTERNAL TABLE o {}; INSERT INTO o SELECT a FROM t", in_mode("upsert"));
    assert_says(&error_of(&text), &["table 'o'", "'mode'", "'upsert'", "append, update, complete or changelog"]);
}

const DECLARED: &str = "(x VARCHAR, y BIGINT, z DOUBLE) STORED AS JSON LOCATION 'test://o'";

#[test]
fn columns_go_by_position_and_are_cast() {
    let expected = ["{\"x\":\"1\",\"y\":2,\"z\":1.0}", "{\"y\":2}"];
    assert_eq!(output(DECLARED, "INSERT INTO o SELECT a, '2', a * 1 FROM t"), expected);
}

#[test]
fn named_columns_go_by_name_and_the_others_are_null() {
    assert_eq!(output(DECLARED, "INSERT INTO o (y, x) SELECT a, s FROM t"), ["{\"x\":\"x\",\"y\":1}", "{\"x\":\"y\"}"]);
    let free = "STORED AS JSON LOCATION 'test://o'";
    assert_eq!(output(free, "INSERT INTO o (p, \"Q\") SELECT a, s FROM t"), ["{\"p\":1,\"Q\":\"x\"}", "{\"Q\":\"y\"}"]);
}

#[test]
fn a_cast_that_fails_is_about_the_data() {
    let job = job("(y BIGINT) STORED AS JSON LOCATION 'test://o'", "INSERT INTO o SELECT s FROM t");
    let input = rows(&job.plan.sources[0].schema, ROWS);
    let error = run(&job.plan, &[("t", input)].into()).unwrap_err();
    assert_eq!(error.kind(), waterclock_core::ErrorKind::BadData);
    assert_says(&error.to_string(), &["operator 'o-project-1'", "CAST(s AS Int64)", "'y'", "'x'"]);
}

#[test]
fn a_sink_and_a_source_that_are_declared_twice() {
    let twice = "CREATE EXTERNAL TABLE o STORED AS JSON LOCATION 'test://o';".repeat(2);
    assert_says(&error_of(&format!("{T}{twice} INSERT INTO o SELECT a FROM t")), &["'o'", "created twice"]);
    assert_says(&error("INSERT INTO out SELECT a FROM t; INSERT INTO out SELECT b FROM t"), &["two INSERTs"]);
}
