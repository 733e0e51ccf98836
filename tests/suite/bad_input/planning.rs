//! Jobs that can't be planned: exit code 2, and nothing was made on disk.

use crate::support::place::Place;
use crate::support::process::Invocation;

const SOURCE: &str =
    "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT, name VARCHAR, ts TIMESTAMP) STORED AS JSON LOCATION 'file://{root}/in/';";
const SINK: &str = "CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{root}/out/';";

/// Runs a job that must be refused, and looks for these words in the message.
fn refused(statements: &[&str], words: &[&str]) {
    let place = Place::new();
    place.directory("in");
    place.write("in/0.json", "{\"id\": 1, \"name\": \"a\"}\n");
    place.sql(&statements.join("\n"));
    Invocation::catch_up(&place).finish().expect(2).says(words);
    assert!(!place.path("out").exists(), "{statements:?}: a job that is refused made its output directory");
}

#[test]
fn unknown_options_are_listed_with_the_known_ones() {
    let table =
        "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION 'file://{root}/in/' OPTIONS ('max_file_per_batch' '1');";
    refused(&[table, SINK, "INSERT INTO copy SELECT * FROM bid;"], &["bid", "max_file_per_batch", "max_files_per_batch"]);
    let table = "CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{root}/out/' OPTIONS ('mdoe' 'append');";
    refused(&[SOURCE, table, "INSERT INTO copy SELECT * FROM bid;"], &["copy", "mdoe", "mode"]);
}

#[test]
fn option_values_are_checked() {
    for (option, value) in
        [("max_files_per_batch", "0"), ("max_files_per_batch", "many"), ("watermark_delay", "5"), ("event_time", "nothing")]
    {
        let table = format!(
            "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT, ts TIMESTAMP) STORED AS JSON LOCATION 'file://{{root}}/in/' \
             OPTIONS ('event_time' 'ts', '{option}' '{value}');"
        );
        let table = if option == "event_time" { table.replacen("'event_time' 'ts', ", "", 1) } else { table };
        refused(&[&table, SINK, "INSERT INTO copy SELECT * FROM bid;"], &["bid", value]);
    }
}

#[test]
fn names_that_nothing_has_are_named() {
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT frobnicate(id) FROM bid;"], &["frobnicate"]);
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT no_such FROM bid;"], &["no_such"]);
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT id FROM bids;"], &["bids"]);
    refused(&[SOURCE, SINK, "INSERT INTO copies SELECT id FROM bid;"], &["copies"]);
}

#[test]
fn type_errors_are_found_before_anything_runs() {
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT id FROM bid WHERE id + 1;"], &["copy", "non-boolean"]);
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT -name AS n FROM bid;"], &["copy", "'-'"]);
    let sink = "CREATE EXTERNAL TABLE copy (id BIGINT, more BIGINT) STORED AS JSON LOCATION 'file://{root}/out/';";
    refused(&[SOURCE, sink, "INSERT INTO copy SELECT id FROM bid;"], &["copy"]);
}

#[test]
fn syntax_errors_say_where() {
    refused(&[SOURCE, SINK, "INSERT INTO copy SELEKT id FROM bid;"], &["SELEKT", "3"]);
    refused(&["CREATE UNBOUNDED"], &["1"]);
}

#[test]
fn a_job_needs_a_stream_and_a_sink() {
    refused(&[SOURCE, SINK], &["INSERT"]);
    refused(&[SOURCE, "SELECT * FROM bid;"], &["INSERT"]);
    let bounded = "CREATE EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION 'file://{root}/in/';";
    refused(&[bounded, SINK, "INSERT INTO copy SELECT id FROM bid;"], &["UNBOUNDED"]);
}

#[test]
fn a_job_does_not_read_what_it_writes() {
    let both = "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION 'file://{root}/out/';";
    refused(&[both, "INSERT INTO bid SELECT id FROM bid;"], &["bid"]);
    refused(&[both, SINK, "INSERT INTO copy SELECT id FROM bid;"], &["bid", "copy"]);
    let above = "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION 'file://{root}/';";
    refused(&[above, SINK, "INSERT INTO copy SELECT id FROM bid;"], &["bid", "copy"]);
}

#[test]
fn two_sinks_do_not_share_a_place() {
    let second = "CREATE EXTERNAL TABLE second STORED AS JSON LOCATION 'file://{root}/out/';";
    refused(&[SOURCE, SINK, second, "INSERT INTO copy SELECT id FROM bid; INSERT INTO second SELECT id FROM bid;"], &["copy", "second"]);
}

#[test]
fn what_cannot_be_repeated_is_refused() {
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT random() AS r FROM bid;"], &["random"]);
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT uuid() AS u FROM bid;"], &["uuid"]);
}

#[test]
fn modes_that_a_query_cannot_give_are_refused_with_the_reason() {
    let complete = "CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{root}/out/' OPTIONS ('mode' 'complete');";
    refused(&[SOURCE, complete, "INSERT INTO copy SELECT id FROM bid;"], &["complete", "copy"]);
    let wrong = "CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{root}/out/' OPTIONS ('mode' 'upsert');";
    refused(&[SOURCE, wrong, "INSERT INTO copy SELECT id FROM bid;"], &["upsert", "append"]);
}

#[test]
fn unknown_places_and_formats_list_the_known_ones() {
    let scheme = "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION 'kafak://topic';";
    refused(&[scheme, SINK, "INSERT INTO copy SELECT id FROM bid;"], &["kafak", "nexmark"]);
    let format = "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSN LOCATION 'file://{root}/in/';";
    refused(&[format, SINK, "INSERT INTO copy SELECT id FROM bid;"], &["jsn", "JSON"]);
}

#[test]
fn columns_that_csv_has_no_text_for_are_refused() {
    for column in ["l BIGINT[]", "s STRUCT<x BIGINT>", "b BYTEA", "i INTERVAL"] {
        let table = format!("CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT, {column}) STORED AS CSV LOCATION 'file://{{root}}/in/';");
        let name = &format!("'{}'", column.split_once(' ').unwrap().0);
        refused(&[&table, SINK, "INSERT INTO copy SELECT id FROM bid;"], &["'bid'", name, "can't be read from CSV"]);
    }
}

#[test]
fn columns_of_equal_names_need_an_alias() {
    refused(&[SOURCE, SINK, "INSERT INTO copy SELECT id, id + 1 AS id FROM bid;"], &["id"]);
}

#[test]
fn wrong_flags_end_with_2() {
    let place = Place::new();
    place.sql(SOURCE);
    let job = place.path("job.sql").display().to_string();
    let checkpoint = place.url("checkpoint");
    for arguments in [
        vec!["run", &job],
        vec!["run", &job, "--checkpoint", &checkpoint, "--no-such-flag"],
        vec!["run", &job, "--checkpoint", &checkpoint, "--interval", "5"],
        vec!["run", &job, "--checkpoint", &checkpoint, "--threads", "0"],
        vec!["run", "no-such-file.sql", "--checkpoint", &checkpoint],
        vec!["no-such-command"],
        vec![],
    ] {
        Invocation::new(&place, arguments).finish().expect(2);
    }
}
