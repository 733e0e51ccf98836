//! fixed_cost.

fn main() {}
