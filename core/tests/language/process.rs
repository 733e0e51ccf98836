//! Process functions from Rust: planned by the public API, and driven batch by batch through the traits of operators.

mod event_time;
mod machine;
mod oracle;
mod planning;
mod time;
