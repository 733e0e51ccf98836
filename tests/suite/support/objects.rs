//! Objects in a directory, as `s3s-fs` keeps them, with what it lacks to keep a store's promises.

use async_trait::async_trait;
use futures::future::BoxFuture;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use std::path::Path;
use tokio::sync::RwLock;

/// See the [module](self).
pub struct Objects {
    files: FileSystem,
    /// An operation of `s3s-fs` takes several steps: data, then metadata.
    lock: RwLock<()>,
}

impl Objects {
    /// The buckets are the directories below this one.
    pub fn below(root: &Path) -> Self {
        Self { files: FileSystem::new(root).unwrap(), lock: RwLock::new(()) }
    }

    async fn etag(&self, bucket: &str, key: Option<&str>) -> S3Result<Option<ETag>> {
        let Some(key) = key else { return Ok(None) };
        let input = HeadObjectInput::builder().bucket(bucket.to_owned()).key(key.to_owned()).build();
        let input = input.map_err(|_| s3_error!(InternalError))?;
        Ok(self.files.head_object(request(input)).await?.output.e_tag)
    }
}

/// A request that comes from nobody outside.
fn request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: Default::default(),
        uri: Default::default(),
        headers: Default::default(),
        extensions: Default::default(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// Operations that change something: one at a time. Spelled out, for `async_trait` does not look into macros.
macro_rules! alone {
    ($($name:ident, $input:ty, $output:ty;)*) => {
        $(fn $name<'a, 'b>(&'a self, request: S3Request<$input>) -> BoxFuture<'b, S3Result<S3Response<$output>>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async move {
                let _alone = self.lock.write().await;
                self.files.$name(request).await
            })
        })*
    };
}

#[async_trait]
impl S3 for Objects {
    alone! {
        put_object, PutObjectInput, PutObjectOutput;
        copy_object, CopyObjectInput, CopyObjectOutput;
        delete_object, DeleteObjectInput, DeleteObjectOutput;
        delete_objects, DeleteObjectsInput, DeleteObjectsOutput;
        create_multipart_upload, CreateMultipartUploadInput, CreateMultipartUploadOutput;
        upload_part, UploadPartInput, UploadPartOutput;
        complete_multipart_upload, CompleteMultipartUploadInput, CompleteMultipartUploadOutput;
        abort_multipart_upload, AbortMultipartUploadInput, AbortMultipartUploadOutput;
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let _shared = self.lock.read().await;
        self.files.head_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let _shared = self.lock.read().await;
        let condition = request.input.if_match.clone();
        let response = self.files.get_object(request).await?;
        match (condition, &response.output.e_tag) {
            (Some(ETagCondition::ETag(wanted)), Some(found)) if !found.strong_cmp(&wanted) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(response),
        }
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let _shared = self.lock.read().await;
        let bucket = request.input.bucket.clone();
        let mut response = self.files.list_objects_v2(request).await?;
        for object in response.output.contents.iter_mut().flatten() {
            object.e_tag = self.etag(&bucket, object.key.as_deref()).await?;
        }
        Ok(response)
    }
}
