//! The keys of a table's newer layers, in which those of the older ones are looked up.
//!
//! Layers come newest first, each in any number of parts, so that their rows need not be in memory together; only keys are, each once, and
//! of those only a share, if the layers come once for each. Keys of numbers are kept as they are, in many tables by their hashes: tables of a
//! fixed size are filled nearly to the brim, where a single one would be doubled, and half empty then. Other keys are kept in arrow's row
//! format.

use super::are_numbers;
use super::number_key::{NumberKey, NumberKeys};
use crate::error::{ErrorKind, Result, ResultExt};
use arrow::array::{ArrayRef, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::RandomState;
use hashbrown::{HashSet, HashTable};
use std::hash::{BuildHasher, Hasher};

/// So many keys are looked up side by side.
const BLOCK: usize = 128;
/// How many keys a table of numbers is to have: a little less than 2^16 places hold.
const PART: usize = 52_000;

/// Some of all keys, by their hashes.
#[derive(Debug, Clone)]
pub struct KeyShare {
    hasher: RandomState,
    index: usize,
    of: usize,
}

impl KeyShare {
    /// So many shares, which together are all keys.
    pub fn all(of: usize) -> Vec<Self> {
        let hasher = RandomState::default();
        (0..of).map(|index| Self { hasher: hasher.clone(), index, of }).collect()
    }

    /// All keys in one share.
    pub fn whole() -> Self {
        Self { hasher: RandomState::default(), index: 0, of: 1 }
    }

    /// Which of so many tables for this share a key of this hash is in; none if it is of another share. The tables go by the lowest bits and
    /// the highest ones.
    fn table(&self, hash: u64, tables: usize) -> Option<usize> {
        let among_all = (((hash >> 16) & 0xffff_ffff) * (tables * self.of) as u64) >> 32;
        let among_all = among_all as usize;
        among_all.checked_sub(self.index * tables).filter(|table| *table < tables)
    }
}

/// The keys.
pub(super) enum NewerKeys {
    /// Of a table without a key, which has one row: whether there was one.
    Whole(bool),
    /// Of one number.
    One(Numbers<1>),
    /// Of two.
    Two(Numbers<2>),
    /// Of any types.
    Encoded(Encoded),
}

impl NewerKeys {
    /// None yet, of columns of these types. About so many are expected in all shares.
    pub(super) fn new(types: &[DataType], expected: usize, share: KeyShare) -> Result<Self> {
        let tables = (expected / share.of).div_ceil(PART).max(1);
        Ok(match types {
            [] => Self::Whole(false),
            [_] if are_numbers(types.iter()) => Self::One(Numbers::new(tables, share)),
            [_, _] if are_numbers(types.iter()) => Self::Two(Numbers::new(tables, share)),
            _ => Self::Encoded(Encoded::new(types, expected / share.of, share)?),
        })
    }

    /// For each of these keys whether no newer layer has it, as far as it is of this share. They are kept if layers follow in which older
    /// keys are.
    pub(super) fn lack(&mut self, keys: &[ArrayRef], rows: usize, keep: bool) -> Result<BooleanBuffer> {
        let mut lack = BooleanBufferBuilder::new(rows);
        lack.append_n(rows, true);
        match self {
            Self::Whole(seen) => {
                (0..rows).for_each(|row| lack.set_bit(row, !*seen));
                *seen |= rows > 0;
            }
            Self::One(numbers) => numbers.look_up(&NumberKeys::of(keys)?, rows, keep, |row| lack.set_bit(row, false)),
            Self::Two(numbers) => numbers.look_up(&NumberKeys::of(keys)?, rows, keep, |row| lack.set_bit(row, false)),
            Self::Encoded(encoded) => encoded.look_up(keys, keep, |row| lack.set_bit(row, false))?,
        }
        Ok(lack.finish())
    }
}

/// Keys of numbers.
pub(super) struct Numbers<const N: usize> {
    share: KeyShare,
    /// By the hashes of their keys.
    tables: Vec<HashTable<[i64; N]>>,
    with_nulls: HashSet<NumberKey<N>, RandomState>,
}

/// A key that is looked up.
#[derive(Clone, Copy)]
struct Wanted<const N: usize> {
    row: usize,
    hash: u64,
    table: usize,
    /// The first key with these bits of the hash, which is nearly always the wanted one.
    likely: Option<[i64; N]>,
}

impl<const N: usize> Numbers<N> {
    fn new(tables: usize, share: KeyShare) -> Self {
        Self { share, tables: vec![HashTable::new(); tables], with_nulls: HashSet::default() }
    }

    /// Tells the rows whose keys are known. In tables that are larger than the caches most of the time goes into waiting for memory: so they
    /// are asked for many keys before any is compared, and many waits become one.
    fn look_up(&mut self, keys: &NumberKeys<N>, rows: usize, keep: bool, mut known: impl FnMut(usize)) {
        let mut block: Vec<Wanted<N>> = Vec::with_capacity(BLOCK);
        let mut row = 0;
        while row < rows {
            block.clear();
            while row < rows && block.len() < BLOCK {
                let hash = hash_of(&self.share.hasher, &keys.get(row).values);
                block.extend(self.share.table(hash, self.tables.len()).map(|table| Wanted { row, hash, table, likely: None }));
                row += 1;
            }
            for wanted in &mut block {
                wanted.likely = self.tables[wanted.table].find(wanted.hash, |_| true).copied();
            }
            for wanted in &block {
                let key = keys.get(wanted.row);
                if key.nulls == 0 && wanted.likely == Some(key.values) || self.is_known(key, wanted, keep) {
                    known(wanted.row);
                }
            }
        }
    }

    /// Whether a newer layer has a key, which is kept if none has.
    fn is_known(&mut self, key: NumberKey<N>, wanted: &Wanted<N>, keep: bool) -> bool {
        if key.nulls != 0 {
            return if keep { !self.with_nulls.insert(key) } else { self.with_nulls.contains(&key) };
        }
        let table = &mut self.tables[wanted.table];
        let is_known = table.find(wanted.hash, |other| *other == key.values).is_some();
        if keep && !is_known {
            table.insert_unique(wanted.hash, key.values, |key| hash_of(&self.share.hasher, key));
        }
        is_known
    }
}

fn hash_of<const N: usize>(hasher: &RandomState, key: &[i64; N]) -> u64 {
    let mut hasher = hasher.build_hasher();
    key.iter().for_each(|number| hasher.write_i64(*number));
    hasher.finish()
}

/// Keys of any types, in arrow's row format.
pub(super) struct Encoded {
    converter: RowConverter,
    share: KeyShare,
    keys: Rows,
    /// The hash of each, and where in `keys` it is.
    table: HashTable<(u64, usize)>,
}

impl Encoded {
    fn new(types: &[DataType], expected: usize, share: KeyShare) -> Result<Self> {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        let converter = RowConverter::new(fields).or_error(ErrorKind::Internal, || "a column of this type can't be a key".into())?;
        let keys = converter.empty_rows(0, 0);
        Ok(Self { converter, share, keys, table: HashTable::with_capacity(expected) })
    }

    fn look_up(&mut self, keys: &[ArrayRef], keep: bool, mut known: impl FnMut(usize)) -> Result<()> {
        let Self { converter, share, keys: kept, table } = self;
        let rows = converter.convert_columns(keys).or_error(ErrorKind::Internal, || "encoding keys".into())?;
        for (row, key) in rows.iter().enumerate() {
            let hash = share.hasher.hash_one(key.as_ref());
            if share.table(hash, 1).is_none() {
                continue;
            }
            if table.find(hash, |(other, place)| *other == hash && kept.row(*place) == key).is_some() {
                known(row);
            } else if keep {
                let place = kept.num_rows();
                kept.push(key);
                table.insert_unique(hash, (hash, place), |(hash, _)| *hash);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int16Array, Int64Array};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    type TwoNumbers = (Option<i16>, Option<i64>);

    fn columns(keys: &[TwoNumbers]) -> [ArrayRef; 2] {
        let first: ArrayRef = Arc::new(keys.iter().map(|(first, _)| *first).collect::<Int16Array>());
        let second: ArrayRef = Arc::new(keys.iter().map(|(_, second)| *second).collect::<Int64Array>());
        [first, second]
    }

    fn and(all: Vec<BooleanBuffer>) -> BooleanBuffer {
        all.into_iter().reduce(|one, other| &one & &other).unwrap()
    }

    proptest! {
        /// As a set tells, whatever the kind and the number of tables and of shares, and wherever a layer is cut.
        #[test]
        fn a_key_is_lacking_until_it_is_kept(
            layers in prop::collection::vec(prop::collection::btree_set((prop::option::of(-2i16..2), prop::option::of(-2i64..9)), 0..30), 1..6),
            tables in 1usize..9, shares in 1usize..5, cut in 1usize..9,
        ) {
            let types = [DataType::Int16, DataType::Int64];
            let shares = KeyShare::all(shares);
            let mut numbers: Vec<_> = shares.iter().map(|share| NewerKeys::Two(Numbers::new(tables, share.clone()))).collect();
            let mut encoded: Vec<_> = shares.into_iter().map(|share| NewerKeys::Encoded(Encoded::new(&types, 0, share).unwrap())).collect();
            let mut model: BTreeSet<TwoNumbers> = BTreeSet::new();
            let oldest = layers.len() - 1;
            for (index, layer) in layers.iter().enumerate() {
                let keys: Vec<TwoNumbers> = layer.iter().copied().collect();
                for keys in keys.chunks(cut) {
                    let expected: Vec<bool> = keys.iter().map(|key| !model.contains(key)).collect();
                    for shares in [&mut numbers, &mut encoded] {
                        let lack = shares.iter_mut().map(|share| share.lack(&columns(keys), keys.len(), index < oldest).unwrap());
                        prop_assert_eq!(and(lack.collect()).iter().collect::<Vec<_>>(), expected.clone());
                    }
                }
                model.extend(keys);
            }
        }
    }

    /// More keys than are looked up together, and than a table is made for.
    #[test]
    fn many_numbers_are_told_apart() {
        let count = 3 * PART;
        let keys = |numbers: std::ops::Range<usize>| [Arc::new(Int64Array::from_iter_values(numbers.map(|key| key as i64))) as ArrayRef];
        for (expected, shares) in [(0, 1), (count, 1), (count, 3)] {
            let shares = KeyShare::all(shares).into_iter();
            let mut newer: Vec<_> = shares.map(|share| NewerKeys::new(&[DataType::Int64], expected, share).unwrap()).collect();
            let mut lack = |numbers: std::ops::Range<usize>, keep| {
                let lack = newer.iter_mut().map(|newer| newer.lack(&keys(numbers.clone()), numbers.len(), keep).unwrap());
                and(lack.collect())
            };
            assert_eq!(lack(0..count, true).count_set_bits(), count);
            assert_eq!(lack(count - 700..count + 900, false).set_indices().collect::<Vec<_>>(), (700..1600).collect::<Vec<_>>());
        }
    }
}
