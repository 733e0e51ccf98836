//! A job whose checkpoint, output and, in the second part, input stand in a store that takes 30 ms for each request: how many request times
//! in a row opening it takes, and each step of a batch, and how its throughput compares with the same job where a request takes no time.
//!
//! Each batch changes the 10,000 groups of an aggregate, in update mode, and writes them as JSON. The input is made up where it is read,
//! so many rows per batch (`WATERCLOCK_BENCH_ROWS`) that the work of a batch can hide what its predecessor waits for; or it stands in
//! small files, of which looking for new ones and reading them take requests too. `WATERCLOCK_BENCH_BATCHES` and `_DELAY_MS` are knobs, too.
//! The requests of one batch are shown with the moments at which they were made, in request times behind the first.

use std::io::Write;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};
use waterclock_benches::slow::{Request, Slowness};
use waterclock_benches::stream::{self, Settings};
use waterclock_benches::{is_test, number};
use waterclock_core::storage::{Location, Storage};
use waterclock_scheduler::progress::Durations;
use waterclock_scheduler::{BatchProgress, Unobserved};

type AnyError = Box<dyn std::error::Error>;

/// A job in stores of one storage, and how slow they are.
struct Bench {
    storage: Storage,
    slowness: Slowness,
    delay: Duration,
    batches: u64,
}

/// Where the input comes from.
#[derive(Debug, Clone, Copy)]
struct Input {
    name: &'static str,
    rows_per_batch: u64,
    in_files: bool,
}

fn main() -> Result<(), AnyError> {
    let slowness = Slowness::default();
    let wrap = slowness.clone();
    let bench = Bench {
        storage: Storage::builder().wrap(move |_, store| wrap.around(store)).start()?,
        slowness,
        delay: Duration::from_millis(number("WATERCLOCK_BENCH_DELAY_MS", 3, 30)),
        batches: number("WATERCLOCK_BENCH_BATCHES", 6, 100),
    };
    let rows_per_batch = number("WATERCLOCK_BENCH_ROWS", 2_000, 1_000_000);
    bench.measure(Input { name: "made", rows_per_batch, in_files: false })?;
    bench.measure(Input { name: "files", rows_per_batch: rows_per_batch.min(20_000), in_files: true })?;
    if is_test() {
        writeln!(std::io::stdout(), "a test run: the figures mean nothing")?;
    }
    Ok(())
}

impl Bench {
    fn measure(&self, input: Input) -> Result<(), AnyError> {
        if input.in_files {
            self.run(&self.files(input), &format!("{}-files", input.name))?;
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} batches of {} rows, input {}, {:?} a request", self.batches, input.rows_per_batch, input.name, self.delay)?;
        let started = Instant::now();
        self.run(&self.job(input, "fast"), &format!("{}-fast", input.name))?;
        let fast = started.elapsed();
        self.slowness.set(self.delay);
        let started = Instant::now();
        let batches = self.run(&self.job(input, "slow"), &format!("{}-slow", input.name))?;
        let slow = started.elapsed();
        let requests = self.slowness.take();
        let started = Instant::now();
        let job = stream::plan(&self.job(input, "slow"), &self.storage)?;
        let planned = started.elapsed();
        let checkpoint = location(&format!("{}-slow", input.name), "checkpoint");
        stream::open(job, &self.storage, &Location::parse(&checkpoint)?, &Settings::default(), Arc::new(Unobserved))?;
        let opened = started.elapsed() - planned;
        self.slowness.set(Duration::ZERO);
        self.tell(&mut out, &batches)?;
        writeln!(out, "{:<16}{:>10.1}{:>10}", "plan", self.times(planned.as_secs_f64() * 1e3), "once")?;
        writeln!(out, "{:<16}{:>10.1}{:>10}", "open again", self.times(opened.as_secs_f64() * 1e3), "once")?;
        let per_second = |took: Duration| (self.batches * input.rows_per_batch) as f64 / took.as_secs_f64();
        let ratio = fast.as_secs_f64() / slow.as_secs_f64();
        writeln!(out, "{:.0} rows/s, {:.0} where a request takes no time: {ratio:.2}", per_second(slow), per_second(fast))?;
        self.show(&mut out, &requests)?;
        Ok(())
    }

