//! A process that dies at a storage operation: at every one of a run, once before its effect and once after it.

use crate::jobs::TwoByTwo;
use crate::kill::{assert_all_part_of, assert_all_same};
use crate::support::process::{Exit, Invocation};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

const FILES: u64 = 3;
const ROWS: u64 = 40;
const SIGABRT: i32 = 6;

/// What a run must do to storage at some time: the operation, and a part of the path.
const EXPECTED: [(&str, &str); 6] = [
    ("put", "job.json"),
    ("put", "commits/"),
    ("put", "_waterclock"),
    ("put", "_staged/"),
    ("rename", "00000000000000000002-"),
    ("delete", ""),
];

#[test]
fn dying_before_any_storage_operation_loses_and_doubles_nothing() {
    sweep("before");
}

#[test]
fn dying_after_any_storage_operation_loses_and_doubles_nothing() {
    sweep("after");
}

fn sweep(side: &str) {
    let truth = TwoByTwo::truth(FILES, ROWS);
    let place = TwoByTwo::prepare(FILES, ROWS);
    let dying = |operation: u64| Invocation::catch_up(&place).env("WATERCLOCK_TEST_ABORT", format!("{side}:{operation}"));
    let mut met = BTreeSet::new();
    for operation in 0.. {
        place.forget_progress();
        let first = dying(operation).threads(1 + operation as usize % 3).finish();
        let Some(place_of_death) = death(&first) else { break };
        met.insert(place_of_death);
        assert_all_part_of(&TwoByTwo::shown(&place), &truth);
        // The repair dies too, half as far.
        if let Some(place_of_death) = death(&dying(operation / 2).finish()) {
            met.insert(place_of_death);
        }
        assert_all_part_of(&TwoByTwo::shown(&place), &truth);
        Invocation::catch_up(&place).finish().expect(0);
        assert_all_same(&TwoByTwo::shown(&place), &truth);
    }
    for (operation, path) in EXPECTED {
        let hit = met.iter().any(|(what, at)| what == operation && at.contains(path));
        assert!(hit, "no run died at {operation} {path}: {met:?}");
    }
    eprintln!("died {side} each of {} operations", met.len());
}

/// Where the process died; none if it came to its end.
pub fn death(exit: &Exit) -> Option<(String, String)> {
    if exit.status.success() {
        return None;
    }
    assert_eq!(exit.status.signal(), Some(SIGABRT), "{}", exit.stderr);
    let words = exit.stderr.lines().find_map(|line| line.strip_prefix("aborted at ")).unwrap();
    let (what, path) = words.split_once(' ').unwrap();
    Some((what.to_owned(), path.to_owned()))
}
