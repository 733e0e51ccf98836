//! Removing objects that nobody needs any more, while something else is done.
//!
//! What flows in: paths of a store, one lot after the other. A lot waits for the one before, so that no more than one is under way, and
//! dropping waits for the last. What can fail: a removal. Its object is then left behind, which is told and is no error, for whoever begins
//! the next run collects it.

use super::Store;
use crossbeam::channel::{Receiver, bounded};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::sync::{Mutex, PoisonError};

/// How many requests are under way at once, for records and uploads are beside them.
const CONCURRENT_REMOVALS: usize = 16;

/// Objects of a store that are being removed.
#[derive(Debug, Default)]
pub struct Removals {
    /// Ready once the newest lot is gone.
    under_way: Mutex<Option<Receiver<()>>>,
}

impl Removals {
    /// Begins to remove objects, once those before are gone. A local file system is asked at once, by this thread. Not for workers.
    pub fn begin(&self, store: &Store, paths: Vec<Path>) {
        if paths.is_empty() {
            return;
        }
        self.settle();
        let remove = remove(store.clone(), paths);
        if store.is_in_place() {
            return store.wait(remove);
        }
        let (report, ended) = bounded(1);
        store.storage().spawn(async move {
            remove.await;
            // Nobody listens when the driver has gone.
            let _ = report.send(());
        });
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    }

    /// Waits until nothing is under way.
    pub fn settle(&self) {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = under_way {
            // A storage thread that has ended removes nothing more.
            let _ = ended.recv();
        }
    }
}

impl Drop for Removals {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Removes objects, side by side where the store can.
async fn remove(store: Store, paths: Vec<Path>) {
    let removals = futures::stream::iter(paths).map(|path| {
        let store = store.clone();
        async move { (store.objects().delete(&path).await, path) }
    });
    let mut removals = removals.buffer_unordered(CONCURRENT_REMOVALS);
    while let Some((removed, path)) = removals.next().await {
        if let Err(error) = store.optional("remove", &path, removed) {
            tracing::warn!(%error, object = %path, "an object that is no longer needed is left behind until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, Location, Storage, StoreOptions};
    use bytes::Bytes;

    #[test]
    fn what_is_removed_is_gone_once_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        for location in [format!("file://{}", directory.path().display()), "memory://removals".to_owned()] {
            let storage = Storage::builder().fsync(false).start().unwrap();
            let store = storage.open(&Location::parse(&location).unwrap(), &StoreOptions::default(), Access::Write).unwrap();
            let paths: Vec<Path> = (0..10).map(|number| Path::from(format!("{number}"))).collect();
            paths.iter().for_each(|path| store.put(path, Bytes::from_static(b"x")).unwrap());
            let removals = Removals::default();
            removals.begin(&store, paths[..4].to_vec());
            // One that is not there is fine.
            removals.begin(&store, paths[3..9].to_vec());
            drop(removals);
            let left: Vec<Path> = store.list(None).unwrap().into_iter().map(|object| object.location).collect();
            assert_eq!(left, paths[9..]);
        }
    }
}
