//! Two processes on one checkpoint: the older one ends with exit code 5, and the output is right.

use crate::jobs::TwoByTwo;
use crate::kill::assert_all_same;
use crate::support::input::{Format, lay_down};
use crate::support::place::Place;
use crate::support::process::{Invocation, Running};
use crate::support::{random, repetitions};
use rand::Rng;
use rustix::process::Signal;
use std::time::Duration;

const FILES: u64 = 20;
const ROWS: u64 = 300;

/// A driver that waits for more input for ever.
fn endless(place: &Place) -> Running {
    Invocation::job(place).arg("--interval").arg("20ms").start()
}

fn published(place: &Place) -> usize {
    TwoByTwo::shown(place).values().map(|files| files.len()).sum()
}

#[test]
fn the_older_of_two_drivers_ends_with_5() {
    let place = TwoByTwo::prepare(FILES / 2, ROWS);
    let mut older = endless(&place);
    older.until("its first batch is visible", || published(&place) > 0);
    let mut newer = endless(&place);
    newer.until("it has opened the job", || {
        crate::log::records(&place.path("checkpoint")).iter().filter(|record| record.contains("\"open\"")).count() == 2
    });
    // New input makes the older one try to commit, and find out.
    lay_down(&place, "in/web", Format::Json, FILES / 2..FILES, ROWS);
    older.finish().expect(5).says(&["another driver has taken over the job"]);
    newer.signal(Signal::TERM);
    newer.finish().expect(0);
    Invocation::catch_up(&place).finish().expect(0);

    let alone = TwoByTwo::prepare(FILES / 2, ROWS);
    lay_down(&alone, "in/web", Format::Json, FILES / 2..FILES, ROWS);
    Invocation::catch_up(&alone).finish().expect(0);
    assert_same_rows(&place, &alone);
}

/// The same rows in each sink, however the batches were cut.
fn assert_same_rows(place: &Place, alone: &Place) {
    for (sink, files) in TwoByTwo::shown(alone) {
        let sorted = |files: &crate::support::output::Files| {
            let mut rows: Vec<String> = files.values().flatten().cloned().collect();
            rows.sort();
            rows
        };
        assert!(sorted(&files) == sorted(&TwoByTwo::shown(place)[sink]), "{sink} has other rows");
    }
}

/// SIGSTOP at a random moment, another driver takes over and finishes, SIGCONT: the first one finds out and changes nothing.
#[test]
fn a_paused_driver_that_wakes_does_no_harm() {
    let mut random = random("pause");
    let truth = TwoByTwo::truth(FILES, ROWS);
    for _ in 0..repetitions("WATERCLOCK_PAUSES", 5) {
        let place = TwoByTwo::prepare(FILES, ROWS);
        let mut paused = Invocation::catch_up(&place).start();
        // With a batch of its own it has opened the job; one that sleeps before that wakes up as the newer driver.
        let batches = random.random_range(1..FILES as usize - 2);
        paused.until("some batches are visible", || published(&place) >= 2 * batches);
        if paused.ended_within(Duration::from_micros(random.random_range(0..20_000))).is_some() {
            continue;
        }
        paused.signal(Signal::STOP);
        // One that has published everything may have looked at the head of the log, and be on its way out.
        let had_finished = TwoByTwo::shown(&place) == truth;
        Invocation::catch_up(&place).finish().expect(0);
        let shown = TwoByTwo::shown(&place);
        assert_all_same(&shown, &truth);
        paused.signal(Signal::CONT);
        let woken = paused.finish();
        if !(had_finished && woken.status.success()) {
            woken.expect(5);
        }
        assert_eq!(TwoByTwo::shown(&place), shown, "the driver that woke up changed the output");
        Invocation::catch_up(&place).finish().expect(0);
        assert_eq!(TwoByTwo::shown(&place), shown);
    }
}
