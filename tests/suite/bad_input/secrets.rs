//! Credentials are never printed: not in errors, logs, explanations or records.

use crate::support::place::Place;
use crate::support::process::{Exit, Invocation};
use std::fs;
use std::path::Path;

const SECRET: &str = "hunter2-hunter2";

fn assert_secret(exit: &Exit) {
    assert!(!exit.stderr.contains(SECRET) && !exit.stdout.contains(SECRET), "{}{}", exit.stdout, exit.stderr);
}

/// Fails if any file below a directory holds the secret.
fn assert_none_below(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            assert_none_below(&path);
        } else {
            let content = fs::read(&path).unwrap();
            assert!(!content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{}", path.display());
        }
    }
}

fn job(place: &Place, location: &str, extra: &str) {
    place.directory("in");
    place.write("in/0.json", "{\"id\": 1}\n");
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION '{location}'
             OPTIONS ('aws_secret_access_key' '{SECRET}', 'aws_access_key_id' 'AKIA', 'max_files_per_batch' '1'{extra});
         CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{{root}}/out/' OPTIONS ('aws_secret_access_key' '{SECRET}');
         INSERT INTO copy SELECT id FROM bid;"
    ));
}

#[test]
fn a_run_prints_and_stores_no_credentials() {
    let place = Place::new();
    job(&place, "file://{root}/in/", "");
    let run = Invocation::catch_up(&place).arg("--log").arg("trace").env("AWS_SECRET_ACCESS_KEY", SECRET).finish().expect(0);
    assert_secret(&run);
    assert_none_below(&place.path("checkpoint"));
    assert_none_below(&place.path("out"));
    let path = place.path("job.sql").display().to_string();
    assert_secret(&Invocation::new(&place, ["explain", &path]).finish().expect(0));
    let checkpoint = place.url("checkpoint");
    assert_secret(&Invocation::new(&place, ["batches", "--json", "--checkpoint", &checkpoint]).finish().expect(0));
}

#[test]
fn errors_print_no_credentials() {
    let place = Place::new();
    job(&place, "file://{root}/in/", ", 'no_such_option' 'hunter2-hunter2'");
    assert_secret(&Invocation::catch_up(&place).finish().expect(2));
    job(&place, &format!("s3://user:{SECRET}@bucket/in/"), "");
    assert_secret(&Invocation::catch_up(&place).finish().expect(2));
    place.sql(&format!("CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT) STORED AS JSON LOCATION 's3://b/' OPTIONS ('aws_secret_access_key' '{SECRET}' oops);"));
    assert_secret(&Invocation::catch_up(&place).finish().expect(2));
}
