//! The language, from text or Rust to rows: plans are made by the public API and run, without a driver, on rows in memory.

// A panic here is a failure with a place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clock;
mod combined;
mod distant_times;
mod errors;
mod expressions;
mod fingerprints;
mod functions;
mod grouped;
mod joins;
mod modes;
mod pipelines;
mod plans;
mod process;
mod processing_windows;
mod queries;
mod refusals;
mod restarts;
mod sessions;
mod stateful;
mod sums;
mod support;
mod times;
mod unnest;
mod updates;
