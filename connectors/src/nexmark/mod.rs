//! `nexmark://person`, `nexmark://auction`, `nexmark://bid`: the field's standard workload, generated.
//!
//! Every row is a pure function of the seed and its event's number: the same on every machine, in any split, after any restart. There
//! is one partition, `events`, whose offset is the number of the next event of any kind.
//!
//! Parameters, in the location: `events` (events of all three kinds after which the stream ends; never, if absent), `seed` (0), `rate`
//! (events per second of event time, 10000), `start` (event time of the first event), `out_of_order` (a duration, 0), `late_share` (0)
//! and `late_by` (60s).

mod columns;
mod event;
mod random;
mod source;

pub use columns::schema;
pub use event::{Kind, Settings};
pub use source::nexmark_source;
