//! Filter and projection against an oracle that computes row by row; and what happens when a row can't be computed.

use crate::support::{NoSink, assert_says, failure, pipeline, run, schema, select};
use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use proptest::prelude::*;
use std::fmt;
use std::sync::Arc;

type Row = (Option<i64>, Option<i64>, Option<bool>);

/// An expression that gives a number.
#[derive(Debug, Clone)]
enum Number {
    A,
    B,
    Literal(Option<i64>),
    Arithmetic(char, Box<Number>, Box<Number>),
    Guarded(Box<Number>, Box<Number>),
    Case(Box<Condition>, Box<Number>, Box<Number>),
    Coalesce(Box<Number>, Box<Number>),
}

/// An expression that is true, false or unknown.
#[derive(Debug, Clone)]
enum Condition {
    Flag,
    Compare(&'static str, Box<Number>, Box<Number>),
    IsNull(Box<Number>),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::A => write!(f, "a"),
            Number::B => write!(f, "b"),
            Number::Literal(Some(value)) => write!(f, "({value})"),
            Number::Literal(None) => write!(f, "CAST(NULL AS BIGINT)"),
            Number::Arithmetic(operator, left, right) => write!(f, "({left} {operator} {right})"),
            Number::Guarded(left, right) => write!(f, "CASE WHEN {right} = 0 THEN 0 ELSE {left} / {right} END"),
            Number::Case(condition, yes, no) => write!(f, "CASE WHEN {condition} THEN {yes} ELSE {no} END"),
            Number::Coalesce(first, second) => write!(f, "coalesce({first}, {second})"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Flag => write!(f, "flag"),
            Condition::Compare(operator, left, right) => write!(f, "({left} {operator} {right})"),
            Condition::IsNull(value) => write!(f, "({value} IS NULL)"),
            Condition::Not(condition) => write!(f, "(NOT {condition})"),
            Condition::And(left, right) => write!(f, "({left} AND {right})"),
            Condition::Or(left, right) => write!(f, "({left} OR {right})"),
        }
    }
}

impl Number {
    fn of(&self, row: &Row) -> Option<i64> {
        match self {
            Number::A => row.0,
            Number::B => row.1,
            Number::Literal(value) => *value,
            Number::Arithmetic(operator, left, right) => {
                let (left, right) = (left.of(row)?, right.of(row)?);
                Some(match operator {
                    '+' => left + right,
                    '-' => left - right,
                    _ => left * right,
                })
            }
            Number::Guarded(left, right) => match right.of(row) {
                Some(0) => Some(0),
                right => Some(left.of(row)? / right?),
            },
            Number::Case(condition, yes, no) => if condition.of(row) == Some(true) { yes } else { no }.of(row),
            Number::Coalesce(first, second) => first.of(row).or_else(|| second.of(row)),
        }
    }
}

