//! Tables of groups that are gone, kept for the next ones.
//!
//! Panes are many and small: each task has its own, and windows close with most batches. To ask the allocator for every piece of a table,
//! and to let each grow from nothing, would take as long as what they are for.

use super::calls::CallSpec;
use super::groups::{Groups, Remember};
use crate::error::Result;
use arrow::datatypes::DataType;
use std::fmt;

/// Of how many times as many groups as it had a table may be, to be kept; and which size is always fine.
const MOST_ROOM_OF_USE: usize = 4;
const LEAST_ROOM: usize = 64;

/// Empty tables of groups, all of the same keys and calls.
pub(super) struct Spare {
    tables: Vec<(usize, Groups)>,
    /// How many groups they have room for.
    room: usize,
    /// The most of that. A table that would be more is let go: what it saves is little beside what it takes to fill it.
    most: usize,
}

impl Spare {
    /// For tables with room for so many groups in all.
    pub(super) fn new(most: usize) -> Self {
        Self { tables: Vec::new(), room: 0, most }
    }

    /// An empty table of groups, which remembers nothing of them.
    pub(super) fn take(&mut self, key_types: &[DataType], calls: &[CallSpec]) -> Result<Groups> {
        let Some((room, groups)) = self.tables.pop() else { return Groups::new(key_types, calls, Remember::Nothing) };
        self.room -= room;
        Ok(groups)
    }

    /// Keeps a table of groups that are gone, if there is room. One that was mostly empty is let go: where panes have become smaller, tables
    /// do too.
    pub(super) fn give(&mut self, mut groups: Groups) {
        let (room, used) = groups.room_and_use();
        let is_fitting = room <= LEAST_ROOM.max(used * MOST_ROOM_OF_USE);
        if is_fitting && self.room + room <= self.most && groups.clear() {
            self.room += room;
            self.tables.push((room, groups));
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").field("room", &self.room).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::CallInput;
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion_functions_aggregate::{count::count_udaf, first_last::first_value_udaf, min_max::max_udaf, sum::sum_udaf};
    use datafusion_physical_expr::aggregate::AggregateExprBuilder;
    use datafusion_physical_expr::expressions::Column;
    use proptest::prelude::*;
    use std::sync::Arc;

    const KEYS: [DataType; 1] = [DataType::Utf8];

    /// A call of each function over one column of numbers.
    fn calls(functions: &[Arc<datafusion_expr::AggregateUDF>]) -> Vec<CallSpec> {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, true)]));
        let call = |function: &Arc<datafusion_expr::AggregateUDF>| {
            let argument = Arc::new(Column::new("value", 0));
            let built = AggregateExprBuilder::new(Arc::clone(function), vec![argument]).schema(Arc::clone(&schema)).alias("call").build();
            let origin = function.name().to_owned();
            CallSpec { function: Arc::new(built.unwrap()), schema: Arc::clone(&schema), distinct: false, filter: None, origin }
        };
        functions.iter().map(call).collect()
    }

    /// Groups of rows, as keys and states.
    fn filled(groups: &mut Groups, calls: &[CallSpec], rows: &[(Option<String>, Option<i64>)]) -> Vec<ArrayRef> {
        let (keys, values): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
        let keys: ArrayRef = Arc::new(StringArray::from(keys));
        let argument: ArrayRef = Arc::new(Int64Array::from(values));
        let inputs: Vec<CallInput> = calls.iter().map(|_| CallInput { arguments: vec![Arc::clone(&argument)], mask: None }).collect();
        groups.update(&[keys], rows.len(), &inputs).unwrap();
        let slots = groups.all();
        assert_eq!(groups.changed().len(), slots.len());
        let mut columns = groups.key_columns(&slots).unwrap();
        columns.extend(groups.results(&slots).unwrap());
        columns.extend(groups.state(&slots).unwrap());
        columns
    }

    proptest! {
        #[test]
        fn a_table_that_is_taken_again_is_as_good_as_new(
            fillings in prop::collection::vec(prop::collection::vec((prop::option::of("[ab]{0,19}"), prop::option::of(-9i64..9)), 0..40), 1..8),
        ) {
            let calls = calls(&[count_udaf(), sum_udaf(), max_udaf()]);
            let mut spare = Spare::new(1000);
            for rows in fillings {
                let mut again = spare.take(&KEYS, &calls).unwrap();
                prop_assert!(spare.tables.is_empty());
                let mut new = Groups::new(&KEYS, &calls, Remember::Nothing).unwrap();
                prop_assert_eq!(filled(&mut again, &calls, &rows), filled(&mut new, &calls, &rows));
                spare.give(again);
                prop_assert_eq!(spare.tables.len(), 1);
            }
        }
    }

    fn rows(count: usize) -> Vec<(Option<String>, Option<i64>)> {
        (0..count).map(|row| (Some(row.to_string()), Some(1))).collect()
    }

    #[test]
    fn tables_are_kept_up_to_so_many_groups() {
        let calls = calls(&[count_udaf()]);
        let mut spare = Spare::new(100);
        for _ in 0..5 {
            let mut groups = Groups::new(&KEYS, &calls, Remember::Nothing).unwrap();
            filled(&mut groups, &calls, &rows(30));
            spare.give(groups);
        }
        assert!((1..=3).contains(&spare.tables.len()) && spare.room <= 100, "{spare:?}");
        while !spare.tables.is_empty() {
            spare.take(&KEYS, &calls).unwrap();
        }
        assert_eq!(spare.room, 0);
        let mut large = Groups::new(&KEYS, &calls, Remember::Nothing).unwrap();
        filled(&mut large, &calls, &rows(101));
        spare.give(large);
        assert!(spare.tables.is_empty());
    }

    /// Where panes have become smaller, what the large ones took is given back.
    #[test]
    fn a_table_that_is_mostly_empty_is_let_go() {
        let calls = calls(&[count_udaf()]);
        let mut spare = Spare::new(1000);
        for (groups, is_kept) in [(300, true), (100, true), (60, false), (5, true)] {
            let mut table = spare.take(&KEYS, &calls).unwrap();
            filled(&mut table, &calls, &rows(groups));
            spare.give(table);
            assert_eq!(spare.tables.len(), usize::from(is_kept), "{groups} groups");
        }
    }

    /// A function that goes by arrival knows the latest row of all.
    #[test]
    fn tables_of_functions_that_hold_more_than_groups_are_not_kept() {
        let mut spare = Spare::new(100);
        spare.give(Groups::new(&KEYS, &calls(&[first_value_udaf()]), Remember::Nothing).unwrap());
        assert!(spare.tables.is_empty());
    }
}
