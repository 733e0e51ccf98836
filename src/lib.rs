//! Waterclock: a micro-batch stream processor for one good machine.
//!
//! A driver cuts unbounded input into interval-sized batches, runs each as a parallel DAG on Arrow data, and commits output, state and
//! offsets with one atomic object in object storage. A kill at any moment loses and doubles nothing; any batch can be looked at as a
//! value with a number. No cluster, no broker, no service.
//!
//! There are two ways in. The `waterclock` command runs a SQL file. This library is for programs of one's own: build a
//! [`Job`](core::job::Job) and hand it to [`command::main_with`], and the binary has the command's flags, exit codes, progress and
//! recovery.
//!
//! The crates behind it, from the inside out:
//!
//! - [`core`]: what a pipeline is and computes. No clock, no driver, no connector.
//! - [`connectors`]: sources and sinks.
//! - [`scheduler`]: the driver: cut, run, commit, publish; recovery; execution on rayon.

pub use waterclock_connectors as connectors;
pub use waterclock_core as core;
pub use waterclock_scheduler as scheduler;

pub mod command;
pub mod prelude;
