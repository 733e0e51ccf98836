//! What the benches and the oracle share: Nexmark's queries, directories of its events, and DataFusion's one-shot answer.

pub mod events;
pub mod one_shot;
pub mod queries;
pub mod stream;

/// Whether a bench only has to show that it runs: `cargo bench -- --test`.
pub fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// A number from the environment, else one of two defaults: for a test, or for a measurement.
pub fn number(variable: &str, in_test: u64, in_bench: u64) -> u64 {
    let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(if is_test() { in_test } else { in_bench })
}
