//! Waterclock in 20 batches, with commits and fsyncs, against DataFusion's one-shot answer over the same files: events per second, and the
//! ratio. Both are measured alternately in one run, on the same number of threads, with the same Parquet codec; the best of several rounds
//! counts. Behind the ratio stands Waterclock's time, and how much of it all batches ran and were staged and committed, which overlaps.
//! `process` is a function of Rust with a state per key, against SQL that gives the same at the end.
//! `WATERCLOCK_BENCH_QUERIES` names the queries to measure, divided by commas; by default all.

use std::io::Write;
use std::time::{Duration, Instant};
use waterclock_benches::events::{BATCHES, Events, Table};
use waterclock_benches::one_shot::OneShot;
use waterclock_benches::process::{LAST_BID, last_bids};
use waterclock_benches::queries::{Query, STATELESS, all};
use waterclock_benches::stream::{self, CODEC, Settings, Sink};
use waterclock_benches::{is_test, number};
use waterclock_scheduler::progress::Durations;

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let settings = Settings::default();
    let rounds = number("WATERCLOCK_BENCH_ROUNDS", 1, 5);
    let count = number("WATERCLOCK_BENCH_EVENTS", 50_000, 10_000_000);
    let (bids, auctions) = (Events::generate(Table::Bid, count)?, Events::generate(Table::Auction, count)?);
    let one_shot = OneShot::open([&bids, &auctions], settings.threads.get())?;
    let wanted = std::env::var("WATERCLOCK_BENCH_QUERIES").ok();
    let is_wanted = |query: &Query| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|name| name == query.name));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} bids, {} auctions, in {} files each, {BATCHES} batches, {} threads, best of {rounds}",
        bids.rows, auctions.rows, bids.files, settings.threads
    )?;
    write!(out, "{:<6}{:<12}{:>16}{:>16}{:>8}", "query", "sink", "waterclock/s", "datafusion/s", "ratio")?;
    writeln!(out, "{:>10}{:>10}{:>10}", "ms", "run", "commit")?;
    let counted = all().chain([LAST_BID]).map(|query| (query, Sink::Blackhole));
    for (query, sink) in counted.chain(STATELESS.map(|query| (query, Sink::Parquet))).filter(|(query, _)| is_wanted(query)) {
        let events = if query.table == Table::Bid { &bids } else { &auctions };
        let (mut ours, mut theirs, mut parts) = (Duration::MAX, Duration::MAX, (0.0, 0.0));
        for _ in 0..rounds {
            let mut batches = Vec::new();
            let took = timed(|| {
                batches = if query.name == LAST_BID.name {
                    last_bids(events, &settings)?
                } else {
                    stream::query(events, &query, sink, &settings)?
                };
                Ok(())
            })?;
            if took < ours {
                let sum = |part: fn(&Durations) -> f64| batches.iter().map(|batch| part(&batch.durations)).sum::<f64>();
                parts = (sum(|took| took.run_ms), sum(|took| took.stage_ms + took.commit_ms));
                ours = took;
            }
            theirs = theirs.min(timed(|| answer(&one_shot, events, query.one_shot, sink))?);
        }
        let per_second = |time: Duration| events.rows as f64 / time.as_secs_f64();
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        write!(out, "{:<6}{:<12}{:>16.0}{:>16.0}{ratio:>8.2}", query.name, sink.to_string(), per_second(ours), per_second(theirs))?;
        writeln!(out, "{:>10.0}{:>10.0}{:>10.0}", ours.as_secs_f64() * 1e3, parts.0, parts.1)?;
    }
    if is_test() {
        writeln!(out, "a test run: the figures mean nothing")?;
    }
    Ok(())
}

fn answer(one_shot: &OneShot, events: &Events, sql: &str, sink: Sink) -> Result<(), AnyError> {
    match sink {
        Sink::Blackhole => one_shot.count(sql).map(drop)?,
        Sink::Parquet => one_shot.write(sql, events.scratch()?.path(), CODEC)?,
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), AnyError>) -> Result<Duration, AnyError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
