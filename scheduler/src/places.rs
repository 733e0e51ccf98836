//! The places of a job: what it reads and writes, beside its checkpoint.

use waterclock_core::plan::Plan;
use waterclock_core::source::OnBadRow;
use waterclock_core::storage::Location;
use waterclock_core::{Error, Result};

/// A place, and what is there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub what: String,
    pub location: Location,
}

impl Place {
    /// Whether it is a directory that holds the other one, or lies within it.
    pub fn overlaps(&self, other: &Location) -> bool {
        self.location.is_store() && self.location.overlaps(other)
    }
}

/// What a program reads and writes.
pub(crate) fn of(plan: &Plan) -> Vec<Place> {
    let sinks = plan.sinks.iter().map(|sink| (format!("the sink '{}'", sink.settings.id), sink.settings.location.clone()));
    let sources = plan.sources.iter().filter_map(|source| {
        let location = described(&source.description)?;
        Some((format!("the source '{}'", source.settings.id), location))
    });
    let statics = plan.statics.iter().filter_map(|table| {
        let location = described(&table.description)?;
        Some((format!("the static table '{}'", table.id), location))
    });
    let dead_letters = plan.sources.iter().filter_map(|source| match &source.settings.on_bad_row {
        OnBadRow::DeadLetter(place) => Some((format!("the bad rows of '{}'", source.settings.id), place.clone())),
        OnBadRow::Fail => None,
    });
    let all = sinks.chain(sources).chain(statics).chain(dead_letters);
    all.map(|(what, location)| Place { what, location }).collect()
}

/// The location in a description; none of what a program reads from itself.
fn described(description: &str) -> Option<Location> {
    description.contains("://").then(|| Location::parse(description).ok()).flatten()
}

/// A source would read the log of its own job as data, and readers of a sink would take it for output.
///
/// # Errors
/// `Config` if the checkpoint is, holds or lies within a place of the job.
pub(crate) fn check_apart(plan: &Plan, checkpoint: &Location) -> Result<()> {
    match of(plan).into_iter().find(|place| place.overlaps(checkpoint)) {
        None => Ok(()),
        Some(Place { what, location }) => {
            Err(Error::config(format!("the checkpoint {checkpoint} overlaps {what} at {location}; give the checkpoint a place of its own")))
        }
    }
}
