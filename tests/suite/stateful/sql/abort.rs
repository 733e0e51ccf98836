//! A process that dies at a storage operation, at every one of a run, once before its effect and once after it: with state in objects, of
//! which only the newest batch's is kept.

use super::{Truth, assert_same_state, drain, prepare, shown, state};
use crate::abort::death;
use crate::jobs::Shown;
use crate::kill::{assert_all_part_of, assert_all_same};
use crate::support::place::Place;
use crate::support::process::Invocation;
use std::collections::BTreeSet;

const FILES: u64 = 2;
const ROWS: u64 = 120;

/// What a run must do to storage at some time: the operation, and a part of the path.
const EXPECTED: [(&str, &str); 5] =
    [("put", "commits/"), ("put", "state/"), ("delete", "state/"), ("put", "_staged/"), ("rename", "00000000000000000001-")];

#[test]
fn dying_before_any_storage_operation_keeps_the_state() {
    sweep("before");
}

#[test]
fn dying_after_any_storage_operation_keeps_the_state() {
    sweep("after");
}

/// To the end of the stream in one run, keeping the state of one batch.
fn run(place: &Place) -> Invocation {
    drain(place).arg("--retain").arg("1")
}

/// What a run that nothing disturbed shows, and remembers.
fn truth() -> (Shown, super::State) {
    let place = prepare(FILES, ROWS);
    run(&place).finish().expect(0);
    let apart = Truth::of(FILES, ROWS);
    let total = |shown: &Shown| shown["closed"].values().map(Vec::len).sum::<usize>();
    assert_eq!(total(&shown(&place)), total(&apart.shown), "draining with the last rows closes as much as draining behind them");
    (shown(&place), state(&place))
}

fn sweep(side: &str) {
    let (truth, remembered) = truth();
    let place = prepare(FILES, ROWS);
    let dying = |operation: u64| run(&place).env("WATERCLOCK_TEST_ABORT", format!("{side}:{operation}"));
    let mut met = BTreeSet::new();
    for operation in 0.. {
        place.forget_progress();
        let Some(place_of_death) = death(&dying(operation).threads(1 + operation as usize % 3).finish()) else { break };
        met.insert(place_of_death);
        assert_all_part_of(&shown(&place), &truth);
        // The repair dies too, half as far.
        met.extend(death(&dying(operation / 2).finish()));
        assert_all_part_of(&shown(&place), &truth);
        run(&place).finish().expect(0);
        assert_all_same(&shown(&place), &truth);
    }
    assert_same_state(&state(&place), &remembered);
    for (operation, path) in EXPECTED {
        let hit = met.iter().any(|(what, at)| what == operation && at.contains(path));
        assert!(hit, "no run died at {operation} {path}: {met:?}");
    }
    eprintln!("died {side} each of {} operations", met.len());
}
