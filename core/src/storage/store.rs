//! An object store below a root, with calls that wait.

use super::{ConditionalPut, Location, Storage, Upload, UploadHandle};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::memory::MemoryBudget;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutPayload};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The place must exist.
    Read,
    /// A missing place is made.
    Write,
}

/// Credentials and settings of a store, by the names that the `object_store` crate gives them (`aws_access_key_id`,
/// `aws_endpoint`, `google_service_account` ...). They are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(BTreeMap<String, String>);

/// Environment variables that begin with these words are options too.
const ENVIRONMENT: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

impl StoreOptions {
    /// No options but the environment's.
    pub fn from_environment() -> Self {
        let known = |key: &str| ENVIRONMENT.iter().any(|prefix| key.starts_with(prefix));
        Self(std::env::vars().filter(|(key, _)| known(key)).map(|(key, value)| (key.to_ascii_lowercase(), value)).collect())
    }

    /// Whether an option of a table is one of a store: its name begins with `aws_`, `google_` or `azure_`.
    pub fn is_store_option(key: &str) -> bool {
        ENVIRONMENT.iter().any(|prefix| key.to_ascii_uppercase().starts_with(prefix))
    }

    /// The same options and these, which go before those of the environment.
    #[must_use]
    pub fn with<I: IntoIterator<Item = (String, String)>>(mut self, options: I) -> Self {
        self.0.extend(options.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)));
        self
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// An object store below a root. All paths are relative to the root. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    location: Location,
    local_root: Option<PathBuf>,
    /// Whether its calls need no thread but the one that waits for them.
    in_place: bool,
    storage: Storage,
}

impl Storage {
    /// Opens the store at a location.
    ///
    /// # Errors
    /// `Config` for a scheme or an option that is not one of a store, `Unavailable` for a place that is not there (to read) or
    /// can't be made (to write).
    pub fn open(&self, location: &Location, options: &StoreOptions, access: Access) -> Result<Store> {
        let (objects, local_root) = match location.scheme() {
            "file" => {
                let path = location.local_path().ok_or_else(|| Error::config(format!("{location} is not a local path")))?;
                (self.open_local(location, &path, access)?, Some(path))
            }
            "memory" => (prefixed(self.memory(location.host()), location.url().path()), None),
            _ if location.is_store() => (open_remote(location, options)?, None),
            scheme => return Err(Error::config(format!("{location}: '{scheme}' is not the scheme of an object store"))),
        };
        // A wrapper may need the storage thread's clock.
        let in_place = local_root.is_some() && self.inner.wrapper.is_none();
        let objects = match &self.inner.wrapper {
            Some(wrap) => wrap(location, objects),
            None => objects,
        };
        Ok(Store { objects, location: location.clone(), local_root, in_place, storage: self.clone() })
    }

    fn open_local(&self, location: &Location, path: &std::path::Path, access: Access) -> Result<Arc<dyn ObjectStore>> {
        if access == Access::Write {
            std::fs::create_dir_all(path).or_error(ErrorKind::Unavailable, || format!("can't make the directory {location}"))?;
        } else if !path.is_dir() {
            return Err(Error::unavailable(format!("{location} is not a directory; make it, or correct the location")));
        }
        let local = LocalFileSystem::new_with_prefix(path)
            .or_error(ErrorKind::Unavailable, || format!("can't open {location}"))?
            .with_fsync(self.inner.fsync);
        Ok(Arc::new(local))
    }
}

fn prefixed<T: ObjectStore>(store: T, path: &str) -> Arc<dyn ObjectStore> {
    match Path::from_url_path(path) {
        Ok(prefix) if prefix.as_ref().is_empty() => Arc::new(store),
        Ok(prefix) => Arc::new(PrefixStore::new(store, prefix)),
        Err(_) => Arc::new(PrefixStore::new(store, Path::from(path))),
    }
}

