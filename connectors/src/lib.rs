//! Sources and sinks.

pub mod file;
pub mod format;
pub mod nexmark;
