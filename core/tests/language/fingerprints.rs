//! What the state of a grouping means: an operator goes on where it keeps that, and is refused where it does not.

use crate::stateful::Running;
use crate::support::{assert_says, rows};
use waterclock_core::time::{Timestamp, Watermark};

fn running(query: &str) -> Running {
    let update = "CREATE EXTERNAL TABLE o STORED AS JSON LOCATION 'test://o' OPTIONS ('mode' 'update');";
    Running::new(&format!("{update} INSERT INTO o {query}"))
}

/// Groups of the same columns, in other words.
const SAME: [&[&str]; 7] = [
    &[
        "SELECT a, sum(b) AS s FROM t GROUP BY a",
        "SELECT x.a AS k, sum(x.b) + 1 AS total FROM t x GROUP BY x.a",
        "SELECT k, sum(v) AS s FROM (SELECT a AS k, b AS v, s, f FROM t WHERE f > 1) y GROUP BY k",
        "WITH w AS (SELECT b AS a, a AS b FROM t WHERE flag) SELECT b, sum(a) AS s FROM w WHERE b > 3 GROUP BY b",
    ],
    &["SELECT DISTINCT a AS one FROM t", "SELECT DISTINCT a AS other FROM t u"],
    &[
        "SELECT lower(s) AS s, count(DISTINCT b + 1) AS n FROM t GROUP BY lower(s)",
        "SELECT l AS low, count(DISTINCT v + 1) AS m FROM (SELECT lower(z) AS l, b AS v FROM (SELECT s AS z, b FROM t)) GROUP BY l",
    ],
    &[
        "SELECT a, sum(b) FILTER (WHERE f > 1) AS s, array_agg(b ORDER BY f DESC) AS l FROM t GROUP BY a",
        "SELECT a, sum(v) FILTER (WHERE w > 1) AS s, array_agg(v ORDER BY w DESC) AS l FROM (SELECT flag, a, b AS v, f AS w FROM t) WHERE flag GROUP BY a",
    ],
    &[
        "SELECT a, window_start(tumble(ts, INTERVAL '1 minute')) AS w, count(*) AS n FROM t GROUP BY a, tumble(ts, INTERVAL '1 minute')",
        "SELECT a, window_end(tumble(x, INTERVAL '60 seconds')) AS e, count(*) AS m FROM (SELECT ts AS x, a FROM t)
         GROUP BY a, tumble(x, INTERVAL '60 seconds')",
    ],
    &[
        "SELECT a, e, count(*) AS n FROM (SELECT a, unnest(list) AS e FROM t) GROUP BY a, e",
        "SELECT k, elem, count(*) AS n FROM (SELECT a AS k, unnest(list) AS elem, s FROM t) GROUP BY k, elem",
    ],
    &[
        "SELECT k, count(*) AS n FROM (SELECT a AS k FROM t UNION ALL SELECT b FROM u) GROUP BY k",
        "SELECT x, count(*) AS n FROM (SELECT a AS x FROM t WHERE b > 1 UNION ALL SELECT b AS y FROM u) GROUP BY x",
    ],
];

#[test]
fn other_names_and_conditions_are_the_same_groups() {
    for queries in SAME {
        let fingerprints: Vec<_> = queries.iter().map(|query| running(query).fingerprints()).collect();
        assert!(!fingerprints[0].is_empty());
        for (query, fingerprint) in queries.iter().zip(&fingerprints) {
            assert_eq!(fingerprint, &fingerprints[0], "{query}");
        }
    }
}

/// Groupings that mean the same, and which rows come to each: in pairs, the same rows in other words.
const ROWS: [(&str, &str, &str); 6] = [
    (
        "SELECT a, count(*) AS n FROM t WHERE b > 1 GROUP BY a",
        "SELECT k, count(*) AS n FROM (SELECT a AS k, b AS v FROM t x) WHERE v > 1 GROUP BY k",
        "t where t.b > Int64(1)",
    ),
    ("SELECT count(*) AS n FROM t", "SELECT count(*) AS n FROM (SELECT s FROM t)", "t"),
    ("SELECT count(*) AS n FROM u", "SELECT count(*) AS n FROM u AS x", "u"),
    (
        "SELECT count(*) AS n FROM (SELECT a FROM t WHERE flag UNION ALL SELECT b FROM u)",
        "SELECT count(*) AS n FROM (SELECT x AS z FROM (SELECT a AS x FROM t WHERE flag UNION ALL SELECT b AS y FROM u))",
        "(t where t.flag | u)",
    ),
    (
        "SELECT count(*) AS n FROM (SELECT unnest(list) AS e FROM t) WHERE e > 1",
        "SELECT count(*) AS n FROM (SELECT unnest(list) AS d, a FROM t) WHERE d > 1",
        "elements of (t) where unnest(t.list)[0] > Int64(1)",
    ),
    (
        "SELECT count(*) AS n FROM (SELECT DISTINCT a FROM t WHERE flag) WHERE a > 1",
        "SELECT count(*) AS n FROM (SELECT DISTINCT a AS k FROM t WHERE flag) WHERE k > 1",
        "groups by [t.a] of (t where t.flag) where t.a > Int64(1)",
    ),
];

#[test]
fn rows_are_told_in_the_same_words_whatever_their_columns_are_called() {
    for (one, other, rows) in ROWS {
        for query in [one, other] {
            assert_eq!(running(query).inputs().last().map(String::as_str), Some(rows), "{query}");
        }
    }
}

