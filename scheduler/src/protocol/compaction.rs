//! Which layers of a table to merge when one more is put on top, and when.
//!
//! The oldest layer holds the table as it once was, those above it what changed since. Two rules, the first that applies:
//! - when the changes outweigh the oldest layer by far, all becomes one: so state takes up, and a restore reads, a small multiple of the
//!   table;
//! - else the longest run of newest layers becomes one that is many times larger than any of them: so a chain is as long as a
//!   logarithm of the table's size, and a byte is merged as often, and the cost of merging follows the changes, not the table.
//!
//! A small merge belongs to the commit that makes it due. A large one is done beside the batches, and commits go on with a longer chain
//! meanwhile, of which only small runs are merged; one that is overdue is waited for before the next commit, so that the chain has its
//! bounds whatever the machine can do.

use std::ops::Range;

/// How many times the oldest layer the others together may be.
const OUTWEIGHS: u64 = 2;
/// How many times its largest part a merged layer is, at least.
const GROWTH: u64 = 10;

/// How many times the oldest layer the others together may be before a merge is waited for.
const OVERDUE: u64 = 8;
/// The most layers of a chain before a merge is waited for.
const MOST_LAYERS: usize = 100;

/// Layers that become one: always the newest ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// None.
    Nothing,
    /// These, before the commit.
    Now(Range<usize>),
    /// These, while batches go on.
    Beside(Range<usize>),
}

/// Sizes in bytes, oldest first, the new layer last. Merges of at least `beside_from` bytes are done beside the batches.
pub fn plan(sizes: &[u64], beside_from: u64) -> Merge {
    let due = due(sizes);
    if due.len() < 2 {
        Merge::Nothing
    } else if is_small(&sizes[due.clone()], beside_from) {
        Merge::Now(due)
    } else {
        Merge::Beside(due)
    }
}

/// The same for the layers above those that are being merged: they are no table, and what is large waits for its turn.
pub fn plan_above(sizes: &[u64], beside_from: u64) -> Merge {
    let due = longest_run(sizes);
    if due.len() > 1 && is_small(&sizes[due.clone()], beside_from) { Merge::Now(due) } else { Merge::Nothing }
}

/// Whether a merge belongs to the commit.
fn is_small(sizes: &[u64], beside_from: u64) -> bool {
    sizes.iter().sum::<u64>() < beside_from
}

/// Whether no commit may make the chain longer before it is merged.
pub fn is_overdue(sizes: &[u64]) -> bool {
    let Some((oldest, changes)) = sizes.split_first() else { return false };
    changes.iter().sum::<u64>() > oldest.saturating_mul(OVERDUE) || sizes.len() > MOST_LAYERS
}

/// The suffix that should become one layer; of length 1 if none should.
fn due(sizes: &[u64]) -> Range<usize> {
    let Some((oldest, changes)) = sizes.split_first() else { return 0..0 };
    if changes.iter().sum::<u64>() > oldest.saturating_mul(OUTWEIGHS) {
        return 0..sizes.len();
    }
    longest_run(sizes)
}

/// The longest suffix that would become many times larger than any of its layers.
fn longest_run(sizes: &[u64]) -> Range<usize> {
    let (mut sum, mut largest, mut start) = (0u64, 0u64, sizes.len().saturating_sub(1));
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
            let merged = due(&chain);
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

    proptest! {
        /// However long merges beside the batches take: the chain keeps its bounds, and what a commit merges is small.
        #[test]
        fn a_chain_is_bounded_however_slow_the_merging(changes in prop::collection::vec((1u64..1_000, 0u32..200), 1..600)) {
            let (mut chain, mut beside): (Vec<u64>, Option<(Range<usize>, u32)>) = (Vec::new(), None);
            let merge = |chain: &mut Vec<u64>, merged: Range<usize>| {
                let size = chain[merged.clone()].iter().sum();
                chain.splice(merged, [size]);
                size
            };
            for (change, takes) in changes {
                if beside.as_ref().is_some_and(|(_, left)| *left == 0) || is_overdue(&chain) {
                    beside.take().map(|(merged, _)| merge(&mut chain, merged));
                }
                if is_overdue(&chain) {
                    let all = 0..chain.len();
                    merge(&mut chain, all);
                }
                beside.iter_mut().for_each(|(_, left)| *left -= 1);
                chain.push(change);
                let fixed = beside.as_ref().map_or(0, |(merged, _)| merged.end);
                let planned = if fixed > 0 { plan_above(&chain[fixed..], 3_000) } else { plan(&chain, 3_000) };
                match planned {
                    Merge::Now(merged) => prop_assert!(merge(&mut chain, fixed + merged.start..fixed + merged.end) < 3_000),
                    Merge::Beside(merged) => beside = Some((merged, takes)),
                    Merge::Nothing => {}
                }
                let total: u64 = chain.iter().sum();
                prop_assert!(chain.len() <= MOST_LAYERS + 1, "{} layers", chain.len());
                prop_assert!(total <= chain[0] * (OVERDUE + 1) + change);
            }
        }
    }

    #[test]
    fn a_small_change_leaves_a_large_table_alone() {
        assert_eq!(due(&[1_000_000, 3]), 1..2);
        assert_eq!(due(&[1_000_000, 30, 3, 3]), 3..4);
        assert_eq!(due(&[1_000_000, 30, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]), 2..12);
        assert_eq!(due(&[5]), 0..1);
        assert_eq!(due(&[]), 0..0);
    }

    #[test]
    fn changes_that_outweigh_the_table_are_merged_with_it() {
        assert_eq!(due(&[10, 10, 10]), 2..3);
        assert_eq!(due(&[10, 10, 10, 1]), 0..4);
    }
}
