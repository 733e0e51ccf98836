//! When a run ends, and what it tells.

use super::support::{Numbers, Seen, World};
use crate::driver::{Driver, DriverSettings, Trigger, stored_schemas};
use crate::log::read_log;
use crate::progress::{BatchProgress, Observer};
use crate::protocol::record::Record;
use crate::seams::{Seams, Stop};
use object_store::path::Path;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use waterclock_core::ErrorKind;
use waterclock_core::id::{BatchId, SourceId};
use waterclock_core::time::Watermark;

fn raise(world: &World, to: i64) {
    if let Numbers::Below(end) = &world.numbers {
        *end.lock().unwrap() = to;
    }
}

#[test]
fn once_is_one_batch_within_the_limits_and_none_without_input() {
    let world = World::new(25);
    let once = || world.open(DriverSettings { trigger: Trigger::Once, ..world.settings(1) }).unwrap().run(&Stop::new()).unwrap();
    assert_eq!([once().rows_in, once().rows_in, once().rows_in, once().rows_in], [10, 10, 5, 0]);
    assert_eq!(once().last, Some(BatchId(2)));
    assert_eq!(world.published("out"), world.truth());
}

#[test]
fn draining_ends_the_stream_for_good() {
    let world = World::new(20);
    let drain = || DriverSettings { drain: true, ..world.settings(1) };
    let summary = world.open(drain()).unwrap().run(&Stop::new()).unwrap();
    assert!(summary.drained);
    assert_eq!(summary.batches, 2);
    let log = read_log(&world.checkpoint()).unwrap();
    let last = log.last().and_then(Record::batch).unwrap();
    assert!(last.drained && last.sources[&SourceId::from("numbers")].watermark == Watermark::End);
    assert!(world.published("out").values().any(|text| text.contains("-20")), "the operator saw the end");
    for settings in [drain(), world.settings(1), DriverSettings { trigger: Trigger::Interval(Duration::ZERO), ..world.settings(1) }] {
        assert_eq!(world.open(settings).unwrap().run(&Stop::new()).unwrap().batches, 0);
    }
    raise(&world, 21);
    assert_eq!(world.open(drain()).unwrap().run(&Stop::new()).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn draining_without_new_input_makes_a_last_batch() {
    let world = World::new(20);
    world.run(1).unwrap();
    let summary = world.open(DriverSettings { drain: true, ..world.settings(1) }).unwrap().run(&Stop::new()).unwrap();
    assert_eq!((summary.batches, summary.rows_in, summary.drained), (1, 0, true));
}

#[test]
fn a_stop_ends_an_idle_run_and_nothing_is_lost() {
    let world = World::new(50);
    let stop = Stop::new();
    let driver = world.open(DriverSettings { trigger: Trigger::Interval(Duration::from_secs(3_600)), ..world.settings(1) }).unwrap();
    let summary = std::thread::scope(|scope| {
        let run = scope.spawn(|| driver.run(&stop));
        while world.published("out").len() < 5 {
            std::thread::yield_now();
        }
        stop.stop();
        run.join().unwrap().unwrap()
    });
    assert_eq!((summary.batches, summary.rows_in), (5, 50));
    assert_eq!(world.published("out"), world.truth());
}

/// Stops a run once a batch has been told.
struct StopsAt(BatchId, Stop);

impl Observer for StopsAt {
    fn batch(&self, progress: &BatchProgress) {
        if progress.batch == self.0 {
            self.1.stop();
        }
    }
}

/// Batches are begun ahead here, so each stop finds one that has not run.
#[test]
fn a_batch_that_was_begun_ahead_of_a_stop_is_cut_again() {
    for last in (0..8).map(BatchId) {
        let (world, stop) = (World::new(100), Stop::new());
        let observer = Arc::new(StopsAt(last, stop.clone()));
        let driver = Driver::open(world.job(), world.settings(2), world.checkpoint(), Seams::system(), observer).unwrap();
        let summary = driver.run(&stop).unwrap();
        assert!(summary.last >= Some(last), "what has run is committed: {summary:?}");
        assert_eq!(world.published("out").len() as u64, summary.batches);
        world.run(1).unwrap();
        assert_eq!(world.published("out"), world.truth(), "stopped behind batch {last}");
        let staged = world.store("out").list(Some(&Path::from("_staged"))).unwrap();
        assert!(staged.is_empty(), "stopped behind batch {last}: {staged:?}");
    }
}

#[test]
fn each_batch_is_told_once_and_in_order() {
    let world = World::new(45);
    let seen = Arc::new(Seen::default());
    let driver = Driver::open(world.job(), world.settings(2), world.checkpoint(), Seams::system(), seen.clone()).unwrap();
    driver.run(&Stop::new()).unwrap();
    let told: Vec<(u64, u64, u64)> = seen.0.lock().unwrap().iter().map(|told| (told.batch.0, told.rows_in, told.rows_out)).collect();
    assert_eq!(told, [(0, 10, 10), (1, 10, 10), (2, 10, 10), (3, 10, 10), (4, 5, 5)]);
    let lag = |told: &BatchProgress| told.sources[&SourceId::from("numbers")].lag;
    assert_eq!(seen.0.lock().unwrap().iter().map(lag).collect::<Vec<_>>(), [Some(35), Some(25), Some(15), Some(5), Some(0)]);
}

#[test]
fn a_bad_row_fails_its_batch_and_those_before_stay() {
    let values: VecDeque<i64> = (0..20).map(|value| if value == 15 { -15 } else { value }).collect();
    let world = World { numbers: Numbers::Pipe(Arc::new(Mutex::new(values))), ..World::new(0) };
    let error = world.run(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    let text = error.to_string();
    assert!(text.contains("batch 1") && text.contains("numbers, line 77") && text.contains("-15 is negative"), "{text}");
    assert!(text.contains("dead_letter"), "{text}");
    assert_eq!(world.published("out").len(), 1);
}

#[test]
fn bad_rows_go_to_the_dead_letter_place_with_the_batch() {
    let values: VecDeque<i64> = (0..20).map(|value| if value % 7 == 3 { -value } else { value }).collect();
    let world = World { numbers: Numbers::Pipe(Arc::new(Mutex::new(values))), dead_letter: true, ..World::new(0) };
    let summary = world.run(1).unwrap();
    assert_eq!((summary.rows_in, summary.rows_out), (17, 20));
    let dead: String = world.published("dead").into_values().collect();
    assert_eq!(dead, "-3 is negative\n-10 is negative\n-17 is negative\n");
    let log = read_log(&world.checkpoint()).unwrap();
    assert_eq!(log.iter().filter_map(Record::batch).map(|batch| batch.bad_rows()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_schemas_of_the_first_run_are_kept() {
    let world = World::new(5);
    assert!(stored_schemas(&world.checkpoint()).unwrap().is_empty());
    world.run(1).unwrap();
    let records = read_log(&world.checkpoint()).unwrap().len();
    assert_eq!(stored_schemas(&world.checkpoint()).unwrap()[&SourceId::from("numbers")], super::support::schema());
    assert_eq!(read_log(&world.checkpoint()).unwrap().len(), records, "looking writes nothing");
}

#[test]
fn an_almost_empty_batch_costs_three_writes_and_no_reads() {
    // How many batches an opening publishes again depends on time where several are in flight.
    let world = World { rows_per_batch: 1, in_flight: NonZeroUsize::MIN, ..World::new(1_000) };
    let operations = |batches| {
        world.faults.arm(None);
        world.run_batches(batches).unwrap();
        world.faults.operations()
    };
    operations(1);
    let (few, many) = (operations(2), operations(12));
    let count = |operations: &[String], word: &str| operations.iter().filter(|operation| operation.starts_with(word)).count();
    assert_eq!(many.len() - few.len(), 30 + opening(&many) - opening(&few), "{many:#?}");
    assert_eq!(count(&many, "put") - count(&few, "put"), 20, "a staged file and a record per batch");
    assert_eq!(count(&many, "rename") - count(&few, "rename"), 10, "and its publication");
}

/// Operations before the first batch stages its output: they are more in a longer log, and where more layers are restored.
fn opening(operations: &[String]) -> usize {
    operations.iter().position(|operation| operation.starts_with("put ") && !operation.starts_with("put commits/")).unwrap()
}
