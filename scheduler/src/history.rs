//! Old batches, found by their number. Reads only.
//!
//! Records are dense over openings and batches, so a batch's record lies in a range of numbers that is known, and the newest batch up to a
//! record never goes back: a search by halves reads as many records as the log's length has digits, and no listing.

use crate::log::Log;
use crate::protocol::record::{BatchRecord, BatchRef, OpenRecord, Record};
use waterclock_core::id::{BatchId, Seq};
use waterclock_core::{Error, ErrorKind, Result};

/// The batches of a checkpoint.
#[derive(Debug)]
pub(crate) struct History {
    log: Log,
    /// The newest record.
    head: Seq,
    last: BatchRef,
    /// The oldest batch whose state is kept.
    retained: BatchId,
}

impl History {
    /// The history that a log holds.
    ///
    /// # Errors
    /// `Unavailable` if there is no log; `Config` if it has no batch yet; `Corrupt` if it is damaged.
    pub fn read(log: Log) -> Result<Self> {
        let location = log.store().location().clone();
        let newest = log.newest()?.ok_or_else(|| Error::unavailable(format!("there is no checkpoint at {location}")))?;
        let head = log.require(newest)?.record;
        let last = head.last_batch().ok_or_else(|| Error::config(format!("the checkpoint at {location} has no batch yet")))?;
        let record = if head.seq == last.seq { head } else { log.require(last.seq)?.record };
        let retained = batch_of(&record)?.retained;
        Ok(Self { log, head: newest, last, retained })
    }

    /// The newest batch.
    pub fn last(&self) -> BatchId {
        self.last.batch
    }

    /// Whether the state behind a batch is kept.
    pub fn is_retained(&self, batch: BatchId) -> bool {
        batch >= self.retained
    }

    /// The history as it is now: a job that runs meanwhile adds to it, and gives up old state.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn again(&self) -> Result<Self> {
        Self::read(self.log.clone())
    }

    /// What it means that the state behind a batch can't be read: damage, unless it was given up, maybe while it was being read.
    pub fn unreadable(&self, batch: BatchId, error: Error) -> Error {
        if error.kind() != ErrorKind::Corrupt {
            return error;
        }
        match self.again() {
            Ok(now) if !now.is_retained(batch) => Error::config(format!(
                "the state behind batch {batch} is no longer retained: the job keeps that of the batches {} to {}, see --retain",
                now.retained, now.last.batch
            ))
            .caused_by(error),
            _ => error,
        }
    }

    /// The record of a batch.
    ///
    /// # Errors
    /// `Config` if there is no such batch; the message says which there are.
    pub fn record(&self, batch: BatchId) -> Result<Record> {
        if batch > self.last.batch {
            return Err(Error::config(format!("there is no batch {batch}; the checkpoint holds the batches 0 to {}", self.last.batch)));
        }
        // An opening stands before the first batch, and each batch between this one and the last has a record of its own.
        let (mut low, mut high) = (batch.0 + 1, self.last.seq.0.saturating_sub(self.last.batch.0 - batch.0));
        while low < high {
            let middle = low + (high - low) / 2;
            let reached = self.log.require(Seq(middle))?.record.last_batch().is_some_and(|last| last.batch >= batch);
            if reached { high = middle } else { low = middle + 1 }
        }
        let record = self.log.require(Seq(low))?.record;
        match record.batch() {
            Some(found) if found.batch == batch => Ok(record),
            _ => Err(Error::corrupt(format!("record {low} is not that of batch {batch}, as the records around it say"))),
        }
    }

    /// The record of the batch behind another's.
    ///
    /// # Errors
    /// `Config` if there is none.
    pub fn behind(&self, record: &Record) -> Result<Record> {
        for seq in record.seq.0 + 1..=self.last.seq.0 {
            let next = self.log.require(Seq(seq))?.record;
            if next.batch().is_some() {
                return Ok(next);
            }
        }
        Err(Error::config(format!("there is no batch behind {}", self.last.batch)))
    }

    /// What the job was when it was last opened.
    pub fn newest_opening(&self) -> Result<OpenRecord> {
        let head = self.log.require(self.head)?.record;
        opening(&self.log, &head)
    }
}

/// The opening of the driver that wrote a record.
pub(crate) fn opening(log: &Log, record: &Record) -> Result<OpenRecord> {
    let opening = log.require(record.opened())?.record;
    opening
        .open()
        .cloned()
        .ok_or_else(|| Error::corrupt(format!("record {} is not the opening that record {} says", opening.seq, record.seq)))
}

/// The batch of a record that is known to be one's.
pub(crate) fn batch_of(record: &Record) -> Result<&BatchRecord> {
    record.batch().ok_or_else(|| Error::internal(format!("record {} is not that of a batch", record.seq)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Appended;
    use crate::protocol::samples;
    use waterclock_core::storage::{Access, Location, Storage, StoreOptions};

    #[test]
    fn every_batch_is_found_in_every_log() {
        for batches in 0..12 {
            let storage = Storage::builder().start().unwrap();
            let store = storage.open(&Location::parse("memory://log").unwrap(), &StoreOptions::default(), Access::Write).unwrap();
            let log = Log::new(store);
            assert_eq!(History::read(log.clone()).unwrap_err().kind(), ErrorKind::Unavailable);
            for record in samples::log(batches) {
                assert!(matches!(log.append(&record).unwrap(), Appended::Mine(_)));
            }
            let Ok(history) = History::read(log) else {
                assert_eq!(batches, 0);
                continue;
            };
            assert_eq!(history.last(), BatchId(batches - 1));
            for batch in (0..batches).map(BatchId) {
                let record = history.record(batch).unwrap();
                assert_eq!(record.batch().unwrap().batch, batch);
                let behind = history.behind(&record).ok().map(|record| record.batch().unwrap().batch);
                assert_eq!(behind, (batch < history.last()).then(|| batch.next()));
            }
            assert_eq!(history.record(BatchId(batches)).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
