//! Which layers of a table to merge when one more is put on top.
//!
//! The oldest layer holds the table as it once was, those above it what changed since. Two rules, the first that applies:
//! - when the changes outweigh the oldest layer by far, all becomes one: so state takes up, and a restore reads, a small multiple of the
//!   table;
//! - else the longest run of newest layers becomes one that is many times larger than any of them: so a chain is as long as a
//!   logarithm of the table's size, and a byte is merged as often, and the cost of merging follows the changes, not the table.

use std::ops::Range;

/// How many times the oldest layer the others together may be.
const OUTWEIGHS: u64 = 2;
/// How many times its largest part a merged layer is, at least.
const GROWTH: u64 = 10;

/// Sizes in bytes, oldest first, the new layer last. Returns the suffix that becomes one layer; of length 1 if nothing is to be merged.
pub fn plan(sizes: &[u64]) -> Range<usize> {
    let Some((oldest, changes)) = sizes.split_first() else { return 0..0 };
    if changes.iter().sum::<u64>() > oldest.saturating_mul(OUTWEIGHS) {
        return 0..sizes.len();
    }
    let (mut sum, mut largest, mut start) = (0u64, 0u64, sizes.len() - 1);
    for (index, &size) in sizes.iter().enumerate().rev() {
        (sum, largest) = (sum.saturating_add(size), largest.max(size));
        if sum >= largest.saturating_mul(GROWTH) {
            start = index;
        }
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
            prop_assert!(chain.len() as u64 <= GROWTH * bits, "{} layers", chain.len());
            prop_assert!(written <= total * (bits / 2 + 3), "{} bytes written for {}", written, total);
        }

        #[test]
        fn the_whole_is_no_more_than_a_multiple_of_the_oldest(changes in prop::collection::vec(0u64..1_000_000, 1..100)) {
            let (chain, _) = run(&changes);
            prop_assert!(chain.iter().sum::<u64>() <= chain[0] * (OUTWEIGHS + 1));
        }
    }

    #[test]
    fn a_small_change_leaves_a_large_table_alone() {
        assert_eq!(plan(&[1_000_000, 3]), 1..2);
        assert_eq!(plan(&[1_000_000, 30, 3, 3]), 3..4);
        assert_eq!(plan(&[1_000_000, 30, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]), 2..12);
        assert_eq!(plan(&[5]), 0..1);
        assert_eq!(plan(&[]), 0..0);
    }

    #[test]
    fn changes_that_outweigh_the_table_are_merged_with_it() {
        assert_eq!(plan(&[10, 10, 10]), 2..3);
        assert_eq!(plan(&[10, 10, 10, 1]), 0..4);
    }
}
