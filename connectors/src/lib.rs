//! Sources and sinks.
//!
//! [`connectors`] is all that come with Waterclock, for tables in SQL; each module also has what a program builds by itself.
//!
//! - Sources and sinks: [`file`](mod@file), in any object store.
//! - Sources: [`stdin`], and rows that are made: [`nexmark`], [`rate`].
//! - Sinks: [`stdout`], [`for_each_batch`] (a function), [`blackhole`], [`memory`] (for tests).

pub mod blackhole;
pub mod file;
pub mod for_each_batch;
pub mod format;
pub mod memory;
pub mod nexmark;
pub mod rate;
mod registry;
mod staged_rows;
pub mod stdin;
pub mod stdout;

pub use registry::connectors;