fn open_remote(location: &Location, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>> {
    for key in options.0.keys() {
        check_option(location, key)?;
    }
    let (store, prefix) =
        object_store::parse_url_opts(location.url(), options.0.iter()).or_error(ErrorKind::Config, || format!("can't open {location}"))?;
    Ok(if prefix.as_ref().is_empty() { Arc::from(store) } else { Arc::new(PrefixStore::new(store, prefix)) })
}

/// An option of the location's own kind of store must be one that this store knows; those of other kinds come from an
/// environment that serves several.
fn check_option(location: &Location, key: &str) -> Result<()> {
    use object_store::aws::AmazonS3ConfigKey;
    use object_store::azure::AzureConfigKey;
    use object_store::gcp::GoogleConfigKey;
    let scheme = ObjectStoreScheme::parse(location.url()).map(|(scheme, _)| scheme);
    let unknown = match scheme {
        Ok(ObjectStoreScheme::AmazonS3) => key.starts_with("aws_") && key.parse::<AmazonS3ConfigKey>().is_err(),
        Ok(ObjectStoreScheme::GoogleCloudStorage) => key.starts_with("google_") && key.parse::<GoogleConfigKey>().is_err(),
        Ok(ObjectStoreScheme::MicrosoftAzure) => key.starts_with("azure_") && key.parse::<AzureConfigKey>().is_err(),
        _ => false,
    };
    if unknown {
        tracing::debug!(location = %location, option = key, "not an option of this store");
    }
    Ok(())
}

impl Store {
    /// The store below a path of this one, over the same connection.
    ///
    /// # Errors
    /// `Config` if nothing can lie below this store's location.
    pub fn below(&self, path: &Path) -> Result<Self> {
        Ok(Self {
            objects: Arc::new(PrefixStore::new(Arc::clone(&self.objects), path.clone())),
            location: self.location.join(path.as_ref())?,
            local_root: self.local_root.as_ref().map(|root| root.join(path.as_ref())),
            in_place: self.in_place,
            storage: self.storage.clone(),
        })
    }

    /// Waits for a call of this store on the calling thread. A local file system is asked by this very thread, for a batch of a few rows
    /// would spend most of its time in waking others; so what should go on side by side is waited for with [`Storage::wait`].
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        // Within another runtime the store would hand the call over to that one, and wait for it.
        let is_free = tokio::runtime::Handle::try_current().is_err() && futures::executor::enter().is_ok();
        if self.in_place && is_free { futures::executor::block_on(future) } else { self.storage.wait(future) }
    }

    pub(super) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The directory on the local file system, if it is there.
    pub fn local_root(&self) -> Option<&std::path::Path> {
        self.local_root.as_deref()
    }

    /// The storage thread.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The store itself, for calls that are awaited on the storage thread.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// An error of this store, with what was tried and where.
    pub fn error(&self, doing: &str, path: &Path, cause: StoreError) -> Error {
        Error::unavailable(format!("can't {doing} {}", self.display(path))).caused_by(cause)
    }

    /// A path of this store as users write it.
    pub fn display(&self, path: &Path) -> String {
        format!("{}/{path}", self.location.to_string().trim_end_matches('/'))
    }

    /// The object's bytes, or none if there is no such object.
    pub fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let read = async { self.objects.get(path).await?.bytes().await };
        self.optional("read", path, self.wait(read))
    }

    /// A range of the object's bytes, or none if there is no such object.
    pub fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>> {
        self.optional("read", path, self.wait(self.objects.get_range(path, range)))
    }

    /// The object's size, time and ETag, or none if there is no such object.
    pub fn head(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        self.optional("look at", path, self.wait(self.objects.head(path)))
    }

    pub(super) fn optional<T>(&self, doing: &str, path: &Path, result: object_store::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(cause) => Err(self.error(doing, path, cause)),
        }
    }

    /// Starts to put an object if there is none of that name.
    pub fn begin_put_if_absent(&self, path: &Path, bytes: Bytes) -> ConditionalPut {
        ConditionalPut::begin(self, path, bytes)
    }

    /// Puts an object if there is none of that name. The store's own answer comes back, because a failure is no verdict: see the
    /// commit protocol.
    pub fn put_if_absent(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        self.begin_put_if_absent(path, bytes).wait()
    }

    /// Puts an object under a name that nobody else uses.
    pub fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let put = self.objects.put(path, PutPayload::from_bytes(bytes));
        self.wait(put).map(|_| ()).map_err(|cause| self.error("write", path, cause))
    }

    /// Starts to put objects, which are given in pieces, each under a name that nobody else uses. A single one on a local file system is
    /// put by whoever waits for it.
    pub fn begin_puts(&self, objects: Vec<(Path, Vec<Bytes>)>) -> Vec<UploadHandle> {
        let mut puts: Vec<_> = objects.into_iter().map(|(path, pieces)| UploadHandle::whole(self.clone(), path, pieces)).collect();
        if puts.len() > 1 {
            puts.iter_mut().for_each(UploadHandle::begin);
        }
        puts
    }

    /// All objects below a prefix, in the order of their paths.
    pub fn list(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let listed: object_store::Result<Vec<_>> = self.wait(self.objects.list(prefix).try_collect());
        let mut objects = listed.map_err(|cause| self.error("list", prefix.unwrap_or(&Path::default()), cause))?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// Removes an object; one that is already gone is fine.
    pub fn delete(&self, path: &Path) -> Result<()> {
        self.optional("remove", path, self.wait(self.objects.delete(path))).map(|_| ())
    }

    /// Moves an object within the store: a rename on a local file system, else a server-side copy after which the old one goes.
    /// Returns whether there was one to move.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<bool> {
        self.optional("publish", to, self.wait(self.objects.rename(from, to))).map(|moved| moved.is_some())
    }

    /// Starts to write an object whose bytes are handed over piece by piece, without waiting.
    pub fn upload(&self, path: Path, budget: &MemoryBudget) -> Upload {
        Upload::new(self.clone(), path, budget.clone())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_below_another_sees_its_own_part() {
        let storage = Storage::builder().start().unwrap();
        let store = storage.open(&Location::parse("memory://m/root").unwrap(), &StoreOptions::default(), Access::Write).unwrap();
        let below = store.below(&Path::from("a/b")).unwrap();
        below.put(&Path::from("x"), Bytes::from_static(b"1")).unwrap();
        assert_eq!(store.get(&Path::from("a/b/x")).unwrap().unwrap().as_ref(), b"1");
        assert_eq!(below.display(&Path::from("x")), "memory://m/root/a/b/x");
        assert_eq!(below.list(None).unwrap()[0].location, Path::from("x"));
    }
}
