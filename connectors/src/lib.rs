//! Sources and sinks.
//!
//! [`connectors`] is all that come with Waterclock, for tables in SQL; each module also has what a program builds by itself.

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
