//! A source that can't replay: once its cut is stored, its rows are not lost and not doubled.

use super::support::{Numbers, World};
use crate::log::read_log;
use crate::protocol::paths;
use crate::protocol::record::Record;
use crate::testing::{Effect, Fault};
use std::sync::{Arc, Mutex};

fn world() -> World {
    let values = (0..40).collect();
    World { numbers: Numbers::Pipe(Arc::new(Mutex::new(values))), modulo: 0, ..World::new(0) }
}

/// All numbers that were published. The operator's output is `key * 1000 + count`.
fn numbers(world: &World) -> Vec<i64> {
    let text: String = world.published("out").into_values().collect();
    let mut numbers: Vec<i64> = text.lines().map(|line| line.parse::<i64>().unwrap()).collect();
    assert!(numbers.iter().all(|number| number % 1_000 == 1), "no number came twice: {numbers:?}");
    numbers.sort_unstable();
    numbers.into_iter().map(|number| number / 1_000).collect()
}

/// The numbers whose cuts were stored: the guarantee begins there.
fn stored(world: &World) -> Vec<i64> {
    let checkpoint = world.checkpoint();
    let cuts = checkpoint.list(Some(&paths::spools())).unwrap().into_iter();
    cuts.flat_map(|object| {
        let cut = crate::spool::read(&checkpoint, &object.location).unwrap();
        serde_json::from_slice::<Vec<i64>>(&cut.bytes).unwrap()
    })
    .collect()
}

#[test]
fn whatever_was_stored_is_taken_up_in_order() {
    let calm = world();
    calm.faults.arm(None);
    calm.run(1).unwrap();
    assert_eq!(numbers(&calm), (0..40).collect::<Vec<_>>());
    let operations = calm.faults.operations();
    assert_eq!(operations.iter().filter(|operation| operation.starts_with("put spool/")).count(), 4);
    for at in 0..operations.len() as u64 {
        for (effect, dead) in [(Effect::Before, true), (Effect::After, true), (Effect::Before, false), (Effect::After, false)] {
            let world = world();
            world.faults.arm(Some(Fault { at, effect, dead }));
            let _ = world.run(1);
            world.faults.arm(None);
            let promised = stored(&world);
            let left: Vec<i64> = match &world.numbers {
                Numbers::Pipe(values) => values.lock().unwrap().iter().copied().collect(),
                Numbers::Below(_) => unreachable!("the world has a pipe"),
            };
            world.run(1).unwrap_or_else(|error| panic!("operation {at}: {error}"));
            let expected: Vec<i64> = promised.into_iter().chain(left).collect();
            assert_eq!(numbers(&world), expected, "operation {at} ({}), {effect:?}, dead: {dead}", operations[at as usize]);
        }
    }
}

#[test]
fn records_name_what_was_stored() {
    let world = world();
    world.run(1).unwrap();
    let log = read_log(&world.checkpoint()).unwrap();
    for batch in log.iter().filter_map(Record::batch) {
        for source in batch.sources.values() {
            let spool = source.spool.as_ref().unwrap();
            let stored = crate::spool::read(&world.checkpoint(), &object_store::path::Path::from(spool.path.as_str())).unwrap();
            assert_eq!((stored.cut, &stored.reference), (source.cut(), spool));
        }
    }
}
