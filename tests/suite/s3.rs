//! Sources, sinks and checkpoint on a store that speaks S3: the same kills and fences, shorter.

use crate::jobs::{Shown, TwoByTwo};
use crate::kill::{assert_all_part_of, assert_all_same};
use crate::support::place::Place;
use crate::support::process::Invocation;
use crate::support::s3::{BUCKET, S3Server, SECRET};
use crate::support::{random, repetitions};
use rand::Rng;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const FILES: u64 = 8;
const ROWS: u64 = 200;

/// A server with the inputs, and the truth: what the same job shows on local files.
struct Bench {
    server: S3Server,
    place: Place,
    truth: Shown,
    took: Duration,
}

impl Bench {
    fn prepare() -> Self {
        let place = TwoByTwo::prepare(FILES, ROWS);
        let start = Instant::now();
        let truth = TwoByTwo::truth(FILES, ROWS);
        let took = start.elapsed();
        let server = S3Server::start();
        server.upload(&place, "in/web");
        server.upload(&place, "in/app");
        Self { server, place, truth, took }
    }

    /// The job with its output and its checkpoint below a prefix of the bucket.
    fn job(&self, prefix: &str) -> Invocation {
        let sql = TwoByTwo::sql(&format!("s3://{BUCKET}/in"), &format!("s3://{BUCKET}/{prefix}/out"));
        let job = self.place.write(&format!("{prefix}.sql"), sql).display().to_string();
        let checkpoint = format!("s3://{BUCKET}/{prefix}/checkpoint");
        self.server.reachable(Invocation::new(&self.place, ["run", &job, "--checkpoint", &checkpoint]))
    }

    fn catch_up(&self, prefix: &str) -> Invocation {
        self.job(prefix).arg("--until-caught-up")
    }

    fn shown(&self, prefix: &str) -> Shown {
        TwoByTwo::SINKS.into_iter().map(|sink| (sink, self.server.read(&format!("{prefix}/out/{sink}")))).collect()
    }

    fn batches(&self, prefix: &str) -> usize {
        self.server.names(&format!("{prefix}/checkpoint/commits")).len()
    }
}

#[test]
fn a_job_on_s3_shows_what_it_shows_on_local_files() {
    let bench = Bench::prepare();
    let run = bench.catch_up("plain").arg("--log").arg("debug").finish().expect(0);
    assert!(!run.stderr.contains(SECRET) && !run.stdout.contains(SECRET));
    assert_all_same(&bench.shown("plain"), &bench.truth);
    let leftovers: Vec<String> = bench.server.names("plain/out").into_iter().filter(|name| name.contains("_staged")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

/// The store does what it is asked and its answer is lost: a retry then meets its own first write.
#[test]
fn lost_answers_lose_and_double_nothing() {
    let bench = Bench::prepare();
    for one_of in [2, 3, 5, 7] {
        let prefix = format!("lossy-{one_of}");
        bench.server.lose_answers(one_of);
        bench.catch_up(&prefix).finish().expect(0);
        bench.server.lose_answers(0);
        assert_all_same(&bench.shown(&prefix), &bench.truth);
    }
}

#[test]
fn killed_at_any_moment_on_s3_it_shows_what_the_undisturbed_run_shows() {
    let mut random = random("kill on s3");
    let bench = Bench::prepare();
    let (mut kills, mut jobs) = (0, 0);
    let wanted = repetitions("WATERCLOCK_S3_KILLS", 6);
    while kills < wanted {
        let prefix = format!("killed-{jobs}");
        for threads in [1, 2, 3, 5].into_iter().cycle() {
            let mut run = bench.catch_up(&prefix).threads(threads).start();
            let patience = bench.took.mul_f64(random.random_range(0.2..1.5));
            if kills == wanted || run.ended_within(patience).is_some() || !run.kill() {
                break;
            }
            kills += 1;
            assert_all_part_of(&bench.shown(&prefix), &bench.truth);
        }
        bench.catch_up(&prefix).finish().expect(0);
        assert_all_same(&bench.shown(&prefix), &bench.truth);
        jobs += 1;
    }
    eprintln!("{kills} kills over {jobs} jobs");
}

#[test]
fn the_older_of_two_drivers_on_s3_ends_with_5() {
    let bench = Bench::prepare();
    for attempt in 0..20 {
        let prefix = format!("two-{attempt}");
        let mut older = bench.catch_up(&prefix).start();
        older.until("it has committed a batch", || bench.batches(&prefix) > 1);
        if older.ended_within(Duration::ZERO).is_some() {
            continue;
        }
        older.signal(Signal::STOP);
        // One that has published everything may be on its way out.
        let had_finished = bench.shown(&prefix) == bench.truth;
        bench.catch_up(&prefix).finish().expect(0);
        let shown = bench.shown(&prefix);
        assert_all_same(&shown, &bench.truth);
        older.signal(Signal::CONT);
        let woken = older.finish();
        assert_eq!(bench.shown(&prefix), shown, "the driver that woke up changed the output");
        if !had_finished {
            woken.expect(5);
            return;
        }
    }
    panic!("every driver had ended before it was stopped");
}
