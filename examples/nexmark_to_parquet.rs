//! Writes Nexmark bids as Parquet files, with prices in euro: the generator, expressions, and a sink of files.
//!
//! ```sh
//! cargo run --release --example nexmark_to_parquet -- run --events 10000000 --output /tmp/bids --checkpoint /tmp/bids-checkpoint --until-caught-up
//! ```
//!
//! Kill it at any moment and start it again: the files are the same in the end. Give `s3://bucket/bids/` as output to write to a bucket.

use std::process::ExitCode;
use waterclock::command::{OutputTable, Table};
use waterclock::prelude::*;

#[derive(clap::Args)]
struct Arguments {
    /// How many events of the auction house to make; 46 in 50 are bids
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// A directory or a bucket for the files
    #[arg(long)]
    output: String,
    /// How the files are compressed: snappy, lz4, zstd(LEVEL), none
    #[arg(long, default_value = "zstd(1)")]
    compression: String,
}

fn build(arguments: &Arguments, context: &JobContext) -> Result<Job> {
    let mut pipeline = Pipeline::new();
    let location = format!("nexmark://bid?events={}", arguments.events);
    let bids = context.source(&mut pipeline, &Table::new("bid", &location, "nexmark"))?;
    let converted = bids.with_column("price", col("price") * lit(0.908))?;
    let output = OutputTable::new("bids", &arguments.output, "parquet").option("compression", &arguments.compression);
    pipeline.sink("bids", context.sink(&output)?, converted)?;
    pipeline.build()
}

fn main() -> ExitCode {
    main_with(build)
}
