//! Nexmark.

fn main() {}
