//! Sessions: what is remembered of them is what is open.

use crate::stateful::Running;
use crate::support::rows;
use proptest::prelude::*;
use waterclock_core::time::{Timestamp, Watermark};

const COUNTED: &str = "INSERT INTO out SELECT count(*) AS n FROM t GROUP BY a, session(ts, INTERVAL '10 microseconds')";

fn batch(job: &mut Running, times: &[i64], watermark: i64) -> Vec<String> {
    let lines: String = times.iter().map(|time| format!("{{\"a\":1,\"ts\":{time}}}\n")).collect();
    job.batch(&rows(&job.schema(), &lines), Watermark::At(Timestamp(watermark))).unwrap()
}

#[test]
fn a_session_that_was_emitted_is_no_longer_remembered() {
    let mut job = Running::new(COUNTED);
    let none: [&str; 0] = [];
    assert_eq!(batch(&mut job, &[0], 10), none, "a row at its end would still belong to it");
    assert_eq!(job.remembered().unwrap(), [1]);
    assert_eq!(batch(&mut job, &[], 11), ["{\"n\":1}"]);
    assert_eq!(job.remembered().unwrap(), [0]);
    job.restart().unwrap();
    assert_eq!(batch(&mut job, &[], 11), none);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_session_is_remembered_until_it_is_emitted(
        batches in prop::collection::vec((prop::collection::vec(0i64..60, 0..4), 0i64..15, any::<bool>()), 1..10),
    ) {
        let mut job = Running::new(COUNTED);
        let (mut open, mut watermark): (Vec<i64>, i64) = (Vec::new(), -20);
        for (times, step, restarts) in batches {
            if restarts {
                job.restart().unwrap();
            }
            // In time, whatever they join.
            let times: Vec<i64> = times.into_iter().filter(|time| time + 10 >= watermark).collect();
            open.extend(&times);
            open.sort();
            watermark += step;
            let emitted = batch(&mut job, &times, watermark);
            let sessions: Vec<&[i64]> = open.chunk_by(|one, next| next - one <= 10).collect();
            let (closed, still): (Vec<&[i64]>, Vec<&[i64]>) = sessions.iter().partition(|session| session[session.len() - 1] + 10 < watermark);
            let counts: Vec<String> = closed.iter().map(|session| format!("{{\"n\":{}}}", session.len())).collect();
            prop_assert_eq!(emitted, counts);
            prop_assert_eq!(job.remembered().unwrap(), [still.len()]);
            open = still.concat();
        }
        prop_assert_eq!(job.late_rows(), 0);
    }
}
