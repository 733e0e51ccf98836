//! What a program with a job of its own usually needs.

pub use crate::command::{JobContext, main_with};
pub use arrow;
pub use arrow::array::RecordBatch;
pub use waterclock_connectors::blackhole::Blackhole;
pub use waterclock_connectors::for_each_batch::ForEachBatch;
pub use waterclock_connectors::memory::MemorySink;
pub use waterclock_core::expressions::*;
pub use waterclock_core::id::BatchId;
pub use waterclock_core::job::Job;
pub use waterclock_core::pipeline::{GroupedStream, JoinKind, KeyedStream, Pipeline, Stream};
pub use waterclock_core::process::{ListState, MapState, ProcessContext, ProcessFunction, States, TimeDomain, Timer, Ttl, ValueState};
pub use waterclock_core::sink::SinkMode;
pub use waterclock_core::source::EventTime;
pub use waterclock_core::time::{Timestamp, Watermark};
pub use waterclock_core::{Error, ErrorKind, Result};
