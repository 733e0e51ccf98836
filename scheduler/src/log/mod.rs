//! The commit log in a store: numbered records, each put once, if absent.
//!
//! What flows in: records. What flows out: records, verified. Atomic is one thing, the put of an [`Append`]: afterwards the record's
//! number is taken, by this record or by another's. What can fail: the store, which is `Unavailable`; a record that is damaged or missing,
//! which is `Corrupt` and named.

mod identity;
#[cfg(test)]
mod tests;

pub use identity::FORMAT;

use crate::protocol::envelope::{self, Stored};
use crate::protocol::galloping::{CrossCheck, Gallop, Probe, cross_check};
use crate::protocol::invariants::{self, Step};
use crate::protocol::paths;
use crate::protocol::record::Record;
use crate::protocol::resolve::{Verdict, resolve};
use bytes::Bytes;
use crossbeam::channel::{Receiver, Select};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use std::collections::BTreeSet;
use std::ops::Range;
use waterclock_core::id::Seq;
use waterclock_core::storage::{ConditionalPut, Store};
use waterclock_core::{Error, ErrorKind, Result};

/// How often a record is put, or its fate looked up, before the driver gives up. The store retries by itself before it answers.
const ATTEMPTS: usize = 4;
/// Records read at the same time.
const READS: usize = 16;

/// What became of a record.
#[derive(Debug)]
pub enum Appended {
    /// It is committed.
    Mine(Stored),
    /// Another driver's record has its number.
    Theirs(Stored),
}

/// The commit log of a checkpoint.
#[derive(Debug, Clone)]
pub struct Log {
    store: Store,
}

impl Log {
    /// The log in a checkpoint.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The checkpoint.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The record of a number, verified by itself; none if there is none.
    pub fn read(&self, seq: Seq) -> Result<Option<Stored>> {
        let path = paths::commit(seq);
        let Some(bytes) = self.store.get(&path)? else { return Ok(None) };
        self.decode(seq, &bytes).map(Some)
    }

    /// The record of a number that must be there.
    pub fn require(&self, seq: Seq) -> Result<Stored> {
        self.read(seq)?.ok_or_else(|| self.missing(seq))
    }

    fn decode(&self, seq: Seq, bytes: &[u8]) -> Result<Stored> {
        let path = paths::commit(seq);
        let damaged = |error: Error| error.within(format!("the record {} is damaged; restore it", self.store.display(&path)));
        let stored = envelope::decode(bytes).map_err(damaged)?;
        if stored.record.seq != seq {
            return Err(damaged(Error::corrupt(format!("it says that it is record {}", stored.record.seq))));
        }
        Ok(stored)
    }

    fn missing(&self, seq: Seq) -> Error {
        Error::corrupt(format!("the record {} is missing; restore it", self.store.display(&paths::commit(seq))))
    }

    /// The number of the newest record; none in a new log.
    ///
    /// # Errors
    /// `Corrupt` if a listing shows a hole below it.
    pub fn newest(&self) -> Result<Option<Seq>> {
        let mut search = Gallop::from(Seq::FIRST);
        loop {
            let newest = loop {
                match search.next() {
                    Probe::Ask(seq) => search = search.answer(seq, self.store.head(&paths::commit(seq))?.is_some()),
                    Probe::Found(newest) => break newest,
                }
            };
            match cross_check(newest, &self.listed()?) {
                CrossCheck::Agrees => return Ok(newest),
                CrossCheck::Missing(seq) | CrossCheck::Above(seq) if self.store.head(&paths::commit(seq))?.is_none() => {
                    return Err(self.missing(seq));
                }
                // A listing that lags behind is no evidence.
                CrossCheck::Missing(_) => return Ok(newest),
                CrossCheck::Above(seq) => search = Gallop::from(seq),
            }
        }
    }

    fn listed(&self) -> Result<BTreeSet<Seq>> {
        let objects = self.store.list(Some(&paths::commits()))?;
        Ok(objects.iter().filter_map(|object| paths::parse_commit(&object.location)).collect())
    }

