//! What users of other SQL systems expect of a SELECT, from text to rows.

use crate::support::{job, select, try_select};
use arrow::datatypes::DataType;

const ROWS: &str = r#"{"a":1,"b":0,"s":"hello world","f":1.5,"d":"12.34","flag":true,"list":[1,2,3],"words":["x","y"],"nested":[[1],[]],"st":{"x":1,"y":"p"},"items":[{"k":1,"v":"a"},{"k":2}],"Mixed Case":7}
{"a":2,"b":5,"s":"Foo","f":-2.5,"d":"0.10","flag":false,"list":[],"words":null,"nested":[],"st":null,"items":[],"Mixed Case":8}
{"b":3,"words":["q"],"st":{"y":""}}
"#;

/// A list of columns and the rows that they give.
const CASES: &[(&str, [&str; 3])] = &[
    // Fields of structs and elements of lists.
    ("st.x AS x, st['y'] AS y, t.st.x + 1 AS z", [r#"{"x":1,"y":"p","z":2}"#, "{}", r#"{"y":""}"#]),
    ("list[1] AS x, words[2] AS y, nested[1][1] AS z, items[1]['v'] AS v", [r#"{"x":1,"y":"y","z":1,"v":"a"}"#, "{}", "{}"]),
    ("array_append(list, a) AS x", [r#"{"x":[1,2,3,1]}"#, r#"{"x":[2]}"#, r#"{"x":[null]}"#]),
    ("array_length(list) AS x, array_has(words, 'x') AS y", [r#"{"x":3,"y":true}"#, r#"{"x":0}"#, r#"{"y":false}"#]),
    ("[a, b] AS x, list || [9] AS y", [r#"{"x":[1,0],"y":[1,2,3,9]}"#, r#"{"x":[2,5],"y":[9]}"#, r#"{"x":[null,3],"y":[9]}"#]),
    (
        "st, items, nested",
        [
            r#"{"st":{"x":1,"y":"p"},"items":[{"k":1,"v":"a"},{"k":2}],"nested":[[1],[]]}"#,
            r#"{"items":[],"nested":[]}"#,
            r#"{"st":{"y":""}}"#,
        ],
    ),
    ("named_struct('p', a, 'q', flag) AS x", [r#"{"x":{"p":1,"q":true}}"#, r#"{"x":{"p":2,"q":false}}"#, r#"{"x":{}}"#]),
    // Names.
    ("\"Mixed Case\", \"Mixed Case\" + 1 AS \"Next\"", [r#"{"Mixed Case":7,"Next":8}"#, r#"{"Mixed Case":8,"Next":9}"#, "{}"]),
    ("A AS X, T.B", [r#"{"x":1,"b":0}"#, r#"{"x":2,"b":5}"#, r#"{"b":3}"#]),
    ("a + 1, upper(s)", [r#"{"t.a + Int64(1)":2,"upper(t.s)":"HELLO WORLD"}"#, r#"{"t.a + Int64(1)":3,"upper(t.s)":"FOO"}"#, "{}"]),
    ("CASE WHEN a > 1 THEN 2 END, -a", [r#"{"(- t.a)":-1}"#, r#"{"CASE WHEN t.a > Int64(1) THEN Int64(2) END":2,"(- t.a)":-2}"#, "{}"]),
    // Numbers.
    ("d * 2 AS x, d + 0.5 AS y", [r#"{"x":24.68,"y":12.84}"#, r#"{"x":0.20,"y":0.6}"#, "{}"]),
    (
        "CAST(f AS BIGINT) AS x, round(f) AS y, CAST(b AS BOOLEAN) AS z",
        [r#"{"x":1,"y":2.0,"z":false}"#, r#"{"x":-2,"y":-3.0,"z":true}"#, r#"{"z":true}"#],
    ),
    ("a / 2 AS x, a % 2 AS y, a / 2.0 AS z", [r#"{"x":0,"y":1,"z":0.5}"#, r#"{"x":1,"y":0,"z":1.0}"#, "{}"]),
    // Text.
    (
        "s LIKE '%o%' AS x, s ILIKE 'f%' AS y, s NOT LIKE 'F__' AS z",
        [r#"{"x":true,"y":false,"z":true}"#, r#"{"x":true,"y":true,"z":false}"#, "{}"],
    ),
    (
        "s ~ '^F' AS x, s !~* '^f' AS y, regexp_replace(s, 'o', '0', 'g') AS z",
        [r#"{"x":false,"y":true,"z":"hell0 w0rld"}"#, r#"{"x":true,"y":false,"z":"F00"}"#, "{}"],
    ),
    ("regexp_match(s, 'l+') AS x", [r#"{"x":["ll"]}"#, "{}", "{}"]),
    (
        "s || '!' || a AS x, concat(s, '-', a) AS y",
        [r#"{"x":"hello world!1","y":"hello world-1"}"#, r#"{"x":"Foo!2","y":"Foo-2"}"#, r#"{"y":"-"}"#],
    ),
    (
        "substring(s FROM 2 FOR 2) AS x, position('o' IN s) AS y, trim(LEADING 'F' FROM s) AS z",
        [r#"{"x":"el","y":5,"z":"hello world"}"#, r#"{"x":"oo","y":2,"z":"oo"}"#, "{}"],
    ),
    ("split_part(s, ' ', 2) AS x, lpad(s, 3) AS y", [r#"{"x":"world","y":"hel"}"#, r#"{"x":"","y":"Foo"}"#, "{}"]),
    // Nulls.
    (
        "a IS DISTINCT FROM b AS x, coalesce(a, 0) AS y, nullif(b, 0) AS z",
        [r#"{"x":true,"y":1}"#, r#"{"x":true,"y":2,"z":5}"#, r#"{"x":true,"y":0,"z":3}"#],
    ),
    (
        "a BETWEEN 1 AND 1 AS x, a IN (1, NULL) AS y, a NOT IN (1) AS z",
        [r#"{"x":true,"y":true,"z":false}"#, r#"{"x":false,"z":true}"#, "{}"],
    ),
    (
        "a > 1 OR flag AS x, a > 1 AND flag AS y, a IS NULL AS z",
        [r#"{"x":true,"y":false,"z":false}"#, r#"{"x":true,"y":false,"z":false}"#, r#"{"z":true}"#],
    ),
    ("TRY_CAST(s AS BIGINT) AS x, CAST(a AS VARCHAR) AS y, a::DOUBLE AS z", [r#"{"y":"1","z":1.0}"#, r#"{"y":"2","z":2.0}"#, "{}"]),
];

#[test]
fn expressions() {
    for (columns, expected) in CASES {
        assert_eq!(select(&format!("SELECT {columns} FROM t"), ROWS), *expected, "{columns}");
    }
}

#[test]
fn subqueries_and_common_table_expressions() {
    let cases = [
        ("SELECT x.p FROM (SELECT a, b FROM t WHERE b > 0) AS x(p, q)", vec![r#"{"p":2}"#, "{}"]),
        ("WITH c AS (SELECT a + 1 AS p FROM t), e AS (SELECT p * 2 AS q FROM c) SELECT q FROM e WHERE q > 4", vec![r#"{"q":6}"#]),
        ("WITH c AS (SELECT a FROM t WHERE a = 1) SELECT a FROM c UNION ALL SELECT a + 10 FROM c", vec![r#"{"a":1}"#, r#"{"a":11}"#]),
        ("SELECT w.* FROM (SELECT a, b FROM t) w WHERE w.a = 2", vec![r#"{"a":2,"b":5}"#]),
        ("SELECT * EXCLUDE (a) FROM (SELECT a, b, s FROM t WHERE a = 2) w", vec![r#"{"b":5,"s":"Foo"}"#]),
        ("SELECT \"W\".a FROM t AS \"W\" WHERE \"W\".a = 2", vec![r#"{"a":2}"#]),
        ("SELECT a FROM t WHERE false", vec![]),
        ("SELECT a FROM t WHERE NULL", vec![]),
        ("SELECT a FROM t WHERE flag IS NOT TRUE", vec![r#"{"a":2}"#, "{}"]),
        ("SELECT 1 AS one, 'x' AS x, NULL AS n FROM t WHERE a = 1", vec![r#"{"one":1,"x":"x"}"#]),
    ];
    for (query, expected) in cases {
        assert_eq!(select(query, ROWS), expected, "{query}");
    }
}

#[test]
fn a_union_has_the_first_names_the_common_types_and_all_rows() {
    let query =
        "SELECT a AS x, s FROM t WHERE a = 1 UNION ALL SELECT f, 'y' FROM t WHERE a = 2 UNION ALL SELECT b, NULL FROM t WHERE b = 3";
    assert_eq!(select(query, ROWS), [r#"{"x":1.0,"s":"hello world"}"#, r#"{"x":-2.5,"s":"y"}"#, r#"{"x":3.0}"#]);
    let job = job(&format!("INSERT INTO out {query}")).unwrap();
    assert_eq!(job.plan.sinks[0].schema.field(0).data_type(), &DataType::Float64);
    assert_eq!(select("SELECT a FROM t UNION ALL SELECT a FROM t WHERE a = 1 UNION ALL SELECT a FROM t WHERE a = 1", ROWS).len(), 5);
    assert_eq!(
        select("SELECT a AS p, b AS q FROM t WHERE a = 1 UNION ALL BY NAME SELECT b AS q, a AS p FROM t WHERE a = 1", ROWS)[1],
        r#"{"p":1,"q":0}"#
    );
    assert_eq!(select("SELECT x FROM (SELECT a AS x FROM t UNION ALL SELECT b FROM t) w WHERE x > 2", ROWS), [r#"{"x":5}"#, r#"{"x":3}"#]);
    assert_eq!(
        select("SELECT st FROM t WHERE a = 1 UNION ALL SELECT named_struct('x', b, 'y', s) FROM t WHERE a = 1", ROWS)[1],
        r#"{"st":{"x":0,"y":"hello world"}}"#
    );
}

#[test]
fn a_table_without_rows_and_a_select_without_columns_of_it() {
    assert_eq!(select("SELECT upper(s) AS s FROM t WHERE a > 0", ""), Vec::<String>::new());
    assert_eq!(try_select("SELECT 1 AS one FROM t", ROWS).unwrap().num_rows(), 3);
}

#[test]
fn deep_nesting_is_planned() {
    let sum = vec!["a"; 200].join(" + ");
    assert_eq!(select(&format!("SELECT {sum} AS x FROM t WHERE a = 2"), ROWS), [r#"{"x":400}"#]);
    let either = (0..300).map(|value| format!("a = {value}")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(select(&format!("SELECT a FROM t WHERE {either}"), ROWS).len(), 2);
}
