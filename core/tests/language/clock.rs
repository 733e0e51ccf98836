//! The clock of a job is its batch's trigger time.

use crate::support::{assert_says, job, lines, rows, run, select};
use std::collections::BTreeSet;

const TIME: &str = "2024-02-29T12:34:56.789012";
const ROWS: &str = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n";

#[test]
fn each_function_gives_its_part_of_the_trigger_time() {
    let query = "SELECT now() AS a, proc_time() AS b, current_timestamp AS c, current_timestamp() AS d, localtimestamp AS e, \
                 current_date AS f, today() AS g, current_time AS h, localtime AS i FROM t";
    let expected = format!(
        r#"{{"a":"{TIME}","b":"{TIME}","c":"{TIME}","d":"{TIME}","e":"{TIME}","f":"2024-02-29","g":"2024-02-29","h":"12:34:56.789012","i":"12:34:56.789012"}}"#
    );
    assert_eq!(select(query, ROWS), [expected.as_str(); 3]);
}

#[test]
fn all_rows_branches_and_sinks_see_one_time() {
    let query = "SELECT a, now() AS n FROM t UNION ALL SELECT b, proc_time() FROM t WHERE a < 3 UNION ALL SELECT a, n FROM \
                 (SELECT a, current_timestamp AS n FROM t)";
    let job = job(&format!("INSERT INTO out {query}; INSERT INTO other SELECT now() AS n FROM t")).unwrap();
    let input = rows(&job.plan.sources[0].schema, ROWS);
    let outputs = run(&job.plan, &[("t", input)].into()).unwrap();
    assert_eq!((outputs["out"].num_rows(), outputs["other"].num_rows()), (8, 3));
    let times: BTreeSet<String> = outputs.values().flat_map(lines).map(|line| line[line.find("\"n\"").unwrap()..].to_owned()).collect();
    assert_eq!(times, [format!("\"n\":\"{TIME}\"}}")].into());
}

#[test]
fn conditions_and_nested_expressions_read_the_clock() {
    let rows = r#"{"a":1,"ts":"2024-02-29T12:34:56.789011"}
{"a":2,"ts":"2024-02-29T12:34:56.789012"}
{"a":3,"ts":"2024-02-29T13:00:00"}
"#;
    assert_eq!(select("SELECT a FROM t WHERE ts < now()", rows), ["{\"a\":1}"]);
    assert_eq!(select("SELECT a FROM t WHERE ts >= now() - INTERVAL '1 hour' AND a <> 2", rows), ["{\"a\":1}", "{\"a\":3}"]);
    assert_eq!(select("SELECT CASE WHEN ts > now() THEN date_part('year', now()) END AS y FROM t", rows), ["{}", "{}", "{\"y\":2024}"]);
}

#[test]
fn the_plan_holds_no_time_and_no_reader_gets_it_as_a_hint() {
    let job = job("INSERT INTO out SELECT a, now() AS n FROM t WHERE ts < now() AND a > 1").unwrap();
    assert_says(&job.plan.logical, &["now()"]);
    let filters: Vec<String> = job.plan.sources[0].scan.filters.iter().map(ToString::to_string).collect();
    assert!(filters.iter().all(|filter| !filter.contains("now")), "{filters:?}");
}
