//! Object storage, as the rest of the project sees it: a thread that owns the async runtime, and stores opened on locations.
//!
//! - [`Storage`] owns the runtime. The driver and its committer wait on it; workers of the thread pool never do: they hand bytes
//!   to an [`Upload`] and go on, and what they read was fetched before they started.
//! - [`Location`] is where something is, without any credential, so that it can be printed anywhere.
//! - [`Store`] is an object store below a root. All paths are relative to that root and can't leave it.
//!
//! Wrappers compose: a fault, a throttle or a lock is an [`ObjectStore`] around the store, put there
//! with [`StorageBuilder::wrap`].

mod conditional_put;
mod location;
mod removals;
mod store;
mod upload;

pub use conditional_put::ConditionalPut;
pub use location::Location;
pub use removals::Removals;
pub use store::{Access, Store, StoreOptions};
pub use upload::{Upload, UploadHandle};

use crate::error::{ErrorKind, Result, ResultExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

type Wrapper = Arc<dyn Fn(&Location, Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync>;

/// The thread that owns the async runtime. Cloning shares it.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Option<tokio::runtime::Runtime>,
    wrapper: Option<Wrapper>,
    memory: Mutex<HashMap<String, Arc<InMemory>>>,
    fsync: bool,
}

/// Settings of a [`Storage`].
#[derive(Clone)]
pub struct StorageBuilder {
    wrapper: Option<Wrapper>,
    fsync: bool,
}

impl StorageBuilder {
    /// Whether local files and their directories are synced to disk before a write counts as done. Default: true.
    #[must_use]
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// Puts a wrapper around every store that is opened. Default: none.
    #[must_use]
    pub fn wrap<F>(mut self, wrapper: F) -> Self
    where
        F: Fn(&Location, Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> + Send + Sync + 'static,
    {
        self.wrapper = Some(Arc::new(wrapper));
        self
    }

    /// Starts the storage thread.
    pub fn start(self) -> Result<Storage> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("waterclock-storage")
            .enable_all()
            .build()
            .or_error(ErrorKind::Internal, || "can't start the storage thread".into())?;
        Ok(Storage {
            inner: Arc::new(Inner { runtime: Some(runtime), wrapper: self.wrapper, memory: Mutex::new(HashMap::new()), fsync: self.fsync }),
        })
    }
}

impl Storage {
    /// Settings, all at their defaults.
    pub fn builder() -> StorageBuilder {
        StorageBuilder { wrapper: None, fsync: true }
    }

    /// Waits for a future on the calling thread, with the storage thread doing the I/O.
    ///
    /// IMPORTANT: never called from a worker of the thread pool, whose time belongs to the batch.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Runs a future on the storage thread; what it returns is lost unless it sends it somewhere.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime().spawn(future);
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.inner.runtime.as_ref().expect("the runtime is only taken when the last handle is dropped")
    }

    /// The in-memory store of a `memory://NAME` location; it lives as long as this storage thread.
    fn memory(&self, name: &str) -> Arc<InMemory> {
        let mut stores = self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(stores.entry(name.to_owned()).or_insert_with(|| Arc::new(InMemory::new())))
    }
}

impl Drop for Inner {
    /// The last handle may be dropped by an async task, where a runtime must not be waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("fsync", &self.inner.fsync).finish_non_exhaustive()
    }
}
