//! What the second core gives: queries on one core, and on all that there are. Both sides run in processes of their own, in turn, the one on
//! the first core alone by `taskset` (where there is none, with one thread); the best of several rounds counts.
//! `WATERCLOCK_BENCH_QUERIES` names the queries, divided by commas.

use mimalloc::MiMalloc;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use waterclock_benches::again::{Cores, again, can_pin, output};
use waterclock_benches::events::{Events, Table};
use waterclock_benches::queries::{Query, all};
use waterclock_benches::stream::{self, Settings, Sink};
use waterclock_benches::{is_test, number, threads};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type AnyError = Box<dyn std::error::Error>;

/// Where the child finds the events.
const EVENTS: &str = "WATERCLOCK_BENCH_ROOT";

fn main() -> Result<(), AnyError> {
    match std::env::var_os(EVENTS) {
        Some(root) => measure(Path::new(&root)),
        None => compare(),
    }
}

fn wanted() -> Vec<Query> {
    let names = std::env::var("WATERCLOCK_BENCH_QUERIES").unwrap_or_else(|_| "q1,q5,q12".into());
    all().filter(|query| query.table == Table::Bid && names.split(',').any(|name| name == query.name)).collect()
}

/// What the child does: each query once, and tells its seconds.
fn measure(root: &Path) -> Result<(), AnyError> {
    let events = Events::open(Table::Bid, root)?;
    for query in wanted() {
        let begun = Instant::now();
        stream::query(&events, &query, Sink::Blackhole, &Settings::default())?;
        writeln!(std::io::stdout(), "{} {}", query.name, begun.elapsed().as_secs_f64())?;
    }
    Ok(())
}

fn compare() -> Result<(), AnyError> {
    let events = Events::generate(Table::Bid, number("WATERCLOCK_BENCH_EVENTS", 50_000, 10_000_000))?;
    let rounds = number("WATERCLOCK_BENCH_ROUNDS", 1, 5);
    let mut best: BTreeMap<(String, bool), f64> = BTreeMap::new();
    for cores in (0..rounds).flat_map(|_| [Cores::One, Cores::All]) {
        let mut child = again(cores)?;
        child.env(EVENTS, events.root());
        for line in output(child)?.lines() {
            let (name, seconds) = line.split_once(' ').ok_or("the bench's own child says something else than its figures")?;
            let (key, seconds) = ((name.to_owned(), cores == Cores::All), seconds.parse()?);
            best.entry(key).and_modify(|best| *best = f64::min(*best, seconds)).or_insert(seconds);
        }
    }
    let mut out = std::io::stdout().lock();
    let one_core = if can_pin() { "one core" } else { "one thread, for there is no taskset" };
    writeln!(out, "{} bids, {one_core} against {} threads, best of {rounds}", events.rows, threads())?;
    writeln!(out, "{:<8}{:>12}{:>12}{:>8}", "query", "one ms", "all ms", "ratio")?;
    for query in wanted() {
        let of = |is_all| best.get(&(query.name.to_owned(), is_all)).copied().unwrap_or(f64::NAN);
        let (one, all) = (of(false), of(true));
        writeln!(out, "{:<8}{:>12.0}{:>12.0}{:>8.2}", query.name, one * 1e3, all * 1e3, one / all)?;
    }
    if is_test() {
        writeln!(out, "a test run: the figures mean nothing")?;
    }
    Ok(())
}
