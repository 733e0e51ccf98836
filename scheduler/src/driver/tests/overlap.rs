//! Where each request takes long, the steps of successive batches go on side by side: one that waited for the other's end would wait for
//! ever.

use super::support::World;
use crate::protocol::paths;
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
