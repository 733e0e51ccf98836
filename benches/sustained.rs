//! Batches of 10 ms over 100,000 events per second, for ten minutes: whether the job keeps up, and how long an event takes from the moment
//! at which it is due to the moment at which its batch is committed and published.
//!
//! The events are counted per key, in update mode, into JSON files, with a checkpoint per batch; with fsync where four of them take less
//! than 8 ms, else without (`WATERCLOCK_BENCH_FSYNC`, 0 or 1, decides otherwise). `WATERCLOCK_BENCH_SECONDS`, `_INTERVAL_MS` and `_EVENTS` (per
//! second) are knobs, too. An event's moment follows from its number, by the source's own definition; every hundredth event is looked at.

use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use waterclock_benches::stream::{self, Settings};
use waterclock_benches::{is_test, number};
use waterclock_core::id::Seq;
use waterclock_core::storage::{Location, Storage};
use waterclock_core::time::Timestamp;
use waterclock_scheduler::{BatchProgress, Observer, Seams, Stop, Trigger};

type AnyError = Box<dyn std::error::Error>;

/// Of so many events one is looked at.
const SAMPLED: u64 = 100;

/// How much is asked of the job.
struct Load {
    per_second: u64,
    interval: Duration,
    length: Duration,
}

/// What is kept of a batch.
#[derive(Debug, Clone, Copy)]
struct Told {
    seq: Seq,
    triggered: Timestamp,
    published: Timestamp,
    rows: u64,
    /// Events that were due and not in the batch.
    lag: u64,
}

/// Keeps what batches say, and ends the run after its time.
struct Watch {
    seams: Seams,
    stop: Stop,
    end: Duration,
    told: Mutex<Vec<Told>>,
}

impl Observer for Watch {
    fn batch(&self, progress: &BatchProgress) {
        let lag = progress.sources.values().filter_map(|source| source.lag).sum();
        let (published, rows) = (self.seams.clock.now(), progress.rows_in);
        let batch = Told { seq: progress.seq, triggered: progress.trigger_time, published, rows, lag };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        if self.seams.clock.elapsed() >= self.end {
            self.stop.stop();
        }
    }
}

fn main() -> Result<(), AnyError> {
    let load = Load {
        per_second: number("WATERCLOCK_BENCH_EVENTS", 10_000, 100_000),
        interval: Duration::from_millis(number("WATERCLOCK_BENCH_INTERVAL_MS", 10, 10)),
        length: Duration::from_secs(number("WATERCLOCK_BENCH_SECONDS", 1, 600)),
    };
    let place = tempfile::tempdir()?;
    let synced = fsync_time(place.path())?;
    let fsync = number("WATERCLOCK_BENCH_FSYNC", 1, u64::from(4 * synced < Duration::from_millis(8))) == 1;
    let mut out = io::stdout();
    writeln!(
        out,
        "{:?} batches over {} events per second for {:?}; an fsync takes {synced:.2?}, and is {}",
        load.interval,
        load.per_second,
        load.length,
        if fsync { "done" } else { "left out" }
    )?;
    let told = run(place.path(), &load, fsync)?;
    tell(&mut out, &told, &latencies(&told, started(place.path(), &told)?, load.per_second))?;
    let state = place.path().join("checkpoint/state");
    let objects = if state.exists() { fs::read_dir(state)?.count() } else { 0 };
    writeln!(out, "objects of state at the end: {objects}")?;
    if is_test() {
        writeln!(out, "a test run: the figures mean nothing")?;
    }
    Ok(())
}

fn run(root: &Path, load: &Load, fsync: bool) -> Result<Vec<Told>, AnyError> {
    let sql = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE events STORED AS RATE LOCATION 'rate://?rows_per_second={}';
         CREATE EXTERNAL TABLE counts STORED AS JSON LOCATION '{}/out/' OPTIONS ('mode' 'update');
         INSERT INTO counts SELECT value % 100 AS slot, count(*) AS events, max(timestamp) AS newest FROM events GROUP BY value % 100;",
        load.per_second,
        root.display()
    );
    let (storage, stop, seams) = (Storage::builder().fsync(fsync).start()?, Stop::new(), Seams::system());
    let end = seams.clock.elapsed() + load.length;
    let watch = Arc::new(Watch { seams, stop: stop.clone(), end, told: Mutex::default() });
    let settings = Settings { trigger: Trigger::Interval(load.interval), fsync, ..Settings::default() };
    let checkpoint = Location::from_path(&root.join("checkpoint"))?;
    let observer = Arc::clone(&watch);
    stream::open(stream::plan(&sql, &storage)?, &storage, &checkpoint, &settings, observer)?.run(&stop)?;
    let mut told = watch.told.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *told))
}

/// When the event number 0 was due, as the record of a batch has it.
fn started(root: &Path, told: &[Told]) -> Result<Timestamp, AnyError> {
    let seq = told.first().ok_or("the job has run no batch")?.seq;
    let record: Value = serde_json::from_slice(&fs::read(root.join(format!("checkpoint/commits/{:020}.json", seq.0)))?)?;
    let started = &record["sources"]["events"]["partitions"][0]["end"]["started"];
    Ok(serde_json::from_value(started.clone())?)
}

/// In milliseconds, ascending.
fn latencies(told: &[Told], started: Timestamp, per_second: u64) -> Vec<f64> {
    let (mut first, mut latencies) = (0, Vec::new());
    for batch in told {
        let end = first + batch.rows;
        let due = |event: u64| started.0 + (u128::from(event) * 1_000_000 / u128::from(per_second)) as i64;
        let sampled = (first.next_multiple_of(SAMPLED)..end).step_by(SAMPLED as usize);
        latencies.extend(sampled.map(|event| (batch.published.0 - due(event)) as f64 / 1e3));
        first = end;
    }
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn tell(out: &mut impl Write, told: &[Told], latencies: &[f64]) -> Result<(), AnyError> {
    let mut gaps: Vec<f64> = told.windows(2).map(|pair| (pair[1].triggered.0 - pair[0].triggered.0) as f64 / 1e3).collect();
    gaps.sort_by(f64::total_cmp);
    let mut lags: Vec<f64> = told.iter().map(|batch| batch.lag as f64).collect();
    let events: u64 = told.iter().map(|batch| batch.rows).sum();
    let at_end = lags.last().copied().unwrap_or(f64::NAN);
    lags.sort_by(f64::total_cmp);
    writeln!(out, "{} batches of {events} events; {at_end} events were due and waited behind the last one", told.len())?;
    writeln!(out, "{:<36}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p99", "p99.9", "max")?;
    let rows = [("ms from due to published", latencies), ("ms from trigger to trigger", &gaps), ("events left behind by a cut", &lags)];
    for (name, values) in rows {
        let at = |share: f64| values.get((values.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        writeln!(out, "{name:<36}{:>10.2}{:>10.2}{:>10.2}{:>10.2}", at(0.5), at(0.99), at(0.999), at(1.0))?;
    }
    Ok(())
}

/// The median of some.
fn fsync_time(directory: &Path) -> io::Result<Duration> {
    let mut times = Vec::new();
    for number in 0..21 {
        let mut file = File::create(directory.join(format!("synced-{number}")))?;
        file.write_all(&[0; 1_000])?;
        let begun = Instant::now();
        file.sync_all()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}
