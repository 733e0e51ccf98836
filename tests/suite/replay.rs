//! `replay`: old batches run again, at another number of threads, with the same program or a changed one, and nothing of the job touched.

use crate::jobs::TwoByTwo;
use crate::state::bytes_below;
use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::output::{assert_same, by_batch, read};
use crate::support::place::Place;
use crate::support::process::{Exit, Invocation};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

const FILES: u64 = 5;
const ROWS: u64 = 300;

fn replay(place: &Place, batches: &str, output: &str) -> Invocation {
    let job = place.path("job.sql").display().to_string();
    replay_of(place, &["replay", &job], batches, output)
}

fn replay_of(place: &Place, words: &[&str], batches: &str, output: &str) -> Invocation {
    let (checkpoint, output) = (place.url("checkpoint"), place.url(output));
    let invocation = Invocation::new(place, words);
    ["--checkpoint", &checkpoint, "--batches", batches, "--output", &output]
        .iter()
        .fold(invocation, |invocation, argument| invocation.arg(argument))
}

/// Everything that a replay must not touch.
fn untouched(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    ["in", "out", "checkpoint"].iter().flat_map(|name| bytes_below(&place.path(name))).collect()
}

fn stateless() -> Place {
    let place = TwoByTwo::prepare(FILES, ROWS);
    Invocation::catch_up(&place).finish().expect(0);
    place
}

/// The counter, up to the end of its input and then of the stream, so that there are openings between the batches.
fn stateful() -> Place {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..FILES, ROWS);
    let root = place.root().display().to_string();
    for end in [&["--max-batches", "2"][..], &["--until-caught-up"], &["--drain"]] {
        let run = ["counter", "run", &root, "--checkpoint", &place.url("checkpoint")];
        Invocation::new(&place, run.iter().chain(end)).finish().expect(0);
    }
    place
}

fn counter(place: &Place, batches: &str, output: &str) -> Invocation {
    let root = place.root().display().to_string();
    replay_of(place, &["counter", "replay", &root], batches, output)
}

#[test]
fn an_unchanged_program_differs_nowhere() {
    let place = stateless();
    let before = untouched(&place);
    for (threads, batches) in [(1, "0..4"), (5, "2..3"), (2, "4..4")] {
        let output = format!("again-{threads}");
        let said = replay(&place, batches, &output).arg("--diff").threads(threads).finish().expect(0).stdout;
        assert!(said.contains("'hot'") && said.contains("'everything'") && said.contains("the same replayed"), "{said}");
        assert!(!said.lines().any(|line| line.starts_with(['-', '+'])), "{said}");
        let (first, last) = batches.split_once("..").unwrap();
        let wanted = first.parse::<u64>().unwrap()..last.parse::<u64>().unwrap() + 1;
        let mut all = by_batch(&read(&place.path("out/all")));
        all.retain(|batch, _| wanted.contains(batch));
        assert_eq!(by_batch(&read(&place.path(&format!("{output}/everything")))), all);
    }
    assert_eq!(untouched(&place), before);
}

#[test]
fn state_is_taken_up_where_it_was() {
    let place = stateful();
    let before = untouched(&place);
    let batches = by_batch(&read(&place.path("out")));
    assert!(batches.len() > 3 && batches.contains_key(&FILES), "{:?}", batches.keys());
    for first in 0..=FILES {
        let output = format!("again-{first}");
        let said =
            counter(&place, &format!("{first}..{FILES}"), &output).arg("--diff").threads(1 + first as usize).finish().expect(0).stdout;
        assert!(said.contains("the same replayed"), "{said}");
        let mut expected = read(&place.path("out"));
        expected.retain(|name, _| name.as_str() >= format!("{first:020}").as_str());
        assert_same(&read(&place.path(&format!("{output}/counts"))), &expected);
    }
    assert_eq!(untouched(&place), before);
}

#[test]
fn a_changed_program_shows_what_it_changes() {
    let place = stateless();
    let changed = fs::read_to_string(place.path("job.sql")).unwrap();
    place.write("job.sql", changed.replace("price % 3 = 0", "price % 3 = 0 AND price % 2 = 0").replace("price * 2", "price * 4"));
    let before = untouched(&place);
    let said = replay(&place, "1..3", "again").arg("--diff").finish().expect(1).stdout;
    let rows = |sign: char| said.lines().filter(|line| line.starts_with(sign)).count();
    assert_eq!((rows('-'), rows('+')), (5, 5), "{said}");
    assert!(said.contains("sink 'hot', batch 1:") && said.contains("are missing") && said.contains("are new"), "{said}");
    let unchanged = said.lines().find(|line| line.starts_with("sink 'everything'")).unwrap();
    assert!(unchanged.contains("the same replayed"), "{said}");
    assert_eq!(untouched(&place), before);
}

#[test]
fn without_a_comparison_differences_are_no_failure() {
    let place = stateless();
    let changed = fs::read_to_string(place.path("job.sql")).unwrap();
    place.write("job.sql", changed.replace("price * 2", "price * 4"));
    let said = replay(&place, "0..0", "again").finish().expect(0).stdout;
    assert!(said.starts_with("replayed batch 0:"), "{said}");
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let place = stateless();
    replay(&place, "0..9", "again").finish().expect(2).says(&["no batch 9", "0 to 4"]);
    let job = fs::read_to_string(place.path("job.sql")).unwrap();
    let (without, _) = job.split_once("CREATE EXTERNAL TABLE hot").unwrap();
    let only_web = format!(
        "{without} CREATE EXTERNAL TABLE hot STORED AS JSON LOCATION '{}/';
        INSERT INTO hot SELECT id FROM web;",
        place.url("elsewhere")
    );
    place.write("job.sql", only_web);
    for batches in ["0..1", "2..3"] {
        replay(&place, batches, "again").finish().expect(2).says(&["'app'", "not in the program"]);
    }
    assert!(!place.path("again").exists(), "a replay that is refused leaves nothing");
}

