//! Putting an object if there is none of that name, while something else is done.

use super::Store;
use bytes::Bytes;
use crossbeam::channel::{Receiver, bounded};
use object_store::path::Path;
use object_store::{Error as StoreError, PutMode, PutPayload, Result};

/// An object that is put if there is none of that name. Dropping it leaves open whether it is.
pub struct ConditionalPut(State);

enum State {
    /// Whoever waits puts it.
    InPlace(Store, Path, Bytes),
    /// The storage thread is about it.
    UnderWay(Receiver<Result<()>>),
}

impl ConditionalPut {
    pub(super) fn begin(store: &Store, path: &Path, bytes: Bytes) -> Self {
        if store.is_in_place() {
            return Self(State::InPlace(store.clone(), path.clone(), bytes));
        }
        let (report, ended) = bounded(1);
        let (objects, path) = (store.objects().clone(), path.clone());
        store.storage().spawn(async move {
            let put = objects.put_opts(&path, PutPayload::from_bytes(bytes), PutMode::Create.into()).await;
            // Nobody listens when the driver has gone.
            let _ = report.send(put.map(|_| ()));
        });
        Self(State::UnderWay(ended))
    }

    /// What is ready once it has ended; none if nothing happens before it is waited for.
    pub fn ended(&self) -> Option<&Receiver<Result<()>>> {
        match &self.0 {
            State::InPlace(..) => None,
            State::UnderWay(ended) => Some(ended),
        }
    }

    /// Waits for it. The store's own answer comes back, because a failure is no verdict: see the commit protocol.
    pub fn wait(self) -> Result<()> {
        match self.0 {
            State::InPlace(store, path, bytes) => {
                let put = store.objects().put_opts(&path, PutPayload::from_bytes(bytes), PutMode::Create.into());
                store.wait(put).map(|_| ())
            }
            State::UnderWay(ended) => {
                let gone = |_| StoreError::Generic { store: "storage", source: "the storage thread ended during a put".into() };
                ended.recv().map_err(gone)?
            }
        }
    }
}

impl std::fmt::Debug for ConditionalPut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConditionalPut").field("under_way", &self.ended().is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, Location, Storage, StoreOptions};

    /// In a store that is asked by whoever waits, and in one that is not.
    #[test]
    fn the_first_put_of_a_name_succeeds_and_the_second_is_told_so() {
        let directory = tempfile::tempdir().unwrap();
        let locations = [(format!("file://{}", directory.path().display()), false), ("memory://puts".to_owned(), true)];
        for (location, is_under_way) in locations {
            let storage = Storage::builder().fsync(false).start().unwrap();
            let store = storage.open(&Location::parse(&location).unwrap(), &StoreOptions::default(), Access::Write).unwrap();
            let begin = |text: &'static str| store.begin_put_if_absent(&Path::from("a"), Bytes::from_static(text.as_bytes()));
            let first = begin("first");
            assert_eq!(first.ended().is_some(), is_under_way);
            first.wait().unwrap();
            assert!(matches!(begin("second").wait(), Err(StoreError::AlreadyExists { .. })));
            assert_eq!(store.get(&Path::from("a")).unwrap().unwrap().as_ref(), b"first");
        }
    }
}
