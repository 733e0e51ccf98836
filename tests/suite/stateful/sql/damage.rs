//! State of SQL jobs that is damaged, cut off or missing: exit code 6, the object is named, and nothing is written.

use super::{prepare, shown};
use crate::log::{of_kind, records};
use crate::state::bytes_below;
use crate::support::input::{Format, lay_down};
use crate::support::process::Invocation;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: u64 = 3;
const ROWS: u64 = 200;

/// Objects that the newest record names.
fn named(checkpoint: &Path) -> Vec<PathBuf> {
    let newest = records(checkpoint).pop().unwrap();
    let objects = bytes_below(&checkpoint.join("state")).into_keys();
    objects.filter(|path| newest.contains(path.file_name().unwrap().to_str().unwrap())).collect()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut_off(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[test]
fn damaged_state_is_named_and_nothing_is_written() {
    let place = prepare(FILES, ROWS);
    Invocation::catch_up(&place).finish().expect(0);
    lay_down(&place, "in", Format::Json, FILES..FILES + 1, ROWS);
    let checkpoint = place.path("checkpoint");
    let objects = named(&checkpoint);
    assert!(!objects.is_empty(), "there is state beyond the records");
    let output = shown(&place);
    let damages: [fn(&Path); 3] = [flip, cut_off, remove];
    for path in &objects {
        let intact = fs::read(path).unwrap();
        for damage in damages {
            damage(path);
            Invocation::catch_up(&place).finish().expect(6).says(&[path.file_name().unwrap().to_str().unwrap()]);
            assert_eq!(shown(&place), output, "a damaged checkpoint changes nothing that is visible");
        }
        fs::write(path, intact).unwrap();
    }
    assert_eq!(of_kind(&checkpoint, "batch") as u64, FILES, "no batch was committed");
    Invocation::catch_up(&place).finish().expect(0);
    assert_eq!(shown(&place)["totals"].len() as u64, FILES + 1, "what is whole again goes on");
}
