//! State in the checkpoint: per table of a source or an operator a short chain of layers, oldest first.
//!
//! What flows in: what a batch changed. What flows out: the complete list of live layers for the batch's record, and an object for each
//! that is new, which any Arrow reader opens. Nothing is atomic here: objects are garbage until a record names them. What can fail: reading
//! a layer that is to be merged, which is `Corrupt` if it is damaged or missing.
//!
//! Small changes stand inline in the record, as base64, and are kept in memory, so that a nearly empty batch reads nothing and writes
//! no object of state. Merging is planned by [`crate::protocol::compaction`].

mod load;
#[cfg(test)]
mod tests;

use crate::protocol::compaction;
use crate::protocol::paths::{self, Writer};
use crate::protocol::record::{BatchRecord, LayerPlace, LayerRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
pub use load::Loader;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::fmt;
use waterclock_core::Result;
use waterclock_core::id::{Checksum, OperatorId, Seq, SourceId};
use waterclock_core::state::{StateChange, StateLayer, StateTable, encode_layer, merge};
use waterclock_core::time::{Timestamp, Watermark};

/// So many bytes of changes, at most, stand in a record: the smallest ones.
const INLINE_BYTES: usize = 4 << 10;

/// Whose state it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A source.
    Source(SourceId),
    /// An operator.
    Operator(OperatorId),
}

/// An operator by its name, a source as `source NAME`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(id) => write!(f, "source {id}"),
            Self::Operator(id) => id.fmt(f),
        }
    }
}

/// What is known of a table without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Name and key.
    pub table: StateTable,
    /// Live layers.
    pub layers: usize,
    /// Rows of all layers; those of keys that changed or went count in each.
    pub rows: u64,
    /// Bytes of all layers.
    pub bytes: u64,
}

/// A live layer: what records say of it, and its bytes if they stand in a record.
#[derive(Debug, Clone)]
struct LiveLayer {
    reference: LayerRef,
    inline: Option<Bytes>,
}

type Chains = BTreeMap<(Owner, StateTable), Vec<LiveLayer>>;

/// The live layers of all tables, as of a record.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    chains: Chains,
}

/// The state of a batch that is about to be committed.
#[derive(Debug)]
pub struct StagedState {
    /// The live layers, as of the batch's record.
    pub tables: Tables,
    /// What must be stored before the commit.
    pub objects: Vec<(Path, Bytes)>,
}

/// A layer that is new in a batch.
struct NewLayer {
    key: (Owner, StateTable),
    /// How many layers of the chain it leaves below it.
    above: usize,
    rows: u64,
    expires: Option<Timestamp>,
    bytes: Bytes,
}

impl Tables {
    /// The live layers of a batch's record.
    pub fn of(seq: Seq, record: &BatchRecord) -> Self {
        let mut tables = Self::default();
        for (id, source) in &record.sources {
            tables.adopt(seq, &Owner::Source(id.clone()), &source.layers);
        }
        for (id, operator) in &record.operators {
            tables.adopt(seq, &Owner::Operator(id.clone()), &operator.layers);
        }
        tables
    }

    fn adopt(&mut self, seq: Seq, owner: &Owner, layers: &[LayerRef]) {
        for layer in layers {
            let mut reference = layer.clone();
            let mut inline = None;
            if let LayerPlace::Inline(data) = &layer.place {
                // What can't be decoded is read again, and reported, by the loader.
                inline = STANDARD.decode(data).ok().map(Bytes::from).filter(|bytes| Checksum::of(bytes) == layer.checksum);
                reference.place = LayerPlace::Record(seq);
            }
            self.chains.entry((owner.clone(), layer.table.clone())).or_default().push(LiveLayer { reference, inline });
        }
    }

    /// Reads the layers that stand in records: from then on they are in memory, as those of this driver's own batches are, and merging
    /// them reads nothing.
    pub fn recall(&mut self, loader: &Loader) -> Result<()> {
        for ((owner, _), chain) in &mut self.chains {
            for layer in chain {
                if layer.inline.is_none() && matches!(layer.reference.place, LayerPlace::Record(_)) {
                    layer.inline = Some(loader.bytes(owner, &layer.reference)?);
                }
            }
        }
        Ok(())
    }

    /// What a record says of an owner's layers.
    pub fn references(&self, owner: &Owner) -> Vec<LayerRef> {
        let own = self.chains.iter().filter(|((of, _), _)| of == owner);
        own.flat_map(|(_, chain)| chain.iter().map(|layer| layer.reference.clone())).collect()
    }

    /// What is known of an owner's tables without reading them.
    pub fn summaries(&self, owner: &Owner) -> Vec<TableSummary> {
        let own = self.chains.iter().filter(|((of, _), _)| of == owner);
        let summary = |((_, table), chain): (&(Owner, StateTable), &Vec<LiveLayer>)| TableSummary {
            table: table.clone(),
            layers: chain.len(),
            rows: chain.iter().map(|layer| layer.reference.rows).sum(),
            bytes: chain.iter().map(|layer| layer.reference.bytes).sum(),
        };
        own.map(summary).collect()
    }

