//! Two drivers on one checkpoint.

use super::support::{Numbers, World};
use crate::driver::{DriverSettings, Trigger};
use crate::log::read_log;
use crate::seams::Stop;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use waterclock_core::ErrorKind;
use waterclock_core::id::Epoch;

#[test]
fn the_older_driver_is_fenced_and_the_output_is_right() {
    let world = World::new(50);
    let older = world.open(world.settings(1)).unwrap();
    world.run_batches(2).unwrap();
    let error = older.run(&Stop::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    world.run(2).unwrap();
    assert_eq!(world.published("out"), world.truth());
}

#[test]
fn a_driver_that_was_overtaken_with_nothing_left_to_do_is_fenced() {
    let world = World::new(50);
    world.run(1).unwrap();
    let older = world.open(world.settings(1)).unwrap();
    let newer = world.open(world.settings(1)).unwrap();
    assert_eq!(older.run(&Stop::new()).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(newer.run(&Stop::new()).unwrap().batches, 0);
}

#[test]
fn a_driver_that_was_overtaken_in_the_middle_does_no_harm() {
    let world = World::new(50);
    let settings = DriverSettings { trigger: Trigger::Interval(Duration::ZERO), ..world.settings(1) };
    let older = world.open(settings).unwrap();
    std::thread::scope(|scope| {
        let older = scope.spawn(|| older.run(&Stop::new()));
        while let Err(error) = world.run(1) {
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        }
        // New input makes an idle driver of the older epoch notice.
        match &world.numbers {
            Numbers::Below(end) => *end.lock().unwrap() = 70,
            Numbers::Pipe(_) => unreachable!("the world has numbers that can be read again"),
        }
        assert_eq!(older.join().unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    });
    world.run(1).unwrap();
    assert_eq!(world.published("out"), world.truth());
    let epochs: Vec<Epoch> = read_log(&world.checkpoint()).unwrap().iter().map(|record| record.epoch).collect();
    assert!(epochs.is_sorted());
}

#[test]
fn whatever_fails_in_a_driver_that_was_overtaken_is_fencing() {
    let numbers = Numbers::Pipe(Arc::new(Mutex::new(VecDeque::from([-1]))));
    let world = World { numbers, ..World::new(0) };
    let older = world.open(world.settings(1)).unwrap();
    let newer = world.open(world.settings(1)).unwrap();
    assert_eq!(older.run(&Stop::new()).unwrap_err().kind(), ErrorKind::Fenced);
    drop(newer);
}
