//! What is written in the mode `update` names the group that it is of.

use crate::support::{assert_says, error_of, job};

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
