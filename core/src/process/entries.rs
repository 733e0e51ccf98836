//! The entries that a key has in a state, by their places: most keys have one, which stands by itself.

use std::collections::{BTreeMap, btree_map};

/// See the [module](self).
#[derive(Default)]
pub(super) enum Entries<P, E> {
    #[default]
    None,
    One(P, E),
    Many(BTreeMap<P, E>),
}

impl<P: Ord, E> Entries<P, E> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::One(..) => false,
            Self::Many(entries) => entries.is_empty(),
        }
    }

    pub(super) fn get(&self, place: &P) -> Option<&E> {
        match self {
            Self::One(own, entry) if own == place => Some(entry),
            Self::Many(entries) => entries.get(place),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, place: &P) -> Option<&mut E> {
        match self {
            Self::One(own, entry) if own == place => Some(entry),
            Self::Many(entries) => entries.get_mut(place),
            _ => None,
        }
    }

    /// Puts an entry at a place that is free.
    pub(super) fn insert(&mut self, place: P, entry: E) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(place, entry),
            Self::One(other, first) => Self::Many(BTreeMap::from([(other, first), (place, entry)])),
            Self::Many(mut entries) => {
                entries.insert(place, entry);
                Self::Many(entries)
            }
        }
    }

    pub(super) fn remove(&mut self, place: &P) -> Option<E> {
        if let Self::Many(entries) = self {
            return entries.remove(place);
        }
        self.get(place)?;
        match std::mem::take(self) {
            Self::One(_, entry) => Some(entry),
            _ => None,
        }
    }

    /// In the order of their places.
    pub(super) fn iter(&self) -> Iter<'_, P, E> {
        match self {
            Self::None => Iter::One(None),
            Self::One(place, entry) => Iter::One(Some((place, entry))),
            Self::Many(entries) => Iter::Many(entries.iter()),
        }
    }

    pub(super) fn last_place(&self) -> Option<&P> {
        self.iter().next_back().map(|(place, _)| place)
    }
}

/// Entries of a key, in the order of their places.
pub(super) enum Iter<'a, P, E> {
    One(Option<(&'a P, &'a E)>),
    Many(btree_map::Iter<'a, P, E>),
}

impl<'a, P, E> Iterator for Iter<'a, P, E> {
    type Item = (&'a P, &'a E);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(entry) => entry.take(),
            Self::Many(entries) => entries.next(),
        }
    }
}

impl<P, E> DoubleEndedIterator for Iter<'_, P, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(entry) => entry.take(),
            Self::Many(entries) => entries.next_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_a_map(steps in prop::collection::vec((any::<bool>(), 0u8..4), 0..60)) {
            let (mut entries, mut model) = (Entries::None, BTreeMap::new());
            for (number, (insert, place)) in steps.into_iter().enumerate() {
                if !insert {
                    prop_assert_eq!(entries.remove(&place), model.remove(&place));
                } else if let Some(entry) = entries.get_mut(&place) {
                    *entry = number;
                    prop_assert!(model.insert(place, number).is_some());
                } else {
                    entries.insert(place, number);
                    prop_assert!(model.insert(place, number).is_none());
                }
                prop_assert!((0..4).all(|place| entries.get(&place) == model.get(&place)));
                prop_assert!(entries.iter().eq(model.iter()));
                prop_assert_eq!(entries.last_place(), model.keys().next_back());
                prop_assert_eq!(entries.is_empty(), model.is_empty());
            }
        }
    }
}
