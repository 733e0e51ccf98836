//! The number of threads changes nothing, not a bit.

use crate::jobs::TwoByTwo;
use crate::support::input::{Format, lay_down};
use crate::support::place::Place;
use crate::support::process::Invocation;
use std::collections::BTreeMap;
use std::fs;

/// All published files with their bytes.
fn bytes(place: &Place, directories: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let files = directories.iter().flat_map(|directory| fs::read_dir(place.path(directory)).unwrap().map(Result::unwrap));
    let visible = files.filter(|file| !file.file_name().to_string_lossy().starts_with(['_', '.']));
    let name = |file: &fs::DirEntry| file.path().strip_prefix(place.root()).unwrap().display().to_string();
    visible.map(|file| (name(&file), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let place = TwoByTwo::prepare(3, 4_000);
    // One file that is cut into several pieces, and several small ones in a batch: both must come together in order.
    lay_down(&place, "in/web", Format::Json, 100..101, 120_000);
    let outputs = [1, 2, 5].map(|threads| {
        place.forget_progress();
        Invocation::catch_up(&place).threads(threads).finish().expect(0);
        bytes(&place, &["out/hot", "out/all"])
    });
    let names = |output: &BTreeMap<String, Vec<u8>>| output.keys().cloned().collect::<Vec<_>>();
    assert!(outputs[0].len() >= 8, "{:?}", names(&outputs[0]));
    for other in &outputs[1..] {
        assert_eq!(names(&outputs[0]), names(other));
        for (name, content) in other {
            assert!(outputs[0][name] == *content, "{name} differs");
        }
    }
}
