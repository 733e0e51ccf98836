//! Files in any object store, as sources and as sinks.
