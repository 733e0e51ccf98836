//! UNNEST against a naive implementation, and in FROM.

use crate::support::{NoSink, assert_says, error, lines, pipeline, rows, run, schema, select};
use arrow::array::{Array, Int64Array, ListArray, ListBuilder, PrimitiveBuilder, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, SchemaRef};
use proptest::prelude::*;
use std::sync::Arc;

type List = Option<Vec<Option<i64>>>;
type Nested = Option<Vec<List>>;

/// A row: a number, two lists, and a list of lists.
type Row = (i64, List, List, Nested);

fn list() -> impl Strategy<Value = List> {
    proptest::option::weighted(0.8, proptest::collection::vec(proptest::option::of(0_i64..9), 0..4))
}

fn input() -> impl Strategy<Value = Vec<Row>> {
    let nested = proptest::option::weighted(0.8, proptest::collection::vec(list(), 0..3));
    proptest::collection::vec((0_i64..9, list(), list(), nested), 0..8)
}

fn lists<'a>(values: impl Iterator<Item = &'a List>) -> ListArray {
    ListArray::from_iter_primitive::<Int64Type, _, _>(values.cloned())
}

fn batch(rows: &[Row], kind: fn(DataType) -> DataType) -> RecordBatch {
    let a: Int64Array = rows.iter().map(|row| row.0).collect();
    let mut nested = ListBuilder::new(ListBuilder::new(PrimitiveBuilder::<Int64Type>::new()));
    for row in rows {
        for inner in row.3.iter().flatten() {
            nested.values().append_option(inner.clone());
        }
        nested.append(row.3.is_some());
    }
    let (l, m, nested) = (lists(rows.iter().map(|row| &row.1)), lists(rows.iter().map(|row| &row.2)), nested.finish());
    let l = cast(&l, &kind(DataType::Int64)).unwrap();
    let schema =
        schema([("a", DataType::Int64), ("l", l.data_type().clone()), ("m", m.data_type().clone()), ("n", nested.data_type().clone())]);
    RecordBatch::try_new(schema, vec![Arc::new(a), l, Arc::new(m), Arc::new(nested)]).unwrap()
}

/// What a query gives for a batch, as lines of JSON.
fn output(query: &str, batch: RecordBatch) -> Vec<String> {
    let mut pipeline = pipeline(&batch.schema());
    let stream = pipeline.sql(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    pipeline.sink("out", Arc::new(NoSink), stream).unwrap();
    let job = pipeline.build().unwrap_or_else(|error| panic!("{query}: {error}"));
    let rows = run(&job.plan, &[("t", batch)].into()).unwrap_or_else(|error| panic!("{query}: {error}"));
    lines(&rows["out"])
}

fn line(columns: &[(&str, Option<i64>)]) -> String {
    let shown: Vec<String> = columns.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("\"{name}\":{value}"))).collect();
    format!("{{{}}}", shown.join(","))
}

/// The element, or null where the list is shorter.
fn at(list: &[Option<i64>], index: usize) -> Option<i64> {
    list.get(index).copied().flatten()
}

fn elements(list: &List) -> &[Option<i64>] {
    list.as_deref().unwrap_or_default()
}

fn side_by_side(rows: &[Row]) -> Vec<String> {
    let mut expected = Vec::new();
    for (a, l, m, _) in rows {
        let (l, m) = (elements(l), elements(m));
        expected.extend((0..l.len().max(m.len())).map(|index| line(&[("a", Some(*a)), ("x", at(l, index)), ("y", at(m, index))])));
    }
    expected
}

/// Two levels, the deepest first: each inner list goes in step with the whole other list.
fn two_levels(rows: &[Row]) -> Vec<String> {
    let mut expected = Vec::new();
    for (a, l, _, nested) in rows {
        for inner in nested.iter().flatten() {
            let (inner, l) = (elements(inner), elements(l));
            let row = |index| line(&[("a", Some(*a)), ("x", at(inner, index)), ("y", at(l, index))]);
            expected.extend((0..inner.len().max(l.len())).map(row));
        }
    }
    expected
}

/// A row for each element, or one with a null.
fn at_least_one(rows: &[Row]) -> Vec<String> {
    let mut expected = Vec::new();
    for (a, l, ..) in rows {
        let l = elements(l);
        expected.extend((0..l.len().max(1)).map(|index| line(&[("a", Some(*a)), ("x", at(l, index))])));
    }
    expected
}

fn of_list(element: DataType) -> DataType {
    DataType::new_list(element, true)
}

fn of_large_list(element: DataType) -> DataType {
    DataType::new_large_list(element, true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn lists_go_in_step_and_levels_from_the_deepest(rows in input(), large in any::<bool>(), cut in any::<prop::sample::Index>()) {
        // A slice does not begin where its buffers do.
        let cut = cut.index(rows.len() + 1);
        let whole = batch(&rows, if large { of_large_list } else { of_list });
        let (batch, rows) = (whole.slice(cut, rows.len() - cut), &rows[cut..]);
        prop_assert_eq!(output("SELECT a, unnest(l) AS x, unnest(m) AS y FROM t", batch.clone()), side_by_side(rows));
        prop_assert_eq!(output("SELECT a, x, y FROM t, UNNEST(l, m) AS e(x, y)", batch.clone()), side_by_side(rows));
        prop_assert_eq!(output("SELECT a, unnest(unnest(n)) AS x, unnest(l) AS y FROM t", batch.clone()), two_levels(rows));
        prop_assert_eq!(output("SELECT a, x FROM t LEFT JOIN UNNEST(l) AS e(x) ON true", batch), at_least_one(rows));
    }
}

#[test]
fn lists_of_a_fixed_size() {
    let fixed = |element| DataType::new_fixed_size_list(element, 2, true);
    let rows = [(1, Some(vec![Some(1), None]), None, None), (2, None, Some(vec![Some(7)]), None)];
    let expected = ["{\"a\":1,\"x\":1}", "{\"a\":1}", "{\"a\":2,\"y\":7}"];
    assert_eq!(output("SELECT a, unnest(l) AS x, unnest(m) AS y FROM t", batch(&rows, fixed)), expected);
}

/// A null struct over fields that are not null underneath.
fn hidden_fields() -> (SchemaRef, StructArray) {
    let fields = Fields::from(vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Int64, true)]);
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![3, 4]))];
    let structs = StructArray::new(fields, columns, Some(NullBuffer::from(vec![true, false])));
    (schema([("st", structs.data_type().clone())]), structs)
}

