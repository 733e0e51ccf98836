//! The behavioural suites: what every sink must do, and what every source must do.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod publication;
mod sinks;
mod sources;
mod support;
mod words;
