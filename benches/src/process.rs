//! A process function: the last bid of each bidder on each auction, each time that it changes.

use crate::events::{BATCHES, Events, Table};
use crate::queries::Query;
use crate::stream::{self, Settings};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use waterclock::prelude::*;
use waterclock_connectors::connectors;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::SourceId;
use waterclock_core::options::Options;
use waterclock_core::source::{CutLimits, OnBadRow, SourceSettings};
use waterclock_core::storage::{Location, Storage};
use waterclock_core::{ErrorKind, ResultExt};
use waterclock_scheduler::BatchProgress;

/// The name of the function, and the SELECT that gives what it knows at the end.
pub const LAST_BID: Query = Query {
    name: "process",
    table: Table::Bid,
    mode: "append",
    sql: "",
    one_shot: "SELECT bidder, auction, last_value(price ORDER BY date_time, price) AS price FROM bid GROUP BY bidder, auction",
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
struct Key {
    bidder: i64,
    auction: i64,
}

#[derive(Deserialize)]
struct Bid {
    price: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Last {
    time: i64,
    price: i64,
}

#[derive(Serialize, Deserialize)]
struct LastBid {
    bidder: i64,
    auction: i64,
    price: i64,
}

struct LastBids(ValueState<Last>);

impl ProcessFunction for LastBids {
    type Key = Key;
    type Input = Bid;
    type Output = LastBid;

    fn process(&self, key: &Key, bid: Bid, context: &mut ProcessContext<'_, LastBid>) -> Result<()> {
        let last = Last { time: context.event_time()?.0, price: bid.price };
        if self.0.get(context).is_none_or(|before| *before < last) {
            self.0.set(context, last)?;
            context.emit(LastBid { bidder: key.bidder, auction: key.auction, price: bid.price });
        }
        Ok(())
    }
}

/// Runs it over events to the end of the stream, into a sink that counts, with a checkpoint of its own.
///
/// # Errors
/// Whatever fails.
pub fn last_bids(events: &Events, settings: &Settings) -> Result<Vec<BatchProgress>> {
    let scratch = events.scratch().or_error(ErrorKind::Unavailable, || "can't make a place for the checkpoint".into())?.keep();
    let storage = Storage::builder().fsync(settings.fsync).start()?;
    let mut pipeline = Pipeline::new();
    let bids = source(&mut pipeline, events, &storage)?.watermark("date_time", Duration::from_secs(2))?;
    let last = bids.key_by([col("bidder"), col("auction")]).process("last_bids", |states| LastBids(states.value("last")))?;
    pipeline.sink("last", waterclock_connectors::blackhole::Blackhole::sink(), last)?;
    let settings = Settings { drain: true, ..settings.clone() };
    stream::run_job(pipeline.build()?, &storage, &Location::from_path(&scratch.join("checkpoint"))?, &settings)
}

fn source(pipeline: &mut Pipeline, events: &Events, storage: &Storage) -> Result<Stream> {
    let name = events.table.name();
    let location = Location::from_path(&events.directory())?;
    let limits = CutLimits { max_files: Some(events.files.div_ceil(BATCHES)), ..CutLimits::default() };
    let settings = SourceSettings { id: SourceId::from(name), event_time: None, limits, on_bad_row: OnBadRow::Fail };
    let table = TableDefinition { name: name.to_owned(), columns: None, format: "parquet".into(), location, unbounded: true };
    let (connectors, context) = (connectors(), ConnectorContext { storage: storage.clone() });
    let source = connectors.of(&table.location)?.source(&table, &settings, &mut Options::new(name, []), &context)?;
    pipeline.add_source(settings, source, None, table.location.to_string())?;
    pipeline.stream(name)
}
