//! Places that are not there, can't be read, can't be written, or are full: exit code 4.

use super::{ROWS, rows, run, shown, with_files};
use crate::support::input::{self, Format, lay_down};
use crate::support::place::Place;
use crate::support::process::{Invocation, WATERCLOCK};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn a_missing_directory_is_named() {
    let place = with_files(0);
    fs::remove_dir(place.path("in")).unwrap();
    run(&place).expect(4).says(&[&place.path("in").display().to_string()]);
    lay_down(&place, "in", Format::Json, 0..1, ROWS);
    run(&place).expect(0);
    assert_eq!(rows(&place) as u64, ROWS);
    fs::rename(place.path("in"), place.path("elsewhere")).unwrap();
    run(&place).expect(4).says(&[&place.path("in").display().to_string()]);
    fs::rename(place.path("elsewhere"), place.path("in")).unwrap();
    run(&place).expect(0);
    assert_eq!(rows(&place) as u64, ROWS);
}

/// Permissions don't bind the superuser, so the command runs as somebody who owns nothing; other users are bound already.
fn bound_by_permissions(place: &Place) -> Invocation {
    let mut command = Command::new(WATERCLOCK);
    if rustix::process::geteuid().is_root() {
        const NOBODY: u32 = 65_534;
        // The build's directory may be closed to others.
        let copy = place.path("waterclock");
        if !copy.exists() {
            // By another process: a file that this one has open for writing is busy in every child that it starts meanwhile.
            assert!(Command::new("cp").args([WATERCLOCK.as_ref(), copy.as_os_str()]).status().unwrap().success());
        }
        fs::set_permissions(place.root(), Permissions::from_mode(0o777)).unwrap();
        command = Command::new(copy);
        command.uid(NOBODY);
    }
    let job = place.path("job.sql").display().to_string();
    command.args(["run", &job, "--checkpoint", &place.url("checkpoint"), "--until-caught-up", "--no-fsync"]);
    Invocation::of(place, command)
}

#[test]
fn an_unreadable_file_is_named() {
    let place = with_files(2);
    let file = place.path("in/00001.json");
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    bound_by_permissions(&place).finish().expect(4).says(&["00001.json"]);
    assert_eq!(rows(&place) as u64, ROWS);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    bound_by_permissions(&place).finish().expect(0);
    assert_eq!(rows(&place) as u64, 2 * ROWS);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    for directory in ["out", "checkpoint"] {
        let place = with_files(2);
        fs::set_permissions(place.directory(directory), Permissions::from_mode(0o555)).unwrap();
        bound_by_permissions(&place).finish().expect(4).says(&[directory]);
        assert_eq!(rows(&place), 0);
        fs::set_permissions(place.path(directory), Permissions::from_mode(0o777)).unwrap();
        bound_by_permissions(&place).finish().expect(0);
        assert_eq!(rows(&place) as u64, 2 * ROWS);
    }
}

#[test]
fn an_output_that_turns_read_only_loses_nothing() {
    let place = with_files(2);
    fs::set_permissions(place.directory("out"), Permissions::from_mode(0o777)).unwrap();
    bound_by_permissions(&place).finish().expect(0);
    lay_down(&place, "in", Format::Json, 2..4, ROWS);
    let (before, staging) = (shown(&place), place.path("out/_staged"));
    let closed = |mode| {
        // Restored to the owner's mind: the directory belongs to whoever the command ran as, and the superuser may still change it.
        fs::set_permissions(place.path("out"), Permissions::from_mode(mode)).unwrap();
        if staging.exists() {
            fs::set_permissions(&staging, Permissions::from_mode(mode)).unwrap();
        }
    };
    closed(0o555);
    bound_by_permissions(&place).finish().expect(4).says(&["out"]);
    assert_eq!(shown(&place), before);
    closed(0o777);
    bound_by_permissions(&place).finish().expect(0);
    assert_eq!(rows(&place) as u64, 4 * ROWS);
}

#[test]
fn an_output_below_a_file_is_named() {
    let place = with_files(1);
    place.write("out", "a file, not a directory");
    run(&place).expect(4).says(&["out"]);
    assert_eq!(fs::read_to_string(place.path("out")).unwrap(), "a file, not a directory");
}

/// A limit on the size of files stands for a full disk: writes fail in the middle of a file.
#[test]
fn a_full_disk_leaves_nothing_half_visible() {
    let place = with_files(1);
    // Compressible or not, the second batch's output is far larger than the limit.
    place.write("in/00001.json", input::json(ROWS..40_000));
    let script = format!(
        "trap '' XFSZ; ulimit -f 256; exec '{WATERCLOCK}' run '{}' --checkpoint '{}' --until-caught-up",
        place.path("job.sql").display(),
        place.url("checkpoint"),
    );
    for _ in 0..2 {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        Invocation::of(&place, shell).finish().expect(4).says(&["out", "File too large"]);
        assert_eq!(rows(&place) as u64, ROWS);
    }
    run(&place).expect(0);
    assert_eq!(rows(&place), 40_000);
}

#[test]
fn a_file_that_changed_after_it_was_read_is_named() {
    let place = with_files(2);
    run(&place).expect(0);
    place.write("in/00001.json", input::json(0..7));
    run(&place).expect(3).says(&["00001.json"]);
    assert_eq!(rows(&place) as u64, 2 * ROWS);
}

#[test]
fn a_file_that_went_after_it_was_read_is_not_missed() {
    let place = with_files(2);
    run(&place).expect(0);
    fs::remove_file(place.path("in/00000.json")).unwrap();
    lay_down(&place, "in", Format::Json, 2..3, ROWS);
    run(&place).expect(0);
    assert_eq!(rows(&place) as u64, 3 * ROWS);
}

#[test]
fn no_name_of_a_file_hides_it() {
    let place = with_files(0);
    let names = [
        "with space",
        "100%",
        "a#1",
        "é",
        "日本",
        "q?x=1",
        "a+b",
        "..x",
        "%20",
        "UPPER.JSON",
        "dir/deep",
        "~",
        "a'b\"c",
        "semi;colon",
        "back\\slash",
        "[x]",
    ];
    for (number, name) in (0_u64..).zip(names) {
        place.write(&format!("in/{name}.json"), input::json(number * ROWS..(number + 1) * ROWS));
    }
    for hidden in ["in/.hidden.json", "in/_hidden.json", "in/_dir/x.json", "in/.dir/x.json"] {
        place.write(hidden, "this is no JSON");
    }
    run(&place).expect(0);
    let expected = if names.contains(&"..x") { names.len() - 1 } else { names.len() };
    assert_eq!(rows(&place), expected * ROWS as usize, "'..x' begins with a point and is passed over; all others are read");
}
