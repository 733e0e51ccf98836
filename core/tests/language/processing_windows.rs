//! Windows over windows of processing time: what is grouped by a window of `proc_time()` closes with it, by the batch's time alone.

use crate::stateful::Running;
use crate::support::rows;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use waterclock_core::time::{Timestamp, Watermark};

const SECOND: i64 = 1_000_000;

fn job(query: &str) -> Running {
    Running::new(&format!("INSERT INTO out {query}"))
}

/// A batch with these values of `a`, of a stream that has no watermark.
fn batch(job: &mut Running, values: &[i64], time: i64, end: bool) -> Vec<String> {
    let lines: String = values.iter().map(|value| format!("{{\"a\":{value}}}\n")).collect();
    let watermark = if end { Watermark::End } else { Watermark::Unknown };
    job.batch_at(Timestamp(time), &rows(&job.schema(), &lines), watermark).unwrap()
}

const REGROUPED: &str = "SELECT max(c) AS n FROM (SELECT tumble(proc_time(), INTERVAL '1 second') AS w, a, count(*) AS c FROM t
    GROUP BY tumble(proc_time(), INTERVAL '1 second'), a) x GROUP BY w";
const AS_A_COLUMN: &str = "SELECT count(*) AS n FROM (SELECT tumble(proc_time(), INTERVAL '1 second') AS w FROM t) x GROUP BY w";
const TWICE: &str =
    "SELECT sum(n) AS n FROM (SELECT w, count(*) AS n FROM (SELECT tumble(proc_time(), INTERVAL '1 second') AS w, a FROM t) x
    GROUP BY w, a) y GROUP BY w";

/// By definition: the windows that close in each batch, with the most rows of a value, or all rows.
fn expected(batches: &[(i64, Vec<i64>)], most: bool) -> Vec<Vec<String>> {
    let mut open: BTreeMap<i64, BTreeMap<i64, u64>> = BTreeMap::new();
    let ends: Vec<i64> = batches.iter().map(|(time, _)| *time).collect();
    let mut emitted = Vec::new();
    for (index, (time, values)) in batches.iter().enumerate() {
        for value in values {
            *open.entry(time.div_euclid(SECOND)).or_default().entry(*value).or_default() += 1;
        }
        let is_last = index + 1 == ends.len();
        let closed: Vec<i64> = open.keys().copied().filter(|window| is_last || (window + 1) * SECOND <= *time).collect();
        let counts = closed.iter().map(|window| open.remove(window).unwrap());
        let number = |counts: BTreeMap<i64, u64>| if most { counts.into_values().max().unwrap() } else { counts.into_values().sum() };
        emitted.push(counts.map(|counts| format!("{{\"n\":{}}}", number(counts))).collect());
    }
    emitted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_grouped_by_a_window_of_processing_time_closes_with_it(
        steps in prop::collection::vec((prop_oneof![Just(0i64), Just(SECOND / 2), Just(SECOND), 1..3 * SECOND], prop::collection::vec(0i64..3, 0..5), any::<bool>()), 1..8),
        kind in 0usize..3,
    ) {
        let mut time = 1_700_000_000 * SECOND;
        let times = steps.iter().map(|(step, values, _)| { time += step; (time, values.clone()) });
        let batches: Vec<(i64, Vec<i64>)> = times.collect();
        let expected = expected(&batches, kind == 0);
        let mut job = job([REGROUPED, AS_A_COLUMN, TWICE][kind]);
        let mut open = BTreeSet::new();
        for (index, (((time, values), (.., restarts)), expected)) in batches.iter().zip(&steps).zip(&expected).enumerate() {
            if *restarts {
                job.restart().unwrap();
            }
            prop_assert_eq!(&batch(&mut job, values, *time, index + 1 == batches.len()), expected, "batch {}", index);
            open.extend((!values.is_empty()).then(|| (time.div_euclid(SECOND) + 1) * SECOND));
            open.retain(|end| end > time);
            if index + 1 < batches.len() {
                prop_assert_eq!(job.next_timer().map(|time| time.0), open.first().copied(), "a batch is due when the next window ends");
            }
        }
        prop_assert_eq!(job.late_rows(), 0);
    }
}

#[test]
fn a_session_of_processing_time_closes_what_is_grouped_by_it_once() {
    let mut job = job("SELECT sum(n) AS n FROM (SELECT session(proc_time(), INTERVAL '1 second') AS w, a, count(*) AS n FROM t
         GROUP BY session(proc_time(), INTERVAL '1 second'), a) x GROUP BY w");
    let none: [&str; 0] = [];
    assert_eq!(batch(&mut job, &[1, 2], 10 * SECOND, false), none);
    assert_eq!(batch(&mut job, &[], 11 * SECOND, false), none, "a row at its end would still belong to it");
    assert_eq!(batch(&mut job, &[], 11 * SECOND + 1, false), ["{\"n\":2}"]);
    assert_eq!(job.late_rows(), 0);
}

#[test]
fn wider_windows_over_windows_of_processing_time_close_by_it() {
    let mut job = job(
        "SELECT window_end(tumble(window_time(w), INTERVAL '10 seconds')) AS e, sum(n) AS n
         FROM (SELECT tumble(proc_time(), INTERVAL '1 second') AS w, count(*) AS n FROM t GROUP BY tumble(proc_time(), INTERVAL '1 second')) x
         GROUP BY tumble(window_time(w), INTERVAL '10 seconds')",
    );
    let none: [&str; 0] = [];
    assert_eq!(batch(&mut job, &[1, 2], 8 * SECOND, false), none);
    assert_eq!(batch(&mut job, &[3], 9 * SECOND, false), none);
    assert_eq!(batch(&mut job, &[], 9 * SECOND + SECOND / 2, false), none);
    job.restart().unwrap();
    assert_eq!(job.next_timer().map(|time| time.0), Some(10 * SECOND));
    assert_eq!(batch(&mut job, &[4], 10 * SECOND, false), ["{\"e\":\"1970-01-01T00:00:10\",\"n\":3}"]);
    assert_eq!(batch(&mut job, &[], 11 * SECOND, false), none);
    assert_eq!(job.next_timer().map(|time| time.0), Some(20 * SECOND), "nothing but the clock closes the wider window");
    assert_eq!(batch(&mut job, &[], 20 * SECOND, false), ["{\"e\":\"1970-01-01T00:00:20\",\"n\":1}"]);
    assert_eq!(job.late_rows(), 0);
}
