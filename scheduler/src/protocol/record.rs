//! What a record of the commit log says. Readable JSON; one object per record.
//!
//! A record of a batch is complete: with the records that it points to, and the state objects that it names, a job can be taken up
//! without reading any other. It never points to a later record.

use super::schema::StoredSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use waterclock_core::id::{BatchId, Checksum, Epoch, Nonce, OperatorId, PartitionId, Seq, SinkId, SourceId};
use waterclock_core::plan::Plan;
use waterclock_core::sink::Manifest;
use waterclock_core::source::{Cut, EventTime, Offset, PartitionCut};
use waterclock_core::state::StateTable;
use waterclock_core::time::{Timestamp, Watermark};

/// A record of the commit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number: dense over all records, from 0.
    pub seq: Seq,
    /// The epoch of the driver that wrote it.
    pub epoch: Epoch,
    /// The word by which that driver knows its own writes again.
    pub nonce: Nonce,
    /// The checksum of the record before this one, all of its bytes; none for the first.
    pub parent: Option<Checksum>,
    /// A batch's trigger time; for an opening, when it was. It never goes back.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// The two kinds of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Body {
    /// A driver took over the job.
    Open(Box<OpenRecord>),
    /// A batch was committed.
    Batch(Box<BatchRecord>),
}

/// Where a batch's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRef {
    /// The batch.
    pub batch: BatchId,
    /// The number of its record.
    pub seq: Seq,
}

/// A driver took over the job: what it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRecord {
    /// The newest batch before.
    pub last: Option<BatchRef>,
    /// What the state of each operator with a memory means.
    pub operators: BTreeMap<OperatorId, String>,
    /// Which rows come to those whose names are derived from their places. Records of earlier versions don't say it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<OperatorId, String>,
    /// The columns of each source, declared or inferred: those that were inferred once are kept.
    pub sources: BTreeMap<SourceId, StoredSchema>,
    /// The event time of each source; null for one that has none. Records of earlier versions don't name the sources here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_times: BTreeMap<SourceId, Option<EventTimeRecord>>,
    /// The versions of static tables that were read: they are the same for all batches up to the next opening.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statics: BTreeMap<SourceId, StaticRecord>,
    /// Where each sink is.
    pub sinks: BTreeMap<SinkId, String>,
    /// The configuration, with all defaults resolved, without credentials.
    pub configuration: serde_json::Value,
}

/// By what a source's watermark goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTimeRecord {
    /// The column.
    pub column: String,
    /// How far the watermark stays behind the latest time in it, in microseconds.
    pub delay_us: u64,
}

impl EventTimeRecord {
    /// Those of all sources of a plan.
    pub fn of_sources(plan: &Plan) -> BTreeMap<SourceId, Option<Self>> {
        let of = |event_time: &EventTime| Self {
            column: event_time.column.clone(),
            delay_us: u64::try_from(event_time.delay.as_micros()).unwrap_or(u64::MAX),
        };
        let sources = plan.sources.iter().map(|source| &source.settings);
        sources.map(|settings| (settings.id.clone(), settings.event_time.as_ref().map(of))).collect()
    }
}

/// What was read of a static table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRecord {
    /// The ranges read, in the order of their rows: all that there was.
    pub ranges: Vec<PartitionCut>,
    /// Rows read, without those that statistics left out.
    pub rows: u64,
}

/// A batch was committed: where its rows came from, where they went, and what the job remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// The batch's number: dense over the batches, from 0.
    pub batch: BatchId,
    /// The batch before.
    pub previous: Option<BatchRef>,
    /// The number of the record with which the driver took over the job.
    pub opened: Seq,
    /// What was read, per source.
    pub sources: BTreeMap<SourceId, SourceRecord>,
    /// What is remembered, per operator with a memory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operators: BTreeMap<OperatorId, OperatorRecord>,
    /// What was staged, per sink.
    pub sinks: BTreeMap<SinkId, SinkRecord>,
    /// The oldest batch whose state is kept, once this one is committed.
    #[serde(default = "from_the_first")]
    pub retained: BatchId,
    /// Whether the stream ended with this batch: no batch follows.
    pub drained: bool,
    /// How long the steps before the commit took.
    pub timings: Timings,
    /// The fingerprint of the resolved configuration.
    pub configuration: Checksum,
    /// The fingerprint of the operators with a memory.
    pub plan: Checksum,
}

fn from_the_first() -> BatchId {
    BatchId::FIRST
}

/// How long the steps before the commit took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Naming the ranges of the batch.
    pub cut_ms: u64,
    /// Reading, computing and writing.
    pub run_ms: u64,
    /// Waiting until output and state are durable.
    pub stage_ms: u64,
}

/// One source's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The ranges read, in the order of their rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionRecord>,
    /// Where the partitions stand that this batch did not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub standing: BTreeMap<PartitionId, Standing>,
    /// The source's watermark behind this batch.
    pub watermark: Watermark,
    /// The latest event time of each partition, over all rows ever read: what the watermark is behind of. Records of earlier versions have
    /// it of their own rows only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latest: BTreeMap<PartitionId, Timestamp>,
    /// Whether the source no longer holds back what flows together with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Since when the source has been without rows: the trigger time of the batch that last read some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Timestamp>,
    /// Whether a limit kept something back.
    #[serde(default)]
    pub more: bool,
    /// How much is known to wait, in the source's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Rows that could not be read and went to the dead-letter place.
    #[serde(default)]
    pub bad_rows: u64,
    /// The cut's rows, of a source that can't replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolRef>,
    /// What the source remembers: all live layers of all its tables, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRef>,
}

