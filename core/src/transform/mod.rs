//! Operators without a memory.

mod clock;
mod filter_project;
mod join_table;
mod map_batches;
mod static_join;
mod static_query;
mod unnest;

pub(crate) use clock::at as at_time;
pub use filter_project::FilterProject;
pub(crate) use filter_project::Sql;
pub use map_batches::{BatchFunction, MapBatches};
pub use static_join::{StaticJoin, StaticJoinSpec};
pub use static_query::{StaticQuery, StaticStep, StaticStepKind};
pub use unnest::Unnest;
