//! A checkpoint that is damaged, or not this program's, is an error that names the object; nothing starts from zero.

use super::support::World;
use crate::log::{FORMAT, read_log};
use crate::protocol::paths;
use object_store::path::Path;
use waterclock_core::ErrorKind;
use waterclock_core::id::Seq;

/// Runs a job, damages an object, and runs it again.
fn after(world: &World, path: &Path, damage: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> waterclock_core::Error {
    world.run(1).unwrap();
    let before = world.published("out");
    let checkpoint = world.checkpoint();
    let bytes = checkpoint.get(path).unwrap().unwrap_or_else(|| panic!("{path} is there"));
    match damage(bytes.to_vec()) {
        Some(bytes) => checkpoint.put(path, bytes.into()).unwrap(),
        None => checkpoint.delete(path).unwrap(),
    }
    let error = world.run(1).unwrap_err();
    assert_eq!(world.published("out"), before, "nothing was published");
    error
}

fn flipped(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Some(bytes)
}

#[test]
fn every_record_that_is_damaged_cut_off_or_missing_is_named() {
    // Six records. A newest one that is missing can't be told from one that never was: the sink notices.
    for seq in 0..6 {
        let path = paths::commit(Seq(seq));
        let mut errors =
            vec![after(&World::new(50), &path, flipped), after(&World::new(50), &path, |bytes| Some(bytes[..bytes.len() / 2].to_vec()))];
        if seq < 5 {
            errors.push(after(&World::new(50), &path, |_| None));
        }
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(path.as_ref()), "{error}");
        }
    }
}

#[test]
fn state_that_is_damaged_cut_off_or_missing_is_named() {
    let world = || World { rows_per_batch: 400, modulo: 0, ..World::new(2_000) };
    let newest = |world: &World| {
        world.run(1).unwrap();
        world.checkpoint().list(Some(&paths::states())).unwrap().pop().unwrap().location
    };
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let damages: [Damage; 3] = [flipped, |bytes| Some(bytes[..bytes.len() / 2].to_vec()), |_| None];
    for damage in damages {
        let world = world();
        let path = newest(&world);
        let error = after(&world, &path, damage);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(path.as_ref()), "{error}");
    }
}

#[test]
fn a_checkpoint_of_another_format_is_refused() {
    let world = World::new(50);
    let other = format!("{{\"format\": {}, \"job\": \"x\"}}", FORMAT + 1);
    let error = after(&world, &paths::job(), |_| Some(other.into_bytes()));
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let error = after(&World::new(50), &paths::job(), |_| Some(b"{".to_vec()));
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_program_with_another_meaning_of_its_state_is_refused_before_it_writes() {
    let world = World::new(50);
    world.run(1).unwrap();
    let records = read_log(&world.checkpoint()).unwrap().len();
    let error = World { modulo: 4, ..world.clone() }.run(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("'counts modulo 3'") && error.to_string().contains("'counts modulo 4'"), "{error}");
    assert_eq!(read_log(&world.checkpoint()).unwrap().len(), records);
}
