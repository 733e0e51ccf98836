//! `--retain`: the state of the newest batches is kept, and no more, over restarts; what is gone is refused by name.

use crate::log::records;
use crate::support::input::{Format, lay_down};
use crate::support::output::{Files, assert_same, read};
use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

const FILES: u64 = 12;
const RETAIN: usize = 2;

fn run(place: &Place, retain: usize) -> Invocation {
    let root = place.root().display().to_string();
    let run = Invocation::new(place, ["counter", "run", &root, "--checkpoint", &place.url("checkpoint")]);
    run.arg("--retain").arg(retain.to_string())
}

fn command(place: &Place, words: &[&str]) -> Invocation {
    Invocation::new(place, words).arg("--checkpoint").arg(place.url("checkpoint"))
}

/// The objects of state that are there.
fn stored(place: &Place) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(place.path("checkpoint/state")) else { return BTreeSet::new() };
    entries.map(|entry| format!("state/{}", entry.unwrap().file_name().into_string().unwrap())).collect()
}

/// The objects that the records of so many of the newest batches name.
fn named(place: &Place, batches: usize) -> BTreeSet<String> {
    let records: Vec<Value> = records(&place.path("checkpoint")).iter().map(|record| serde_json::from_str(record).unwrap()).collect();
    let batches = records.iter().rev().filter(|record| record["kind"] == "batch").take(batches);
    let owners = batches.flat_map(|batch| ["sources", "operators"].map(|kind| batch[kind].as_object().cloned().unwrap_or_default()));
    let layers = owners.flat_map(|owners| owners.into_iter().map(|(_, owner)| owner["layers"].as_array().cloned().unwrap_or_default()));
    layers.flatten().filter_map(|layer| Some(layer["object"].as_str()?.to_owned())).collect()
}

#[test]
fn what_the_newest_batches_need_stays_and_nothing_else() {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..FILES, 300);
    for _ in 0..FILES / 3 {
        run(&place, RETAIN).arg("--max-batches").arg("3").finish().expect(0);
        let (stored, named) = (stored(&place), named(&place, RETAIN));
        assert!(!stored.is_empty(), "there is state beyond the records");
        assert_eq!(stored, named);
    }
    let all = named(&place, FILES as usize);
    assert!(stored(&place).len() < all.len(), "something went: {all:?}");
    for batch in FILES - RETAIN as u64..FILES {
        command(&place, &["state", "--operator", "counter", "--batch", &batch.to_string()]).finish().expect(0);
    }
    let gone = ["no longer retained", "10 to 11"];
    command(&place, &["state", "--operator", "counter", "--batch", "3"]).finish().expect(2).says(&gone);
    let list = command(&place, &["state", "--batch", "3"]).finish().expect(0).stdout;
    assert!(list.contains("no longer retained"), "{list}");
    let root = place.root().display().to_string();
    let replay = |batches: &str, output: &str| {
        let words = ["counter", "replay", &root, "--batches", batches, "--diff", "--output", &place.url(output)];
        command(&place, &words)
    };
    replay("4..5", "refused").finish().expect(2).says(&gone);
    replay("11..11", "newest").finish().expect(0);
    // From the first batch on no state is needed, only the records.
    replay("0..11", "all").finish().expect(0);
    let committed: Files = read(&place.path("out"));
    assert_same(&read(&place.path("all/counts")), &committed);
}

/// The records say what was given up: a larger number can't bring it back, and does not claim to.
#[test]
fn what_was_given_up_stays_given_up() {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..FILES, 300);
    run(&place, 1).arg("--max-batches").arg("6").finish().expect(0);
    assert_eq!(stored(&place), named(&place, 1));
    run(&place, 50).arg("--until-caught-up").finish().expect(0);
    assert_eq!(stored(&place), named(&place, (FILES - 5) as usize), "batch 5 and those behind it");
    command(&place, &["state", "--operator", "counter", "--batch", "5"]).finish().expect(0);
    command(&place, &["state", "--operator", "counter", "--batch", "1"]).finish().expect(2).says(&["no longer retained", "5 to 11"]);
}
