//! GROUP BY over a stream: keyed state that grows row by row, and results as windows close or as they change.
//!
//! What flows in: rows, divided by key group. What flows out: per group a row of keys, window and aggregates, when the [`Emit`] says so.
//! What is checkpointed: the groups that a batch changed, nothing else; groups expire by the watermark, so closing a window writes nothing.
//!
//! - [`accumulators`]: the aggregate functions, in columns: one slot per group. [`calls`]: with FILTER and arguments. [`distinct`]:
//!   DISTINCT. [`slots`]: all calls of an operator. [`reads`]: whether what is computed of results has changed.
//! - [`keys`]: from keys to slots. [`groups`]: keys and slots, and what a batch changed.
//! - [`windowed`]: the operator for everything but sessions: groups per pane or window, or one table for all. [`sessions`]: sessions.
//! - [`combine`]: groups of a few rows, before they reach the operator. [`spare`]: tables of groups that are gone, for the next ones.
//! - [`spec`]: what is aggregated, by what, and how it is emitted; makes the operators.

mod accumulators;
mod calls;
mod combine;
mod distinct;
mod groups;
mod keys;
mod reads;
mod rows;
mod sessions;
mod slots;
mod spare;
mod spec;
mod windowed;

pub use calls::CallSpec;
pub(crate) use calls::by_arrival;
pub use spec::{Aggregate, Clock, Emit, GroupTime, Origins, OutputColumn};
