//! Operators without a memory.

mod clock;
mod filter_project;
mod map_batches;
mod unnest;

pub use filter_project::FilterProject;
pub use map_batches::{BatchFunction, MapBatches};
pub use unnest::Unnest;
