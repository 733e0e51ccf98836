//! What a replay of one batch reads of a log that holds many.

use super::support::World;
use crate::driver::DriverSettings;
use crate::seams::Stop;
use std::num::NonZeroU64;
use waterclock_core::id::BatchId;

const BATCH: BatchId = BatchId(12);

/// What a replay of the same batch asks the stores, where so many batches are retained.
fn asked(batches: u64) -> Vec<String> {
    let world = World { modulo: 0, rows_per_batch: 400, ..World::new(400 * batches as i64) };
    let settings = DriverSettings { retain: NonZeroU64::MAX, ..world.settings(1) };
    assert_eq!(world.open(settings).unwrap().run(&Stop::new()).unwrap().batches, batches);
    world.faults.arm(None);
    world.replay(BATCH).unwrap();
    let asked = world.faults.operations();
    let name = format!("{:020}-00000.txt", BATCH.0);
    assert_eq!(world.published("replayed").get(&name), world.published("out").get(&name));
    asked
}

fn of_kind(asked: &[String], kind: &str) -> usize {
    asked.iter().filter(|operation| operation.split(' ').next() == Some(kind)).count()
}

#[test]
fn one_batch_is_replayed_without_reading_the_others() {
    let (few, many) = (asked(20), asked(200));
    assert!(few.iter().any(|operation| operation.starts_with("get state/")), "the state before the batch is read: {few:?}");
    for kind in ["get", "list", "put"] {
        assert_eq!(of_kind(&few, kind), of_kind(&many, kind), "{kind}: {few:#?} {many:#?}");
    }
    // The newest record is sought among ten times as many: a doubling and a halving more for each factor of two.
    assert!(of_kind(&many, "head") <= of_kind(&few, "head") + 8, "{few:#?} {many:#?}");
}
