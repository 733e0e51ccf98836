//! Proofs from outside: real processes on real files. `docs/testing.md` says how each is run, in short and in full.

// A panic here is a failure with a place.
#![allow(clippy::unwrap_used)]

mod abort;
mod bad_input;
mod branches;
mod delays;
mod fencing;
mod idleness;
mod jobs;
mod kill;
mod log;
mod memory;
mod places;
mod replay;
mod retain;
mod s3;
mod state;
mod stateful;
mod statics;
mod stdin;
mod support;
mod threads;
mod visits;
