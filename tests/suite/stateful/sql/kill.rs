//! SIGKILL at random moments, restart at another number of threads, drained at last: output and state are those of a run that nothing
//! disturbed. `WATERCLOCK_KILLS` says how many kills are made.

use super::{Truth, assert_same_state, drain, prepare, shown, state};
use crate::kill::{assert_all_part_of, assert_all_same};
use crate::support::place::Place;
use crate::support::process::Invocation;
use crate::support::{random, repetitions};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

const FILES: u64 = 10;
const ROWS: u64 = 200;
const THREADS: [usize; 4] = [1, 5, 2, 3];

/// Kills that are still to be made, and when.
struct Killer {
    random: StdRng,
    left: usize,
    longest: Duration,
}

impl Killer {
    /// Starts what is given again and again, at another number of threads each time, until it has come to its end or no kill is left.
    fn until_done(&mut self, place: &Place, truth: &Truth, invocation: fn(&Place) -> Invocation) {
        for threads in THREADS.into_iter().cycle() {
            if self.left == 0 {
                break;
            }
            let mut run = invocation(place).threads(threads).start();
            // Short times kill the opening, long ones the batches; the square makes both frequent.
            let patience = self.longest.mul_f64(self.random.random_range(0.1_f64..0.9).powi(2) + 0.02);
            if let Some(status) = run.ended_within(patience) {
                assert!(status.success(), "{status}; it wrote:\n{}", run.stderr());
                return;
            }
            if !run.kill() {
                return;
            }
            self.left -= 1;
            assert_all_part_of(&shown(place), &truth.shown);
        }
        invocation(place).finish().expect(0);
    }
}

#[test]
fn windows_groups_and_distinct_survive_kills_at_any_number_of_threads() {
    let start = Instant::now();
    let truth = Truth::of(FILES, ROWS);
    let mut killer =
        Killer { random: random("kill with SQL state"), left: repetitions("WATERCLOCK_KILLS", 16), longest: start.elapsed() / 2 };
    while killer.left > 0 {
        let place = prepare(FILES, ROWS);
        killer.until_done(&place, &truth, Invocation::catch_up);
        assert_same_state(&state(&place), &truth.caught_up);
        killer.until_done(&place, &truth, drain);
        assert_same_state(&state(&place), &truth.drained);
        assert_all_same(&shown(&place), &truth.shown);
    }
}
