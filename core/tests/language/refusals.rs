//! What a stream can't do in this version is refused by the name that the user wrote.

use crate::support::{assert_says, error, job};

/// A query, the construct that is named, and what is said to do instead.
const REFUSED: &[(&str, &str, &str)] = &[
    ("SELECT a FROM t GROUP BY ALL", "GROUP BY", ""),
    ("SELECT DISTINCT ON (a) a, b FROM t", "DISTINCT ON", ""),
    ("SELECT a FROM t ORDER BY a", "ORDER BY", "sort where the rows are read"),
    ("SELECT x.a FROM (SELECT a FROM t ORDER BY a) x", "ORDER BY", ""),
    ("SELECT a FROM t LIMIT 3", "LIMIT", "--max-batches"),
    ("SELECT a FROM t OFFSET 3", "OFFSET", ""),
    ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "FETCH", ""),
    ("SELECT TOP 3 a FROM t", "TOP", ""),
    ("SELECT row_number() OVER (ORDER BY a) FROM t", "row_number OVER", ""),
    ("SELECT sum(a) OVER () FROM t", "sum OVER", ""),
    ("SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY b)", "WINDOW", ""),
    ("SELECT a FROM t QUALIFY a = 1", "QUALIFY", ""),
    ("SELECT a FROM t EXCEPT SELECT a FROM u", "EXCEPT", ""),
    ("SELECT a FROM t INTERSECT ALL SELECT a FROM u", "INTERSECT", ""),
    ("SELECT t.a FROM t JOIN u ON t.a = u.a", "a join", ""),
    ("SELECT t.a FROM t, u", "a join", ""),
    ("SELECT t.a FROM t LEFT JOIN (SELECT a FROM u) x ON t.a = x.a", "a join", ""),
    ("SELECT a FROM t WHERE a IN (SELECT a FROM u)", "a subquery in an expression", "in FROM"),
    ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)", "a subquery in an expression", ""),
    ("SELECT a, (SELECT b FROM u) FROM t", "a subquery in an expression", ""),
    ("VALUES (1), (2)", "VALUES", "read a table"),
    ("SELECT 1", "a SELECT without a table in FROM", "read a table"),
    ("SELECT x FROM UNNEST([1, 2]) AS l(x)", "a SELECT without a table in FROM", ""),
    ("WITH RECURSIVE r AS (SELECT a FROM t UNION ALL SELECT a + 1 FROM r) SELECT a FROM r", "WITH RECURSIVE", ""),
    ("SELECT a FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE", "hash of a column"),
    ("SELECT a FROM t FOR UPDATE", "FOR UPDATE", ""),
    ("SELECT a INTO x FROM t", "SELECT INTO", "INSERT INTO"),
    ("SELECT a, e FROM t, UNNEST(list) WITH ORDINALITY AS x(e, n)", "WITH ORDINALITY", ""),
    ("SELECT upper(s) FILTER (WHERE a > 1) FROM t", "FILTER", "CASE"),
];

#[test]
fn each_construct_is_refused_by_its_name() {
    for (query, construct, instead) in REFUSED {
        let message = error(&format!("INSERT INTO out {query}"));
        assert_says(&message, &["INSERT INTO out", construct, "is not supported by this version", instead]);
    }
}

#[test]
fn functions_that_a_replay_could_not_repeat_are_refused() {
    for function in ["random", "uuid"] {
        for query in [format!("SELECT {function}() FROM t"), format!("SELECT a FROM t WHERE {function}() IS NOT NULL")] {
            let message = error(&format!("INSERT INTO out {query}"));
            assert_says(&message, &["INSERT INTO out", &format!("{function}()"), "repeated", "derive the value from the row"]);
        }
    }
}

#[test]
fn a_parameter_has_no_value() {
    assert_says(&error("INSERT INTO out SELECT a FROM t WHERE a > $1"), &["INSERT INTO out", "$1", "write the value"]);
}

