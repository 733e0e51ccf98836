//! Updates per second of a keyed state that is held in memory: `count(*)` and `sum(v)` of many keys, the updates uniform over all of them,
//! in update mode into a sink that counts, with a checkpoint per batch and fsync.
//!
//! A first job makes the keys: random numbers of 64 bits, in Parquet files of a million. Then, on one core and on all of them, a fresh
//! process takes up the job from its checkpoint and runs the updates, a file per batch. Updates count by the wall time of that run,
//! opening apart; memory is what the process has resident above what it had before it opened the job, against 24 raw bytes of a key, a
//! count and a sum. The opening that is told last finds what both runs left behind.
//!
//! `WATERCLOCK_BENCH_KEYS`, `_UPDATES` (of a batch) and `_BATCHES` say how many.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use waterclock_benches::again::{Cores, again, can_pin, finish};
use waterclock_benches::stream::{self, Settings};
use waterclock_benches::{is_test, number, threads};
use waterclock_core::storage::{Location, Storage};
use waterclock_scheduler::progress::Durations;
use waterclock_scheduler::{BatchProgress, Driver, Observer, Stop};

type AnyError = Box<dyn std::error::Error>;

/// A key, a count and a sum.
const RAW_BYTES: f64 = 24.0;
const FILE_ROWS: u64 = 1_000_000;
const ROW_GROUP_ROWS: usize = 125_000;
/// Where the child finds the job.
const ROOT: &str = "WATERCLOCK_BENCH_ROOT";

/// How much there is of everything.
struct Size {
    keys: u64,
    updates: u64,
    batches: u64,
}

impl Size {
    fn given() -> Self {
        Self {
            keys: number("WATERCLOCK_BENCH_KEYS", 20_000, 10_000_000),
            updates: number("WATERCLOCK_BENCH_UPDATES", 2_000, 1_000_000),
            batches: number("WATERCLOCK_BENCH_BATCHES", 2, 10),
        }
    }
}

fn main() -> Result<(), AnyError> {
    let size = Size::given();
    match std::env::var_os(ROOT) {
        Some(root) => measure(Path::new(&root), &size),
        None => measure_all(&size),
    }
}

fn measure_all(size: &Size) -> Result<(), AnyError> {
    let place = tempfile::tempdir()?;
    let mut input = Input::new(place.path())?;
    for first in (0..size.keys).step_by(FILE_ROWS as usize) {
        input.write((first..size.keys.min(first + FILE_ROWS)).map(scattered))?;
    }
    stream::run(&sql(place.path()), &place.path().join("checkpoint"), &Settings::default())?;
    let mut out = std::io::stdout();
    let one_core = if can_pin() { "the first one, by taskset" } else { "only one thread, for there is no taskset" };
    writeln!(out, "{} keys held, {} batches of {} uniform updates; one core is {one_core}", size.keys, size.batches, size.updates)?;
    write!(out, "{:>8}{:>14}{:>14}{:>12}{:>12}{:>12}", "threads", "updates/s", "per core", "ms a batch", "of it run", "stage+commit")?;
    writeln!(out, "{:>12}{:>12}{:>12}{:>12}", "open s", "bytes/key", "of raw", "peak of raw")?;
    for cores in [Cores::One, Cores::All] {
        for _ in 0..size.batches {
            input.write_drawn(size)?;
        }
        let mut child = again(cores)?;
        child.env(ROOT, place.path());
        finish(child)?;
    }
    let (opened, _) = open(place.path(), &Settings::default())?;
    writeln!(out, "opened on {} threads behind all of them in {opened:.2} s", threads())?;
    if is_test() {
        writeln!(out, "a test run: the figures mean nothing")?;
    }
    Ok(())
}

