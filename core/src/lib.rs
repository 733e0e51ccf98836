//! What a Waterclock pipeline is and computes: plans, SQL, operators, state, event time, and the traits that sources and sinks
//! implement. There is no clock here, no driver and no connector.

pub mod aggregate;
pub mod batch;
pub mod connector;
pub mod error;
pub mod expressions;
pub mod id;
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
