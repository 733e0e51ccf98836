//! What the benches and the oracle share.
