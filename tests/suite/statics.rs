//! Static tables: which version of them is read, and what happens when they can't be.

use crate::log;
use crate::support::place::Place;
use crate::support::process::Invocation;
use std::fs;

const JOB: &str = "
CREATE UNBOUNDED EXTERNAL TABLE events (id BIGINT, k BIGINT) STORED AS JSON LOCATION 'file://{root}/in/';
CREATE EXTERNAL TABLE dim STORED AS JSON LOCATION 'file://{root}/dim/labels.json';
CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{root}/out/';
INSERT INTO result SELECT e.id, d.label FROM events e LEFT JOIN dim d ON e.k = d.k;
";

/// A job with one file of its stream, and a static table of one file.
fn place() -> Place {
    let place = Place::new();
    place.sql(JOB).write("in/0.json", "{\"id\": 1, \"k\": 1}\n");
    place.write("dim/labels.json", "{\"k\": 1, \"label\": \"one\"}\n");
    place
}

fn output(place: &Place) -> Vec<String> {
    let visible = |name: &str| !name.starts_with(['_', '.']);
    let paths = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap());
    let mut paths: Vec<_> = paths.filter(|entry| visible(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What the openings say of the table: its files with their sizes, and its rows.
fn versions(place: &Place) -> Vec<(String, u64, u64)> {
    let records = log::records(&place.path("checkpoint"));
    let records = records.iter().map(|record| serde_json::from_str::<serde_json::Value>(record).unwrap());
    let openings = records.filter(|record| record["kind"] == "open");
    let version = |record: serde_json::Value| {
        let dim = &record["statics"]["dim"];
        let ranges = dim["ranges"].as_array().unwrap_or_else(|| panic!("no version of the table: {record}"));
        assert_eq!(ranges.len(), 1, "{record}");
        let files = ranges[0]["detail"]["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{record}");
        (files[0]["path"].as_str().unwrap().to_owned(), files[0]["size"].as_u64().unwrap(), dim["rows"].as_u64().unwrap())
    };
    openings.map(version).collect()
}

#[test]
fn each_opening_reads_the_table_as_it_is_and_records_its_version() {
    let place = place();
    Invocation::catch_up(&place).finish().expect(0);
    place.write("in/1.json", "{\"id\": 2, \"k\": 2}\n{\"id\": 3, \"k\": 1}\n");
    place.write("dim/labels.json", "{\"k\": 1, \"label\": \"uno\"}\n{\"k\": 2, \"label\": \"due\"}\n");
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(output(&place), [r#"{"id":1,"label":"one"}"#, r#"{"id":2,"label":"due"}"#, r#"{"id":3,"label":"uno"}"#]);
    let name = "labels.json".to_owned();
    assert_eq!(versions(&place), [(name.clone(), 25, 1), (name, 50, 2)]);
}

#[test]
fn a_table_that_is_not_there_stops_the_job_before_it_has_begun() {
    let place = place();
    let declared = JOB.replace("dim STORED", "dim (k BIGINT, label VARCHAR) STORED");
    for job in [JOB, &declared] {
        fs::remove_dir_all(place.path("dim")).ok();
        place.sql(job);
        Invocation::catch_up(&place).finish().expect(4).says(&["dim/labels.json"]);
        assert!(!place.path("out").exists());
        assert_eq!(log::records(&place.path("checkpoint")), Vec::<String>::new());
    }
    place.write("dim/labels.json", "{\"k\": 1, \"label\": \"one\"}\n");
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(output(&place), [r#"{"id":1,"label":"one"}"#]);
}

#[test]
fn a_bad_row_of_a_table_is_named() {
    let place = place();
    place.sql(&JOB.replace("dim STORED", "dim (k BIGINT, label VARCHAR) STORED"));
    place.write("dim/labels.json", "{\"k\": 1, \"label\": \"one\"}\n{\"k\": 2.5}\n");
    Invocation::catch_up(&place).finish().expect(3).says(&["static table 'dim'", "labels.json", "line 2"]);
    assert_eq!(log::records(&place.path("checkpoint")), Vec::<String>::new());
}

#[test]
fn a_table_without_an_end_is_refused() {
    let place = place();
    for (location, format) in [("nexmark://person", "NEXMARK"), ("stdin://", "JSON")] {
        let columns = if format == "JSON" { "(k BIGINT, label VARCHAR)" } else { "" };
        let table = format!("CREATE EXTERNAL TABLE dim {columns} STORED AS {format} LOCATION '{location}';");
        let rest = "CREATE UNBOUNDED EXTERNAL TABLE events (id BIGINT, k BIGINT) STORED AS JSON LOCATION 'file://{root}/in/';
                    CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{root}/out/';
                    INSERT INTO result SELECT e.id FROM events e JOIN dim d ON e.id = d.id;";
        place.sql(&format!("{table}{}", if format == "JSON" { rest.replace("d.id", "d.k") } else { rest.to_owned() }));
        Invocation::catch_up(&place).finish().expect(2).says(&["dim", "not UNBOUNDED", location]);
    }
}

#[test]
fn a_replay_reads_the_table_as_it_was_or_stops() {
    let place = place();
    place.write("dim/labels.json", "{\"k\": 1, \"label\": \"one\"}\n");
    Invocation::catch_up(&place).arg("--max-batches").arg("1").finish().expect(0);
    let replay = |batches: &str, output: &str| {
        let (job, checkpoint, output) = (place.path("job.sql").display().to_string(), place.url("checkpoint"), place.url(output));
        Invocation::new(&place, ["replay", &job, "--checkpoint", &checkpoint, "--batches", batches, "--diff", "--output", &output])
    };
    // A file more is not what was read.
    place.sql(&JOB.replace("dim/labels.json", "dim/"));
    place.write("in/1.json", "{\"id\": 2, \"k\": 2}\n{\"id\": 3, \"k\": 1}\n");
    Invocation::catch_up(&place).finish().expect(0);
    place.write("dim/more.json", "{\"k\": 2, \"label\": \"two\"}\n");
    let said = replay("1..1", "same").finish().expect(0).stdout;
    assert!(said.contains("2 rows committed, the same replayed"), "{said}");
    place.write("dim/labels.json", "{\"k\": 1, \"label\": \"uno, due, tre\"}\n");
    replay("1..1", "changed").finish().expect(4).says(&["static table 'dim'", "labels.json"]);
    place.write("in/2.json", "{\"id\": 4, \"k\": 2}\n");
    Invocation::catch_up(&place).finish().expect(0);
    let said = replay("2..2", "newest").finish().expect(0).stdout;
    assert!(said.contains("1 rows committed, the same replayed"), "{said}");
    replay("1..2", "two").finish().expect(4).says(&["static table 'dim'"]);
}

/// Its rows would be read as the table's own at the next start.
#[test]
fn a_replay_does_not_write_where_a_table_is() {
    let place = place();
    place.sql(&JOB.replace("dim/labels.json", "dim/"));
    Invocation::catch_up(&place).finish().expect(0);
    for output in ["dim", "dim/again"] {
        let (job, checkpoint, output) = (place.path("job.sql").display().to_string(), place.url("checkpoint"), place.url(output));
        let replay = ["replay", &job, "--checkpoint", &checkpoint, "--batches", "0..0", "--output", &output];
        Invocation::new(&place, replay).finish().expect(2).says(&["overlaps the static table 'dim'"]);
    }
    assert_eq!(fs::read_dir(place.path("dim")).unwrap().count(), 1);
}
