//! What is written in the mode `update` names the group that it is of, and is written when it changes.

use crate::stateful::Running;
use crate::support::{assert_says, error_of, job, rows};
use proptest::prelude::*;
use std::collections::BTreeMap;
use waterclock_core::time::Watermark;

const UPDATE: &str = "CREATE EXTERNAL TABLE o STORED AS JSON LOCATION 'test://o' OPTIONS ('mode' 'update');";

fn refused(query: &str, key: &str) {
    let message = error_of(&format!("{}{UPDATE} INSERT INTO o {query}", crate::support::TABLES));
    assert_says(&message, &["sink 'o'", "'update'", key, "is missing", "SELECT", "'complete'"]);
}

#[test]
fn a_row_that_does_not_name_its_group_is_refused() {
    refused("SELECT count(*) AS n FROM t GROUP BY a", "'t.a'");
    refused("SELECT n FROM (SELECT a AS k, count(*) AS n FROM t GROUP BY a)", "'t.a'");
    refused("SELECT a, count(*) AS n FROM t GROUP BY a, lower(s)", "'lower(t.s)'");
    refused("SELECT n + 1 AS a FROM (SELECT a, count(*) AS n FROM t GROUP BY a)", "'t.a'");
}

#[test]
fn a_row_that_names_its_group_in_any_way_is_written() {
    let accepted = [
        "SELECT a, count(*) AS n FROM t GROUP BY a",
        "SELECT count(*) AS n FROM t",
        "SELECT k + 1 AS k, n FROM (SELECT a AS k, count(*) AS n FROM t GROUP BY a)",
        "SELECT concat(s, '/', a) AS k, count(*) AS n FROM t GROUP BY a, s",
        "SELECT a, count(*) AS n FROM t GROUP BY a, a + 1",
        "SELECT a + 1 AS next, count(*) AS n FROM t GROUP BY a, a + 1",
        "SELECT a, count(*) AS n FROM t GROUP BY a, 'all'",
        "SELECT window_end(tumble(ts, INTERVAL '10 seconds')) AS e, count(*) AS n FROM t GROUP BY tumble(ts, INTERVAL '10 seconds')",
        "SELECT n FROM (SELECT a, count(*) AS n FROM t GROUP BY a) WHERE a = 1",
        "SELECT a, count(*) AS n FROM t GROUP BY a, tumble(ts, INTERVAL '10 seconds')",
        "SELECT a, count(*) AS n FROM t GROUP BY a, tumble(proc_time(), INTERVAL '10 seconds')",
        "SELECT DISTINCT lower(s) AS s FROM t",
        "SELECT lower(s) AS s FROM (SELECT DISTINCT a, s FROM t)",
    ];
    for query in accepted {
        job(&format!("{UPDATE} INSERT INTO o {query}")).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[test]
fn only_the_mode_update_needs_a_name() {
    for (mode, query) in [
        ("complete", "SELECT count(*) AS n FROM t GROUP BY a"),
        ("append", "SELECT count(*) AS n FROM t GROUP BY a, tumble(ts, INTERVAL '10 seconds')"),
    ] {
        let table = UPDATE.replace("update", mode);
        job(&format!("{table} INSERT INTO o {query}")).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

/// Queries, and what each writes of a group: its key, how many rows it has, and the greatest of them.
type Written = fn(i64, i64, i64) -> String;
const READ: [(&str, Written); 6] = [
    ("SELECT a, count(*) / 3 AS c FROM t GROUP BY a", |a, n, _| format!("{{\"a\":{a},\"c\":{}}}", n / 3)),
    ("SELECT a, count(*) / 3 AS c, max(b) > 5 AS h FROM t GROUP BY a", |a, n, b| format!("{{\"a\":{a},\"c\":{},\"h\":{}}}", n / 3, b > 5)),
    ("SELECT a FROM (SELECT a, count(*) AS n FROM t GROUP BY a)", |a, _, _| format!("{{\"a\":{a}}}")),
    ("SELECT a, b FROM (SELECT a, count(*) AS n, max(b) AS b FROM t GROUP BY a)", |a, _, b| format!("{{\"a\":{a},\"b\":{b}}}")),
    ("SELECT a + count(*) / 4 AS x, a FROM t GROUP BY a HAVING a > 0", |a, n, _| {
        if a > 0 { format!("{{\"x\":{},\"a\":{a}}}", a + n / 4) } else { String::new() }
    }),
    ("SELECT a, count(*) AS n, count(*) / 3 AS c FROM t GROUP BY a", |a, n, _| format!("{{\"a\":{a},\"n\":{n},\"c\":{}}}", n / 3)),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A batch writes the rows that are not what they were before it, whatever is computed of the results, over restarts.
    #[test]
    fn a_row_is_written_when_it_changes(
        batches in prop::collection::vec((prop::collection::vec((0i64..3, 0i64..10), 0..6), any::<bool>()), 1..8),
        query in 0usize..READ.len(),
    ) {
        let (query, written) = READ[query];
        let mut running = Running::new(&format!("{UPDATE} INSERT INTO o {query}"));
        let mut groups: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for (values, restarts) in batches {
            if restarts {
                running.restart().unwrap();
            }
            let shown = |groups: &BTreeMap<i64, (i64, i64)>| -> Vec<String> { groups.iter().map(|(a, (n, b))| written(*a, *n, *b)).collect() };
            let before = shown(&groups);
            let mut text = String::new();
            for (a, b) in values {
                let group = groups.entry(a).or_insert((0, i64::MIN));
                *group = (group.0 + 1, group.1.max(b));
                text.push_str(&format!("{{\"a\":{a},\"b\":{b}}}\n"));
            }
            let mut expected: Vec<String> = shown(&groups).into_iter().filter(|row| !row.is_empty() && !before.contains(row)).collect();
            expected.sort();
            let mut emitted = running.batch(&rows(&running.schema(), &text), Watermark::Unknown).unwrap();
            emitted.sort();
            prop_assert_eq!(emitted, expected, "{}", query);
        }
    }
}

/// The rows of a batch with so many rows of group 1, in each batch, and the SELECT from there on.
fn written_by(steps: &[(&str, usize)]) -> Vec<Vec<String>> {
    let statements = |query: &str| format!("{UPDATE} INSERT INTO o {query}");
    let mut running = Running::new(&statements(steps[0].0));
    let step = |(query, count): &(&str, usize)| {
        running.restart_as(&statements(query)).unwrap();
        running.batch(&rows(&running.schema(), &"{\"a\":1}\n".repeat(*count)), Watermark::Unknown).unwrap()
    };
    steps.iter().map(step).collect()
}

#[test]
fn what_could_not_be_computed_before_has_changed() {
    let divided = "SELECT a, 12 / (count(*) - 2) AS x FROM t GROUP BY a";
    let plain = "SELECT a, count(*) / 10 AS x FROM t GROUP BY a";
    assert_eq!(written_by(&[(plain, 2), (divided, 1)]), [[r#"{"a":1,"x":0}"#], [r#"{"a":1,"x":12}"#]]);
}

#[test]
fn a_row_with_the_time_of_its_batch_changes_with_every_row() {
    let query = "SELECT a, count(*) / 10 AS x, extract(year FROM now()) AS y FROM t GROUP BY a";
    assert_eq!(written_by(&[(query, 1), (query, 1), (query, 0)]).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0]);
}