impl Condition {
    fn of(&self, row: &Row) -> Option<bool> {
        match self {
            Condition::Flag => row.2,
            Condition::Compare("IS DISTINCT FROM", left, right) => Some(left.of(row) != right.of(row)),
            Condition::Compare(operator, left, right) => {
                let order = left.of(row)?.cmp(&right.of(row)?);
                Some(match *operator {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    "<" => order.is_lt(),
                    _ => order.is_ge(),
                })
            }
            Condition::IsNull(value) => Some(value.of(row).is_none()),
            Condition::Not(condition) => condition.of(row).map(|value| !value),
            Condition::And(left, right) => match (left.of(row), right.of(row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Condition::Or(left, right) => match (left.of(row), right.of(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}

fn number() -> BoxedStrategy<Number> {
    let leaf = prop_oneof![Just(Number::A), Just(Number::B), proptest::option::of(-3_i64..4).prop_map(Number::Literal)];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let pair = (inner.clone(), inner.clone()).prop_map(|(left, right)| (Box::new(left), Box::new(right)));
        let compare = (pair.clone(), pair.clone())
            .prop_map(|((left, right), (yes, no))| Number::Case(Box::new(Condition::Compare("<", left, right)), yes, no));
        prop_oneof![
            (prop_oneof![Just('+'), Just('-'), Just('*')], pair.clone()).prop_map(|(operator, (l, r))| Number::Arithmetic(operator, l, r)),
            pair.clone().prop_map(|(left, right)| Number::Guarded(left, right)),
            pair.prop_map(|(first, second)| Number::Coalesce(first, second)),
            compare,
        ]
    })
    .boxed()
}

fn condition() -> BoxedStrategy<Condition> {
    let operator = prop_oneof![Just("="), Just("<>"), Just("<"), Just(">="), Just("IS DISTINCT FROM")];
    let leaf = prop_oneof![
        Just(Condition::Flag),
        (operator, number(), number()).prop_map(|(operator, l, r)| Condition::Compare(operator, Box::new(l), Box::new(r))),
        number().prop_map(|value| Condition::IsNull(Box::new(value))),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let pair = (inner.clone(), inner.clone()).prop_map(|(left, right)| (Box::new(left), Box::new(right)));
        prop_oneof![
            inner.prop_map(|condition| Condition::Not(Box::new(condition))),
            pair.clone().prop_map(|(left, right)| Condition::And(left, right)),
            pair.prop_map(|(left, right)| Condition::Or(left, right)),
        ]
    })
    .boxed()
}

fn input() -> impl Strategy<Value = Vec<Row>> {
    let value = || proptest::option::of(-3_i64..4);
    proptest::collection::vec((value(), value(), proptest::option::of(any::<bool>())), 0..20)
}

fn batch(rows: &[Row]) -> RecordBatch {
    let schema = schema([("a", DataType::Int64), ("b", DataType::Int64), ("flag", DataType::Boolean)]);
    let a: Int64Array = rows.iter().map(|row| row.0).collect();
    let b: Int64Array = rows.iter().map(|row| row.1).collect();
    let flag: BooleanArray = rows.iter().map(|row| row.2).collect();
    RecordBatch::try_new(schema, vec![Arc::new(a), Arc::new(b), Arc::new(flag)]).unwrap()
}

type Computed = (Option<i64>, Option<bool>, Option<i64>);

fn computed(rows: &RecordBatch) -> Vec<Computed> {
    let (x, y, b) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_boolean(), rows.column(2).as_primitive::<Int64Type>());
    let value = |array: &Int64Array, row: usize| array.is_valid(row).then(|| array.value(row));
    (0..rows.num_rows()).map(|row| (value(x, row), y.is_valid(row).then(|| y.value(row)), value(b, row))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_filter_and_a_projection_are_what_they_are_row_by_row(
        (x, y, filter) in (number(), condition(), condition()), rows in input(), cut in any::<prop::sample::Index>()
    ) {
        let batch = batch(&rows);
        let mut pipeline = pipeline(&batch.schema());
        let stream = pipeline.sql(&format!("SELECT {x} AS x, {y} AS y, b FROM t WHERE {filter}")).unwrap();
        pipeline.sink("out", Arc::new(NoSink), stream).unwrap();
        let job = pipeline.build().unwrap();
        let expected: Vec<Computed> =
            rows.iter().filter(|row| filter.of(row) == Some(true)).map(|row| (x.of(row), y.of(row), row.1)).collect();
        let output = |rows: RecordBatch| run(&job.plan, &[("t", rows)].into()).unwrap().remove("out").unwrap();
        let whole = output(batch.clone());
        prop_assert_eq!(computed(&whole), expected);
        // However the rows are cut, and for slices that don't begin where their buffers do.
        let cut = cut.index(rows.len() + 1);
        let parts = [output(batch.slice(0, cut)), output(batch.slice(cut, rows.len() - cut))];
        prop_assert_eq!(concat_batches(&whole.schema(), &parts).unwrap(), whole);
    }
}

const ROWS: &str = "{\"a\":7,\"b\":2,\"s\":\"12\"}\n{\"a\":9223372036854775807,\"b\":0,\"s\":\"x\"}\n";

#[test]
fn what_a_row_does_not_need_is_not_computed() {
    let quotients = ["{\"q\":3}", "{\"q\":0}"];
    assert_eq!(select("SELECT CASE WHEN b = 0 THEN 0 ELSE a / b END AS q FROM t", ROWS), quotients);
    assert_eq!(select("SELECT CASE b WHEN 0 THEN 0 ELSE a / b END AS q FROM t", ROWS), quotients);
    assert_eq!(select("SELECT a / b AS q FROM t WHERE b <> 0", ROWS), quotients[..1]);
    assert_eq!(select("SELECT a / nullif(b, 0) AS q FROM t", ROWS), ["{\"q\":3}", "{}"]);
    assert_eq!(select("SELECT CAST(s AS BIGINT) AS n FROM t WHERE b > 0", ROWS), ["{\"n\":12}"]);
    assert_eq!(select("SELECT TRY_CAST(s AS BIGINT) AS n FROM t", ROWS), ["{\"n\":12}", "{}"]);
}

#[test]
fn a_row_that_can_not_be_computed_is_bad_data_and_says_where() {
    let cases = [
        ("SELECT a / b AS q FROM t", "a / b for the column 'q'", "Divide by zero"),
        ("SELECT a % b AS q FROM t", "a % b for the column 'q'", "Divide by zero"),
        ("SELECT a FROM t WHERE a / b > 1", "the condition a / b > 1", "Divide by zero"),
        ("SELECT CAST(s AS BIGINT) AS n FROM t", "CAST(s AS Int64) for the column 'n'", "'x'"),
        ("SELECT CAST(a AS INT) AS n FROM t", "CAST(a AS Int32) for the column 'n'", "9223372036854775807"),
        ("SELECT a + 1 AS n FROM t", "a + 1 for the column 'n'", "verflow"),
        ("SELECT -2 - a AS n FROM t", "-2 - a for the column 'n'", "verflow"),
        ("SELECT a * 2 AS n FROM t", "a * 2 for the column 'n'", "verflow"),
        ("SELECT b, CASE WHEN b = 0 THEN a + 1 END AS n FROM t", "for the column 'n'", "verflow"),
        ("SELECT to_timestamp(s) AS n FROM t", "to_timestamp(s) for the column 'n'", "'12'"),
    ];
    for (query, expression, cause) in cases {
        assert_says(&failure(query, ROWS), &["operator 'out-", expression, cause]);
    }
}
