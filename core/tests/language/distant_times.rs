//! Times near the ends of what 64 bits of microseconds hold: a window over them is right or refused as bad data, never wrong or a panic.

use crate::support::{TRIGGER_TIME, job, lines, rows, try_select};
use proptest::prelude::*;
use std::sync::Arc;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::BatchId;
use waterclock_core::operator::{Output, Port};
use waterclock_core::plan::NodeKind;
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, ErrorKind, Result};

/// Windows of all kinds, as long as they may be and short.
const WINDOWS: &[&str] = &[
    "tumble(time, INTERVAL '1 day')",
    "tumble(time, INTERVAL '3652425 days', INTERVAL '-3652425 days')",
    "hop(time, INTERVAL '7 seconds', INTERVAL '3 seconds', INTERVAL '3652425 days')",
    "hop(time, INTERVAL '365242 days 12 hours', INTERVAL '3652425 days')",
    "cumulate(time, INTERVAL '365242 days 12 hours', INTERVAL '3652425 days')",
    "session(time, INTERVAL '1 microsecond')",
    "session(time, INTERVAL '3652425 days')",
];

/// A batch with rows at these times in `a`, through all that stands before the sink. What comes out, as lines of JSON.
fn grouped(window: &str, mode: &str, times: &[i64]) -> Result<Vec<String>> {
    let window = window.replace("time", "to_timestamp_micros(a)");
    let job = job(&format!(
        "CREATE EXTERNAL TABLE changing STORED AS JSON LOCATION 'test://c' OPTIONS ('mode' '{mode}');
         INSERT INTO changing SELECT {window} AS w, count(*) AS n FROM t GROUP BY {window}"
    ))?;
    let source = &job.plan.sources[0];
    let text: String = times.iter().map(|time| format!("{{\"a\":{time}}}\n")).collect();
    let mut batch = rows(&source.schema, &text).project(&source.scan.projection).unwrap();
    let context = BatchContext { batch: BatchId(0), trigger_time: TRIGGER_TIME };
    for node in &job.plan.nodes {
        match &node.kind {
            NodeKind::Transform(step) => batch = Arc::clone(step).for_batch(&context)?.apply(batch)?,
            NodeKind::Operator(factory) => {
                let mut operator = factory.create()?;
                let mut output = Output::default();
                operator.begin(&context);
                operator.process(Port(0), batch, &mut output)?;
                operator.advance(Port(0), Watermark::Unknown, &context, &mut output)?;
                operator.checkpoint()?;
                return Ok(output.take().iter().flat_map(|(_, rows)| lines(rows)).collect());
            }
            NodeKind::Scan(_) | NodeKind::Union => {}
        }
    }
    panic!("there is no operator")
}

fn assert_names(error: &Error, time: i64) {
    assert_eq!(error.kind(), ErrorKind::BadData, "{error}");
    assert!(error.to_string().contains(&Timestamp(time).to_string()), "{error} does not name {time}");
}

fn times() -> impl Strategy<Value = i64> {
    let around = |time: i64| (-2i64..=2).prop_map(move |distance| time.saturating_add(distance));
    prop_oneof![any::<i64>(), around(i64::MIN), around(i64::MAX), -4_000_000_000_000_000_000..=4_000_000_000_000_000_000i64]
}

proptest! {
    // Each case plans a query.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_row_is_in_its_windows_or_bad_data(time in times(), window in prop::sample::select(WINDOWS), update: bool) {
        let mode = if update && !window.starts_with("session") { "update" } else { "complete" };
        match grouped(window, mode, &[0, time]) {
            Ok(rows) => prop_assert!(!rows.is_empty() || window.contains("7 seconds"), "{} in {}", time, window),
            Err(error) => assert_names(&error, time),
        }
    }

    #[test]
    fn a_window_as_a_column_is_right_or_bad_data(time in times()) {
        let query = "SELECT tumble(to_timestamp_micros(nullif(a, 1)), INTERVAL '3652425 days') IS NULL AS x FROM t";
        match try_select(query, &format!("{{\"a\":{time}}}")) {
            Ok(rows) => prop_assert_eq!(lines(&rows), [format!("{{\"x\":{}}}", time == 1)]),
            Err(error) => assert_names(&error, time),
        }
    }
}

#[test]
fn the_ends_of_time_are_bad_data_in_every_window() {
    for (window, time) in WINDOWS.iter().flat_map(|window| [(window, i64::MIN), (window, i64::MAX)]) {
        assert_names(&grouped(window, "complete", &[0, time]).unwrap_err(), time);
    }
}

#[test]
fn what_stands_below_a_null_is_no_time() {
    let query = "SELECT tumble(to_timestamp_micros(nullif(a, 9223372036854775807)), INTERVAL '1 day') IS NULL AS x FROM t";
    assert_eq!(lines(&try_select(query, "{\"a\":9223372036854775807}").unwrap()), ["{\"x\":true}"]);
}

#[test]
fn the_first_time_that_there_is_has_none_before_it() {
    let query = "SELECT window_time(named_struct('start', to_timestamp_micros(a), 'end', to_timestamp_micros(a))) = to_timestamp_micros(a) AS x FROM t";
    assert_eq!(lines(&try_select(query, "{\"a\":-9223372036854775808}").unwrap()), ["{\"x\":true}"]);
}
