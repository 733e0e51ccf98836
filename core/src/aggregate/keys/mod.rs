//! From keys to slots, and back: the hash tables of tables of groups.
//!
//! Keys of one or two [numbers](numbers) are compared as they are, so are keys of one [text](texts) or [window](windows); all others as
//! [bytes](encoded), in arrow's row format.

mod encoded;
mod fixed;
mod numbers;
mod texts;
mod windows;

use crate::error::{Error, Result};
use crate::state::are_numbers;
use crate::window::is_window_type;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use encoded::EncodedKeys;
use numbers::NumberTable;
use texts::Texts;
use windows::Windows;

/// Keys, each with a slot. Null equals null, and negative zero equals zero.
pub(super) trait KeyTable: Send {
    /// The slot of each row's key; a new key gets one from `allocate`.
    ///
    /// # Errors
    /// `BadData` for a key of 4 GiB or more.
    fn intern(&mut self, columns: &[ArrayRef], rows: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>>;

    /// So many new keys are to come: those of stored state, or of other tables.
    fn reserve(&mut self, _keys: usize) {}

    /// Forgets the key of a slot.
    fn remove(&mut self, slot: u32);

    /// Forgets all keys, and keeps the room that they took.
    fn clear(&mut self);

    /// Whether the slot has a key.
    fn contains(&self, slot: u32) -> bool;

    /// How many keys there are.
    fn len(&self) -> usize;

    /// The slots in use, ascending.
    fn slots(&self) -> Vec<u32>;

    /// Sorts slots by their keys: in an order that is the same whenever and wherever the keys came to their slots.
    fn sort(&self, slots: &mut [u32]);

    /// The key columns of slots.
    ///
    /// # Errors
    /// `Internal` if a slot has no key.
    fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>>;
}

/// An empty table for keys of these types.
///
/// # Errors
/// `Config` for a type that can't be grouped by.
pub(super) fn key_table(types: &[DataType]) -> Result<Box<dyn KeyTable>> {
    Ok(match types {
        [] => Box::new(OneKey(None)),
        [_] if are_numbers(types.iter()) => Box::new(NumberTable::<1>::new(types)),
        [_, _] if are_numbers(types.iter()) => Box::new(NumberTable::<2>::new(types)),
        [DataType::Utf8] => Box::new(Texts::default()),
        [window] if is_window_type(window) => Box::new(Windows::default()),
        _ => Box::new(EncodedKeys::new(types)?),
    })
}

fn missing() -> Error {
    Error::internal("a slot has no key")
}

/// Without key columns there is one key.
struct OneKey(Option<u32>);

impl KeyTable for OneKey {
    fn intern(&mut self, _: &[ArrayRef], rows: usize, allocate: &mut dyn FnMut() -> u32) -> Result<Vec<u32>> {
        if rows == 0 { Ok(Vec::new()) } else { Ok(vec![*self.0.get_or_insert_with(allocate); rows]) }
    }

