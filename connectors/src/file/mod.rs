//! Files in any object store, as sources and as sinks.

mod sink;
pub(crate) mod source;

pub use sink::file_sink;
pub(crate) use sink::manifest;
pub use source::file_source;
