//! What the committer knows of the log: the newest record, and what the next one must build on. Makes records; does no I/O.
//!
//! It goes on from a record that is only on its way: if that does not arrive, the ledger is thrown away with the thread that has it.

use super::idleness::Idleness;
use super::publisher::Marks;
use crate::checkpoint::{Owner, Tables};
use crate::exec::SourceOutput;
use crate::protocol::collect::{self, RetainedObjects};
use crate::protocol::envelope::Stored;
use crate::protocol::invariants::{self, Step};
use crate::protocol::record::{BatchRecord, Body, OperatorRecord, PartitionRecord, Record, SinkRecord, SourceRecord, SpoolRef, Timings};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::{BatchId, Checksum, OperatorId, Seq, SinkId, SourceId};
use waterclock_core::sink::Manifest;
use waterclock_core::source::Cut;
use waterclock_core::time::Watermark;
use waterclock_core::{Error, Result};

/// What a batch's record says, before its output and state have their places.
#[derive(Debug)]
pub(super) struct Draft {
    pub context: BatchContext,
    pub sources: Vec<DraftSource>,
    pub operators: Vec<(OperatorId, DraftOperator)>,
    pub drained: bool,
    pub timings: Timings,
}

/// An operator's part of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct DraftOperator {
    pub watermark: Watermark,
    pub late_rows: u64,
}

/// A source's part of it.
#[derive(Debug)]
pub(super) struct DraftSource {
    pub id: SourceId,
    pub cut: Cut,
    pub spool: Option<SpoolRef>,
    pub output: SourceOutput,
    pub watermark: Watermark,
    pub idleness: Idleness,
}

/// What the next record builds on.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The newest record.
    pub parent: Stored,
    /// The newest batch's record.
    pub last: Option<Record>,
    /// The live state, as of the newest batch.
    pub tables: Tables,
    /// How far each sink is known to be published.
    pub published: Marks,
    /// How many batches' state is kept.
    pub retain: NonZeroU64,
    /// The objects of state that are kept.
    pub retained_objects: RetainedObjects,
    /// The fingerprint of the configuration.
    pub configuration: Checksum,
    /// The fingerprint of the operators with a memory.
    pub plan: Checksum,
}

impl Ledger {
    /// The number of the next record.
    pub fn next_seq(&self) -> Seq {
        self.parent.record.seq.next()
    }

    /// The record of a batch, checked against those before it.
    pub fn record(&self, draft: &Draft, manifests: Vec<(SinkId, Manifest)>, tables: &Tables) -> Result<Record> {
        let parent = &self.parent.record;
        let sinks = manifests.into_iter().map(|(id, manifest)| {
            let published = self.published.get(&id);
            (id, SinkRecord { manifest, published })
        });
        let operator = |(id, operator): &(OperatorId, DraftOperator)| {
            let layers = tables.references(&Owner::Operator(id.clone()));
            (id.clone(), OperatorRecord { watermark: operator.watermark, late_rows: operator.late_rows, layers })
        };
        let batch = BatchRecord {
            batch: draft.context.batch,
            previous: parent.last_batch(),
            opened: parent.opened(),
            sources: draft.sources.iter().map(|source| (source.id.clone(), self.source(source, tables))).collect(),
            operators: draft.operators.iter().map(operator).collect(),
            sinks: sinks.collect(),
            retained: collect::retained(draft.context.batch, self.retain, self.retained()),
            drained: draft.drained,
            timings: draft.timings,
            configuration: self.configuration.clone(),
            plan: self.plan.clone(),
        };
        let record = Record {
            seq: self.next_seq(),
            epoch: parent.epoch,
            nonce: parent.nonce.clone(),
            parent: Some(self.parent.checksum.clone()),
            time: draft.context.trigger_time,
            body: Body::Batch(Box::new(batch)),
        };
        self.check(&record)?;
        Ok(record)
    }

    /// The oldest batch whose state is kept.
    fn retained(&self) -> BatchId {
        self.last.as_ref().and_then(Record::batch).map_or(BatchId::FIRST, |last| last.retained)
    }

    fn check(&self, record: &Record) -> Result<()> {
        invariants::check(&Step { parent: Some(&self.parent), last: self.last.as_ref(), next: record }).map_err(|broken| {
            Error::internal(format!(
                "batch {} is not committed, for it is not true that {} ({}); nothing was lost, report this as a defect",
                record.batch().map_or(0, |batch| batch.batch.0),
                broken.name,
                broken.reason
            ))
        })
    }

    fn source(&self, draft: &DraftSource, tables: &Tables) -> SourceRecord {
        let mut standing = match (&self.last, self.last.as_ref().and_then(|last| last.batch()?.sources.get(&draft.id))) {
            (Some(last), Some(before)) => before.standings(last.seq),
            _ => BTreeMap::new(),
        };
        for cut in &draft.cut.partitions {
            standing.remove(&cut.partition);
        }
        let partitions = draft.cut.partitions.iter().map(|cut| {
            let read = draft.output.partitions.get(&cut.partition).copied().unwrap_or_default();
            PartitionRecord { cut: cut.clone(), rows: read.rows, latest: read.latest }
        });
        SourceRecord {
            partitions: partitions.collect(),
            standing,
            watermark: draft.watermark,
            latest: draft.output.latest.clone(),
            idle: draft.idleness.idle,
            active: draft.idleness.active,
            more: draft.cut.more,
            lag: draft.cut.lag,
            bad_rows: draft.output.bad_rows,
            spool: draft.spool.clone(),
            layers: tables.references(&Owner::Source(draft.id.clone())),
        }
    }

    /// The record is the newest. Returns the objects of state that no batch which is kept needs once it is committed.
    pub fn advance(&mut self, stored: Stored, mut tables: Tables) -> Vec<String> {
        tables.commit(stored.record.seq);
        let given_up = stored.record.batch().map(|batch| self.retained_objects.commit(batch)).unwrap_or_default();
        self.tables = tables;
        self.last = Some(stored.record.clone());
        self.parent = stored;
        given_up
    }
}
