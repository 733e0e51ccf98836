//! What the benches and the oracle share: Nexmark's queries, directories of its events, and DataFusion's one-shot answer.

pub mod again;
pub mod events;
pub mod one_shot;
pub mod process;
pub mod queries;
pub mod slow;
pub mod stream;

use std::num::NonZeroUsize;

/// Whether a bench only has to show that it runs: `cargo bench -- --test`.
pub fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// How many threads a bench runs on: `WATERCLOCK_BENCH_THREADS`, else as many as it has cores.
pub fn threads() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    std::env::var("WATERCLOCK_BENCH_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(cores)
}

/// A number from the environment, else one of two defaults: for a test, or for a measurement.
pub fn number(variable: &str, in_test: u64, in_bench: u64) -> u64 {
    let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(if is_test() { in_test } else { in_bench })
}
