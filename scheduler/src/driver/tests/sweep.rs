//! Every storage operation of a run fails once before and once after its effect, and the process goes on or dies there. After a restart,
//! at another number of threads, the output is that of a run which nothing disturbed. Batches are committed one at a time, where each
//! operation has its number, or overlap, where the operation of a number is now this one and now that.

use super::support::World;
use crate::driver::DriverSettings;
use crate::log::read_log;
use crate::protocol::record::Record;
use crate::protocol::{collect, paths};
use crate::seams::{Merging, Seams, Stop};
use crate::testing::{Effect, Fault};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::num::{NonZeroU64, NonZeroUsize};

fn subset(visible: &BTreeMap<String, String>, truth: &BTreeMap<String, String>) -> bool {
    visible.iter().all(|(name, content)| truth.get(name) == Some(content))
}

/// A run with a fault: a first one, or one that goes on behind some batches, so that opening has a log, state and sinks to take up.
fn disturbed(world: &World, before: u64, fault: Option<Fault>) {
    world.faults.arm(None);
    if before > 0 {
        world.run_batches(before).unwrap();
    }
    world.faults.arm(fault);
    // Whether it fails depends on what was hit: a commit whose answer was lost succeeds.
    let _ = world.run(2);
}

fn sweep(before: u64, make: impl Fn(&str) -> World) {
    for in_flight in [NonZeroUsize::MIN, Seams::system().in_flight] {
        sweep_with(before, |name| World { in_flight, ..make(&format!("{in_flight}-{name}")) });
    }
}

fn sweep_with(before: u64, make: impl Fn(&str) -> World) {
    let calm = make("calm");
    let truth = calm.truth();
    assert_eq!(truth.len(), 5);
    disturbed(&calm, before, None);
    let operations = calm.faults.operations();
    assert!(operations.len() > 20, "{operations:?}");
    let mut hits = 0;
    for at in 0..operations.len() as u64 {
        for (effect, dead) in [(Effect::Before, false), (Effect::After, false), (Effect::Before, true), (Effect::After, true)] {
            let world = make(&format!("{at}-{effect:?}-{dead}"));
            disturbed(&world, before, Some(Fault { at, effect, dead }));
            hits += u64::from(world.faults.hit());
            world.faults.arm(None);
            assert!(subset(&world.published("out"), &truth), "operation {at} ({}), {effect:?}, dead: {dead}", operations[at as usize]);
            world.run(3).unwrap_or_else(|error| panic!("operation {at} ({}), {effect:?}, dead: {dead}: {error}", operations[at as usize]));
            assert_eq!(world.published("out"), truth, "operation {at} ({}), {effect:?}, dead: {dead}", operations[at as usize]);
            no_leftovers(&world);
        }
    }
    let all = 4 * operations.len() as u64;
    if calm.in_flight == NonZeroUsize::MIN {
        assert_eq!(hits, all, "every operation was hit");
    } else {
        // Fewer, where less is published again.
        assert!(hits > all * 3 / 4, "{hits} of {all}");
    }
}

/// Every object of state is one that a record names, but for what was merged: that stays until the oldest batch that is kept is
/// of a later epoch.
fn no_leftovers(world: &World) {
    let checkpoint = world.checkpoint();
    let named: BTreeSet<String> = read_log(&checkpoint).unwrap().iter().filter_map(Record::batch).flat_map(collect::named).collect();
    for object in checkpoint.list(Some(&paths::states())).unwrap() {
        let is_merged = paths::parse_merged(&object.location).is_some();
        assert!(is_merged || named.contains(object.location.as_ref()), "{} is left over", object.location);
    }
    if world.merging.beside_from > 0 {
        return;
    }
    world.numbers.extend(10 * world.rows_per_batch as i64);
    world.open(DriverSettings { retain: NonZeroU64::MIN, ..world.settings(1) }).unwrap().run(&Stop::new()).unwrap();
    let records = read_log(&checkpoint).unwrap();
    let last = records.last().unwrap();
    let named = collect::named(last.batch().unwrap());
    for object in checkpoint.list(Some(&paths::states())).unwrap() {
        let is_newest = paths::parse_merged(&object.location).is_some_and(|writer| writer.seq == last.seq);
        assert!(is_newest || named.contains(object.location.as_ref()), "{} is left over", object.location);
    }
}

/// Layers are merged behind every batch that makes it due, and put in place by the next one.
#[test]
fn in_memory_with_layers_merged_beside_the_batches() {
    let merging = Merging { beside_from: 0, on_a_thread: false, ..Merging::default() };
    let mut merged = 0;
    for before in [0, 2] {
        sweep(before, |_| World { rows_per_batch: 400, modulo: 0, merging, ..World::new(2_000) });
        let world = World { rows_per_batch: 400, modulo: 0, merging, ..World::new(20_000) };
        world.run(1).unwrap();
        let records = read_log(&world.checkpoint()).unwrap();
        let named: BTreeSet<String> = records.iter().filter_map(Record::batch).flat_map(collect::named).collect();
        merged += named.iter().filter(|path| paths::parse_merged(&path.as_str().into()).is_some()).count();
    }
    assert!(merged > 0);
}

#[test]
fn in_memory_with_small_state() {
    for before in [0, 2] {
        sweep(before, |_| World { rows_per_batch: 10, ..World::new(50) });
    }
}

#[test]
fn in_memory_with_state_objects() {
    for before in [0, 2] {
        sweep(before, |_| World { rows_per_batch: 400, modulo: 0, ..World::new(2_000) });
    }
}

#[test]
fn on_local_files() {
    for before in [0, 2] {
        let directory = tempfile::tempdir().unwrap();
        let root = |name: &str| format!("{}/{name}", directory.path().display());
        sweep(before, |name| World { rows_per_batch: 300, modulo: 0, ..World::at(&root(name), 1_500) });
    }
}
