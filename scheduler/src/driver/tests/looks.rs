//! Looking at state beside a job that runs: what it gives up meanwhile is not damage.

use super::support::World;
use crate::checkpoint::Owner;
use crate::driver::DriverSettings;
use crate::history::History;
use crate::log::Log;
use crate::protocol::paths;
use crate::seams::Stop;
use crate::state_view::StateView;
use std::num::NonZeroU64;
use waterclock_core::id::{BatchId, OperatorId};
use waterclock_core::{Error, ErrorKind};

/// A job that keeps the state of one batch, which is an object of its own.
fn world() -> World {
    let world = World { rows_per_batch: 400, modulo: 0, ..World::new(100_000) };
    go_on(&world);
    world
}

/// Batches enough that the layers of the batch before are merged and given up.
fn go_on(world: &World) {
    let settings = DriverSettings { retain: NonZeroU64::MIN, max_batches: NonZeroU64::new(6), ..world.settings(1) };
    world.open(settings).unwrap().run(&Stop::new()).unwrap();
}

fn counts() -> Owner {
    Owner::Operator(OperatorId::from("counts"))
}

fn rows(view: &StateView) -> Result<usize, Error> {
    Ok(view.content(&counts())?.iter().map(|layer| layer.rows.num_rows()).sum())
}

#[test]
fn state_that_is_given_up_between_record_and_object_is_no_damage() {
    let world = world();
    let view = StateView::read(&world.checkpoint(), None).unwrap();
    assert!(view.is_retained() && rows(&view).unwrap() > 0);
    go_on(&world);
    let error = rows(&view).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(text.contains("behind batch 5 is no longer retained") && text.contains("batches 11 to 11"), "{text}");
    let again = History::read(Log::new(world.checkpoint())).unwrap().unreadable(BatchId(5), Error::corrupt("missing"));
    assert_eq!(again.kind(), ErrorKind::Config, "{again}");
}

#[test]
fn a_look_at_the_newest_batch_begins_again_behind_a_newer_one() {
    let world = world();
    let mut looks = Vec::new();
    let found = StateView::look(&world.checkpoint(), None, |view| {
        looks.push(view.batch());
        if looks.len() < 3 {
            go_on(&world);
            return Err(Error::corrupt("missing"));
        }
        rows(view)
    });
    assert_eq!(looks, [5, 11, 17].map(BatchId));
    assert_eq!(found.unwrap(), 18 * 400);
}

#[test]
fn a_look_ends_where_the_job_is_always_quicker_and_at_a_batch_that_was_asked_for() {
    let world = world();
    for (batch, most) in [(None, 8), (Some(BatchId(47)), 1)] {
        let mut looks = 0;
        let found = StateView::look(&world.checkpoint(), batch, |_| {
            looks += 1;
            go_on(&world);
            Err::<(), _>(Error::corrupt("missing"))
        });
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(looks, most);
    }
}

#[test]
fn a_missing_object_of_a_batch_that_is_kept_is_damage_at_the_first_look() {
    let world = world();
    let checkpoint = world.checkpoint();
    for object in checkpoint.list(Some(&paths::states())).unwrap() {
        checkpoint.delete(&object.location).unwrap();
    }
    let mut looks = 0;
    let error = StateView::look(&checkpoint, None, |view| {
        looks += 1;
        rows(view)
    });
    assert_eq!((error.unwrap_err().kind(), looks), (ErrorKind::Corrupt, 1));
}