#[test]
fn the_fields_of_a_null_struct_are_null() {
    let (schema, structs) = hidden_fields();
    let batch = RecordBatch::try_new(schema, vec![Arc::new(structs)]).unwrap();
    assert_eq!(output("SELECT unnest(st) FROM t", batch), ["{\"t.st.x\":1,\"t.st.y\":3}", "{}"]);
}

const ROWS: &str = r#"{"a":1,"list":[1,2],"nested":[[1],[2,3]],"items":[{"k":1,"v":"p"},{"k":2}],"st":{"x":5,"y":"z"},"words":["q"]}
{"a":2,"list":[],"nested":[],"items":[]}
{"a":3,"words":["r","s"]}
"#;

#[test]
fn unnest_in_from_is_no_join() {
    let expected = ["{\"a\":1,\"e\":1}", "{\"a\":1,\"e\":2}"];
    for from in [
        "t, UNNEST(t.list) AS x(e)",
        "t, UNNEST(list) AS x(e)",
        "t CROSS JOIN UNNEST(t.list) AS x(e)",
        "t CROSS JOIN LATERAL UNNEST(t.list) AS x(e)",
        "t, LATERAL unnest(t.list) AS x(e)",
        "t JOIN UNNEST(t.list) AS x(e) ON true",
        "t, LATERAL (SELECT unnest(t.list) AS e) AS x",
        "(SELECT a, list FROM t) AS t, UNNEST(t.list) AS x(e)",
    ] {
        assert_eq!(select(&format!("SELECT a, e FROM {from}"), ROWS), expected, "{from}");
    }
    assert_eq!(select("SELECT a, e FROM t, UNNEST(list) AS x(e) WHERE e > a", ROWS), expected[1..]);
    assert_eq!(select("SELECT a, e FROM t JOIN UNNEST(list) AS x(e) ON e > a", ROWS), expected[1..]);
    assert_eq!(select("SELECT t.a, x.e FROM t, LATERAL (SELECT t.a + 1 AS e) AS x", ROWS)[0], "{\"a\":1,\"e\":2}");
}

#[test]
fn unnest_in_from_after_unnest_in_from() {
    let query = "SELECT a, e FROM t, UNNEST(nested) AS x(inner_list), UNNEST(x.inner_list) AS y(e)";
    assert_eq!(select(query, ROWS), ["{\"a\":1,\"e\":1}", "{\"a\":1,\"e\":2}", "{\"a\":1,\"e\":3}"]);
    let query = "SELECT e.k AS k, e.v AS v, w FROM t, UNNEST(items) AS x(e), UNNEST(words) AS y(w)";
    assert_eq!(select(query, ROWS), ["{\"k\":1,\"v\":\"p\",\"w\":\"q\"}", "{\"k\":2,\"w\":\"q\"}"]);
}

#[test]
fn a_left_join_keeps_the_rows_without_elements() {
    let expected = ["{\"a\":1,\"e\":1}", "{\"a\":1,\"e\":2}", "{\"a\":2}", "{\"a\":3}"];
    assert_eq!(select("SELECT a, e FROM t LEFT JOIN UNNEST(list) AS x(e) ON true", ROWS), expected);
    let refused = error("INSERT INTO out SELECT a, e FROM t LEFT JOIN UNNEST(list) AS x(e) ON e > 1");
    assert_says(&refused, &["INSERT INTO out", "a join"]);
}

#[test]
fn what_is_beside_below_and_above() {
    assert_eq!(select("SELECT unnest(list) + a AS s FROM t", ROWS), ["{\"s\":2}", "{\"s\":3}"]);
    assert_eq!(select("SELECT unnest(list) AS e, unnest(list) AS f FROM t WHERE a = 1", ROWS), ["{\"e\":1,\"f\":1}", "{\"e\":2,\"f\":2}"]);
    assert_eq!(select("SELECT e FROM (SELECT a, unnest(list) AS e FROM t) x WHERE e = 2 AND a = 1", ROWS), ["{\"e\":2}"]);
    assert_eq!(select("SELECT unnest([a, a + 1]) AS e FROM t WHERE a = 3", ROWS), ["{\"e\":3}", "{\"e\":4}"]);
    assert_eq!(select("SELECT unnest(nested) AS e, unnest(unnest(nested)) AS f FROM t", ROWS).len(), 4);
    assert_eq!(select("SELECT a FROM t, UNNEST(list) AS x(e)", ROWS), ["{\"a\":1}", "{\"a\":1}"]);
    let input = rows(&schema([("a", DataType::Int64)]), "{\"a\":1}\n");
    assert_eq!(output("SELECT unnest(['p', 'q']) AS e, a FROM t", input), ["{\"e\":\"p\",\"a\":1}", "{\"e\":\"q\",\"a\":1}"]);
}
