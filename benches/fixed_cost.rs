//! What a batch of one row costs from cut to commit, with fsync and without, beside the cost of an fsync on the same disk. Publication
//! overlaps with the next batch and is measured apart. Behind that stands how the batches of one long run are spread.
//!
//! Nothing is removed before the end: where many files have just been removed, ext4 looks long for a place for the next one.

use criterion::Criterion;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use waterclock_benches::number;
use waterclock_benches::stream::{self, Settings};
use waterclock_core::{ErrorKind, Result, ResultExt};
use waterclock_scheduler::progress::Durations;

fn main() {
    let places = tempfile::tempdir().expect("a temporary directory can be made");
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut group = criterion.benchmark_group("fixed cost");
    type Part = fn(&Durations) -> f64;
    let parts: [(&str, Part); 2] =
        [("cut to commit", |took| took.cut_ms + took.run_ms + took.stage_ms + took.commit_ms), ("publication", |took| took.publish_ms)];
    for fsync in [true, false] {
        let suffix = if fsync { "" } else { ", without fsync" };
        for (name, part) in parts {
            group.bench_function(format!("{name}{suffix}"), |bencher| {
                bencher.iter_custom(|batches| measure(batches, fsync, part, places.path()).expect("batches of one row run"));
            });
        }
    }
    group.bench_function("fsync of a small file", |bencher| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        bencher.iter(|| write_synced(directory.path()).expect("a small file can be written"));
    });
    group.finish();
    criterion.final_summary();
    tell_spread(places.path()).expect("batches of one row run");
}

/// The median and the 99th of 100 batches, from cut to commit.
fn tell_spread(places: &Path) -> Result<()> {
    let batches = number("WATERCLOCK_BENCH_BATCHES", 10, 5_000);
    let mut out = io::stdout().lock();
    for fsync in [true, false] {
        let to_commit = |took: &Durations| took.cut_ms + took.run_ms + took.stage_ms + took.commit_ms;
        let mut took: Vec<f64> = run(batches, fsync, places)?.iter().map(to_commit).collect();
        took.sort_by(f64::total_cmp);
        let of_100 = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or(f64::NAN);
        let (p50, p99, suffix) = (of_100(50), of_100(99), if fsync { "" } else { ", without fsync" });
        let told = writeln!(out, "{batches} batches{suffix}: p50 {p50:.2} ms, p99 {p99:.2} ms, {:.1} times", p99 / p50);
        told.or_error(ErrorKind::Unavailable, || "can't write the figures".into())?;
    }
    Ok(())
}

/// The time that so many batches spent in a part of their way.
fn measure(batches: u64, fsync: bool, part: fn(&Durations) -> f64, places: &Path) -> Result<Duration> {
    Ok(Duration::from_secs_f64(run(batches, fsync, places)?.iter().map(part).sum::<f64>() / 1e3))
}

/// What each of so many batches took.
fn run(batches: u64, fsync: bool, places: &Path) -> Result<Vec<Durations>> {
    let root = prepare(batches, places).or_error(ErrorKind::Unavailable, || "can't make the bench's input".into())?;
    let sql = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE t (k BIGINT) STORED AS JSON LOCATION '{0}/in/' OPTIONS ('max_files_per_batch' '1');
         CREATE EXTERNAL TABLE result STORED AS JSON LOCATION '{0}/out/';
         INSERT INTO result SELECT k FROM t;",
        root.display()
    );
    let batches = stream::run(&sql, &root.join("checkpoint"), &Settings { fsync, ..Settings::default() })?;
    Ok(batches.iter().map(|batch| batch.durations).collect())
}

/// Files of one row.
fn prepare(files: u64, places: &Path) -> io::Result<PathBuf> {
    let root = TempDir::new_in(places)?.keep();
    fs::create_dir(root.join("in"))?;
    for number in 0..files {
        fs::write(root.join(format!("in/{number:08}.json")), format!("{{\"k\": {number}}}\n"))?;
    }
    Ok(root)
}

fn write_synced(directory: &Path) -> io::Result<()> {
    let mut file = File::create(directory.join("small"))?;
    file.write_all(&[0; 1_000])?;
    file.sync_all()
}
