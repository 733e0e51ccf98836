//! The places of a job: apart from each other, and where they were before.

use crate::log;
use crate::support::place::Place;
use crate::support::process::{Exit, Invocation};
use std::fs;

const JOB: &str = "
CREATE UNBOUNDED EXTERNAL TABLE numbers (id BIGINT) STORED AS JSON LOCATION 'file://{root}/in/' OPTIONS ('max_files_per_batch' '1');
CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{root}/out/';
INSERT INTO copy SELECT id FROM numbers;
";

/// A job that has run two batches.
fn place() -> Place {
    let place = Place::new();
    place.sql(JOB);
    for file in 0..2 {
        more(&place, file);
    }
    Invocation::catch_up(&place).finish().expect(0);
    place
}

fn more(place: &Place, file: u64) {
    place.write(&format!("in/{file}.json"), format!("{{\"id\":{file}}}\n"));
}

fn published(place: &Place, directory: &str) -> Vec<String> {
    let names = fs::read_dir(place.path(directory)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('_')).collect();
    names.sort();
    names.iter().map(|name| fs::read_to_string(place.path(directory).join(name)).unwrap()).collect()
}

fn records(place: &Place) -> usize {
    log::records(&place.path("checkpoint")).len()
}

/// The same directory, by another way.
#[test]
fn a_sink_within_its_source_is_refused_whatever_it_is_called() {
    for way in ["/in/../in/sub/", "/link/sub/", "/link/../in/"] {
        let place = Place::new();
        more(&place, 0);
        std::os::unix::fs::symlink(place.path("in"), place.path("link")).unwrap();
        place.sql(&JOB.replace("/out/", way));
        Invocation::job(&place).arg("--until-caught-up").finish().expect(2).says(&["can't read what it writes"]);
        assert!(!place.path("in/sub").exists());
    }
}

#[test]
fn a_sink_that_moved_is_refused_before_the_opening() {
    for new_input in [false, true] {
        let place = place();
        if new_input {
            more(&place, 2);
        }
        let before = records(&place);
        place.sql(&JOB.replace("/out/", "/elsewhere/"));
        Invocation::catch_up(&place).finish().expect(2).says(&["'copy'", "/out/", "/elsewhere/", "another checkpoint"]);
        assert_eq!((records(&place), place.path("elsewhere").exists()), (before, false), "nothing was written");
        place.sql(&JOB.replace("/out/'", "/out'"));
        Invocation::catch_up(&place).finish().expect(0);
    }
}

#[test]
fn a_sink_whose_files_moved_along_goes_on() {
    let place = place();
    fs::rename(place.path("out"), place.path("elsewhere")).unwrap();
    place.sql(&JOB.replace("/out/", "/elsewhere/"));
    more(&place, 2);
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(published(&place, "elsewhere"), ["{\"id\":0}\n", "{\"id\":1}\n", "{\"id\":2}\n"]);
    // From now on it is the old place that is another one.
    place.sql(JOB);
    Invocation::catch_up(&place).finish().expect(2).says(&["'copy'", "/elsewhere/"]);
}

#[test]
fn a_place_that_was_refused_is_not_where_the_sink_is() {
    let place = Place::new();
    place.sql(JOB).write("out/thesis.doc", "ten years of work");
    more(&place, 0);
    Invocation::catch_up(&place).finish().expect(2).says(&["thesis.doc"]);
    place.sql(&JOB.replace("/out/", "/elsewhere/"));
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(published(&place, "elsewhere"), ["{\"id\":0}\n"]);
}

#[test]
fn a_sink_that_was_left_out_for_a_while_is_where_it_was() {
    let place = place();
    place.sql(&JOB.replace("copy", "other").replace("/out/", "/other/"));
    Invocation::catch_up(&place).finish().expect(0);
    place.sql(&JOB.replace("/out/", "/elsewhere/"));
    Invocation::catch_up(&place).finish().expect(2).says(&["'copy'", "/out/", "/elsewhere/"]);
}

#[test]
fn a_committed_file_that_its_reader_took_away_is_no_damage() {
    let place = place();
    let newest = "out/00000000000000000001-00000.json";
    fs::remove_file(place.path(newest)).unwrap();
    more(&place, 2);
    Invocation::catch_up(&place).finish().expect(0).says(&["WARN", "00000000000000000001-00000.json", "taken away"]);
    assert_eq!(published(&place, "out"), ["{\"id\":0}\n", "{\"id\":2}\n"]);
}

fn refused(sql: &str, checkpoint: &str) -> Exit {
    let place = Place::new();
    place.sql(sql).write("in/0.json", "{\"id\":0}\n");
    place.write("dim/0.json", "{\"id\":0}\n");
    let job = place.path("job.sql").display().to_string();
    let run = ["run", &job, "--checkpoint", &place.url(checkpoint), "--until-caught-up"];
    let refused = Invocation::new(&place, run).finish().expect(2).says(&["the checkpoint", "overlaps", checkpoint]);
    assert!(!place.path(checkpoint).join("job.json").exists() && !place.path("out/_waterclock").exists(), "nothing was written");
    refused
}

#[test]
fn a_checkpoint_has_a_place_of_its_own() {
    refused(JOB, "in/cp").says(&["the source 'numbers'", "/in/"]);
    refused(JOB, "in").says(&["the source 'numbers'"]);
    refused(JOB, "out/cp").says(&["the sink 'copy'", "/out/"]);
    let inside = JOB.replace("/out/", "/cp/out/");
    refused(&inside, "cp").says(&["the sink 'copy'", "/cp/out/"]);
    let dead = JOB.replace("'max_files", "'on_bad_row' 'dead_letter', 'dead_letter' 'file://{root}/dead/', 'max_files");
    refused(&dead, "dead/cp").says(&["the bad rows of 'numbers'"]);
    let dim = "CREATE EXTERNAL TABLE dim (id BIGINT) STORED AS JSON LOCATION 'file://{root}/dim/';";
    let join = JOB.replace("SELECT id FROM numbers", "SELECT n.id FROM numbers n JOIN dim d ON n.id = d.id");
    refused(&format!("{dim}{join}"), "dim/cp").says(&["the static table 'dim'"]);
}
