//! Lines of JSON as input: a job that decodes bids and counts them, in 20 batches with a checkpoint each, against arrow-json's decoder over
//! the same bytes and nothing else, each thread on its share of the files. Both alternately, best of several rounds.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use waterclock_benches::events::{BATCHES, data_files};
use waterclock_benches::stream::{self, Settings};
use waterclock_benches::{is_test, number, threads};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const COLUMNS: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR";

fn main() -> Result<(), AnyError> {
    let place = tempfile::tempdir()?;
    let root = place.path();
    let bids = number("WATERCLOCK_BENCH_EVENTS", 46_000, 4_600_000);
    generate(root, bids)?;
    let files = data_files(&root.join("in"))?;
    let bytes = files.iter().map(|file| Ok(file.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    let rounds = number("WATERCLOCK_BENCH_ROUNDS", 1, 5);
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for round in 0..rounds {
        let begun = Instant::now();
        let batches = stream::run(&job(root), &root.join(format!("checkpoint-{round}")), &Settings::default())?;
        ours = ours.min(begun.elapsed());
        assert_eq!(batches.iter().map(|batch| batch.rows_in).sum::<u64>(), bids);
        let begun = Instant::now();
        let decoded = decode_all(&files)?;
        theirs = theirs.min(begun.elapsed());
        assert_eq!(decoded, bids);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{bids} bids in {} files, {} MB, {} threads, best of {rounds}", files.len(), bytes / 1_000_000, threads())?;
    let rate = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    writeln!(out, "waterclock, in {BATCHES} batches {:>8.0} MB/s", rate(ours))?;
    writeln!(out, "arrow-json, nothing else  {:>8.0} MB/s", rate(theirs))?;
    writeln!(out, "ratio                     {:>8.2}", theirs.as_secs_f64() / ours.as_secs_f64())?;
    if is_test() {
        writeln!(out, "a test run: the figures mean nothing")?;
    }
    Ok(())
}

/// Two files for each batch.
fn generate(root: &Path, bids: u64) -> Result<(), AnyError> {
    let sql = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE events STORED AS NEXMARK LOCATION 'nexmark://bid?events={}&seed=1&rate=10000'
             OPTIONS ('max_rows_per_batch' '{}');
         CREATE EXTERNAL TABLE files STORED AS JSON LOCATION '{}/in/';
         INSERT INTO files SELECT * FROM events;",
        bids / 46 * 50,
        bids.div_ceil(2 * BATCHES),
        root.display()
    );
    stream::run(&sql, &root.join("generate"), &Settings { fsync: false, ..Settings::default() })?;
    Ok(())
}

fn job(root: &Path) -> String {
    format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION '{}/in/' OPTIONS ('max_files_per_batch' '2');
         CREATE EXTERNAL TABLE result STORED AS BLACKHOLE LOCATION 'blackhole://';
         INSERT INTO result SELECT * FROM bid;",
        root.display()
    )
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let numbers = ["auction", "bidder", "price"].map(|name| Field::new(name, DataType::Int64, true));
    let texts = ["channel", "url"].map(|name| Field::new(name, DataType::Utf8, true));
    let rest = [Field::new("date_time", time, true), Field::new("extra", DataType::Utf8, true)];
    Arc::new(Schema::new(numbers.into_iter().chain(texts).chain(rest).collect::<Vec<_>>()))
}

fn decode_all(files: &[PathBuf]) -> Result<u64, AnyError> {
    let share = files.len().div_ceil(threads().get());
    thread::scope(|scope| {
        let parts: Vec<_> = files.chunks(share).map(|files| scope.spawn(|| decode(files))).collect();
        parts.into_iter().map(|part| part.join().map_err(|_| "a decoder panicked")?).sum()
    })
}

fn decode(files: &[PathBuf]) -> Result<u64, AnyError> {
    let mut rows = 0;
    for file in files {
        let input = BufReader::with_capacity(1 << 20, File::open(file)?);
        for batch in ReaderBuilder::new(schema()).with_batch_size(8_192).build(input)? {
            rows += batch?.num_rows() as u64;
        }
    }
    Ok(rows)
}