#[test]
fn a_mode_that_a_grouping_can_not_give_is_refused_with_the_way_out() {
    let append = [
        ("SELECT count(*) FROM t", "an aggregate without GROUP BY"),
        ("SELECT a, sum(b) FROM t GROUP BY a", "GROUP BY t.a"),
        ("SELECT count(*) FROM t GROUP BY tumble(other, INTERVAL '1 second')", "no event time"),
        ("SELECT count(*) FROM t GROUP BY session(ts + INTERVAL '1 month', INTERVAL '1 second')", "no event time"),
        ("SELECT max(n) FROM (SELECT count(*) AS n FROM t GROUP BY a) x", "never close"),
    ];
    for (query, said) in append {
        let query = query.replace("other", "to_timestamp_micros(a)");
        assert_says(&error(&format!("INSERT INTO out {query}")), &["sink 'out'", "'append'", said, "'update'", "'complete'"]);
    }
    let windows = "SELECT count(*) FROM t GROUP BY tumble(ts, INTERVAL '1 second'), hop(ts, INTERVAL '1 second', INTERVAL '2 seconds')";
    assert_says(&error(&format!("INSERT INTO out {windows}")), &["two windows"]);
    let column = "SELECT count(*) FROM (SELECT hop(ts, INTERVAL '1 second', INTERVAL '2 seconds') AS w FROM t) x GROUP BY w";
    assert_says(&error(&format!("INSERT INTO out {column}")), &["hop()", "stands in GROUP BY itself"]);
    for (window, said) in [
        ("tumble(ts, INTERVAL '1 month')", "no fixed length"),
        ("tumble(ts, INTERVAL '0 seconds')", "above zero"),
        ("hop(ts, INTERVAL '1 second')", "hop(time, slide, size"),
        ("cumulate(ts, INTERVAL '2 seconds', INTERVAL '3 seconds')", "multiple of the step"),
        ("session(a, INTERVAL '2 seconds')", "TIMESTAMP"),
        ("session(ts, INTERVAL '106751991 days')", "within ten thousand years"),
        ("tumble(ts, INTERVAL '1 day', INTERVAL '-106751991 days')", "within ten thousand years"),
        ("cumulate(ts, INTERVAL '1 millisecond', INTERVAL '1 day')", "up to 86400000 windows"),
        ("hop(ts, INTERVAL '999999 microseconds', INTERVAL '1 second')", "panes"),
        ("CUBE (a, b)", "GROUPING SETS"),
    ] {
        assert_says(&error(&format!("INSERT INTO out SELECT count(*) FROM t GROUP BY {window}")), &[said]);
    }
}

#[test]
fn windows_that_are_each_kept_by_themselves_are_not_too_many() {
    let window = "hop(ts, INTERVAL '1 millisecond', INTERVAL '60 seconds')";
    let query = format!("SELECT count(*) FROM t GROUP BY {window}");
    assert!(job(&format!("INSERT INTO out {query}")).is_ok(), "in the mode 'append' they share panes");
    for mode in ["update", "complete"] {
        let table = format!("CREATE EXTERNAL TABLE changing STORED AS JSON LOCATION 'test://c' OPTIONS ('mode' '{mode}');");
        let said = ["sink 'changing'", "hop(", "up to 60000 windows", "10000", "'append'"];
        assert_says(&error(&format!("{table} INSERT INTO changing {query}")), &said);
    }
    let without_aggregates = format!("SELECT window_start({window}) AS s FROM t GROUP BY {window}");
    assert_says(&error(&format!("INSERT INTO out {without_aggregates}")), &["up to 60000 windows"]);
}

#[test]
fn a_grouping_is_named_as_the_user_wrote_it() {
    for (query, words) in [
        ("SELECT count(*) FROM t GROUP BY tumble(to_timestamp_micros(a), INTERVAL '1 day 5 seconds')", "INTERVAL '1d 5s'"),
        ("SELECT count(*) FROM t GROUP BY CAST(a AS VARCHAR)", "GROUP BY CAST(t.a AS Utf8)"),
    ] {
        assert_says(&error(&format!("INSERT INTO out {query}")), &["sink 'out'", words, "'append'"]);
    }
}

#[test]
fn a_condition_that_an_update_could_undo_is_refused() {
    let update = "CREATE EXTERNAL TABLE changing STORED AS JSON LOCATION 'test://c' OPTIONS ('mode' 'update');";
    let message =
        error(&format!("{update} INSERT INTO changing SELECT a, max(ts) FROM t GROUP BY a HAVING max(ts) - min(ts) > INTERVAL '1 hour'"));
    assert_says(&message, &["sink 'changing'", "INTERVAL '3600s'", "which changes", "'update' writes new rows only", "'complete'"]);
    let session = error(&format!("{update} INSERT INTO changing SELECT count(*) FROM t GROUP BY session(ts, INTERVAL '1 hour')"));
    assert_says(&session, &["session(t.ts, INTERVAL '3600s')", "'update' can't be given", "'append'", "'complete'"]);
}

#[test]
fn an_aggregate_that_can_not_be_computed_is_refused_before_the_first_batch() {
    let update = "CREATE EXTERNAL TABLE changing STORED AS JSON LOCATION 'test://c' OPTIONS ('mode' 'update');";
    let refused = |select: &str| error(&format!("{update} INSERT INTO changing SELECT {select} FROM t"));
    assert_says(&refused("approx_distinct(f)"), &["sink 'changing'", "approx_distinct", "Float64"]);
    assert_says(&refused("array_agg(DISTINCT a ORDER BY b)"), &["array_agg", "DISTINCT"]);
    assert_says(&refused("string_agg(DISTINCT s, s)"), &["string_agg"]);
}
