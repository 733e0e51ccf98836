//! What a job is taken up from: the newest records of the log, and what they point to. Reads only.

use crate::history::History;
use crate::log::Log;
use crate::protocol::compatibility::{self, Program};
use crate::protocol::envelope::Stored;
use crate::protocol::record::{BatchRecord, OpenRecord, Record};
use crate::protocol::schema::StoredSchema;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use waterclock_core::id::{Seq, SinkId, SourceId};
use waterclock_core::storage::Store;
use waterclock_core::{Error, Result};

/// How many of the newest records are read and verified as a chain at every start.
const VERIFIED: u64 = 256;

/// What the log says of where the job stands.
#[derive(Debug)]
pub(super) struct RecoveryPoint {
    /// The newest records, oldest first: at least one.
    pub recent: Vec<Stored>,
    /// The newest batch's record.
    pub last: Option<Record>,
    /// The newest opening.
    pub open: OpenRecord,
    /// Where the sinks of the newest batch are, by the newest opening that knows them.
    pub places: BTreeMap<SinkId, String>,
}

impl RecoveryPoint {
    /// Reads it; none in a new log.
    pub fn read(log: &Log) -> Result<Option<Self>> {
        let Some(newest) = log.newest()? else { return Ok(None) };
        let recent = log.read_chain(Seq(newest.0.saturating_sub(VERIFIED - 1))..newest.next())?;
        let head = recent.last().ok_or_else(|| Error::internal("a log without a newest record"))?.record.clone();
        let get = |seq: Seq| match recent.iter().find(|stored| stored.record.seq == seq) {
            Some(stored) => Ok(stored.record.clone()),
            None => log.require(seq).map(|stored| stored.record),
        };
        let last = head.last_batch().map(|last| get(last.seq)).transpose()?;
        let open = get(head.opened())?;
        let wrong = || Error::corrupt(format!("record {} is not the opening that record {} says", open.seq, head.seq));
        let open = open.open().cloned().ok_or_else(wrong)?;
        let places = match last.as_ref().and_then(Record::batch) {
            Some(batch) => places(batch, get(batch.opened)?.open(), &open),
            None => BTreeMap::new(),
        };
        Ok(Some(Self { recent, last, open, places }))
    }

    /// The newest record.
    pub fn head(&self) -> Option<&Stored> {
        self.recent.last()
    }

    /// Whether the program may go on from here.
    pub fn check(&self, program: &Program) -> Result<()> {
        match self.last.as_ref().and_then(Record::batch) {
            Some(last) => compatibility::check(program, &self.open, last),
            None => Ok(()),
        }
    }

    /// The record of the oldest batch whose state is kept; none if there is no batch.
    pub fn oldest_retained(&self, log: &Log) -> Result<Option<Record>> {
        let Some(last) = self.last.as_ref().and_then(Record::batch) else { return Ok(None) };
        let is_it = |stored: &&Stored| stored.record.batch().is_some_and(|batch| batch.batch == last.retained);
        match self.recent.iter().find(is_it) {
            Some(stored) => Ok(Some(stored.record.clone())),
            None => History::read(log.clone())?.record(last.retained).map(Some),
        }
    }

    /// The batches that are not known to be published everywhere, oldest first.
    pub fn unpublished(&self, log: &Log) -> Result<Vec<Record>> {
        let Some(last) = &self.last else { return Ok(Vec::new()) };
        let sinks = last.batch().into_iter().flat_map(|batch| batch.sinks.values());
        let Some(oldest) = sinks.map(|sink| sink.published.map_or(0, |batch| batch.0 + 1)).min() else { return Ok(Vec::new()) };
        let mut records = vec![last.clone()];
        while let Some(previous) = records.last().and_then(|record| record.batch()?.previous)
            && previous.batch.0 >= oldest
        {
            records.push(log.require(previous.seq)?.record);
        }
        records.reverse();
        Ok(records)
    }
}

fn places(batch: &BatchRecord, then: Option<&OpenRecord>, newest: &OpenRecord) -> BTreeMap<SinkId, String> {
    let place = |id: &SinkId| newest.sinks.get(id).or_else(|| then?.sinks.get(id));
    batch.sinks.keys().filter_map(|id| Some((id.clone(), place(id)?.clone()))).collect()
}

/// The columns that the sources of a job had at its newest opening: those that were inferred stay the same. Empty for a new checkpoint.
/// Writes nothing.
///
/// # Errors
/// `Corrupt` if the log is damaged.
pub fn stored_schemas(checkpoint: &Store) -> Result<BTreeMap<SourceId, SchemaRef>> {
    let recovery = RecoveryPoint::read(&Log::new(checkpoint.clone()))?;
    let sources = recovery.map(|recovery| recovery.open.sources).unwrap_or_default();
    sources.iter().map(|(id, schema): (_, &StoredSchema)| Ok((id.clone(), schema.schema()?))).collect()
}
