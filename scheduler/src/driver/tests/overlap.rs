//! Where each request takes long, the steps of successive batches go on side by side: one that waited for the other's end would wait for
//! ever.

use super::support::World;
use crate::driver::DriverSettings;
use crate::protocol::paths;
use crate::seams::Stop;
use std::num::NonZeroU64;
use waterclock_core::ErrorKind;
use waterclock_core::id::Seq;

/// Batches whose state is an object each. The opening is record 0.
fn world() -> World {
    World { rows_per_batch: 400, modulo: 0, ..World::new(4_000) }
}

fn runs_with(world: &World, operation: &str, until: &str) {
    world.faults.arm(None);
    world.faults.hold(operation, until);
    assert_eq!(world.run(1).unwrap().batches, 10);
    assert_eq!(world.published("out"), world.truth());
    let operations = world.faults.operations();
    for words in [operation, until] {
        assert!(operations.iter().any(|operation| operation.starts_with(words)), "{words}: {operations:#?}");
    }
}

#[test]
fn a_batch_is_staged_while_the_record_before_it_is_on_its_way() {
    runs_with(&world(), &format!("put {}", paths::commit(Seq(3))), &format!("put state/{:020}", 4));
}

#[test]
fn a_batch_is_committed_while_the_one_before_it_is_published() {
    runs_with(&world(), "rename 00000000000000000003", &format!("put {}", paths::commit(Seq(5))));
}

/// A run in which one operation never succeeds, and the next run. Records are given up as soon as may be.
fn stands_still_at(refused: &str, behind: &str) {
    let world = world();
    world.faults.arm(None);
    world.faults.refuse(refused);
    let run = || world.open(DriverSettings { retain: NonZeroU64::MIN, ..world.settings(1) }).unwrap().run(&Stop::new());
    assert_eq!(run().unwrap_err().kind(), ErrorKind::Unavailable, "{refused}");
    let operations = world.faults.operations();
    assert!(operations.iter().any(|operation| operation.starts_with(refused)), "{refused}: {operations:#?}");
    assert!(!operations.iter().any(|operation| operation.starts_with(behind)), "{behind}: {operations:#?}");
    world.faults.arm(None);
    run().unwrap();
    assert_eq!(world.published("out"), world.truth(), "{refused}");
}

/// And nothing is removed that the record before it needs.
#[test]
fn no_record_is_put_behind_one_that_is_not_committed() {
    for seq in 1..=10 {
        stands_still_at(&format!("put {}", paths::commit(Seq(seq))), &format!("put {}", paths::commit(Seq(seq + 1))));
    }
}

#[test]
fn no_batch_is_published_before_the_one_before_it() {
    for batch in 0..10 {
        stands_still_at(&format!("rename {batch:020}"), &format!("rename {:020}", batch + 1));
    }
}