/// Two programs of the same types that mean something else, and what tells them apart.
const OTHERS: [(&str, &str, &str, &str); 12] = [
    ("SELECT a, sum(a) AS s FROM t GROUP BY a", "SELECT a, sum(b) AS s FROM t GROUP BY a", "sum(t.a)", "sum(t.b)"),
    ("SELECT a, sum(b) AS s FROM t GROUP BY a", "SELECT a, sum(b + 1000) AS s FROM t GROUP BY a", "sum(t.b)", "sum(t.b + Int64(1000))"),
    ("SELECT a AS k, count(*) AS n FROM t GROUP BY a", "SELECT b AS k, count(*) AS n FROM t GROUP BY b", "t.a", "t.b"),
    ("SELECT DISTINCT a AS k FROM t", "SELECT DISTINCT b AS k FROM t", "t.a", "t.b"),
    (
        "SELECT a, count(*) AS n FROM t GROUP BY a",
        "SELECT a, count(*) FILTER (WHERE b > 1) AS n FROM t GROUP BY a",
        "count(",
        "FILTER (WHERE t.b > Int64(1))",
    ),
    (
        "SELECT a, count(*) FILTER (WHERE b < 1) AS n FROM t GROUP BY a",
        "SELECT a, count(*) FILTER (WHERE b > 1) AS n FROM t GROUP BY a",
        "FILTER (WHERE t.b < Int64(1))",
        "FILTER (WHERE t.b > Int64(1))",
    ),
    (
        "SELECT a, count(DISTINCT a) AS n FROM t GROUP BY a",
        "SELECT a, count(DISTINCT b) AS n FROM t GROUP BY a",
        "DISTINCT t.a",
        "DISTINCT t.b",
    ),
    (
        "SELECT a, count(DISTINCT b) AS n FROM t GROUP BY a",
        "SELECT a, count(b) AS n FROM t GROUP BY a",
        "count(DISTINCT t.b)",
        "count(t.b)",
    ),
    ("SELECT a, median(a) AS n FROM t GROUP BY a", "SELECT a, median(b) AS n FROM t GROUP BY a", "median(CAST(t.a", "median(CAST(t.b"),
    (
        "SELECT a, first_value(s ORDER BY a) AS n FROM t GROUP BY a",
        "SELECT a, first_value(s ORDER BY b) AS n FROM t GROUP BY a",
        "ORDER BY [t.a",
        "ORDER BY [t.b",
    ),
    (
        "SELECT k, count(*) AS n FROM (SELECT lower(s) AS k FROM t) GROUP BY k",
        "SELECT k, count(*) AS n FROM (SELECT upper(s) AS k FROM t) GROUP BY k",
        "lower(t.s)",
        "upper(t.s)",
    ),
    (
        "SELECT window_end(tumble(ts, INTERVAL '1 minute')) AS e, count(*) AS n FROM t GROUP BY tumble(ts, INTERVAL '1 minute')",
        "SELECT window_end(tumble(ts, INTERVAL '2 minutes')) AS e, count(*) AS n FROM t GROUP BY tumble(ts, INTERVAL '2 minutes')",
        "tumble(60s) of t.ts",
        "tumble(120s) of t.ts",
    ),
];

#[test]
fn groups_of_something_else_are_told_apart_in_words() {
    for (before, after, old, new) in OTHERS {
        let (before, after) = (running(before).fingerprints(), running(after).fingerprints());
        assert_ne!(before, after, "{old} and {new}");
        assert_says(&before.join("\n"), &[old]);
        assert_says(&after.join("\n"), &[new]);
    }
}

/// The second program has other names, reads other columns besides, and so finds all of them at other places.
#[test]
fn state_is_taken_up_under_other_names() {
    let collected = "array_agg(f ORDER BY b) AS l, nth_value(f, 2 ORDER BY b) AS n, count(DISTINCT f) AS d, last_value(s ORDER BY b) AS la";
    let window = "tumble(ts, INTERVAL '1 minute')";
    let before = format!("SELECT lower(s) AS k, a, {collected} FROM t GROUP BY lower(s), a, {window}");
    let after = format!(
        "SELECT low AS kk, aa, {} FROM (SELECT flag, \"Mixed Case\" AS m, d, lower(s) AS low, a AS aa, b AS x, f AS y, s AS z, ts AS at FROM t)
         WHERE flag AND m > 0 AND d > 0 GROUP BY low, aa, tumble(at, INTERVAL '1 minute')",
        collected.replace("(f", "(y").replace("DISTINCT f", "DISTINCT y").replace("ORDER BY b", "ORDER BY x").replace("(s ", "(z "),
    );
    let line = |a: i64, b: i64, f: f64| {
        format!("{{\"a\":{a},\"b\":{b},\"f\":{f},\"s\":\"A\",\"ts\":1000000,\"flag\":true,\"Mixed Case\":1,\"d\":1}}\n")
    };
    let first = line(1, 5, 1.5) + &line(2, 5, 2.5) + &line(1, 4, 3.5);
    let second = line(1, 5, 9.5) + &line(1, 4, 8.5);
    let mut outputs = Vec::new();
    for program in [None, Some(&before), Some(&after)] {
        let mut running = Running::new(&format!("INSERT INTO out {before}"));
        running.batch(&rows(&running.schema(), &first), Watermark::At(Timestamp(0))).unwrap();
        if let Some(program) = program {
            running.restart_as(&format!("INSERT INTO out {program}")).unwrap();
        }
        outputs.push(running.batch(&rows(&running.schema(), &second), Watermark::End).unwrap());
    }
    let values = |lines: &[String]| lines.join("\n").replace("\"kk\":", "\"k\":").replace("\"aa\":", "\"a\":");
    assert_eq!(outputs[0].len(), 2, "{outputs:?}");
    assert_says(&outputs[0][0], &["[3.5,8.5,1.5,9.5]"]);
    assert_eq!(values(&outputs[1]), values(&outputs[0]));
    assert_eq!(values(&outputs[2]), values(&outputs[0]));
}
