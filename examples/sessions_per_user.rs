//! Sessions per user: state for each user, and timers that end what has gone quiet. The bids of the embedded Nexmark generator go in, a row
//! per session comes out.
//!
//! ```sh
//! cargo run --example sessions_per_user -- run --output /tmp/sessions --checkpoint /tmp/sessions-checkpoint --until-caught-up
//! cargo run -- state --checkpoint /tmp/sessions-checkpoint --operator sessions
//! ```
//!
//! The second shows the sessions that are still open: each state is a table. `--drain` instead of `--until-caught-up` ends the stream, and
//! with it these.
//!
//! A session that ends by a pause alone is a window: `bids.group_by([session(col("date_time"), pause), col("bidder")]).aggregate(...)`.
//! This one also ends when a user has bid often enough, which no window can say.

use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::time::Duration;
use waterclock::command::{OutputTable, Table};
use waterclock::prelude::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use waterclock::prelude::*;

#[derive(clap::Args)]
struct Arguments {
    /// How many events of the auction house to make; 46 in 50 are bids
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// A session ends when its user pauses for so many milliseconds of event time
    #[arg(long, default_value_t = 1_000)]
    pause_ms: u64,
    /// A session ends with its so many'th bid
    #[arg(long, default_value_t = 20)]
    most_bids: u64,
    /// A directory for JSON files with a session per row
    #[arg(long)]
    output: String,
}

/// What is read of a bid, besides its event time and its key.
#[derive(Deserialize)]
struct Bid {
    price: i64,
}

/// What is remembered of a user. Times are microseconds.
#[derive(Clone, Serialize, Deserialize)]
struct Open {
    start: i64,
    last: i64,
    bids: u64,
    highest: i64,
}

#[derive(Serialize)]
struct Session {
    bidder: i64,
    start: i64,
    last: i64,
    bids: u64,
    highest: i64,
}

/// The columns of a session: as TIMESTAMPs, its times are readable.
fn columns() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns =
        [("bidder", DataType::Int64), ("start", time.clone()), ("last", time), ("bids", DataType::UInt64), ("highest", DataType::Int64)];
    Schema::new(columns.map(|(name, kind)| Field::new(name, kind, false)).to_vec()).into()
}

struct Sessions {
    pause: i64,
    most_bids: u64,
    open: ValueState<Open>,
}

impl Sessions {
    /// When a session has ended if nothing more comes: a bid just at the pause's end still belongs to it.
    fn end(&self, open: &Open) -> Timer {
        Timer::event_time(open.last + self.pause + 1)
    }

    fn close(&self, bidder: i64, context: &mut ProcessContext<'_, Session>) {
        if let Some(Open { start, last, bids, highest }) = self.open.clear(context) {
            context.emit(Session { bidder, start, last, bids, highest });
        }
    }
}

impl ProcessFunction for Sessions {
    type Key = i64;
    type Input = Bid;
    type Output = Session;

    fn process(&self, bidder: &i64, bid: Bid, context: &mut ProcessContext<'_, Session>) -> Result<()> {
        let time = context.event_time()?.0;
        let mut open = self.open.get(context).cloned().unwrap_or(Open { start: time, last: time, bids: 0, highest: 0 });
        context.delete_timer(self.end(&open));
        open = Open { start: open.start.min(time), last: open.last.max(time), bids: open.bids + 1, highest: open.highest.max(bid.price) };
        let (end, is_full) = (self.end(&open), open.bids >= self.most_bids);
        self.open.set(context, open)?;
        if is_full {
            self.close(*bidder, context);
            return Ok(());
        }
        context.set_timer(end)
    }

    fn on_timer(&self, bidder: &i64, _timer: Timer, context: &mut ProcessContext<'_, Session>) -> Result<()> {
        self.close(*bidder, context);
        Ok(())
    }
}

fn build(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let mut pipeline = Pipeline::new();
    let location = format!("nexmark://bid?events={}", arguments.events);
    let bids = context.source(&mut pipeline, &Table::new("bid", &location, "nexmark"))?.watermark("date_time", Duration::ZERO)?;
    let (pause, most_bids) = (i64::try_from(arguments.pause_ms * 1_000).unwrap_or(i64::MAX), arguments.most_bids);
    let sessions = bids.key_by([col("bidder")]).process_with_schema("sessions", columns(), |states| Sessions {
        pause,
        most_bids,
        open: states.value("open"),
    })?;
    pipeline.sink("sessions", context.sink(&OutputTable::new("sessions", &arguments.output, "json"))?, sessions)?;
    pipeline.build()
}

fn main() -> ExitCode {
    main_with(build)
}
