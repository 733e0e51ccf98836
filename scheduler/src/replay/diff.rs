//! Rows compared as multisets: the order of rows within a batch is no part of what a sink promises.

use std::cmp::Ordering;

/// How the rows of a sink compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Both could be read.
    Possible(Difference),
    /// They can't be compared: why.
    Impossible(String),
}

/// What was committed and what was replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How many rows were committed.
    pub committed: u64,
    /// How many rows were replayed.
    pub replayed: u64,
    /// Rows that were committed and not replayed, or not so often, sorted.
    pub missing: Vec<String>,
    /// Rows that were replayed and not committed, or not so often, sorted.
    pub surplus: Vec<String>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty()
    }
}

/// Compares rows, each a text.
pub(super) fn compare(mut committed: Vec<String>, mut replayed: Vec<String>) -> Difference {
    let (counted, counted_again) = (committed.len() as u64, replayed.len() as u64);
    committed.sort_unstable();
    replayed.sort_unstable();
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs) = (committed.into_iter().peekable(), replayed.into_iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(ours), Some(theirs)) => ours.cmp(theirs),
        };
        let (committed, replayed) = (order.is_le().then(|| ours.next()), order.is_ge().then(|| theirs.next()));
        match order {
            Ordering::Less => missing.extend(committed.flatten()),
            Ordering::Equal => {}
            Ordering::Greater => surplus.extend(replayed.flatten()),
        }
    }
    Difference { committed: counted, replayed: counted_again, missing, surplus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn counts<'a>(rows: impl IntoIterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for row in rows {
            *counts.entry(row.as_str()).or_default() += 1;
        }
        counts
    }

    proptest! {
        /// What is missing and what is left over turns one multiset into the other, and has nothing in common.
        #[test]
        fn the_difference_leads_from_one_to_the_other(
            committed in prop::collection::vec("[a-d]", 0..20),
            replayed in prop::collection::vec("[a-d]", 0..20),
        ) {
            let difference = compare(committed.clone(), replayed.clone());
            prop_assert_eq!(counts(committed.iter().chain(&difference.surplus)), counts(replayed.iter().chain(&difference.missing)));
            prop_assert!(difference.missing.iter().all(|row| !difference.surplus.contains(row)));
            prop_assert_eq!(difference.is_none(), counts(&committed) == counts(&replayed));
            prop_assert_eq!((difference.committed, difference.replayed), (committed.len() as u64, replayed.len() as u64));
        }
    }
}
