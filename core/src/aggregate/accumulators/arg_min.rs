//! The value of the row that is the least by some order: first_value, last_value, and min and max of what is no number.

use super::Accumulator;
use super::columns::flags;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};

/// Encoded so that the bytes compare as the rows do: the least comes first.
type Encoded = Box<[u8]>;

pub(super) struct ArgMin {
    value: RowConverter,
    /// None if the value is its own order.
    order: Option<RowConverter>,
    ignore_nulls: bool,
    latest_arrival: i64,
    /// The order and the value of each slot's least row.
    least: Vec<Option<(Encoded, Encoded)>>,
}

fn converter(columns: Vec<(DataType, SortOptions)>) -> Result<RowConverter> {
    let fields = columns.into_iter().map(|(data_type, options)| SortField::new_with_options(data_type, options)).collect();
    RowConverter::new(fields).or_error(ErrorKind::Config, || "values of this type have no order".into())
}

impl ArgMin {
    /// The least or greatest value; nulls don't count.
    pub(super) fn min_or_max(value: DataType, max: bool) -> Result<Self> {
        let value = converter(vec![(value, SortOptions { descending: max, nulls_first: false })])?;
        Ok(Self { value, order: None, ignore_nulls: true, latest_arrival: 0, least: Vec::new() })
    }

    /// The value of the row that is the least by these columns, which follow it among the arguments.
    pub(super) fn ordered(value: DataType, order: Vec<(DataType, SortOptions)>, ignore_nulls: bool) -> Result<Self> {
        let value = converter(vec![(value, SortOptions::default())])?;
        Ok(Self { value, order: Some(converter(order)?), ignore_nulls, latest_arrival: 0, least: Vec::new() })
    }

    fn take(&mut self, slots: &[u32], columns: &[ArrayRef], counts: impl Fn(usize) -> bool) -> Result<()> {
        let failed = || "ordering rows".to_owned();
        let (value, order) = columns.split_first().ok_or_else(|| Error::internal("an aggregate was given no column"))?;
        let nulls = value.logical_nulls();
        let values = self.value.convert_columns(std::slice::from_ref(value)).or_error(ErrorKind::Internal, failed)?;
        let orders = self.order.as_ref().map(|converter| converter.convert_columns(order)).transpose();
        let orders = orders.or_error(ErrorKind::Internal, failed)?;
        for (row, &slot) in slots.iter().enumerate() {
            let passed = self.ignore_nulls && nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            if passed || !counts(row) {
                continue;
            }
            let value = values.row(row);
            let order = orders.as_ref().map_or(value, |orders| orders.row(row));
            let least = &mut self.least[slot as usize];
            if least.as_ref().is_none_or(|(least, _)| order.as_ref() < least.as_ref()) {
                *least = Some((order.as_ref().into(), value.as_ref().into()));
            }
        }
        Ok(())
    }

    /// Decodes one part of each slot; null for an empty slot.
    fn decode(&self, converter: &RowConverter, slots: &[u32], part: impl Fn(&(Encoded, Encoded)) -> &Encoded) -> Result<Vec<ArrayRef>> {
        let empty = nulls(converter)?;
        let parser = converter.parser();
        let row = |&slot: &u32| parser.parse(self.least[slot as usize].as_ref().map_or(&empty[..], |least| &part(least)[..]));
        converter.convert_rows(slots.iter().map(row)).or_error(ErrorKind::Internal, || "decoding ordered rows".into())
    }
}

/// A row of nulls.
fn nulls(converter: &RowConverter) -> Result<Vec<u8>> {
    let none = converter.empty_rows(0, 0);
    let columns = converter.convert_rows(none.iter()).or_error(ErrorKind::Internal, || "the columns of an order".into())?;
    let columns: Vec<ArrayRef> = columns.iter().map(|column| arrow::array::new_null_array(column.data_type(), 1)).collect();
    let rows = converter.convert_columns(&columns).or_error(ErrorKind::Internal, || "encoding nulls".into())?;
    Ok(rows.row(0).as_ref().to_vec())
}

impl Accumulator for ArgMin {
    fn resize(&mut self, slots: usize) {
        self.least.resize_with(slots, || None);
    }

    fn clear(&mut self, slot: u32) {
        self.least[slot as usize] = None;
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef]) -> Result<()> {
        self.take(slots, arguments, |_| true)
    }

    fn merge(&mut self, slots: &[u32], state: &[ArrayRef]) -> Result<()> {
        let (seen, columns) = state.split_last().ok_or_else(|| Error::internal("an aggregate was given no state"))?;
        let seen = seen.as_boolean_opt().ok_or_else(|| Error::internal("an aggregate's state lacks its flags"))?;
        if let (Some(_), Some(arrivals)) = (&self.order, columns.last().and_then(|column| column.as_primitive_opt::<Int64Type>())) {
            self.latest_arrival = self.latest_arrival.max(arrow::compute::max(arrivals).unwrap_or(0));
        }
        self.take(slots, columns, |row| seen.value(row))
    }

    /// Orders may be by the number of a row.
    fn is_exact(&self) -> bool {
        self.order.is_none()
    }

    fn parts(&self, slots: &[u32]) -> Result<Option<Vec<ArrayRef>>> {
        let mut columns = self.decode(&self.value, slots, |(_, value)| value)?;
        if let Some(order) = &self.order {
            columns.extend(self.decode(order, slots, |(order, _)| order)?);
        }
        columns.push(flags(slots.iter().map(|&slot| self.least[slot as usize].is_some())));
        Ok(Some(columns))
    }

    fn latest_arrival(&self) -> i64 {
        self.latest_arrival
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut columns = self.decode(&self.value, slots, |(_, value)| value)?;
        columns.pop().ok_or_else(|| Error::internal("an aggregate has no value"))
    }
}
