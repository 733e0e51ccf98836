//! An output directory belongs to one sink of one job.

use super::{ROWS, rows, run, shown, with_files};
use crate::support::process::Invocation;
use std::fs;

#[test]
fn the_output_of_another_job_is_refused() {
    let place = with_files(2);
    run(&place).expect(0);
    let before = shown(&place);
    let job = place.path("job.sql").display().to_string();
    let other = Invocation::new(&place, ["run", &job, "--checkpoint", &place.url("other"), "--until-caught-up"]);
    other.finish().expect(2).says(&["out"]);
    assert_eq!(shown(&place), before);
    run(&place).expect(0);
    assert_eq!(rows(&place) as u64, 2 * ROWS);
}

#[test]
fn files_of_nobody_are_not_mixed_with_ours() {
    let place = with_files(1);
    place.write("out/00000000000000000000-00000.json", "{\"id\": 4711}\n");
    run(&place).expect(2).says(&["out"]);
    assert_eq!(fs::read_to_string(place.path("out/00000000000000000000-00000.json")).unwrap(), "{\"id\": 4711}\n");
}

#[test]
fn another_sink_of_the_same_job_is_refused() {
    let place = with_files(1);
    run(&place).expect(0);
    let renamed = fs::read_to_string(place.path("job.sql")).unwrap().replace("copy", "renamed");
    place.sql(&renamed);
    run(&place).expect(2).says(&["out"]);
    assert_eq!(rows(&place) as u64, ROWS);
}
