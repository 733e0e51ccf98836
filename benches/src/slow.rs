//! A store whose requests take their time, and are written down.
//!
//! A request is one call that an object store on the network answers: so a rename is a copy and a removal, in turn, and an object in parts
//! is a beginning, its parts and an end.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request: when it was made, which one, and of what.
pub type Request = (Instant, &'static str, String);

/// How slow the stores are that share it, and what was asked of them. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Slowness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    requests: Vec<Request>,
}

impl Slowness {
    /// How long each request takes from now on.
    pub fn set(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// The requests since they were last taken.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    /// A store around another one.
    pub fn around(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(SlowStore { inner, slowness: self.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where no time is to be taken, not even a turn of the storage thread is.
    async fn request(&self, name: &'static str, path: &str) {
        let delay = {
            let mut state = self.lock();
            state.requests.push((Instant::now(), name, path.to_owned()));
            state.delay
        };
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
    }
}

#[derive(Debug)]
struct SlowStore {
    inner: Arc<dyn ObjectStore>,
    slowness: Slowness,
}

impl fmt::Display for SlowStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlowStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for SlowStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.slowness.request("put", location.as_ref()).await;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.slowness.request("begin", location.as_ref()).await;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(SlowUpload { inner, slowness: self.slowness.clone(), path: location.to_string() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.slowness.request(if options.head { "head" } else { "get" }, location.as_ref()).await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let slowness = self.slowness.clone();
        let delayed = locations.then(move |location| {
            let slowness = slowness.clone();
            async move {
                slowness.request("delete", location.as_ref().map_or("", Path::as_ref)).await;
                location
            }
        });
        self.inner.delete_stream(delayed.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (slowness, name) = (self.slowness.clone(), prefix.map(ToString::to_string).unwrap_or_default());
        let listed = self.inner.list(prefix);
        let delay = async move {
            slowness.request("list", &name).await;
            listed
        };
        futures::stream::once(delay).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.slowness.request("list", prefix.map_or("", Path::as_ref)).await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.slowness.request("copy", to.as_ref()).await;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct SlowUpload {
    inner: Box<dyn MultipartUpload>,
    slowness: Slowness,
    path: String,
}

#[async_trait]
impl MultipartUpload for SlowUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, slowness, path) = (self.inner.put_part(data), self.slowness.clone(), self.path.clone());
        Box::pin(async move {
            slowness.request("part", &path).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.slowness.request("complete", &self.path).await;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.slowness.request("abort", &self.path).await;
        self.inner.abort().await
    }
}
