//! What tests of this crate and of others need: a store that fails on demand.

mod fault;

pub use fault::{Effect, Fault, FaultStore, Faults};
