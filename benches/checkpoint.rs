//! What checkpointing a batch costs that changes a thousand keys: bytes of state, and time to stage and commit them, with many keys held
//! and with few. Medians of the batches behind the one that made the keys, and the ratios. `WATERCLOCK_BENCH_FEW_KEYS`, `_MANY_KEYS`,
//! `_CHANGED` (in a batch) and `_BATCHES` say how many.

use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use waterclock_benches::stream::{self, Settings};
use waterclock_benches::{is_test, number};

type AnyError = Box<dyn std::error::Error>;

/// What a batch cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    bytes: f64,
    run_ms: f64,
    checkpoint_ms: f64,
}

fn main() -> Result<(), AnyError> {
    let few = number("WATERCLOCK_BENCH_FEW_KEYS", 2_000, 10_000);
    let many = number("WATERCLOCK_BENCH_MANY_KEYS", 20_000, 1_000_000);
    let changed = number("WATERCLOCK_BENCH_CHANGED", 1_000, 1_000);
    let batches = number("WATERCLOCK_BENCH_BATCHES", 3, 40);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{changed} keys changed in each of {batches} batches, update mode, fsync; medians")?;
    writeln!(out, "{:>12}{:>16}{:>12}{:>22}", "keys held", "state bytes", "run ms", "stage and commit ms")?;
    let mut costs = Vec::new();
    for held in [few, many] {
        let cost = median(&measure(held, changed, batches)?);
        writeln!(out, "{held:>12}{:>16.0}{:>12.2}{:>22.2}", cost.bytes, cost.run_ms, cost.checkpoint_ms)?;
        costs.push(cost);
    }
    let ratio = |part: fn(&Cost) -> f64| part(&costs[1]) / part(&costs[0]);
    let (bytes, run, checkpoint) = (ratio(|cost| cost.bytes), ratio(|cost| cost.run_ms), ratio(|cost| cost.checkpoint_ms));
    writeln!(out, "{:>12}{bytes:>16.2}{run:>12.2}{checkpoint:>22.2}", "ratio")?;
    if is_test() {
        writeln!(out, "a test run: the figures mean nothing")?;
    }
    Ok(())
}

/// Makes so many keys in a first batch, and changes some of them, spread over all, in each of the batches behind.
fn measure(held: u64, changed: u64, batches: u64) -> Result<Vec<Cost>, AnyError> {
    let root = tempfile::tempdir()?;
    let (input, checkpoint) = (root.path().join("in"), root.path().join("checkpoint"));
    fs::create_dir(&input)?;
    let sql = format!(
        "CREATE UNBOUNDED EXTERNAL TABLE t (k BIGINT, v BIGINT) STORED AS CSV LOCATION '{}/'
             OPTIONS ('max_files_per_batch' '1', 'has_header' 'false');
         CREATE EXTERNAL TABLE sums STORED AS BLACKHOLE LOCATION 'blackhole://' OPTIONS ('mode' 'update');
         INSERT INTO sums SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k;",
        input.display()
    );
    write_keys(&input, 0, 0..held)?;
    stream::run(&sql, &checkpoint, &Settings { max_batches: NonZeroU64::new(1), ..Settings::default() })?;
    for batch in 1..=batches {
        write_keys(&input, batch, (0..changed).map(|key| (key * held / changed + batch) % held))?;
    }
    let ran = stream::run(&sql, &checkpoint, &Settings::default())?;
    let cost = |batch: &waterclock_scheduler::BatchProgress| {
        let took = &batch.durations;
        let bytes = state_bytes(&checkpoint, batch.seq.0)? as f64;
        Ok(Cost { bytes, run_ms: took.run_ms, checkpoint_ms: took.stage_ms + took.commit_ms })
    };
    ran.iter().map(cost).collect()
}

fn write_keys(input: &Path, batch: u64, keys: impl Iterator<Item = u64>) -> std::io::Result<()> {
    let mut text = String::new();
    for key in keys {
        let _ = writeln!(text, "{key},{batch}");
    }
    fs::write(input.join(format!("{batch:08}.csv")), text)
}

/// The bytes of the layers that a batch wrote: in its record, or in objects with its number.
fn state_bytes(checkpoint: &Path, seq: u64) -> Result<u64, AnyError> {
    let record: Value = serde_json::from_slice(&fs::read(checkpoint.join(format!("commits/{seq:020}.json")))?)?;
    let own = format!("{seq:020}-");
    let is_new = |layer: &&Value| layer.get("inline").is_some() || layer["object"].as_str().is_some_and(|path| path.contains(&own));
    let operators = record["operators"].as_object().into_iter().flat_map(|operators| operators.values());
    let layers = operators.filter_map(|operator| operator["layers"].as_array()).flatten();
    Ok(layers.filter(is_new).filter_map(|layer| layer["bytes"].as_u64()).sum())
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |part: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Cost { bytes: middle(|cost| cost.bytes), run_ms: middle(|cost| cost.run_ms), checkpoint_ms: middle(|cost| cost.checkpoint_ms) }
}
