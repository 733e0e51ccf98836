//! TIMESTAMP is microseconds without a zone, read as UTC.

use crate::support::{TABLES, context, job, select, timestamp};
use arrow::datatypes::DataType;
use waterclock_core::sql::plan_sql;

const ROWS: &str = "{\"ts\":\"2024-02-29T12:34:56.789012\",\"s\":\"2024-02-29T12:34:56+02:00\"}\n{}\n";

/// The value and the type of an expression over [`ROWS`].
fn value(expression: &str) -> (Option<String>, DataType) {
    let job = job(&format!("INSERT INTO out SELECT {expression} AS v FROM t")).unwrap();
    let shown = select(&format!("SELECT CAST({expression} AS VARCHAR) AS v FROM t"), ROWS).remove(0);
    let shown = shown.strip_prefix("{\"v\":\"").and_then(|shown| shown.strip_suffix("\"}")).map(str::to_owned);
    (shown, job.plan.sinks[0].schema.field(0).data_type().clone())
}

#[test]
fn every_spelling_of_the_type_is_microseconds_without_a_zone() {
    for name in ["TIMESTAMP", "TIMESTAMP(0)", "TIMESTAMP(3)", "TIMESTAMP(9)", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "DATETIME"] {
        let text = TABLES.replace("ts TIMESTAMP,", &format!("ts {name},"));
        let job = plan_sql(&format!("{text} INSERT INTO out SELECT ts FROM t"), &context()).unwrap();
        assert_eq!(job.plan.sources[0].schema.field_with_name("ts").unwrap().data_type(), &timestamp(), "{name}");
        assert_eq!(value(&format!("CAST(ts AS {name})")), (Some("2024-02-29T12:34:56.789012".into()), timestamp()), "{name}");
        let at_noon = (Some("2024-02-29T12:00:00".into()), timestamp());
        assert_eq!(value(&format!("CAST('2024-02-29 12:00:00' AS {name})")), at_noon, "{name}");
    }
    assert_eq!(value("TIMESTAMP '2024-02-29 12:00:00'"), (Some("2024-02-29T12:00:00".into()), timestamp()));
}

#[test]
fn a_zone_in_a_text_is_taken_into_account_once() {
    assert_eq!(value("CAST(s AS TIMESTAMP)").0.unwrap(), "2024-02-29T10:34:56");
    assert_eq!(value("CAST('2024-02-29T12:00:00Z' AS TIMESTAMPTZ)").0.unwrap(), "2024-02-29T12:00:00");
}

#[test]
fn arithmetic_truncation_and_parts_keep_the_type() {
    let cases = [
        ("ts + INTERVAL '1 hour'", "2024-02-29T13:34:56.789012"),
        ("ts - INTERVAL '1 month'", "2024-01-29T12:34:56.789012"),
        ("date_trunc('hour', ts)", "2024-02-29T12:00:00"),
        ("date_trunc('week', ts)", "2024-02-26T00:00:00"),
        ("date_bin(INTERVAL '15 minutes', ts)", "2024-02-29T12:30:00"),
        ("CASE WHEN ts IS NULL THEN now() ELSE ts END", "2024-02-29T12:34:56.789012"),
        ("coalesce(ts, TIMESTAMP '2000-01-01 00:00:00')", "2024-02-29T12:34:56.789012"),
        ("to_timestamp_micros(1709210096789012)", "2024-02-29T12:34:56.789012"),
    ];
    for (expression, expected) in cases {
        assert_eq!(value(expression), (Some(expected.into()), timestamp()), "{expression}");
    }
    let parts = [("year", "2024"), ("month", "2"), ("day", "29"), ("hour", "12"), ("minute", "34"), ("second", "56"), ("dow", "4")];
    for (part, expected) in parts {
        assert_eq!(value(&format!("extract({part} FROM ts)")).0.unwrap(), expected, "{part}");
    }
    assert_eq!(value("date_bin(INTERVAL '1 day', ts, TIMESTAMP '2024-01-01 06:00:00')").0.unwrap(), "2024-02-29T06:00:00");
    assert_eq!(value("to_char(ts, '%d.%m.%Y')").0.unwrap(), "29.02.2024");
    assert_eq!(value("CAST(ts AS DATE)"), (Some("2024-02-29".into()), DataType::Date32));
    assert_eq!(value("to_timestamp('2024-02-29T12:34:56.789012')").0.unwrap(), "2024-02-29T12:34:56.789012");
}

#[test]
fn comparisons_are_exact_across_units() {
    let same =
        ["to_timestamp('2024-02-29T12:34:56.789012')", "TIMESTAMP '2024-02-29 12:34:56.789012'", "to_timestamp_micros(1709210096789012)"];
    for other in same {
        assert_eq!(select(&format!("SELECT ts = {other} AS v FROM t"), ROWS), ["{\"v\":true}", "{}"], "{other}");
        assert_eq!(select(&format!("SELECT 1 AS v FROM t WHERE ts < {other}"), ROWS).len(), 0, "{other}");
    }
    assert_eq!(select("SELECT ts > DATE '2024-02-29' AS v FROM t", ROWS)[0], "{\"v\":true}");
    assert_eq!(select("SELECT ts BETWEEN '2024-02-29' AND '2024-03-01' AS v FROM t", ROWS)[0], "{\"v\":true}");
}
