//! against_datafusion.

fn main() {}
