//! Whose a checkpoint is, and whether its store can hold one: settled once, before the first record.

use super::{ATTEMPTS, Log};
use crate::protocol::paths;
use bytes::Bytes;
use object_store::Error as StoreError;
use serde::{Deserialize, Serialize};
use waterclock_core::id::{JobId, Nonce, Seq};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// The version of the format that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Whose a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct JobFile {
    format: u32,
    job: JobId,
}

impl Log {
    /// The job that the checkpoint belongs to; none if it is new.
    ///
    /// # Errors
    /// `Corrupt` if that can't be read, `Config` if it is of another format.
    pub fn job(&self) -> Result<Option<JobId>> {
        let path = paths::job();
        let Some(bytes) = self.store.get(&path)? else { return Ok(None) };
        let place = || format!("{} can't be read; restore it", self.store.display(&path));
        let file: JobFile = serde_json::from_slice(&bytes).or_error(ErrorKind::Corrupt, place)?;
        if file.format != FORMAT {
            let (name, found) = (self.store.display(&path), file.format);
            return Err(Error::config(format!(
                "{name} has format {found}, and this program knows {FORMAT}; use the program that wrote it"
            )));
        }
        Ok(Some(file.job))
    }

    /// The job that the checkpoint belongs to. A new checkpoint gets the candidate, after its store has been tried out.
    ///
    /// # Errors
    /// As [`job`](Self::job); `Config` if the store's conditional put does not work.
    pub fn identify(&self, candidate: JobId, nonce: &Nonce) -> Result<JobId> {
        if let Some(job) = self.job()? {
            return Ok(job);
        }
        self.verify_new()?;
        self.try_out(nonce)?;
        let bytes = serde_json::to_vec_pretty(&JobFile { format: FORMAT, job: candidate });
        let bytes = Bytes::from(bytes.or_error(ErrorKind::Internal, || "encoding a job's identity".into())?);
        // Whatever the answer is, the one that stands there counts.
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            failure = self.store.put_if_absent(&paths::job(), bytes.clone()).err().or(failure);
            match self.job() {
                Ok(Some(job)) => return Ok(job),
                Ok(None) => {}
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Err(_) => {}
            }
        }
        let cause = failure.unwrap_or(StoreError::NotImplemented { operation: "put".into(), implementer: "the store".into() });
        Err(self.store.error("write", &paths::job(), cause))
    }

    /// A log without an identity is damaged: with another identity, its sinks would be another job's.
    fn verify_new(&self) -> Result<()> {
        // Between the first look and this one another driver may have begun the job, identity first.
        if self.read(Seq::FIRST)?.is_some() && self.job()?.is_none() {
            let path = self.store.display(&paths::job());
            return Err(Error::corrupt(format!("{path} is missing, and there are records; put it back")));
        }
        Ok(())
    }

    /// A store that does not keep to its conditional put would let two drivers commit.
    fn try_out(&self, nonce: &Nonce) -> Result<()> {
        let path = paths::trial(nonce);
        let put = || self.store.put_if_absent(&path, Bytes::from_static(b"conditional put"));
        let conflict = |error: &StoreError| matches!(error, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. });
        match put() {
            Ok(()) => {}
            // The nonce is new: a retried request has met its own first write.
            Err(cause) if conflict(&cause) => {}
            Err(cause) => return Err(self.store.error("write", &path, cause)),
        }
        let second = put();
        if let Err(error) = self.store.delete(&path) {
            tracing::warn!(%error, "a trial object is left behind");
        }
        match second {
            Err(cause) if conflict(&cause) => Ok(()),
            Err(cause) => Err(self.store.error("write", &path, cause)),
            Ok(()) => Err(Error::config(format!(
                "the store of {} has no conditional put (a second create of the same name succeeded), so two drivers could both commit; \
                 use another store for the checkpoint",
                self.store.location()
            ))),
        }
    }
}