    /// Records of a range that must be there, verified one by one and as a chain.
    pub fn read_chain(&self, range: Range<Seq>) -> Result<Vec<Stored>> {
        let get = |seq: u64| async move {
            let path: Path = paths::commit(Seq(seq));
            let read = async { self.store.objects().get(&path).await?.bytes().await };
            match read.await {
                Ok(bytes) => self.decode(Seq(seq), &bytes),
                Err(StoreError::NotFound { .. }) => Err(self.missing(Seq(seq))),
                Err(cause) => Err(self.store.error("read", &path, cause)),
            }
        };
        let reads = futures::stream::iter(range.start.0..range.end.0).map(get).buffered(READS);
        let chain: Vec<Stored> = self.store.storage().wait(reads.try_collect())?;
        self.verify(&chain)?;
        Ok(chain)
    }

    fn verify(&self, chain: &[Stored]) -> Result<()> {
        let mut last = None;
        for (index, stored) in chain.iter().enumerate() {
            let parent = index.checked_sub(1).map(|before| &chain[before]);
            invariants::check(&Step { parent, last, next: &stored.record }).map_err(|broken| {
                let name = self.store.display(&paths::commit(stored.record.seq));
                Error::corrupt(format!("the record {name} does not fit those before it: not true that {}", broken.name))
            })?;
            last = stored.record.batch().map_or(last, |_| Some(&stored.record));
        }
        Ok(())
    }

    /// Puts a record under its number, and finds out whether it is the one that stands there.
    ///
    /// # Errors
    /// As for [`Prepared::of`] and [`Append::wait`].
    pub fn append(&self, record: &Record) -> Result<Appended> {
        self.begin_append(Prepared::of(record)?).wait()
    }

    /// Starts to put a record under its number.
    pub fn begin_append(&self, record: Prepared) -> Append {
        let put = self.store.begin_put_if_absent(&paths::commit(record.stored.record.seq), record.bytes.clone());
        Append { log: self.clone(), record, put }
    }
}

/// A record as it will stand in the log, if it will.
#[derive(Debug)]
pub struct Prepared {
    /// What its bytes say.
    pub stored: Stored,
    bytes: Bytes,
}

impl Prepared {
    /// Encodes a record.
    ///
    /// # Errors
    /// `Internal` or `Corrupt` if it can't be written, or what was written can't be read again.
    pub fn of(record: &Record) -> Result<Self> {
        let bytes = envelope::encode(record)?;
        Ok(Self { stored: envelope::decode(&bytes)?, bytes })
    }
}

/// A record on its way to its number.
#[derive(Debug)]
pub struct Append {
    log: Log,
    record: Prepared,
    put: ConditionalPut,
}

impl Append {
    /// Waits until either its put has ended or the other channel is ready, and returns whether it is the former: at once where nothing
    /// happens before it is waited for.
    pub fn ends_before<T>(&self, other: &Receiver<T>) -> bool {
        let Some(ended) = self.put.ended() else { return true };
        let mut first = Select::new();
        let of_put = first.recv(ended);
        first.recv(other);
        first.ready() == of_put
    }

    /// Waits until the number is taken, and finds out by which record.
    ///
    /// # Errors
    /// `Unavailable` if the store does not say: whether the record is committed shows at the next start.
    pub fn wait(self) -> Result<Appended> {
        let Self { log, record: Prepared { stored: mine, bytes }, put } = self;
        let (seq, path) = (mine.record.seq, paths::commit(mine.record.seq));
        let mut failure = match put.wait() {
            Ok(()) => return Ok(Appended::Mine(mine)),
            Err(cause) => log.store.error("write", &path, cause),
        };
        for _ in 0..ATTEMPTS {
            match log.read(seq) {
                Ok(found) => match resolve(&mine, found)? {
                    Verdict::Mine => return Ok(Appended::Mine(mine)),
                    Verdict::Theirs(theirs) => return Ok(Appended::Theirs(*theirs)),
                    Verdict::Absent => match log.store.put_if_absent(&path, bytes.clone()) {
                        Ok(()) => return Ok(Appended::Mine(mine)),
                        Err(cause) => failure = log.store.error("write", &path, cause),
                    },
                },
                Err(error) if error.kind() == ErrorKind::Unavailable => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure.within(format!("record {seq} may or may not be committed, which the next start finds out")))
    }
}

/// All records of a checkpoint, oldest first, verified. Writes nothing.
///
/// # Errors
/// `Corrupt` if a record is missing, damaged, or does not fit those before it.
pub fn read_log(checkpoint: &Store) -> Result<Vec<Record>> {
    let log = Log::new(checkpoint.clone());
    let Some(newest) = log.newest()? else { return Ok(Vec::new()) };
    Ok(log.read_chain(Seq::FIRST..newest.next())?.into_iter().map(|stored| stored.record).collect())
}