    fn remove(&mut self, slot: u32) {
        self.0 = self.0.filter(|own| *own != slot);
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn contains(&self, slot: u32) -> bool {
        self.0 == Some(slot)
    }

    fn len(&self) -> usize {
        usize::from(self.0.is_some())
    }

    fn slots(&self) -> Vec<u32> {
        self.0.into_iter().collect()
    }

    fn sort(&self, _: &mut [u32]) {}

    fn columns(&self, _: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::window_fields;
    use arrow::array::{Float64Array, Int32Array, StringArray, StructArray, TimestampMicrosecondArray};
    use arrow::buffer::NullBuffer;
    use arrow::compute::concat;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Key = (Option<i32>, Option<i64>);

    /// The same keys for each kind of table.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Number,
        Numbers,
        Text,
        Window,
        Bytes,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Step {
        Insert,
        Remove,
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![10 => Just(Step::Insert), 10 => Just(Step::Remove), 1 => Just(Step::Clear)]
    }

    /// The columns of a key.
    fn columns((first, second): Key, kind: Kind) -> Vec<ArrayRef> {
        // Of up to 19 bytes: short ones and long ones.
        let text = first.zip(second).map(|(first, second)| "äbcd".repeat((first + 5).unsigned_abs() as usize / 2) + &second.to_string());
        let number = first.zip(second).map(|(first, second)| first * 10 + second as i32);
        match kind {
            Kind::Number => vec![Arc::new(Int32Array::from(vec![number]))],
            Kind::Numbers => vec![Arc::new(Int32Array::from(vec![first])), Arc::new(TimestampMicrosecondArray::from(vec![second]))],
            Kind::Text => vec![Arc::new(StringArray::from(vec![text]))],
            Kind::Window => {
                let bound = |time: Option<i64>| Arc::new(TimestampMicrosecondArray::from(vec![time])) as ArrayRef;
                let nulls = (first.is_none() && second.is_none()).then(|| NullBuffer::new_null(1));
                vec![Arc::new(StructArray::new(window_fields(), vec![bound(first.map(i64::from)), bound(second)], nulls))]
            }
            Kind::Bytes => vec![Arc::new(Float64Array::from(vec![first.map(f64::from)])), Arc::new(StringArray::from(vec![text]))],
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_from_keys_to_slots(
            steps in prop::collection::vec((prop::option::of(-2i32..2), prop::option::of(-2i64..2), step()), 0..120),
            kind in prop::sample::select(vec![Kind::Number, Kind::Numbers, Kind::Text, Kind::Window, Kind::Bytes]),
        ) {
            let types: Vec<DataType> = columns((None, None), kind).iter().map(|column| column.data_type().clone()).collect();
            let (mut table, mut model) = (key_table(&types).unwrap(), BTreeMap::<Vec<String>, (Key, u32)>::new());
            for (first, second, step) in steps {
                let key = (first, second);
                let name: Vec<String> = columns(key, kind).iter().map(|column| format!("{column:?}")).collect();
                if step == Step::Clear {
                    table.clear();
                    model.clear();
                } else if step == Step::Insert {
                    let free = (0..).find(|slot| !model.values().any(|(_, used)| used == slot)).unwrap_or(0);
                    let (_, expected) = *model.entry(name).or_insert((key, free));
                    prop_assert_eq!(table.intern(&columns(key, kind), 1, &mut || free).unwrap(), vec![expected]);
                } else if let Some((_, slot)) = model.remove(&name) {
                    table.remove(slot);
                    prop_assert!(!table.contains(slot));
                }
                prop_assert_eq!(table.len(), model.len());
                let mut slots: Vec<u32> = model.values().map(|(_, slot)| *slot).collect();
                slots.sort_unstable();
                prop_assert_eq!(table.slots(), slots);
                for (key, slot) in model.values() {
                    prop_assert!(table.contains(*slot));
                    prop_assert_eq!(table.columns(&[*slot]).unwrap(), columns(*key, kind));
                }
            }
        }

        /// The order by keys does not depend on the slots.
        #[test]
        fn sorting_goes_by_keys(
            keys in prop::collection::btree_set((prop::option::of(-5i32..5), prop::option::of(-5i64..5)), 1..30),
            kind in prop::sample::select(vec![Kind::Number, Kind::Numbers, Kind::Text, Kind::Window, Kind::Bytes]),
        ) {
            let types: Vec<DataType> = columns((None, None), kind).iter().map(|column| column.data_type().clone()).collect();
            let sorted = |keys: &mut dyn Iterator<Item = &Key>| {
                let mut table = key_table(&types).unwrap();
                let mut next = 0..;
                keys.for_each(|key| {
                    table.intern(&columns(*key, kind), 1, &mut || next.next().unwrap()).unwrap();
                });
                let mut slots = table.slots();
                table.sort(&mut slots);
                format!("{:?}", table.columns(&slots).unwrap())
            };
            prop_assert_eq!(sorted(&mut keys.iter()), sorted(&mut keys.iter().rev()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// New ones among them, several times, and ones that are known.
        #[test]
        fn many_keys_at_once_get_the_slots_that_they_get_one_by_one(
            known in prop::collection::vec((prop::option::of(-20i32..20), prop::option::of(-20i64..20)), 0..300),
            rows in prop::collection::vec((prop::option::of(-20i32..20), prop::option::of(-20i64..20)), 0..1_200),
            kind in prop::sample::select(vec![Kind::Number, Kind::Numbers, Kind::Text, Kind::Window, Kind::Bytes]),
        ) {
            let types: Vec<DataType> = columns((None, None), kind).iter().map(|column| column.data_type().clone()).collect();
            let (mut at_once, mut one_by_one) = (key_table(&types).unwrap(), key_table(&types).unwrap());
            let (mut free, mut free_alone) = (0.., 0..);
            for keys in [known, rows] {
                let each: Vec<Vec<ArrayRef>> = keys.iter().map(|key| columns(*key, kind)).collect();
                let column = |index: usize| concat(&each.iter().map(|key| key[index].as_ref()).collect::<Vec<_>>()).unwrap();
                let together: Vec<ArrayRef> = if keys.is_empty() { continue } else { (0..types.len()).map(column).collect() };
                let slots = at_once.intern(&together, keys.len(), &mut || free.next().unwrap()).unwrap();
                let alone = each.iter().flat_map(|key| one_by_one.intern(key, 1, &mut || free_alone.next().unwrap()).unwrap());
                prop_assert_eq!(slots, alone.collect::<Vec<u32>>());
            }
        }
    }
}
