//! The names of a file sink's objects, relative to its root.

use crate::format::Format;
use object_store::path::Path;
use waterclock_core::id::{BatchId, Epoch};
use waterclock_core::sink::{Attempt, Lane};

/// Which job and sink own the place.
pub(super) fn owner() -> Path {
    Path::from("_waterclock")
}

/// Where everything is staged.
pub(super) fn staged_root() -> Path {
    Path::from("_staged")
}

/// Where a driver stages: named after it.
pub(super) fn staged_by(attempt: &Attempt) -> String {
    format!("_staged/{:020}-{}/", attempt.epoch.0, attempt.nonce)
}

/// A staged file, with a suffix that no format has.
pub(super) fn staged(attempt: &Attempt, lane: Lane) -> String {
    format!("{}{:020}-{:05}.staged", staged_by(attempt), attempt.seq.0, lane.0)
}

/// A published file.
pub(super) fn published(batch: BatchId, part: usize, format: Format) -> String {
    format!("{:020}-{part:05}.{}", batch.0, format.extension())
}

/// The epoch in the name of a directory below `_staged`.
pub(super) fn epoch_of(directory: &str) -> Option<Epoch> {
    directory.split_once('-')?.0.parse().ok().map(Epoch)
}

/// The batch of a published file, if the name is one.
pub(super) fn batch_of(name: &str) -> Option<BatchId> {
    let (batch, rest) = name.split_once('-')?;
    let (part, _) = rest.split_once('.')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(batch, 20) && digits(part, 5)).then(|| batch.parse().ok().map(BatchId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waterclock_core::id::{Nonce, Seq};

    #[test]
    fn names_tell_their_batch_and_epoch() {
        let name = published(BatchId(42), 7, Format::Parquet);
        assert_eq!(name, "00000000000000000042-00007.parquet");
        assert_eq!(batch_of(&name), Some(BatchId(42)));
        assert_eq!(batch_of("report-2024.csv"), None);
        let attempt = Attempt { seq: Seq(3), epoch: Epoch(2), nonce: Nonce::from("ab12") };
        let staged = staged(&attempt, Lane(1));
        assert_eq!(epoch_of(staged.split('/').nth(1).unwrap()), Some(Epoch(2)));
    }
}
