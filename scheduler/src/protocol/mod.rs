//! The commit protocol, decided purely: what is written, what may follow what, what a doubtful write means, what may be removed.
//!
//! What flows in: records, names of objects, sizes of layers, all of it plain data. What flows out: decisions. There is no store and no
//! clock in here, so that every rule is tested alone; [`crate::log`] and [`crate::driver`] carry the decisions out.
//!
//! - [`record`]: what a record of the commit log says; [`envelope`]: how it is written, so that damage shows.
//! - [`paths`]: where everything is.
//! - [`resolve`]: what a failed conditional put means; [`galloping`]: which record is the newest.
//! - [`invariants`]: what must hold between a record and those before it.
//! - [`compatibility`]: whether a program may go on with the state of another; [`meaning`]: how what two operators mean differs.
//! - [`compaction`], [`collect`]: which layers of state to merge, which leftovers to remove.

pub mod collect;
pub mod compaction;
pub mod compatibility;
pub mod envelope;
pub mod galloping;
pub mod invariants;
pub mod meaning;
pub mod paths;
pub mod record;
pub mod resolve;
pub mod schema;

#[cfg(test)]
pub(crate) mod samples;