    /// An owner's layers, oldest first per table.
    pub fn load(&self, owner: &Owner, loader: &Loader) -> Result<Vec<StateLayer>> {
        let own = self.chains.iter().filter(|((of, _), _)| of == owner);
        own.flat_map(|(_, chain)| chain).map(|layer| layer.load(owner, loader)).collect()
    }

    /// Puts a batch's changes on top, leaving out layers that the owner's watermark has killed, and merging where chains grow too long.
    /// `writer` is who is about to commit.
    pub fn stage(
        &self,
        changes: Vec<(Owner, StateChange)>,
        watermarks: &BTreeMap<Owner, Watermark>,
        writer: &Writer,
        loader: &Loader,
    ) -> Result<StagedState> {
        let mut living = self.clone();
        for ((owner, _), chain) in &mut living.chains {
            let watermark = watermarks.get(owner).copied().unwrap_or(Watermark::Unknown);
            chain.retain(|layer| layer.reference.dead_at.is_none_or(|dead| Watermark::At(dead) > watermark));
        }
        let mut by_table: BTreeMap<(Owner, StateTable), Vec<StateChange>> = BTreeMap::new();
        for (owner, change) in changes.into_iter().filter(|(_, change)| change.rows.num_rows() > 0) {
            by_table.entry((owner, change.table.clone())).or_default().push(change);
        }
        let mut fresh = Vec::with_capacity(by_table.len());
        for (key, changes) in by_table {
            let watermark = watermarks.get(&key.0).copied().unwrap_or(Watermark::Unknown);
            fresh.push(living.put_on_top(key, changes, watermark, loader)?);
        }
        Ok(living.place(fresh, writer))
    }

    fn put_on_top(&self, key: (Owner, StateTable), changes: Vec<StateChange>, watermark: Watermark, loader: &Loader) -> Result<NewLayer> {
        let chain = self.chains.get(&key).map_or(&[][..], Vec::as_slice);
        let change = match changes.as_slice() {
            [change] => change.clone(),
            several => merge(several, false, watermark)?,
        };
        let bytes = encode_layer(&change)?;
        let sizes: Vec<u64> = chain.iter().map(|layer| layer.reference.bytes).chain([bytes.len() as u64]).collect();
        let merged = compaction::plan(&sizes);
        if merged.len() < 2 {
            let (rows, expires) = (change.rows.num_rows() as u64, change.expires());
            return Ok(NewLayer { key, above: chain.len(), rows, expires, bytes });
        }
        let below = chain[merged.start..].iter().map(|layer| layer.load(&key.0, loader));
        let layers: Vec<StateLayer> = below.chain([Ok(change)]).collect::<Result<_>>()?;
        let layer = merge(&layers, merged.start == 0, watermark)?;
        let (rows, expires) = (layer.rows.num_rows() as u64, layer.expires());
        Ok(NewLayer { key, above: merged.start, rows, expires, bytes: encode_layer(&layer)? })
    }

    /// Gives each new layer its place: in the record, or in an object of its own.
    fn place(self, mut fresh: Vec<NewLayer>, writer: &Writer) -> StagedState {
        let (mut tables, mut objects, mut inline_bytes) = (self, Vec::new(), 0);
        fresh.sort_by_key(|layer| layer.bytes.len());
        for layer in fresh {
            inline_bytes += layer.bytes.len();
            let is_inline = inline_bytes < INLINE_BYTES;
            let place = if is_inline {
                LayerPlace::Inline(STANDARD.encode(&layer.bytes))
            } else {
                let path = paths::state(writer, objects.len());
                objects.push((path.clone(), layer.bytes.clone()));
                LayerPlace::Object(path.to_string())
            };
            let reference = LayerRef {
                table: layer.key.1.clone(),
                rows: layer.rows,
                bytes: layer.bytes.len() as u64,
                checksum: Checksum::of(&layer.bytes),
                dead_at: layer.expires,
                place,
            };
            let chain = tables.chains.entry(layer.key).or_default();
            chain.truncate(layer.above);
            chain.push(LiveLayer { reference, inline: is_inline.then_some(layer.bytes) });
        }
        StagedState { tables, objects }
    }

    /// The record of this number, which these layers were staged for, is committed: from now on its inline layers are pointed to.
    pub fn commit(&mut self, seq: Seq) {
        for layer in self.chains.values_mut().flatten() {
            if matches!(layer.reference.place, LayerPlace::Inline(_)) {
                layer.reference.place = LayerPlace::Record(seq);
            }
        }
    }
}

impl LiveLayer {
    fn load(&self, owner: &Owner, loader: &Loader) -> Result<StateLayer> {
        let bytes = match &self.inline {
            Some(bytes) => bytes.clone(),
            None => loader.bytes(owner, &self.reference)?,
        };
        loader.decode(&self.reference, bytes)
    }
}
