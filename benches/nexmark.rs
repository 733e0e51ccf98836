//! Nexmark queries over Parquet files in 20 batches, into a counter and, without a memory, into Parquet.
//!
//! `WATERCLOCK_BENCH_EVENTS` says how many events the files are made of (46 of 50 are bids, 3 are auctions).

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use waterclock_benches::events::{Events, Table};
use waterclock_benches::number;
use waterclock_benches::queries::{STATELESS, all};
use waterclock_benches::stream::{self, Settings, Sink};
use waterclock_core::Result;

fn main() -> Result<()> {
    let count = number("WATERCLOCK_BENCH_EVENTS", 50_000, 2_000_000);
    let (bids, auctions) = (Events::generate(Table::Bid, count)?, Events::generate(Table::Auction, count)?);
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let counted = all().map(|query| (query, Sink::Blackhole));
    for (query, sink) in counted.chain(STATELESS.map(|query| (query, Sink::Parquet))) {
        let events = if query.table == Table::Bid { &bids } else { &auctions };
        let mut group = criterion.benchmark_group(format!("nexmark into {sink}"));
        group.throughput(Throughput::Elements(events.rows));
        group.bench_function(BenchmarkId::from_parameter(query.name), |bencher| {
            bencher.iter(|| black_box(stream::query(events, &query, sink, &Settings::default()).expect("a bench's query runs")));
        });
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
