//! DISTINCT in an aggregate: for each slot, the values that it has seen.
//!
//! The function behind it is given each value once. The set is a table of state of its own, so that a batch writes the values that it
//! added, not the set. What a stored set tells of a row is its value alone: so further arguments are constants, and an order is by the
//! value.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::interned::Interned;
use crate::state::canonical_key;
use arrow::array::{Array, ArrayRef, BooleanArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::expressions::Literal;
use std::sync::Arc;

/// See the [module](self).
pub(super) struct DistinctSets {
    converter: RowConverter,
    /// The arguments behind the first.
    constants: Vec<ScalarValue>,
    /// How many columns of the order follow the arguments: each is the value.
    orders: usize,
    /// The values of all slots; each belongs to its slot.
    values: Interned,
    /// By slot, the numbers of its values.
    sets: Vec<Vec<u32>>,
    /// Numbers below this have been in use.
    next: u32,
    /// Those of them that are free.
    free: Vec<u32>,
    /// What was added since the last checkpoint, with the slot of each.
    added: Vec<(u32, u32)>,
}

impl DistinctSets {
    /// Sets without values, for the first argument of a function.
    ///
    /// # Errors
    /// `Config` if what the function needs of a row can't be told from that argument.
    pub(super) fn new(function: &AggregateFunctionExpr, schema: &Schema) -> Result<Self> {
        let name = function.name();
        let arguments = function.expressions();
        let (value, others) = arguments.split_first().ok_or_else(|| Error::config(format!("{name}: DISTINCT needs an argument")))?;
        let constant = |other: &Arc<dyn datafusion_physical_expr::PhysicalExpr>| {
            other.downcast_ref::<Literal>().map(|literal| literal.value().clone()).ok_or_else(|| {
                Error::config(format!(
                    "{name}: DISTINCT of several columns is not supported; group by them in a subquery, and aggregate its rows"
                ))
            })
        };
        if function.order_bys().iter().any(|order| !order.expr.eq(value)) {
            return Err(Error::config(format!("{name}: with DISTINCT, ORDER BY can only be by the argument itself")));
        }
        let data_type = value.data_type(schema).map_err(crate::pipeline::config_error)?;
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())]);
        let converter = converter.or_error(ErrorKind::Config, || format!("{name}: values of the type {data_type} can't be DISTINCT"))?;
        let constants = others.iter().map(constant).collect::<Result<_>>()?;
        Ok(Self {
            converter,
            constants,
            orders: function.order_bys().len(),
            values: Interned::default(),
            sets: Vec::new(),
            next: 0,
            free: Vec::new(),
            added: Vec::new(),
        })
    }

    pub(super) fn resize(&mut self, slots: usize) {
        self.sets.resize_with(slots, Vec::new);
    }

    pub(super) fn clear(&mut self, slot: u32) {
        let numbers = std::mem::take(&mut self.sets[slot as usize]);
        numbers.iter().for_each(|number| self.values.remove(*number));
        self.free.extend(numbers);
    }

    /// The function's arguments for values.
    pub(super) fn arguments(&self, values: &ArrayRef) -> Result<Vec<ArrayRef>> {
        let constant = |constant: &ScalarValue| constant.to_array_of_size(values.len());
        let constants = self.constants.iter().map(constant).collect::<Result<Vec<_>, _>>();
        let constants = constants.or_error(ErrorKind::Internal, || "the arguments of an aggregate".into())?;
        let orders = std::iter::repeat_n(Arc::clone(values), self.orders);
        Ok(std::iter::once(Arc::clone(values)).chain(constants).chain(orders).collect())
    }

    /// Which rows bring a value that their slot has not seen.
    pub(super) fn insert(&mut self, slots: &[u32], values: &ArrayRef) -> Result<BooleanArray> {
        let values = canonical_key(values)?;
        let rows = self.converter.convert_columns(&[values]).or_error(ErrorKind::Internal, || "encoding values".into())?;
        let mut new = Vec::with_capacity(slots.len());
        for (row, &slot) in rows.iter().zip(slots) {
            let (next, free) = (&mut self.next, &mut self.free);
            let number = || {
                free.pop().unwrap_or_else(|| {
                    *next += 1;
                    *next - 1
                })
            };
            let (number, is_new) = self.values.intern(slot, row.as_ref(), number)?;
            if is_new {
                self.sets[slot as usize].push(number);
                self.added.push((slot, number));
            }
            new.push(is_new);
        }
        Ok(BooleanArray::from(new))
    }

    /// How many values each slot has, and all of them, sorted within each.
    pub(super) fn sorted(&self, slots: &[u32]) -> Result<(Vec<usize>, ArrayRef)> {
        let mut all: Vec<&[u8]> = Vec::new();
        let mut lengths = Vec::with_capacity(slots.len());
        for &slot in slots {
            let mut set: Vec<&[u8]> = self.sets[slot as usize].iter().filter_map(|number| self.values.get(*number)).collect();
            set.sort_unstable();
            lengths.push(set.len());
            all.extend(set);
        }
        Ok((lengths, self.decode(all.into_iter())?))
    }

    /// The values of each slot as a list, in the order in which the function was given them: given so again, its result is the same to the
    /// last bit.
    pub(super) fn lists(&self, slots: &[u32]) -> Result<ArrayRef> {
        let sets = || slots.iter().map(|&slot| &self.sets[slot as usize]);
        let lengths: Vec<usize> = sets().map(Vec::len).collect();
        let values = self.decode(sets().flatten().filter_map(|number| self.values.get(*number)))?;
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None);
        Ok(Arc::new(lists.or_error(ErrorKind::Internal, || "a column of sets".into())?))
    }

    /// What was added since the last time, with the slot of each; slots that are gone are left out.
    pub(super) fn take_added(&mut self, is_live: impl Fn(u32) -> bool) -> Result<(Vec<u32>, ArrayRef)> {
        let mut added = std::mem::take(&mut self.added);
        // A slot that went took its values along, and their numbers may be others' by now.
        added.retain(|(slot, number)| is_live(*slot) && self.values.owner(*number) == Some(*slot));
        let values = self.decode(added.iter().filter_map(|(_, number)| self.values.get(*number)))?;
        Ok((added.into_iter().map(|(slot, _)| slot).collect(), values))
    }

    /// What was added is checkpointed.
    pub(super) fn forget_added(&mut self) {
        self.added.clear();
    }

    fn decode<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let mut columns = self
            .converter
            .convert_rows(values.map(|value| parser.parse(value)))
            .or_error(ErrorKind::Internal, || "decoding values".into())?;
        columns.pop().ok_or_else(|| Error::internal("a set of values has no column"))
    }
}
