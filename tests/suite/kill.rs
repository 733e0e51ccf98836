//! SIGKILL at random moments, restart with another number of threads, until the job has caught up: again and again.
//!
//! At every observation, what is visible is a part of what an undisturbed run shows; at the end it is the same, batch by batch.
//! `WATERCLOCK_KILLS` says how many kills are made.

use crate::jobs::{Shown, TwoByTwo};
use crate::log::{Moment, moments};
use crate::support::output::{assert_part_of, assert_same};
use crate::support::place::Place;
use crate::support::process::{Invocation, Running};
use crate::support::{random, repetitions};
use rand::Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const FILES: u64 = 20;
const ROWS: u64 = 300;
const THREADS: [usize; 4] = [1, 2, 3, 5];

#[test]
fn killed_at_any_moment_it_shows_what_the_undisturbed_run_shows() {
    let mut random = random("kill");
    let wanted = repetitions("WATERCLOCK_KILLS", 20);
    let (truth, longest) = timed(|| TwoByTwo::truth(FILES, ROWS));
    let (mut kills, mut caught_up, mut hit) = (0, 0, BTreeMap::<Moment, usize>::new());
    while kills < wanted {
        let place = TwoByTwo::prepare(FILES, ROWS);
        loop {
            let run = Invocation::catch_up(&place).threads(THREADS[random.random_range(0..THREADS.len())]).start();
            // Short times kill the opening, long ones the batches; the square makes both frequent.
            let patience = longest.mul_f64(random.random_range(0.1_f64..0.9).powi(2) + 0.02);
            if kills == wanted || !killed(run, patience, &place, &truth) {
                break;
            }
            kills += 1;
            for moment in moments(&place.path("checkpoint"), &[place.path("out/hot"), place.path("out/all")]) {
                *hit.entry(moment).or_default() += 1;
            }
        }
        Invocation::catch_up(&place).finish().expect(0);
        assert_all_same(&TwoByTwo::shown(&place), &truth);
        caught_up += 1;
    }
    eprintln!("{kills} kills over {caught_up} jobs; what they met: {hit:?}");
    if wanted >= 200 {
        for moment in Moment::ALL {
            assert!(hit.contains_key(&moment), "no kill met the moment {moment:?}: {hit:?}");
        }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Watches a run for a time and then kills it. Returns false if it came to its end before.
fn killed(mut run: Running, patience: Duration, place: &Place, truth: &Shown) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = run.ended_within(Duration::from_millis(15).min(patience)) {
            assert!(status.success(), "{status}; it wrote:\n{}", run.stderr());
            return false;
        }
        assert_all_part_of(&TwoByTwo::shown(place), truth);
    }
    let killed = run.kill();
    assert_all_part_of(&TwoByTwo::shown(place), truth);
    killed
}

pub fn assert_all_part_of(shown: &Shown, truth: &Shown) {
    for (sink, files) in shown {
        assert_part_of(files, &truth[sink]);
    }
}

/// The same rows in the same batches.
pub fn assert_all_same(shown: &Shown, truth: &Shown) {
    for (sink, files) in truth {
        assert_same(&shown[sink], files);
    }
}
