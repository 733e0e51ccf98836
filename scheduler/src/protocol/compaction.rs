//! Which layers of a table to merge when one more is put on top.
//!
//! Layers stay sorted: each is larger than all newer ones together. So a chain is never longer than the logarithm of the table's size,
//! and a byte is merged again only into a layer of at least twice the size: the cost of merging follows the changes, not the table.

use std::ops::Range;

/// Sizes in bytes, oldest first, the new layer last. Returns the suffix that becomes one layer; of length 1 if nothing is to be merged.
pub fn plan(sizes: &[u64]) -> Range<usize> {
    let mut start = sizes.len().saturating_sub(1);
    let mut merged = sizes.last().copied().unwrap_or(0);
    while start > 0 && sizes[start - 1] <= merged {
        start -= 1;
        merged = merged.saturating_add(sizes[start]);
    }
    start..sizes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keeps a chain, and counts the bytes that were written for it. Merging gains nothing here: every key is another.
    fn run(changes: &[u64]) -> (Vec<u64>, u64) {
        let (mut chain, mut written) = (Vec::new(), 0);
        for &change in changes {
            chain.push(change);
            let merged = plan(&chain);
            let size = chain[merged.clone()].iter().sum();
            chain.truncate(merged.start);
            chain.push(size);
            written += size;
        }
        (chain, written)
    }

    proptest! {
        #[test]
        fn chains_are_short_and_merging_is_cheap(changes in prop::collection::vec(1u64..1_000, 1..600)) {
            let total: u64 = changes.iter().sum();
            let (chain, written) = run(&changes);
            let bits = u64::from(64 - total.leading_zeros());
            prop_assert_eq!(chain.iter().sum::<u64>(), total);
            prop_assert!(chain.len() as u64 <= bits + 1, "{} layers", chain.len());
            prop_assert!(written <= total * (bits + 1), "{} bytes written for {}", written, total);
        }
    }

    #[test]
    fn a_small_change_leaves_a_large_table_alone() {
        assert_eq!(plan(&[1_000_000, 3]), 1..2);
        assert_eq!(plan(&[1_000_000, 3, 3]), 1..3);
        assert_eq!(plan(&[5]), 0..1);
        assert_eq!(plan(&[]), 0..0);
    }
}
