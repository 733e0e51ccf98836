//! Operators without a memory: functions of rows, which lanes share and the executor fuses.
//!
//! [`filter_project`] and [`unnest`] are what SQL asks for, [`map_batches`] is a closure of a program. A [`static_join`] looks rows up in a
//! [`join_table`] of what a [`static_query`] computed. [`clock`] gives them the batch's time.

mod clock;
mod filter_project;
mod join_table;
mod map_batches;
mod static_join;
mod static_query;
mod unnest;

pub(crate) use clock::{at as at_time, reads_clock};
pub use filter_project::FilterProject;
pub(crate) use filter_project::{Sql, columns_of};
pub use map_batches::{BatchFunction, MapBatches};
pub use static_join::{StaticJoin, StaticJoinSpec};
pub use static_query::{StaticQuery, StaticStep, StaticStepKind};
pub use unnest::Unnest;
