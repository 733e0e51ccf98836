//! The driver: cut, run, commit, publish; recovery and replay; execution on rayon; metrics.

pub mod exec;
pub mod protocol;
