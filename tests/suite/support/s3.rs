//! A server that speaks the S3 protocol, in this process, on a port of its own.
//!
//! `s3s` speaks the protocol, checks signatures and parses; `s3s-fs` keeps the objects in a directory. What it lacks is in
//! [`objects`](super::objects): a lock before the conditional create, which looks first and writes then, ETags in listings, and `If-Match`.

use super::objects::Objects;
use super::output::{Files, rows};
use super::place::Place;
use super::process::Invocation;
use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use s3s::service::{S3Service, S3ServiceBuilder};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;

pub const SECRET: &str = "a-secret-that-no-log-may-show";
const KEY: &str = "AKIATEST";
pub const BUCKET: &str = "bucket";

/// The server. It ends when dropped.
pub struct S3Server {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    client: AmazonS3,
    backend: Arc<Backend>,
    _objects: tempfile::TempDir,
}

struct Backend {
    service: S3Service,
    writes: AtomicU64,
    /// Of so many writes one is done and its answer lost; 0 is none.
    lose: AtomicU64,
}

impl S3Server {
    /// Starts a server with an empty bucket.
    pub fn start() -> Self {
        let objects = tempfile::TempDir::with_prefix("waterclock-s3-").unwrap();
        std::fs::create_dir(objects.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(Objects::below(objects.path()));
        service.set_auth(s3s::auth::SimpleAuth::from_single(KEY, SECRET));
        let backend = Backend { service: service.build(), writes: AtomicU64::new(0), lose: AtomicU64::new(0) };
        let backend = Arc::new(backend);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, Arc::clone(&backend)));
        let client = AmazonS3Builder::new().with_endpoint(format!("http://{address}")).with_allow_http(true).with_bucket_name(BUCKET);
        let client = client.with_region("us-east-1").with_access_key_id(KEY).with_secret_access_key(SECRET).build().unwrap();
        Self { runtime, address, client, backend, _objects: objects }
    }

    /// Loses the answer to one of so many writes; 0 loses none.
    pub fn lose_answers(&self, one_of: u64) {
        self.backend.lose.store(one_of, Ordering::SeqCst);
    }

    /// The command with what it needs to reach the server.
    pub fn reachable(&self, invocation: Invocation) -> Invocation {
        invocation
            .env("AWS_ENDPOINT", format!("http://{}", self.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    /// Copies a local directory's files into the bucket.
    pub fn upload(&self, place: &Place, directory: &str) {
        let mut files: Vec<_> = std::fs::read_dir(place.path(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let path = Path::from(format!("{directory}/{}", file.file_name().unwrap().to_str().unwrap()));
            self.runtime.block_on(self.client.put(&path, std::fs::read(&file).unwrap().into())).unwrap();
        }
    }

    /// The visible files below a prefix.
    pub fn read(&self, prefix: &str) -> Files {
        let names = self.names(prefix).into_iter().filter(|name| !name.split('/').any(|part| part.starts_with(['_', '.'])));
        names.map(|name| (name.clone(), rows(&name, &self.get(&format!("{prefix}/{name}"))))).collect()
    }

    /// The names of all objects below a prefix, relative to it.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let listed = self.runtime.block_on(self.client.list(Some(&Path::from(prefix))).try_collect::<Vec<_>>()).unwrap();
        listed.iter().map(|object| object.location.as_ref().strip_prefix(prefix).unwrap().trim_start_matches('/').to_owned()).collect()
    }

    /// An object's content.
    pub fn get(&self, path: &str) -> Bytes {
        let read = async { self.client.get(&Path::from(path)).await?.bytes().await };
        self.runtime.block_on(read).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

async fn serve(listener: TcpListener, backend: Arc<Backend>) {
    while let Ok((stream, _)) = listener.accept().await {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let backend = Arc::clone(&backend);
                async move { backend.answer(request).await }
            });
            // A client that was killed ends its connections without a word.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Backend {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<s3s::Body>, s3s::HttpError> {
        let (head, body) = request.into_parts();
        // The whole body first: a client that stops in the middle must not hold up the others.
        let Ok(body) = body.collect().await else { return Ok(failure(StatusCode::BAD_REQUEST)) };
        let writes = head.method != Method::GET && head.method != Method::HEAD;
        let response = self.service.call(Request::from_parts(head, s3s::Body::from(body.to_bytes()))).await?;
        let lose = self.lose.load(Ordering::SeqCst);
        let lost = writes && lose > 0 && self.writes.fetch_add(1, Ordering::SeqCst) % lose == lose - 1;
        Ok(if lost { failure(StatusCode::INTERNAL_SERVER_ERROR) } else { response })
    }
}

fn failure(status: StatusCode) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::empty());
    *response.status_mut() = status;
    response
}
