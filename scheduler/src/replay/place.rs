//! Where a replay may write: an empty place, apart from everything that the job reads or writes.

use crate::places::{self, Place};
use crate::protocol::record::OpenRecord;
use waterclock_core::id::SinkId;
use waterclock_core::plan::Plan;
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};
use waterclock_core::{Error, Result};

/// Verifies the place. Writes nothing.
///
/// # Errors
/// `Config` if it is another's, or not empty.
pub(super) fn verify(output: &Location, plan: &Plan, checkpoint: &Store, open: &OpenRecord) -> Result<()> {
    if !output.is_store() {
        return Err(Error::config(format!("{output} is no place for files; give a directory, or a prefix in a bucket")));
    }
    let mut taken = vec![Place { what: "the checkpoint".into(), location: checkpoint.location().clone() }];
    taken.extend(places::of(plan));
    taken.extend(recorded(open));
    if let Some(Place { what, location }) = taken.iter().find(|place| place.overlaps(output)) {
        return Err(Error::config(format!("{output} overlaps {what} at {location}, which a replay must not touch; give another place")));
    }
    verify_empty(output, checkpoint.storage())
}

/// What the job wrote when it was last opened.
fn recorded(open: &OpenRecord) -> Vec<Place> {
    let place = |(id, place): (&SinkId, &String)| Some(Place { what: format!("the sink '{id}'"), location: Location::parse(place).ok()? });
    open.sinks.iter().filter_map(place).collect()
}

fn verify_empty(output: &Location, storage: &Storage) -> Result<()> {
    if output.local_path().is_some_and(|path| !path.exists()) {
        return Ok(());
    }
    let store = storage.open(output, &StoreOptions::from_environment(), Access::Read)?;
    match store.list(None)?.first() {
        Some(object) => Err(Error::config(format!("{output} is not empty: it holds '{}'; give an empty place", object.location))),
        None => Ok(()),
    }
}
