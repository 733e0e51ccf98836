//! Row groups that can't hold a row that passes: told from their statistics.
//!
//! Only what is certain is left out. A condition that is not understood, a column without statistics, and floating-point columns
//! (whose NaN no statistics mention) prune nothing.

use super::conform::cast;
use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::{BinaryExpr, Expr, Operator};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Statistics of the row groups of a file.
pub(super) struct RowGroups<'a> {
    metadata: &'a ArrowReaderMetadata,
    declared: &'a Schema,
    columns: HashMap<String, Option<Bounds>>,
}

/// A column's statistics, one entry per row group, in the declared type.
struct Bounds {
    least: ArrayRef,
    most: ArrayRef,
    nulls: UInt64Array,
}

/// What is known of a column in a row group.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    /// No value is less than this.
    pub(super) least: Option<ScalarValue>,
    /// No value is greater than this.
    pub(super) most: Option<ScalarValue>,
    /// How many are null.
    pub(super) nulls: Option<u64>,
    rows: u64,
}

impl<'a> RowGroups<'a> {
    pub(super) fn new(metadata: &'a ArrowReaderMetadata, declared: &'a Schema) -> Self {
        Self { metadata, declared, columns: HashMap::new() }
    }

    /// Whether a row of the row group may pass all filters.
    pub(super) fn may_pass(&mut self, filters: &[Expr], group: usize) -> bool {
        filters.iter().all(|filter| may_hold(filter, &mut |column| self.known(column, group)))
    }

    /// What is known of a column; nothing if there are no statistics that can be trusted.
    pub(super) fn known(&mut self, column: &str, group: usize) -> Option<Known> {
        let rows = u64::try_from(self.metadata.metadata().row_group(group).num_rows()).ok()?;
        if !self.columns.contains_key(column) {
            let bounds = self.load(column);
            self.columns.insert(column.to_owned(), bounds);
        }
        let bounds = self.columns.get(column)?.as_ref()?;
        let value = |array: &ArrayRef| ScalarValue::try_from_array(array, group).ok().filter(|value| !value.is_null());
        let nulls = bounds.nulls.is_valid(group).then(|| bounds.nulls.value(group));
        Some(Known { least: value(&bounds.least), most: value(&bounds.most), nulls, rows })
    }

    fn load(&self, column: &str) -> Option<Bounds> {
        let wanted = self.declared.field_with_name(column).ok()?.data_type();
        if !is_ordered(wanted) {
            return None;
        }
        let converter = StatisticsConverter::try_new(column, self.metadata.schema(), self.metadata.parquet_schema()).ok()?;
        let index = converter.parquet_column_index()?;
        let groups = self.metadata.metadata().row_groups();
        let trusted = groups.iter().all(|group| {
            let statistics = group.column(index).statistics();
            statistics.is_none_or(|statistics| !statistics.is_min_max_deprecated() || statistics.is_min_max_backwards_compatible())
        });
        if !trusted || !is_ordered(converter.arrow_field().data_type()) {
            return None;
        }
        let converter = converter.with_missing_null_counts_as_zero(false);
        Some(Bounds {
            least: cast(&converter.row_group_mins(groups).ok()?, wanted).ok()?,
            most: cast(&converter.row_group_maxes(groups).ok()?, wanted).ok()?,
            nulls: converter.row_group_null_counts(groups).ok()?,
        })
    }
}

/// Types whose statistics are in the order of their values.
fn is_ordered(data_type: &DataType) -> bool {
    let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    text || data_type.is_integer() || matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Whether a condition may hold for some row, by what is known of the columns.
fn may_hold(filter: &Expr, known: &mut dyn FnMut(&str) -> Option<Known>) -> bool {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => may_hold(left, known) && may_hold(right, known),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => may_hold(left, known) || may_hold(right, known),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => compare(known(&column.name), *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => op.swap().is_none_or(|op| compare(known(&column.name), op, value)),
            _ => true,
        },
        Expr::Between(between) if !between.negated => match (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref()) {
            (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                let known = known(&column.name);
                compare(known.clone(), Operator::GtEq, low) && compare(known, Operator::LtEq, high)
            }
            _ => true,
        },
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = list.expr.as_ref() else { return true };
            let known = known(&column.name);
            list.list.iter().any(|item| match item {
                Expr::Literal(value, _) => compare(known.clone(), Operator::Eq, value),
                _ => true,
            })
        }
        Expr::IsNull(inner) => match inner.as_ref() {
            Expr::Column(column) => known(&column.name).is_none_or(|known| known.nulls != Some(0)),
            _ => true,
        },
        Expr::IsNotNull(inner) => match inner.as_ref() {
            Expr::Column(column) => known(&column.name).is_none_or(|known| known.nulls != Some(known.rows)),
            _ => true,
        },
        _ => true,
    }
}