/// From batch 0 on, all state begins empty, so that it may mean something else.
#[test]
fn state_that_means_something_else_is_refused_unless_it_begins_empty() {
    let place = stateful();
    place.sql(
        "CREATE UNBOUNDED EXTERNAL TABLE bid (auction BIGINT, date_time TIMESTAMP) STORED AS JSON LOCATION 'file://{root}/in/';
         CREATE EXTERNAL TABLE counts STORED AS JSON LOCATION 'file://{root}/out/';
         INSERT INTO counts SELECT auction FROM bid;",
    );
    replay(&place, "1..2", "again").finish().expect(2).says(&["the operator 'counter' is gone", "from batch 0 on"]);
    replay(&place, "0..1", "again").arg("--diff").finish().expect(1);
    let rows = by_batch(&read(&place.path("again/counts")));
    assert_eq!(rows.values().map(|rows| rows.len() as u64).collect::<Vec<_>>(), [ROWS, ROWS]);
}

#[test]
fn a_file_that_changed_or_vanished_is_named() {
    let place = stateless();
    let changed = place.path("in/web/00001.json");
    fs::OpenOptions::new().append(true).open(&changed).unwrap().write_all(b"{\"id\": 1}\n").unwrap();
    replay(&place, "0..0", "before").arg("--diff").finish().expect(0);
    replay(&place, "1..1", "changed").finish().expect(4).says(&["batch 1", "00001.json"]);
    fs::remove_file(changed).unwrap();
    replay(&place, "1..1", "vanished").finish().expect(4).says(&["batch 1", "00001.json"]);
    fs::remove_file(place.path("out/all/00000000000000000003-00000.json")).unwrap();
    replay(&place, "3..3", "output").arg("--diff").finish().expect(4).says(&["'everything'", "not there any more"]);
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let place = stateless();
    let before = untouched(&place);
    for taken in ["out/hot", "out", "checkpoint", "checkpoint/new", "in/web"] {
        replay(&place, "0..0", taken).finish().expect(2).says(&["overlaps"]);
    }
    place.write("used/notes.txt", "mine");
    replay(&place, "0..0", "used").finish().expect(2).says(&["not empty", "notes.txt"]);
    replay(&place, "0..0", "again").finish().expect(0);
    replay(&place, "0..0", "again").finish().expect(2).says(&["not empty"]);
    assert_eq!(untouched(&place), before);
}

/// A sink of each kind that is named, beside a source of some rows, replayed with a comparison.
fn compared(sinks: &[(&str, &str)]) -> Exit {
    let place = Place::new();
    lay_down(&place, "in", Format::Json, 0..1, ROWS);
    let sink = |(index, (format, location)): (usize, &(&str, &str))| {
        format!("CREATE EXTERNAL TABLE o{index} STORED AS {format} LOCATION '{location}'; INSERT INTO o{index} SELECT id FROM bid;")
    };
    let sinks: Vec<String> = sinks.iter().enumerate().map(sink).collect();
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION 'file://{{root}}/in/'; {}",
        sinks.join(" ")
    ));
    Invocation::catch_up(&place).finish().expect(0);
    replay(&place, "0..0", "plain").finish().expect(0);
    replay(&place, "0..0", "again").arg("--diff").finish()
}

#[test]
fn a_comparison_that_compares_nothing_is_no_success() {
    let kept = ("CSV", "file://{root}/csv/");
    let gone = [("JSON", "stdout://"), ("JSON", "blackhole://")];
    for sinks in [&[kept][..], &gone[..1], &gone[1..], &[kept, gone[0], gone[1]]] {
        let exit = compared(sinks).expect(2).says(&["nothing was compared", "CSV", "--diff"]);
        assert_eq!(exit.stdout.matches("not comparable").count(), sinks.len(), "{}", exit.stdout);
    }
}

#[test]
fn what_can_be_compared_decides_and_what_can_not_is_named() {
    let said = compared(&[("CSV", "file://{root}/csv/"), ("PARQUET", "file://{root}/parquet/")]).expect(0).stdout;
    assert!(said.contains("sink 'o0': not comparable") && said.contains("sink 'o1': 300 rows committed, the same replayed"), "{said}");
}

/// What stands in the spool is all there is of standard input.
#[test]
fn a_stored_cut_is_read_again() {
    let place = Place::new();
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE bid ({COLUMNS}) STORED AS JSON LOCATION 'stdin://' OPTIONS ('max_rows_per_batch' '3');
         CREATE EXTERNAL TABLE ids STORED AS JSON LOCATION 'file://{{root}}/out/';
         CREATE EXTERNAL TABLE shown STORED AS JSON LOCATION 'stdout://';
         INSERT INTO ids SELECT id FROM bid;
         INSERT INTO shown SELECT id FROM bid;"
    ));
    let lines: String = (0..8).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    let input = place.write("lines.json", lines);
    Invocation::catch_up(&place).input(&input).finish().expect(0);
    let committed = read(&place.path("out"));
    assert_eq!(by_batch(&committed).len(), 3);
    place.directory("in");
    let before = untouched(&place);
    let said = replay(&place, "0..2", "again").arg("--diff").finish().expect(0).stdout;
    assert!(said.contains("sink 'ids': 8 rows committed, the same replayed") && said.contains("sink 'shown': not comparable"), "{said}");
    assert_same(&read(&place.path("again/ids")), &committed);
    assert_eq!(untouched(&place), before);
}
