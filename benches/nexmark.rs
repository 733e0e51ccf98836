//! Nexmark's stateless queries over Parquet files in 20 batches, into a counter and into Parquet.
//!
//! `WATERCLOCK_BENCH_EVENTS` says how many events the files are made of (46 of 50 are bids).

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use waterclock_benches::bids::Bids;
use waterclock_benches::number;
use waterclock_benches::queries::QUERIES;
use waterclock_benches::stream::{self, Settings, Sink};
use waterclock_core::Result;

fn main() -> Result<()> {
    let bids = Bids::generate(number("WATERCLOCK_BENCH_EVENTS", 50_000, 2_000_000))?;
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for sink in [Sink::Blackhole, Sink::Parquet] {
        let mut group = criterion.benchmark_group(format!("nexmark into {sink}"));
        group.throughput(Throughput::Elements(bids.rows));
        for query in QUERIES {
            group.bench_function(BenchmarkId::from_parameter(query.name), |bencher| {
                bencher.iter(|| black_box(stream::query(&bids, query.sql, sink, &Settings::default()).expect("a bench's query runs")));
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
