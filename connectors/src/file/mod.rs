//! Files in any object store, as sources and as sinks.

mod sink;

pub use sink::file_sink;
pub(crate) use sink::manifest;
