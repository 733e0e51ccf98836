//! Branches of a UNION ALL that mean the same but for their rows: none takes over the state of another.

use crate::support::output::{by_batch, read};
use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;

/// A job that counts rows in these branches, each a word and a condition.
fn set_branches(place: &Place, branches: &[(&str, &str)]) {
    let branch = |(word, condition): &(&str, &str)| {
        format!("SELECT '{word}' AS word, count(*) AS n FROM (SELECT v AS x FROM events) WHERE {condition}")
    };
    let query: Vec<String> = branches.iter().map(branch).collect();
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE events (v BIGINT) STORED AS JSON LOCATION 'file://{{root}}/in/';
         CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{{root}}/out/' OPTIONS ('mode' 'complete');
         INSERT INTO result {};",
        query.join(" UNION ALL ")
    ));
}

/// A batch of rows with these values.
fn run(place: &Place, batch: usize, values: &[i64]) -> Invocation {
    place.write(&format!("in/{batch:04}.json"), values.iter().map(|value| format!("{{\"v\":{value}}}\n")).collect::<String>());
    Invocation::catch_up(place)
}

/// The words of batch 1 with their counts, sorted.
fn counts(place: &Place) -> Vec<(String, u64)> {
    let row = |line: &String| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["word"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap())
    };
    let mut counts: Vec<_> = by_batch(&read(&place.path("out")))[&1].iter().map(row).collect();
    counts.sort();
    counts
}

fn count(word: &str, n: u64) -> (String, u64) {
    (word.to_owned(), n)
}

const SMALL: (&str, &str) = ("small", "x < 10");
const LARGE: (&str, &str) = ("large", "x > 10");

#[test]
fn branches_that_swap_places_are_refused() {
    let place = Place::new();
    set_branches(&place, &[SMALL, LARGE]);
    run(&place, 0, &[1, 2, 30]).finish().expect(0);
    set_branches(&place, &[LARGE, SMALL]);
    run(&place, 1, &[1]).finish().expect(2).says(&[
        "'result-group-1'",
        "'result-group-2'",
        "events where events.v < Int64(10)",
        "events where events.v > Int64(10)",
        "order",
    ]);
    set_branches(&place, &[("tiny", "x < 5"), LARGE]);
    run(&place, 1, &[1]).finish().expect(2).says(&["'result-group-1'", "means the same"]);
    set_branches(&place, &[("few", SMALL.1), ("many", LARGE.1)]);
    run(&place, 1, &[1]).finish().expect(0);
    assert_eq!(counts(&place), [count("few", 3), count("many", 1)]);
}

#[test]
fn a_query_of_one_branch_goes_on_with_another_condition() {
    let place = Place::new();
    set_branches(&place, &[SMALL]);
    run(&place, 0, &[1, 2, 30]).finish().expect(0);
    set_branches(&place, &[LARGE]);
    run(&place, 1, &[40]).finish().expect(0);
    assert_eq!(counts(&place), [count("large", 3)]);
}

#[test]
fn a_branch_is_added_behind_the_others() {
    let place = Place::new();
    set_branches(&place, &[SMALL]);
    run(&place, 0, &[1, 2, 30]).finish().expect(0);
    set_branches(&place, &[LARGE, SMALL]);
    run(&place, 1, &[40]).finish().expect(2).says(&["'result-group-1'", "means the same"]);
    set_branches(&place, &[SMALL, LARGE]);
    run(&place, 1, &[40]).finish().expect(0);
    assert_eq!(counts(&place), [count("large", 1), count("small", 2)]);
}
