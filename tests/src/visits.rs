//! A process function with every kind of state and timers of event time: visits, the bids on an auction of which each is at most [`GAP`]
//! behind the one before. What it gives depends on the input and its cuts alone, so a disturbed run can be compared with one that was left
//! alone.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use waterclock::command::{OutputTable, Table};
use waterclock::prelude::*;
use waterclock_core::source::CutLimits;

/// The most microseconds of event time between two bids of a visit.
const GAP: i64 = 500_000;

/// The program's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The job's directory
    root: PathBuf,
}

#[derive(Deserialize)]
struct Bid {
    price: i64,
    channel: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Visit {
    auction: i64,
    start: i64,
    prices: Vec<i64>,
    channels: Vec<String>,
    /// Visits of the auction before this one.
    earlier: u32,
}

/// The first and the last bid's time.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Open {
    start: i64,
    last: i64,
}

struct Visits {
    open: ValueState<Open>,
    prices: ListState<i64>,
    channels: MapState<String, u32>,
    /// Forgotten when nothing was seen of an auction for two seconds.
    earlier: ValueState<u32>,
}

impl Visits {
    fn new(states: &mut States) -> Self {
        Self {
            open: states.value("open"),
            prices: states.list("prices"),
            channels: states.map("channels"),
            earlier: states.ttl(Ttl::event_time(Duration::from_secs(2))).value("earlier"),
        }
    }
}

impl ProcessFunction for Visits {
    type Key = i64;
    type Input = Bid;
    type Output = Visit;

    fn process(&self, _auction: &i64, bid: Bid, context: &mut ProcessContext<'_, Visit>) -> Result<()> {
        let time = context.event_time()?.0;
        let open = self.open.get(context).copied().unwrap_or(Open { start: time, last: time });
        context.delete_timer(Timer::event_time(open.last + GAP + 1));
        let open = Open { start: open.start.min(time), last: open.last.max(time) };
        self.open.set(context, open)?;
        self.prices.push(context, bid.price)?;
        if let Some(channel) = bid.channel {
            let seen = self.channels.get(context, &channel).copied().unwrap_or(0);
            self.channels.insert(context, channel, seen + 1)?;
        }
        context.set_timer(Timer::event_time(open.last + GAP + 1))
    }

    fn on_timer(&self, auction: &i64, _timer: Timer, context: &mut ProcessContext<'_, Visit>) -> Result<()> {
        let Some(open) = self.open.clear(context) else { return Ok(()) };
        let earlier = self.earlier.get(context).copied().unwrap_or(0);
        self.earlier.set(context, earlier + 1)?;
        let channels = self.channels.iter(context).map(|(channel, seen)| format!("{channel}: {seen}")).collect();
        let prices = self.prices.iter(context).copied().collect();
        context.emit(Visit { auction: *auction, start: open.start, prices, channels, earlier });
        self.prices.clear(context);
        self.channels.clear(context);
        Ok(())
    }
}

/// Reads `<root>/in/`, writes `<root>/out/`, a file per batch.
pub fn visits_job(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let (input, output) = (arguments.root.join("in").display().to_string(), arguments.root.join("out").display().to_string());
    let columns = [
        ("auction", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("date_time", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    let columns = Schema::new(columns.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
    let table = Table::new("bid", &input, "json").columns(columns.into());
    let table = table.limits(CutLimits { max_files: Some(1), ..CutLimits::default() });
    let mut pipeline = Pipeline::new();
    let bids = context.source(&mut pipeline, &table)?.watermark("date_time", Duration::ZERO)?;
    let visits = bids.key_by([col("auction")]).process("visits", Visits::new)?;
    pipeline.sink("visits", context.sink(&OutputTable::new("visits", &output, "json"))?, visits)?;
    pipeline.build()
}
