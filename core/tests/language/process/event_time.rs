//! An event time that a function gives to its output: what stands behind it closes by it.

use super::machine::{Machine, Row, batch, built, source};
use crate::stateful::Running;
use crate::support::{assert_says, schema, timestamp};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use waterclock_core::expressions::{col, count_all, sum, tumbling, window_start};
use waterclock_core::pipeline::Stream;
use waterclock_core::plan::{Plan, explain};
use waterclock_core::process::{ProcessContext, ProcessFunction, States, Timer};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{ErrorKind, Result};

const WINDOW: i64 = 10;
/// By how much rows may be out of order, and how far the watermark stays behind.
const DELAY: i64 = 15;
/// How long after a row its timer fires.
const LATER: i64 = 7;

#[derive(Debug, Serialize)]
struct Said {
    at: Option<i64>,
    v: i64,
}

/// Says each row at its time less a number, and 100 at a timer's time.
struct Say<const EARLIER: i64>;

impl<const EARLIER: i64> ProcessFunction for Say<EARLIER> {
    type Key = i64;
    type Input = Row;
    type Output = Said;
    const EVENT_TIME: Option<&'static str> = Some("at");

    fn process(&self, _key: &i64, row: Row, context: &mut ProcessContext<'_, Said>) -> Result<()> {
        context.emit(Said { at: Some(row.ts - EARLIER), v: row.v });
        context.set_timer(Timer::event_time(row.ts + LATER))
    }

    fn on_timer(&self, _key: &i64, timer: Timer, context: &mut ProcessContext<'_, Said>) -> Result<()> {
        context.emit(Said { at: Some(timer.time.0), v: 100 });
        Ok(())
    }
}

fn said<F: ProcessFunction>(stream: Stream, make: impl FnOnce(&mut States) -> F) -> Result<Stream> {
    stream.key_by([col("k")]).process_with_schema("f", schema([("at", timestamp()), ("v", DataType::Int64)]), make)
}

/// Rows and values of each window of what the function says.
fn windows<F: ProcessFunction>(function: F) -> Arc<Plan> {
    let (pipeline, stream) = source(true);
    let windows = said(stream, |_| function).unwrap().group_by([tumbling(col("at"), Duration::from_micros(WINDOW as u64)).alias("w")]);
    let counted = windows.aggregate([count_all().alias("n"), sum(col("v")).alias("v")]).unwrap();
    let counted = counted.select([window_start(col("w")).alias("s"), col("n"), col("v")]).unwrap();
    built(pipeline, counted).unwrap().plan
}

/// The windows of all that is said of rows: how many, and the sum.
fn expected(rows: &[Row]) -> BTreeMap<i64, (i64, i64)> {
    let timers: BTreeSet<(i64, i64)> = rows.iter().map(|row| (row.k, row.ts + LATER)).collect();
    let mut windows: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (at, v) in rows.iter().map(|row| (row.ts, row.v)).chain(timers.iter().map(|(_, at)| (*at, 100))) {
        let window = windows.entry(at.div_euclid(WINDOW) * WINDOW).or_default();
        *window = (window.0 + 1, window.1 + v);
    }
    windows
}

/// Rows out of order by up to [`DELAY`], and after how many each batch ends, and whether all starts again behind it.
fn inputs() -> impl Strategy<Value = (Vec<Row>, Vec<(usize, bool)>)> {
    let row = (0..3i64, 0..6i64, 0..=DELAY, 0..5i64);
    let rows = prop::collection::vec(row, 0..80).prop_map(|steps| {
        let mut time = 0;
        let row = |(k, step, jitter, v): (i64, i64, i64, i64)| {
            time += step;
            Row { k, ts: time - jitter, v }
        };
        steps.into_iter().map(row).collect::<Vec<_>>()
    });
    (rows, prop::collection::vec((1..12usize, any::<bool>()), 1..20))
}

fn line(start: i64, (n, v): (i64, i64)) -> String {
    let start = chrono::DateTime::from_timestamp_micros(start).unwrap().naive_utc().format("%Y-%m-%dT%H:%M:%S%.f");
    format!("{{\"s\":\"{start}\",\"n\":{n},\"v\":{v}}}")
}

/// The windows that a watermark closes and the one before it did not.
fn closed(windows: &BTreeMap<i64, (i64, i64)>, before: Watermark, now: Watermark) -> Vec<String> {
    let is_closed = |start: i64, watermark| Watermark::At(Timestamp(start + WINDOW)) <= watermark;
    let closes = |start: i64| is_closed(start, now) && !is_closed(start, before);
    windows.iter().filter(|(start, _)| closes(**start)).map(|(start, window)| line(*start, *window)).collect()
}

