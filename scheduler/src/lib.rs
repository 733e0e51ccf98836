//! The driver: cut, run, commit, publish; recovery and replay; execution on rayon; metrics.
//!
//! How a batch flows: [`driver`] cuts it, [`exec`] runs it, [`checkpoint`] stages its state, [`log`] commits its record, and the sinks
//! publish it. What is decided on the way is in [`protocol`], as pure functions over plain data.

pub mod checkpoint;
pub mod driver;
pub mod exec;
mod history;
pub mod log;
mod places;
pub mod progress;
pub mod protocol;
pub mod replay;
pub mod seams;
pub mod spool;
pub mod state_view;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use driver::{Driver, DriverSettings, Summary, Trigger, stored_schemas};
pub use log::read_log;
pub use progress::{BatchProgress, Observer, Unobserved};
pub use protocol::record::Record;
pub use replay::{Comparison, Replay, ReplaySettings, ReplayedBatch};
pub use seams::{Clock, Merging, Nonces, Seams, Stop};
pub use state_view::StateView;
