//! Where a replay may write: an empty place, apart from everything that the job reads or writes.

use crate::protocol::record::OpenRecord;
use waterclock_core::id::SinkId;
use waterclock_core::plan::Plan;
use waterclock_core::source::OnBadRow;
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
    let mut taken = vec![("the checkpoint".to_owned(), checkpoint.location().clone())];
    taken.extend(places(plan));
    taken.extend(recorded(open));
    if let Some((what, place)) = taken.iter().find(|(_, place)| place.is_store() && place.overlaps(output)) {
        return Err(Error::config(format!("{output} overlaps {what} at {place}, which a replay must not touch; give another place")));
    }
    verify_empty(output, checkpoint.storage())
}

/// What the program reads and writes.
fn places(plan: &Plan) -> Vec<(String, Location)> {
    let sinks = plan.sinks.iter().map(|sink| (format!("the sink '{}'", sink.settings.id), sink.settings.location.clone()));
    let sources = plan.sources.iter().filter_map(|source| {
        let location = Location::parse(&source.description).ok()?;
        Some((format!("the source '{}'", source.settings.id), location))
    });
    let dead_letters = plan.sources.iter().filter_map(|source| match &source.settings.on_bad_row {
        OnBadRow::DeadLetter(place) => Some((format!("the bad rows of '{}'", source.settings.id), place.clone())),
        OnBadRow::Fail => None,
    });
    sinks.chain(sources).chain(dead_letters).collect()
}

/// What the job wrote when it was last opened.
fn recorded(open: &OpenRecord) -> Vec<(String, Location)> {
    let place = |(id, place): (&SinkId, &String)| Some((format!("the sink '{id}'"), Location::parse(place).ok()?));
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