/// How two values are ordered; none if they are of different kinds.
fn order(bound: &ScalarValue, value: &ScalarValue) -> Option<Ordering> {
    match (bound.try_as_str(), value.try_as_str()) {
        (Some(bound), Some(value)) => Some(bound?.cmp(value?)),
        _ if bound.data_type() == value.data_type() => bound.partial_cmp(value),
        _ => None,
    }
}

/// Whether `column op value` may hold for some row.
fn compare(known: Option<Known>, op: Operator, value: &ScalarValue) -> bool {
    let Some(known) = known else { return true };
    let is_comparison = matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    if !is_comparison {
        return true;
    }
    if value.is_null() || known.nulls == Some(known.rows) {
        return false;
    }
    let order = |bound: &Option<ScalarValue>| order(bound.as_ref()?, value);
    let (least, most) = (order(&known.least), order(&known.most));
    match op {
        Operator::Eq => least != Some(Ordering::Greater) && most != Some(Ordering::Less),
        Operator::Lt => !matches!(least, Some(Ordering::Greater | Ordering::Equal)),
        Operator::LtEq => least != Some(Ordering::Greater),
        Operator::Gt => !matches!(most, Some(Ordering::Less | Ordering::Equal)),
        Operator::GtEq => most != Some(Ordering::Less),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_expr::{Literal, col, lit};
    use proptest::prelude::*;

    fn condition(op: u8, value: i64) -> Expr {
        match op % 8 {
            0 => col("v").eq(lit(value)),
            1 => col("v").lt(lit(value)),
            2 => col("v").lt_eq(lit(value)),
            3 => col("v").gt(lit(value)),
            4 => value.lit().gt_eq(col("v")),
            5 => col("v").in_list(vec![lit(value), lit(value + 3)], false),
            6 => col("v").is_null(),
            _ => col("v").between(lit(value), lit(value + 2)),
        }
    }

    fn holds(op: u8, value: i64, row: Option<i64>) -> bool {
        let Some(row) = row else { return op % 8 == 6 };
        match op % 8 {
            0 => row == value,
            1 => row < value,
            2 => row <= value,
            3 => row > value,
            4 => value >= row,
            5 => row == value || row == value + 3,
            6 => false,
            _ => (value..=value + 2).contains(&row),
        }
    }

    proptest! {
        /// What is pruned holds no row that passes.
        #[test]
        fn pruning_never_drops_a_matching_row(rows in prop::collection::vec(prop::option::of(-5i64..5), 1..6), op: u8, value in -6i64..6) {
            let values: Vec<i64> = rows.iter().flatten().copied().collect();
            let known = Known {
                least: values.iter().min().map(|&value| value.into()),
                most: values.iter().max().map(|&value| value.into()),
                nulls: Some((rows.len() - values.len()) as u64),
                rows: rows.len() as u64,
            };
            let may = may_hold(&condition(op, value), &mut |_| Some(known.clone()));
            prop_assert!(may || !rows.iter().any(|&row| holds(op, value, row)));
        }
    }

    #[test]
    fn a_range_that_lies_outside_is_pruned() {
        let known = Known { least: Some(10i64.into()), most: Some(20i64.into()), nulls: Some(0), rows: 5 };
        for filter in [col("v").lt(lit(10i64)), col("v").gt(lit(20i64)), col("v").eq(lit(21i64)), col("v").is_null()] {
            assert!(!may_hold(&filter, &mut |_| Some(known.clone())), "{filter}");
        }
        assert!(may_hold(&col("v").lt(lit(11i64)), &mut |_| Some(known.clone())));
        assert!(may_hold(&col("v").lt(lit(1i64)), &mut |_| None));
        let text = |value: &str| Some(ScalarValue::Utf8View(Some(value.to_owned())));
        let known = Known { least: text("b"), most: text("d"), nulls: Some(0), rows: 5 };
        assert!(!may_hold(&col("v").eq(lit("a")), &mut |_| Some(known.clone())));
        assert!(may_hold(&col("v").eq(lit("c")), &mut |_| Some(known.clone())));
    }
}
