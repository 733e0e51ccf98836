//! State to look at: what a batch left in the tables of all sources and operators. Reads only.
//!
//! What flows in: a checkpoint and a batch. What flows out: a list of tables, and the content of each, its layers merged. What can fail:
//! a checkpoint or a batch that is not there, state that the job has given up, and damage, which is `Corrupt` and names the object.
//!
//! The job may run meanwhile: what it gives up while it is being read is not damage, and a look at the newest batch begins again.

use crate::checkpoint::{Loader, Owner, TableSummary, Tables};
use crate::history::{History, batch_of};
use crate::log::Log;
use crate::protocol::record::OperatorRecord;
use std::collections::BTreeMap;
use waterclock_core::Result;
use waterclock_core::id::{BatchId, OperatorId};
use waterclock_core::state::{StateLayer, live};
use waterclock_core::storage::Store;
use waterclock_core::time::Watermark;

/// The state behind a batch.
#[derive(Debug)]
pub struct StateView {
    history: History,
    batch: BatchId,
    owners: Vec<Owner>,
    /// Rows that these have killed are not there.
    watermarks: BTreeMap<Owner, Watermark>,
    tables: Tables,
    loader: Loader,
}

/// How often a look at the newest batch begins again because the job gave that one up meanwhile.
const LOOKS: usize = 8;

impl StateView {
    /// What `look` finds behind a batch, or behind the newest one. There it is called again, with a newer view, if the job gave up that
    /// state before it was read.
    ///
    /// # Errors
    /// As [`read`](Self::read), and what `look` returns.
    pub fn look<T>(checkpoint: &Store, batch: Option<BatchId>, mut look: impl FnMut(&Self) -> Result<T>) -> Result<T> {
        let mut again = 1..LOOKS;
        loop {
            let view = Self::read(checkpoint, batch)?;
            match look(&view) {
                Err(_) if batch.is_none() && again.next().is_some() && !view.history.again()?.is_retained(view.batch) => {}
                found => return found,
            }
        }
    }

    /// The state behind a batch, or behind the newest one.
    ///
    /// # Errors
    /// `Unavailable` if there is no checkpoint, `Config` if it has no such batch, `Corrupt` if it is damaged.
    pub fn read(checkpoint: &Store, batch: Option<BatchId>) -> Result<Self> {
        let log = Log::new(checkpoint.clone());
        let history = History::read(log.clone())?;
        let batch = batch.unwrap_or_else(|| history.last());
        let record = history.record(batch)?;
        let found = batch_of(&record)?;
        let tables = Tables::of(record.seq, found);
        let sources = found.sources.keys().cloned().map(Owner::Source).filter(|owner| !tables.references(owner).is_empty());
        let watermark = |(id, operator): (&OperatorId, &OperatorRecord)| (Owner::Operator(id.clone()), operator.watermark);
        let watermarks = found.operators.iter().map(watermark).collect();
        let owners = found.operators.keys().cloned().map(Owner::Operator).chain(sources).collect();
        Ok(Self { history, batch, owners, watermarks, tables, loader: Loader::new(log) })
    }

    /// The batch.
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    /// Whether the job still keeps this state. If not, what newer batches don't share is gone.
    pub fn is_retained(&self) -> bool {
        self.history.is_retained(self.batch)
    }

    /// Every operator with a memory, and every source that remembers something.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// What is known of an owner's tables without reading them.
    pub fn tables(&self, owner: &Owner) -> Vec<TableSummary> {
        self.tables.summaries(owner)
    }

    /// The content of an owner's tables: of each one or more parts that follow each other and have no key in common.
    ///
    /// # Errors
    /// `Config` if it is no longer retained, `Corrupt` if it is damaged.
    pub fn content(&self, owner: &Owner) -> Result<Vec<StateLayer>> {
        let layers = self.tables.load(owner, &self.loader).map_err(|error| self.history.unreadable(self.batch, error))?;
        let watermark = self.watermarks.get(owner).copied().unwrap_or(Watermark::Unknown);
        layers.iter().map(|part| live(part, watermark)).collect()
    }
}