proptest! {
    /// What a function says at the time of a row or a timer is never late, and its windows close with the batch in which the watermark passes
    /// their ends.
    #[test]
    fn windows_behind_a_function_close_with_the_watermark((rows, cuts) in inputs()) {
        static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| windows(Say::<0>));
        let mut running = Running::of(Arc::clone(&PLAN));
        let windows = expected(&rows);
        let (mut left, mut latest, mut before) = (rows.as_slice(), i64::MIN, Watermark::Unknown);
        for (length, restarts) in cuts.iter().cycle() {
            let (taken, rest) = left.split_at((*length).min(left.len()));
            left = rest;
            latest = taken.iter().map(|row| row.ts).fold(latest, i64::max);
            let now = if left.is_empty() { Watermark::End } else { Watermark::At(Timestamp(latest - DELAY)) };
            prop_assert_eq!(running.batch(&batch(taken), now).unwrap(), closed(&windows, before, now));
            before = now;
            if *restarts {
                running.restart().unwrap();
            }
            if left.is_empty() {
                break;
            }
        }
        prop_assert_eq!(running.late_rows(), 0);
    }
}

#[test]
fn a_row_that_is_said_to_be_earlier_than_the_watermark_is_late() {
    let mut running = Running::of(windows(Say::<20>));
    let row = |ts| Row { k: 1, ts, v: 1 };
    let none: [&str; 0] = [];
    assert_eq!(running.batch(&batch(&[row(100)]), Watermark::At(Timestamp(100))).unwrap(), [line(80, (1, 1))], "none was late before");
    assert_eq!(running.batch(&batch(&[row(101)]), Watermark::At(Timestamp(101))).unwrap(), none);
    assert_eq!(running.late_rows(), 1);
    assert_eq!(running.batch(&batch(&[]), Watermark::End).unwrap(), [line(100, (2, 200))], "the timers");
}

#[test]
fn the_column_is_shown_and_shared_by_all_that_read_the_function() {
    let (mut pipeline, stream) = source(true);
    let stream = said(stream, |_| Say::<0>).unwrap();
    for name in ["one", "other"] {
        let windows = stream.clone().group_by([tumbling(col("at"), Duration::from_secs(1))]).aggregate([count_all().alias(name)]).unwrap();
        pipeline.sink(name, Arc::new(crate::support::NoSink), windows).unwrap();
    }
    let text = explain(&pipeline.build().unwrap().plan);
    assert_eq!(text.matches("process by [").count(), 1, "{text}");
    assert_eq!(text.matches("closing when the watermark reaches the end of tumble(1s)").count(), 2, "{text}");
    assert!(text.contains("event time [at]"), "{text}");
}

/// Says a time whatever comes.
struct At(Option<i64>);

impl ProcessFunction for At {
    type Key = i64;
    type Input = Row;
    type Output = Said;
    const EVENT_TIME: Option<&'static str> = Some("at");

    fn process(&self, _key: &i64, row: Row, context: &mut ProcessContext<'_, Said>) -> Result<()> {
        context.emit(Said { at: self.0, v: row.v });
        Ok(())
    }
}

#[test]
fn times_that_can_not_be_true_are_bad_data() {
    for (time, words) in [(None, "is null"), (Some(i64::MAX), "1900")] {
        let (pipeline, stream) = source(true);
        let mut machine = Machine::new(&built(pipeline, said(stream, |_| At(time)).unwrap()).unwrap());
        let error = machine.try_run(&[Row { k: 1, ts: 0, v: 0 }], 0, Watermark::Unknown).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadData, "{error}");
        assert_says(&error.to_string(), &["'at'", words]);
    }
}

#[test]
fn an_event_time_that_nothing_bounds_is_refused() {
    let (pipeline, stream) = source(false);
    let error = built(pipeline, said(stream, |_| Say::<0>).unwrap()).expect_err("the source has none");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_says(&error.to_string(), &["operator 'f'", "'at'", "Stream::watermark"]);
    for (columns, words) in
        [([("when", timestamp()), ("v", DataType::Int64)], "no column"), ([("at", DataType::Int64), ("v", DataType::Int64)], "Int64")]
    {
        let (_, stream) = source(true);
        let error = stream.key_by([col("k")]).process_with_schema("f", schema(columns), |_| Say::<0>).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_says(&error.to_string(), &["operator 'f'", "EVENT_TIME 'at'", words]);
    }
}