/// What the child does: the newest batches of updates, and one row of the table.
fn measure(root: &Path, size: &Size) -> Result<(), AnyError> {
    let settings = Settings { max_batches: NonZeroU64::new(size.batches), ..Settings::default() };
    let before = resident("VmRSS")?;
    let (opened, (driver, told)) = open(root, &settings)?;
    let started = Instant::now();
    driver.run(&Stop::new())?;
    let seconds = started.elapsed().as_secs_f64();
    let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
    let held = told.last().map_or(0, |(_, resident)| resident.saturating_sub(before)) as f64 / size.keys as f64;
    let peak = resident("VmHWM")?.saturating_sub(before) as f64 / size.keys as f64;
    let updates: u64 = told.iter().map(|(batch, _)| batch.rows_in).sum();
    let mean = |part: fn(&Durations) -> f64| told.iter().map(|(batch, _)| part(&batch.durations)).sum::<f64>() / told.len() as f64;
    let (run, commit) = (mean(|took| took.run_ms), mean(|took| took.stage_ms + took.commit_ms));
    let (per_second, threads) = (updates as f64 / seconds, threads());
    let mut out = std::io::stdout().lock();
    write!(out, "{threads:>8}{per_second:>14.0}{:>14.0}", per_second / threads.get() as f64)?;
    write!(out, "{:>12.0}{run:>12.0}{commit:>12.0}", seconds * 1e3 / size.batches as f64)?;
    writeln!(out, "{opened:>12.2}{held:>12.1}{:>12.2}{:>12.2}", held / RAW_BYTES, peak / RAW_BYTES)?;
    Ok(())
}

/// How long it took to open the job, and the job.
fn open(root: &Path, settings: &Settings) -> Result<(f64, (Driver, Arc<Told>)), AnyError> {
    let (storage, told) = (Storage::builder().start()?, Arc::new(Told::default()));
    let checkpoint = Location::from_path(&root.join("checkpoint"))?;
    let started = Instant::now();
    let job = stream::plan(&sql(root), &storage)?;
    let driver = stream::open(job, &storage, &checkpoint, settings, Arc::<Told>::clone(&told))?;
    Ok((started.elapsed().as_secs_f64(), (driver, told)))
}

fn sql(root: &Path) -> String {
    format!(
        "CREATE UNBOUNDED EXTERNAL TABLE updates (k BIGINT, v BIGINT) STORED AS PARQUET LOCATION '{}/in/'
             OPTIONS ('max_files_per_batch' '1');
         CREATE EXTERNAL TABLE sums STORED AS BLACKHOLE LOCATION 'blackhole://' OPTIONS ('mode' 'update');
         INSERT INTO sums SELECT k, count(*) AS n, sum(v) AS v FROM updates GROUP BY k;",
        root.display()
    )
}

/// What every batch said of itself, and what the process had resident then.
#[derive(Default)]
struct Told(Mutex<Vec<(BatchProgress, u64)>>);

impl Observer for Told {
    fn batch(&self, progress: &BatchProgress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((progress.clone(), resident("VmRSS").unwrap_or(0)));
    }
}

/// The process's memory in bytes: what is resident, or was at most. 0 where the system does not tell.
fn resident(which: &str) -> std::io::Result<u64> {
    let status = Path::new("/proc/self/status");
    let text = if status.exists() { fs::read_to_string(status)? } else { String::new() };
    let line = text.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024)
}

/// The job's input: a file is a batch.
struct Input {
    directory: PathBuf,
    files: u64,
    drawn: u64,
}

impl Input {
    fn new(root: &Path) -> std::io::Result<Self> {
        let directory = root.join("in");
        fs::create_dir(&directory)?;
        Ok(Self { directory, files: 0, drawn: 0 })
    }

    /// A batch of updates of keys that are drawn evenly.
    fn write_drawn(&mut self, size: &Size) -> Result<(), AnyError> {
        let draws = self.drawn..self.drawn + size.updates;
        self.drawn = draws.end;
        self.write(draws.map(|draw| scattered(scattered(!draw) % size.keys)))
    }

    /// In row groups that several threads can share.
    fn write(&mut self, keys: impl Iterator<Item = u64>) -> Result<(), AnyError> {
        let keys = Int64Array::from_iter_values(keys.map(|key| key as i64));
        let values = Int64Array::from_iter_values((0..keys.len()).map(|row| row as i64 % 1_000));
        let columns: [(&str, ArrayRef); 2] = [("k", Arc::new(keys)), ("v", Arc::new(values))];
        let rows = RecordBatch::try_from_iter(columns)?;
        let file = File::create(self.directory.join(format!("{:08}.parquet", self.files)))?;
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROW_GROUP_ROWS)).set_dictionary_enabled(false);
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties.build()))?;
        writer.write(&rows)?;
        writer.close()?;
        self.files += 1;
        Ok(())
    }
}

/// A number of 64 bits that looks like a random one, another for each number.
fn scattered(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
