//! What the tests share.

pub mod input;
pub mod objects;
pub mod output;
pub mod place;
pub mod process;
pub mod s3;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A generator of random numbers, from `WATERCLOCK_SEED` or a new seed, which is printed.
pub fn random(what: &str) -> StdRng {
    let seed = std::env::var("WATERCLOCK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("{what}: repeat with WATERCLOCK_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How often something is done: a number from the environment, else a default that suits a short run.
pub fn repetitions(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
