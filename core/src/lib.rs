//! What a Waterclock pipeline is and computes: plans, SQL, operators, state, event time, and the traits that sources and sinks
//! implement. There is no clock here, no driver and no connector.
//!
//! - What users write becomes a [`job`]: a [`plan`] with its sources and sinks. They write [`sql`], or a [`pipeline`] of streams with
//!   [`expressions`] and functions of their own; both are planned in [`pipeline`].
//! - What a plan consists of are [`operator`]s: without a memory in [`transform`]; with one in [`aggregate`] and [`process`], whose tables
//!   are [`state`]. They see a [`batch`], and [`time`] only as it is given to them; [`window`] divides it.
//! - Where rows come from is a [`source`], where they go a [`sink`]. A [`connector`] makes them of a table's definition and [`options`].
//! - What all stand on: object [`storage`], the [`memory`] budget, [`id`]s and the [`error`] type.

pub mod aggregate;
pub mod batch;
pub mod connector;
pub mod error;
pub mod expressions;
pub mod id;
mod interned;
pub mod job;
pub mod memory;
pub mod operator;
pub mod options;
pub mod pipeline;
pub mod plan;
pub mod process;
pub mod sink;
pub mod source;
pub mod sql;
pub mod state;
pub mod storage;
pub mod time;
pub mod transform;
pub mod window;

pub use error::{Error, ErrorKind, Result, ResultExt};
