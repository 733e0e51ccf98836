//! The newest record of a dense log, found with few questions: probe at growing distances until one is absent, then halve the gap.
//!
//! A listing only cross-checks the answer, for it costs more and, on some stores, lags.

use std::collections::BTreeSet;
use waterclock_core::id::Seq;

/// A search for the newest of dense numbers.
#[derive(Debug, Clone, Copy)]
pub struct Gallop {
    /// All numbers below are there.
    known: u64,
    /// The lowest number known to be absent.
    absent: Option<u64>,
    step: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Ask whether this number is there.
    Ask(Seq),
    /// The search is over: the newest number, if there is any.
    Found(Option<Seq>),
}

impl Gallop {
    /// A search among numbers of which those below `known` are known to be there.
    pub fn from(known: Seq) -> Self {
        Self { known: known.0, absent: None, step: 1 }
    }

    /// What to do next.
    pub fn next(&self) -> Probe {
        match self.absent {
            Some(absent) if absent == self.known => Probe::Found(self.known.checked_sub(1).map(Seq)),
            Some(absent) => Probe::Ask(Seq(self.known + (absent - self.known - 1) / 2)),
            None => Probe::Ask(Seq(self.known + self.step - 1)),
        }
    }

    /// Takes the answer to [`Probe::Ask`].
    #[must_use]
    pub fn answer(self, asked: Seq, there: bool) -> Self {
        match (there, self.absent) {
            (false, _) => Self { absent: Some(asked.0), ..self },
            (true, Some(_)) => Self { known: asked.0 + 1, ..self },
            (true, None) => Self { known: asked.0 + 1, step: self.step * 2, ..self },
        }
    }
}

/// What a listing shows that a search did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CrossCheck {
    /// Nothing: the newest is the newest.
    Agrees,
    /// Records above the newest. Either they came in between, or one below them is missing.
    Above(Seq),
    /// A number below the newest that is not listed.
    Missing(Seq),
}

/// Compares a search with a listing.
pub fn cross_check(newest: Option<Seq>, listed: &BTreeSet<Seq>) -> CrossCheck {
    let count = newest.map_or(0, |newest| newest.0 + 1);
    if let Some(missing) = (0..count).map(Seq).zip(listed.iter()).find(|(dense, listed)| dense != *listed) {
        return CrossCheck::Missing(missing.0);
    }
    match listed.len() as u64 {
        listed if listed < count => CrossCheck::Missing(Seq(listed)),
        listed if listed > count => CrossCheck::Above(Seq(count)),
        _ => CrossCheck::Agrees,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_is_found_with_few_questions(count in 0u64..100_000, known_part in 0u64..=100) {
            let mut search = Gallop::from(Seq(count * known_part / 100));
            let mut questions = 0;
            let found = loop {
                match search.next() {
                    Probe::Ask(seq) => {
                        questions += 1;
                        search = search.answer(seq, seq.0 < count);
                    }
                    Probe::Found(found) => break found,
                }
            };
            prop_assert_eq!(found, count.checked_sub(1).map(Seq));
            prop_assert!(questions <= 2 * (64 - count.leading_zeros()) + 2, "{} questions for {}", questions, count);
        }

        #[test]
        fn a_listing_shows_holes(count in 1u64..50, hole in 0u64..50) {
            let mut listed: BTreeSet<Seq> = (0..count).map(Seq).collect();
            prop_assert_eq!(cross_check(Some(Seq(count - 1)), &listed), CrossCheck::Agrees);
            let hole = hole % count;
            listed.remove(&Seq(hole));
            prop_assert_eq!(cross_check(Some(Seq(count - 1)), &listed), CrossCheck::Missing(Seq(hole)));
            if hole + 1 < count {
                prop_assert_ne!(cross_check(hole.checked_sub(1).map(Seq), &listed), CrossCheck::Agrees);
            }
        }
    }
}