/// One partition's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// The range.
    #[serde(flatten)]
    pub cut: PartitionCut,
    /// Rows read, without bad ones.
    pub rows: u64,
    /// The latest event time among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
}

/// Where a partition stands that was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The position behind its last range.
    pub end: Offset,
    /// The record that holds this range.
    pub seq: Seq,
}

/// Where the rows of a cut are that can't be read again from the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRef {
    /// The object's path within the checkpoint.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The checksum of all of it.
    pub checksum: Checksum,
}

/// One operator's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// The watermark of its output.
    pub watermark: Watermark,
    /// Rows dropped because they came late.
    #[serde(default)]
    pub late_rows: u64,
    /// All live layers of all its tables, oldest first.
    pub layers: Vec<LayerRef>,
}

/// One sink's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkRecord {
    /// What was staged.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// The newest batch that was known to be published when this record was written.
    pub published: Option<BatchId>,
}

/// A layer of state, as an Arrow IPC file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The table's name and key.
    #[serde(flatten)]
    pub table: StateTable,
    /// Its rows, keys that went included.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Its checksum.
    pub checksum: Checksum,
    /// When the last of its rows expires: it is left out once the operator's watermark has reached this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Where it is.
    #[serde(flatten)]
    pub place: LayerPlace,
}

/// Where a layer's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerPlace {
    /// An object, by its path within the checkpoint.
    Object(String),
    /// In this record, as base64.
    Inline(String),
    /// Inline in an earlier record, under the same owner, table and checksum.
    Record(Seq),
}

impl Record {
    /// The batch, if it is the record of one.
    pub fn batch(&self) -> Option<&BatchRecord> {
        match &self.body {
            Body::Batch(batch) => Some(batch),
            Body::Open(_) => None,
        }
    }

    /// The opening, if it is the record of one.
    pub fn open(&self) -> Option<&OpenRecord> {
        match &self.body {
            Body::Open(open) => Some(open),
            Body::Batch(_) => None,
        }
    }

    /// The newest batch up to and with this record.
    pub fn last_batch(&self) -> Option<BatchRef> {
        match &self.body {
            Body::Open(open) => open.last,
            Body::Batch(batch) => Some(BatchRef { batch: batch.batch, seq: self.seq }),
        }
    }

    /// The number of the newest opening up to and with this record.
    pub fn opened(&self) -> Seq {
        self.batch().map_or(self.seq, |batch| batch.opened)
    }
}

impl SourceRecord {
    /// The cut that was read.
    pub fn cut(&self) -> Cut {
        Cut { partitions: self.partitions.iter().map(|partition| partition.cut.clone()).collect(), more: self.more, lag: self.lag }
    }

    /// The position behind everything read of a partition.
    pub fn end_of(&self, partition: &PartitionId) -> Option<&Offset> {
        let read = self.partitions.iter().find(|read| &read.cut.partition == partition).map(|read| &read.cut.end);
        read.or_else(|| self.standing.get(partition).map(|standing| &standing.end))
    }

    /// Where every partition stands behind this record, whose number is given.
    pub fn standings(&self, seq: Seq) -> BTreeMap<PartitionId, Standing> {
        let mut standings = self.standing.clone();
        for read in &self.partitions {
            standings.insert(read.cut.partition.clone(), Standing { end: read.cut.end.clone(), seq });
        }
        standings
    }

    /// The latest event time of each partition that is known to have been read.
    pub fn latest_times(&self) -> BTreeMap<PartitionId, Timestamp> {
        let mut latest = self.latest.clone();
        for (partition, time) in self.partitions.iter().filter_map(|read| Some((&read.cut.partition, read.latest?))) {
            let known = latest.entry(partition.clone()).or_insert(time);
            *known = time.max(*known);
        }
        latest
    }

    /// Rows read, without bad ones.
    pub fn rows(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.rows).sum()
    }
}

impl BatchRecord {
    /// Rows that could not be read and went to dead-letter places.
    pub fn bad_rows(&self) -> u64 {
        self.sources.values().map(|source| source.bad_rows).sum()
    }

    /// Rows that came too late, over all operators.
    pub fn late_rows(&self) -> u64 {
        self.operators.values().map(|operator| operator.late_rows).sum()
    }

    /// The layers of every source and operator.
    pub fn layers(&self) -> impl Iterator<Item = &LayerRef> {
        let sources = self.sources.values().flat_map(|source| &source.layers);
        sources.chain(self.operators.values().flat_map(|operator| &operator.layers))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_source_of_an_earlier_version_knows_the_latest_of_its_own_rows() {
        let log = samples::log(3);
        let source = &log.last().unwrap().batch().unwrap().sources[&SourceId::from("bid")];
        let mut json = serde_json::to_value(source).unwrap();
        assert_eq!(serde_json::from_value::<SourceRecord>(json.clone()).unwrap(), *source);
        json.as_object_mut().unwrap().remove("latest").unwrap();
        let earlier: SourceRecord = serde_json::from_value(json).unwrap();
        assert!(earlier.latest.is_empty());
        assert_eq!(earlier.latest_times(), source.latest);
    }
}
