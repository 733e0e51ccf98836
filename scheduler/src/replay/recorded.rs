//! The ranges that a record names, as splits that are read again.

use crate::driver::Input;
use crate::protocol::record::{SourceRecord, SpoolRef};
use crate::spool;
use object_store::path::Path;
use waterclock_core::id::{PartitionId, SourceId};
use waterclock_core::source::{Fetch, Morsel, Morsels, Split};
use waterclock_core::storage::Store;
use waterclock_core::{Error, ErrorKind, Result};

/// The splits of what a source read in a batch.
///
/// # Errors
/// `Unavailable` if it can't be read again; `Corrupt` if it was stored in the checkpoint and is damaged there.
pub(super) fn splits(input: &mut Input, read: &SourceRecord, store: &Store) -> Result<Vec<Box<dyn Split>>> {
    if let Some(reference) = &read.spool {
        unspool(input, read, reference, store)?;
    }
    let splits = input.splits(&read.cut()).map_err(|error| gone(error, &input.id))?;
    let recorded = |split| Box::new(RecordedSplit { split, source: input.id.clone() }) as Box<dyn Split>;
    Ok(splits.into_iter().map(recorded).collect())
}

fn unspool(input: &mut Input, read: &SourceRecord, reference: &SpoolRef, store: &Store) -> Result<()> {
    let path = Path::from(reference.path.as_str());
    let spooled = spool::read(store, &path)?;
    if spooled.reference != *reference || spooled.cut.partitions != read.cut().partitions {
        return Err(Error::corrupt(format!("the stored cut {} is not what was committed; restore it", store.display(&path))));
    }
    input.source.unspool(&spooled.cut, spooled.bytes)
}

/// A range that was good once and can't be read now is missing, not bad.
fn gone(error: Error, source: &SourceId) -> Error {
    match error.kind() {
        ErrorKind::BadData => Error::unavailable(format!("what the source '{source}' read can't be read again")).caused_by(error),
        _ => error,
    }
}

/// A split of a recorded range.
struct RecordedSplit {
    split: Box<dyn Split>,
    source: SourceId,
}

impl Split for RecordedSplit {
    fn partition(&self) -> &PartitionId {
        self.split.partition()
    }

    fn held_bytes(&self) -> usize {
        self.split.held_bytes()
    }

    fn work_bytes(&self) -> usize {
        self.split.work_bytes()
    }

    fn fetch(self: Box<Self>) -> Result<Fetch> {
        let Self { split, source } = *self;
        Ok(match split.fetch().map_err(|error| gone(error, &source))? {
            Fetch::AtHand(morsels) => Fetch::AtHand(Box::new(RecordedMorsels { morsels, source })),
            Fetch::Awaited(morsels) => Fetch::Awaited(Box::pin(async move {
                let morsels = morsels.await.map_err(|error| gone(error, &source))?;
                Ok(Box::new(RecordedMorsels { morsels, source }) as Box<dyn Morsels>)
            })),
        })
    }
}

/// Its rows: a local file is opened only here.
struct RecordedMorsels {
    morsels: Box<dyn Morsels>,
    source: SourceId,
}

impl Morsels for RecordedMorsels {
    fn next(&mut self) -> Result<Option<Morsel>> {
        self.morsels.next().map_err(|error| gone(error, &self.source))
    }
}
