//! Two drivers of one job with state: the older one ends with exit code 5, and output and state are those of one driver alone.

use super::{Truth, assert_same_state, drain, prepare, shown, sql, state};
use crate::kill::assert_all_same;
use crate::log::of_kind;
use crate::support::input::{Format, lay_down};
use crate::support::place::Place;
use crate::support::process::Invocation;
use crate::support::{random, repetitions};
use rand::Rng;
use rustix::process::Signal;
use std::time::Duration;

const FILES: u64 = 8;
const ROWS: u64 = 200;

fn batches(place: &Place) -> usize {
    of_kind(&place.path("checkpoint"), "batch")
}

fn finish(place: &Place, truth: &Truth) {
    Invocation::catch_up(place).finish().expect(0);
    assert_same_state(&state(place), &truth.caught_up);
    drain(place).finish().expect(0);
    assert_all_same(&shown(place), &truth.shown);
    assert_same_state(&state(place), &truth.drained);
}

#[test]
fn the_older_of_two_drivers_with_state_ends_with_5() {
    let truth = Truth::of(FILES, ROWS);
    let place = Place::new();
    place.sql(&sql());
    lay_down(&place, "in", Format::Json, 0..FILES / 2, ROWS);
    let endless = || Invocation::job(&place).arg("--interval").arg("20ms").start();
    let openings = || of_kind(&place.path("checkpoint"), "open");
    let mut older = endless();
    older.until("it has read all that there is", || shown(&place)["totals"].len() as u64 == FILES / 2);
    let mut newer = endless();
    newer.until("it has opened the job", || openings() == 2);
    // New input makes the older one try to commit, and find out.
    lay_down(&place, "in", Format::Json, FILES / 2..FILES, ROWS);
    older.finish().expect(5).says(&["another driver has taken over the job"]);
    newer.until("it has read the rest", || shown(&place)["totals"].len() as u64 == FILES);
    newer.signal(Signal::TERM);
    newer.finish().expect(0);
    finish(&place, &truth);
}

/// SIGSTOP at a random moment, another driver takes over and finishes, SIGCONT: the first one finds out and changes nothing.
#[test]
fn a_paused_driver_with_state_that_wakes_does_no_harm() {
    let mut random = random("pause with state");
    let truth = Truth::of(FILES, ROWS);
    for _ in 0..repetitions("WATERCLOCK_PAUSES", 4) {
        let place = prepare(FILES, ROWS);
        let mut paused = Invocation::catch_up(&place).start();
        let few = random.random_range(1..FILES as usize / 2);
        // With a batch of its own it has opened the job; one that sleeps before that wakes up as the newer driver.
        paused.until("some batches are committed", || batches(&place) >= few);
        if paused.ended_within(Duration::from_micros(random.random_range(0..20_000))).is_some() {
            continue;
        }
        paused.signal(Signal::STOP);
        // One that has committed everything may have looked at the head of the log, and be on its way out.
        let had_finished = batches(&place) as u64 == FILES;
        Invocation::catch_up(&place).threads(3).finish().expect(0);
        let (output, memory) = (shown(&place), state(&place));
        assert_same_state(&memory, &truth.caught_up);
        paused.signal(Signal::CONT);
        let woken = paused.finish();
        if !(had_finished && woken.status.success()) {
            woken.expect(5);
        }
        assert_eq!(shown(&place), output, "the driver that woke up changed the output");
        assert_same_state(&state(&place), &memory);
        finish(&place, &truth);
    }
}
