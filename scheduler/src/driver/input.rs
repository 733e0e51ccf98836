//! The job's sources as the driver drives them: cut, spooled if they can't replay, restored, acknowledged.

use super::idleness::Idleness;
use crate::checkpoint::{Loader, Owner, StateChange, Tables};
use crate::exec::{LatestTimes, SourceTime};
use crate::log::Log;
use crate::protocol::paths::Writer;
use crate::protocol::record::{Record, SourceRecord, SpoolRef};
use crate::spool::{self, SpooledCut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use waterclock_core::id::{SinkId, SourceId};
use waterclock_core::plan::PlannedSource;
use waterclock_core::source::{BadRow, Cut, CutLimits, PartitionCut, Scan, Source, Split};
use waterclock_core::state::{StateLayer, StateTable, merge};
use waterclock_core::storage::Store;
use waterclock_core::time::Watermark;
use waterclock_core::{Error, Result};

/// A source of the job.
pub(crate) struct Input {
    pub id: SourceId,
    pub source: Box<dyn Source>,
    /// The sink of its bad rows.
    pub dead_letter: Option<SinkId>,
    pub watermark: Watermark,
    pub latest: LatestTimes,
    pub idleness: Idleness,
    scan: Arc<Scan>,
    limits: CutLimits,
    /// What cuts changed in the source's state that no batch has taken along yet.
    changes: Vec<StateLayer>,
    /// Cuts of earlier drivers whose batch never came to be, oldest first.
    found: VecDeque<SpooledCut>,
}

/// A source's part of the batch at hand.
pub(crate) struct InputCut {
    pub cut: Cut,
    pub spool: Option<SpoolRef>,
}

impl Input {
    pub fn new(planned: &PlannedSource, source: Box<dyn Source>, dead_letter: Option<SinkId>) -> Self {
        Self {
            id: planned.settings.id.clone(),
            source,
            dead_letter,
            watermark: Watermark::Unknown,
            latest: LatestTimes::new(),
            idleness: Idleness::new(planned.settings.event_time.as_ref().and_then(|event_time| event_time.idle_timeout)),
            scan: Arc::clone(&planned.scan),
            limits: planned.settings.limits,
            changes: Vec::new(),
            found: VecDeque::new(),
        }
    }

    /// Takes up where the newest batch stopped. `found` are stored cuts that no record names.
    pub fn restore(&mut self, last: Option<&Record>, tables: &Tables, loader: &Loader, log: &Log, found: &[SpooledCut]) -> Result<()> {
        let place = |error: Error, id: &SourceId| error.within(format!("source '{id}'"));
        let record = last.and_then(|last| last.batch()?.sources.get(&self.id));
        let layers = tables.load(&Owner::Source(self.id.clone()), loader)?;
        let mut positions = record.map_or_else(|| Ok(Vec::new()), |record| positions(&self.id, record, log))?;
        for spooled in found.iter().filter(|spooled| spooled.source == self.id) {
            if continues(&mut positions, &spooled.cut) {
                self.found.push_back(spooled.clone());
            } else {
                tracing::warn!(object = spooled.reference.path, "a stored cut does not follow what was committed; it is left where it is");
            }
        }
        self.restore_time(record);
        (self.idleness.active, self.idleness.idle) = record.map_or((None, false), |record| (record.active, record.idle));
        self.source.restore(&layers, &positions).map_err(|error| place(error, &self.id))?;
        match record.map(SourceRecord::cut) {
            Some(cut) if !cut.is_empty() => self.source.acknowledge(&cut).map_err(|error| place(error, &self.id)),
            _ => Ok(()),
        }
    }

    /// Event time as it was behind a batch.
    pub fn restore_time(&mut self, record: Option<&SourceRecord>) {
        self.watermark = record.map_or(Watermark::Unknown, |record| record.watermark);
        self.latest = record.map_or_else(LatestTimes::new, SourceRecord::latest_times);
    }

    /// The next cut: one that was found, or a new one.
    pub fn cut(&mut self) -> Result<InputCut> {
        if let Some(found) = self.found.pop_front() {
            self.source.unspool(&found.cut, found.bytes)?;
            return Ok(InputCut { cut: found.cut, spool: Some(found.reference) });
        }
        let cut = self.source.cut(&self.limits)?;
        self.changes.extend(self.source.checkpoint()?);
        Ok(InputCut { cut, spool: None })
    }

    /// Whether more could be cut at once than this.
    pub fn has_more(&self, cut: &InputCut) -> bool {
        cut.cut.more || cut.spool.is_some() || !self.found.is_empty()
    }

    /// Stores a new cut of a source that can't replay.
    pub fn spool(&mut self, input: &mut InputCut, store: &Store, writer: &Writer) -> Result<()> {
        if self.source.capabilities().replayable || input.cut.is_empty() || input.spool.is_some() {
            return Ok(());
        }
        let bytes = self
            .source
            .spool(&input.cut)?
            .ok_or_else(|| Error::internal(format!("the source '{}' can't replay, and gives nothing to store", self.id)))?;
        input.spool = Some(spool::write(store, writer, &self.id, &input.cut, &bytes)?);
        self.source.unspool(&input.cut, bytes)
    }

    /// Its event time behind the newest batch.
    pub fn time(&self) -> SourceTime {
        SourceTime { watermark: self.watermark, latest: self.latest.clone(), reached: None }
    }

    pub fn splits(&self, cut: &Cut) -> Result<Vec<Box<dyn Split>>> {
        if cut.is_empty() { Ok(Vec::new()) } else { self.source.splits(cut, &self.scan) }
    }

    /// What the batch at hand takes along of the source's state: that of cuts before it too, of which nothing has come.
    pub fn take_changes(&mut self) -> Result<Vec<StateChange>> {
        let mut tables: BTreeMap<StateTable, Vec<StateLayer>> = BTreeMap::new();
        for change in self.changes.drain(..) {
            tables.entry(change.table.clone()).or_default().push(change);
        }
        let change = |changes: Vec<StateLayer>| {
            let part = if let [change] = changes.as_slice() { change.clone() } else { merge(&changes, false, Watermark::Unknown)? };
            Ok(StateChange { owner: Owner::Source(self.id.clone()), part, is_whole: false })
        };
        tables.into_values().map(change).collect()
    }

    /// The error of a row that could not be read.
    pub fn bad_row(&self, bad: BadRow) -> Error {
        let place = self.source.locate(bad.place);
        Error::bad_data(format!(
            "the source '{}' has a bad row: {place}: {}; mend it, or set 'on_bad_row' to 'dead_letter' to have such rows written to a place \
             of their own",
            self.id, bad.reason
        ))
    }
}

/// The last range of each partition.
fn positions(id: &SourceId, record: &SourceRecord, log: &Log) -> Result<Vec<PartitionCut>> {
    let mut last: Vec<PartitionCut> = record.partitions.iter().map(|read| read.cut.clone()).collect();
    for (partition, standing) in &record.standing {
        let earlier = log.require(standing.seq)?.record;
        let source = earlier.batch().and_then(|batch| batch.sources.get(id));
        let read = source.and_then(|source| source.partitions.iter().find(|read| &read.cut.partition == partition));
        let read =
            read.ok_or_else(|| Error::corrupt(format!("record {} does not hold the range of partition '{partition}'", standing.seq)))?;
        last.push(read.cut.clone());
    }
    Ok(last)
}

/// Whether a cut begins where its partitions stand; if so, they then stand behind it.
fn continues(positions: &mut Vec<PartitionCut>, cut: &Cut) -> bool {
    let follows = |next: &PartitionCut| {
        let before = positions.iter().find(|position| position.partition == next.partition);
        before.is_none_or(|before| before.end == next.start)
    };
    if !cut.partitions.iter().all(follows) {
        return false;
    }
    for next in &cut.partitions {
        positions.retain(|position| position.partition != next.partition);
        positions.push(next.clone());
    }
    true
}
