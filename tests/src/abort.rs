//! A store around a store that ends the process, as a power cut would, at one chosen operation: before its effect or after it.
//!
//! Only operations with an effect count. A process that dies before it reads leaves what it left after its last write.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// On which side of an operation's effect the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// Which operation of all stores of a process is its last: counted from 0.
#[derive(Debug)]
pub struct Abort {
    side: Side,
    operation: u64,
    done: AtomicU64,
}

impl Abort {
    /// Reads `before:17` or `after:17`.
    pub fn parse(text: &str) -> Option<Arc<Self>> {
        let (side, operation) = text.split_once(':')?;
        let side = match side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return None,
        };
        Some(Arc::new(Self { side, operation: operation.parse().ok()?, done: AtomicU64::new(0) }))
    }

    async fn around<T>(&self, what: &str, path: &Path, operation: impl Future<Output = T>) -> T {
        let chosen = self.done.fetch_add(1, Ordering::SeqCst) == self.operation;
        if chosen && self.side == Side::Before {
            die(what, path);
        }
        let result = operation.await;
        if chosen {
            die(what, path);
        }
        result
    }
}

/// The last words are for the test, which wants to know that every kind of operation was met.
fn die(what: &str, path: &Path) -> ! {
    eprintln!("aborted at {what} {path}");
    std::process::abort()
}

/// The store. See the [module](self).
#[derive(Debug)]
pub struct AbortingStore {
    inner: Arc<dyn ObjectStore>,
    abort: Arc<Abort>,
}

impl AbortingStore {
    pub fn new(inner: Arc<dyn ObjectStore>, abort: Arc<Abort>) -> Self {
        Self { inner, abort }
    }
}

impl fmt::Display for AbortingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aborting {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for AbortingStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.abort.around("put", path, self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.abort.around("upload", path, self.inner.put_multipart_opts(path, options)).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    /// One by one, so that each deletion is an operation.
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, abort) = (Arc::clone(&self.inner), Arc::clone(&self.abort));
        let delete = move |path: Result<Path>| {
            let (inner, abort) = (Arc::clone(&inner), Arc::clone(&abort));
            async move {
                let path = path?;
                let one = futures::stream::once(std::future::ready(Ok(path.clone()))).boxed();
                let mut deleted = inner.delete_stream(one);
                abort.around("delete", &path, deleted.next()).await.unwrap_or(Ok(path))
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.abort.around("copy", to, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.abort.around("rename", to, self.inner.rename_opts(from, to, options)).await
    }
}