    /// In request times.
    fn times(&self, ms: f64) -> f64 {
        ms / (self.delay.as_secs_f64() * 1e3)
    }

    /// The steps of a batch, in request times.
    fn tell(&self, out: &mut impl Write, batches: &[BatchProgress]) -> Result<(), AnyError> {
        type Part = fn(&Durations) -> f64;
        let parts: [(&str, Part); 6] = [
            ("cut", |took| took.cut_ms),
            ("run", |took| took.run_ms),
            ("stage", |took| took.stage_ms),
            ("commit", |took| took.commit_ms),
            ("stage + commit", |took| took.stage_ms + took.commit_ms),
            ("publish", |took| took.publish_ms),
        ];
        writeln!(out, "{:<16}{:>10}{:>10}{:>10}", "request times", "p50", "p90", "max")?;
        for (name, part) in parts {
            let mut values: Vec<f64> = batches.iter().map(|batch| self.times(part(&batch.durations))).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values.get(((values.len() - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN);
            writeln!(out, "{name:<16}{:>10.1}{:>10.1}{:>10.1}", at(0.5), at(0.9), at(1.0))?;
        }
        Ok(())
    }

    /// What was asked from the commit of one batch to that of the next.
    fn show(&self, out: &mut impl Write, requests: &[Request]) -> Result<(), AnyError> {
        let is_commit = |(_, name, path): &Request| *name == "put" && path.contains("commits/");
        let commits: Vec<usize> = requests.iter().enumerate().filter(|(_, request)| is_commit(request)).map(|(at, _)| at).collect();
        let Some([first, second]) = commits.get(commits.len() / 2..).and_then(|rest| rest.first_chunk()) else { return Ok(()) };
        for (at, name, path) in &requests[*first..=*second] {
            let behind = at.duration_since(requests[*first].0).as_secs_f64() * 1e3;
            writeln!(out, "{:>8.1}  {name} {path}", self.times(behind))?;
        }
        Ok(())
    }

    fn run(&self, sql: &str, place: &str) -> Result<Vec<BatchProgress>, AnyError> {
        self.slowness.take();
        let checkpoint = Location::parse(&location(place, "checkpoint"))?;
        let settings = Settings { max_batches: NonZeroU64::new(self.batches), ..Settings::default() };
        Ok(stream::run_job(stream::plan(sql, &self.storage)?, &self.storage, &checkpoint, &settings)?)
    }

    /// Writes the input, a file per batch.
    fn files(&self, input: Input) -> String {
        let (made, place) = (self.made(input.rows_per_batch), location(input.name, "in"));
        format!(
            "{made} CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '{place}';
             INSERT INTO files SELECT bidder, price, date_time FROM bid;"
        )
    }

    fn made(&self, rows_per_batch: u64) -> String {
        format!(
            "CREATE UNBOUNDED EXTERNAL TABLE bid STORED AS NEXMARK LOCATION 'nexmark://bid?events={}&seed=1'
                 OPTIONS ('max_rows_per_batch' '{rows_per_batch}');",
            // Of 50 events 46 are bids.
            self.batches * rows_per_batch * 50 / 46 + 50
        )
    }

    fn job(&self, input: Input, side: &str) -> String {
        let source = if input.in_files {
            format!(
                "CREATE UNBOUNDED EXTERNAL TABLE bid (bidder BIGINT, price BIGINT, date_time TIMESTAMP) STORED AS PARQUET LOCATION '{}'
                     OPTIONS ('max_files_per_batch' '1');",
                location(input.name, "in")
            )
        } else {
            self.made(input.rows_per_batch)
        };
        format!(
            "{source} CREATE EXTERNAL TABLE result STORED AS JSON LOCATION '{}' OPTIONS ('mode' 'update');
             INSERT INTO result SELECT bidder % 10000 AS slot, count(*) AS bids, max(price) AS most FROM bid GROUP BY bidder % 10000;",
            location(&format!("{}-{side}", input.name), "out")
        )
    }
}

fn location(place: &str, of: &str) -> String {
    format!("memory://bench/{place}/{of}/")
}
