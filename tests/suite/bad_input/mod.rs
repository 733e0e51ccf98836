//! Everything that users get wrong, or that breaks under them: each with its exit code, a message that says what and where, nothing
//! lost and nothing half visible, and a run that catches up once it is mended.

mod checkpoint;
mod data;
mod files;
mod ownership;
mod planning;
mod secrets;

use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::output::{Files, read};
use crate::support::place::Place;
use crate::support::process::{Exit, Invocation};

const ROWS: u64 = 20;

/// A job that copies bids of one format, a file per batch.
fn copy_job(format: &str, options: &str) -> Place {
    let place = Place::new();
    place.directory("in");
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS {format} LOCATION 'file://{{root}}/in/'
             OPTIONS ('max_files_per_batch' '1'{options});
         CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{{root}}/out/';
         INSERT INTO copy SELECT * FROM bid;"
    ));
    place
}

/// The same with some good files in it.
fn with_files(files: u64) -> Place {
    let place = copy_job("JSON", "");
    lay_down(&place, "in", Format::Json, 0..files, ROWS);
    place
}

fn run(place: &Place) -> Exit {
    Invocation::catch_up(place).arg("--no-fsync").finish()
}

fn shown(place: &Place) -> Files {
    read(&place.path("out"))
}

fn rows(place: &Place) -> usize {
    shown(place).values().map(Vec::len).sum()
}
