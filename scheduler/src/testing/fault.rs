//! A store around a store, in which a chosen operation fails, before or after its effect, or waits for another one.
//!
//! Operations are counted over all stores that share a [`Faults`]. Each call of the store is one: a put, a read, a listing, a removal, a
//! copy, a rename, and each part and the end of a multipart upload. A run without a fault tells how many there are; then each can be
//! made to fail in turn, in a run of its own.

use async_trait::async_trait;
use futures::channel::oneshot;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use std::sync::{Arc, Mutex, PoisonError};

/// When an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does nothing, and fails.
    Before,
    /// It does all, and then fails: its answer is lost.
    After,
}

/// Which operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The operation, counted from 0.
    pub at: u64,
    /// When.
    pub effect: Effect,
    /// Whether every operation behind it fails too, without effect, as if the process had died.
    pub dead: bool,
}

/// Counts operations, and lets one fail. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    operations: Vec<String>,
    hit: bool,
    held: Vec<Held>,
    refused: Vec<String>,
}

/// An operation that waits.
#[derive(Debug)]
struct Held {
    operation: String,
    until: String,
    wake: Option<oneshot::Sender<()>>,
}

impl Faults {
    /// Starts to count anew, with a fault or none.
    pub fn arm(&self, fault: Option<Fault>) {
        *self.lock() = State { fault, ..State::default() };
    }

    /// Lets the first operation that begins with these words wait until one has begun that begins with the others.
    pub fn hold(&self, operation: &str, until: &str) {
        self.lock().held.push(Held { operation: operation.into(), until: until.into(), wake: None });
    }

    /// Lets every operation fail, without effect, that begins with these words.
    pub fn refuse(&self, operation: &str) {
        self.lock().refused.push(operation.into());
    }

    /// The operations since the last [`arm`](Self::arm), in words.
    pub fn operations(&self) -> Vec<String> {
        self.lock().operations.clone()
    }

    /// Whether the fault happened.
    pub fn hit(&self) -> bool {
        self.lock().hit
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, operation: &str, path: &str) -> Option<Effect> {
        let mut state = self.lock();
        let number = state.operations.len() as u64;
        let words = format!("{operation} {path}");
        for held in state.held.iter_mut().filter(|held| words.starts_with(&held.until)) {
            held.wake.take();
        }
        let is_refused = state.refused.iter().any(|refused| words.starts_with(refused));
        state.operations.push(words);
        let effect = match state.fault {
            _ if is_refused => Some(Effect::Before),
            Some(fault) if fault.at == number => Some(fault.effect),
            Some(fault) if fault.dead && fault.at < number => Some(Effect::Before),
            _ => None,
        };
        state.hit |= effect.is_some();
        effect
    }

    /// What an operation has to wait for.
    fn held(&self, words: &str) -> Option<oneshot::Receiver<()>> {
        let State { held, operations, .. } = &mut *self.lock();
        let held = held.iter_mut().find(|held| words.starts_with(&held.operation))?;
        if operations.iter().any(|operation| operation.starts_with(&held.until)) {
            return None;
        }
        let (wake, woken) = oneshot::channel();
        held.wake = Some(wake);
        Some(woken)
    }

    async fn run<T>(&self, operation: &str, path: &str, act: impl Future<Output = Result<T>>) -> Result<T> {
        let effect = self.count(operation, path);
        if let Some(woken) = self.held(&format!("{operation} {path}")) {
            // It is woken by the end of the other side.
            let _ = woken.await;
        }
        match effect {
            None => act.await,
            Some(Effect::Before) => Err(injected(operation, path)),
            Some(Effect::After) => act.await.and_then(|_| Err(injected(operation, path))),
        }
    }
}

fn injected(operation: &str, path: &str) -> Error {
    Error::Generic { store: "fault", source: format!("injected failure of {operation} {path}").into() }
}

/// A store whose operations are counted, and fail on demand.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FaultStore {
    /// A store around another one. To have it around every store of a run, hand it to
    /// [`StorageBuilder::wrap`](waterclock_core::storage::StorageBuilder::wrap).
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl std::fmt::Display for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.faults.run("put", location.as_ref(), self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let begin = self.inner.put_multipart_opts(location, options);
        let inner = self.faults.run("begin", location.as_ref(), begin).await?;
        Ok(Box::new(FaultUpload { inner, faults: self.faults.clone(), path: location.to_string() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let name = if options.head { "head" } else { "get" };
        self.faults.run(name, location.as_ref(), self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        let delete = move |location: Result<Path>| {
            let (inner, faults) = (Arc::clone(&inner), faults.clone());
            async move {
                let location = location?;
                let one = futures::stream::iter([Ok(location.clone())]).boxed();
                let delete = async { inner.delete_stream(one).next().await.unwrap_or_else(|| Ok(location.clone())) };
                faults.run("delete", location.as_ref(), delete).await
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let name = prefix.map(ToString::to_string).unwrap_or_default();
        match self.faults.count("list", &name) {
            // What a listing would change when it fails after its effect is nothing.
            Some(_) => futures::stream::iter([Err(injected("list", &name))]).boxed(),
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let name = prefix.map(ToString::to_string).unwrap_or_default();
        self.faults.run("list", &name, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults.run("copy", to.as_ref(), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.faults.run("rename", to.as_ref(), self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faults,
    path: String,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let (faults, path) = (self.faults.clone(), self.path.clone());
        Box::pin(async move { faults.run("part", &path, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faults.run("complete", &self.path, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.faults.run("abort", &self.path, self.inner.abort()).await
    }
}
