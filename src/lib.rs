//! Waterclock: a micro-batch stream processor for one good machine.
//!
//! A driver cuts unbounded input into interval-sized batches, runs each as a parallel DAG on Arrow data, and commits output, state and
//! offsets with one atomic object in object storage. A kill at any moment loses and doubles nothing; any batch can be looked at as a
//! value with a number. No cluster, no broker, no service.
//!
//! There are two ways in. The `waterclock` command runs a SQL file. This library is for programs of one's own: build a
//! [`Job`](core::job::Job) and hand it to [`command::main_with`], and the binary has the command's flags, exit codes, progress and
//! recovery.
//!
//! # A job
//!
//! ```no_run
//! use waterclock::command::{OutputTable, Table};
//! use waterclock::prelude::*;
//!
//! fn build(_: &(), context: &JobContext) -> Result<Job> {
//!     let mut pipeline = Pipeline::new();
//!     let bids = context.source(&mut pipeline, &Table::new("bid", "nexmark://bid?events=1000000", "nexmark"))?;
//!     let high = bids.filter(col("price").gt(lit(1_000_000)))?.with_column("dollars", col("price") / lit(100))?;
//!     pipeline.sink("high", context.sink(&OutputTable::new("high", "/tmp/high/", "parquet"))?, high)?;
//!     pipeline.build()
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     main_with(build)
//! }
//! ```
//!
//! The crates behind it, from the inside out:
//!
//! - [`core`]: what a pipeline is and computes. No clock, no driver, no connector.
//! - [`connectors`]: sources and sinks.
//! - [`scheduler`]: the driver: cut, run, commit, publish; recovery; execution on rayon.

pub use waterclock_connectors as connectors;
pub use waterclock_core as core;
pub use waterclock_scheduler as scheduler;

pub mod command;
pub mod prelude;
