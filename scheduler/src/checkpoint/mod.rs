//! State in the checkpoint: per table of a source or an operator a short chain of layers, oldest first.
//!
//! What flows in: what a batch changed. What flows out: the complete list of live layers for the batch's record, and an object for each
//! that is new, which any Arrow reader opens. Nothing is atomic here: objects are garbage until a record names them. What can fail: reading
//! a layer that is to be merged, which is `Corrupt` if it is damaged or missing; and writing what a chain that is overdue becomes.
//!
//! Small changes stand inline in the record, as base64, so that a nearly empty batch writes no object of state. They and the newest of the
//! other layers are kept in memory, so that a commit that merges reads nothing. Merging is planned by [`crate::protocol::compaction`];
//! large merges are done beside the batches by a [`Merger`], for which a commit waits only where a chain is overdue.

mod content;
mod load;
mod merger;
mod object;
#[cfg(test)]
mod tests;

use crate::protocol::compaction::{self, Merge};
use crate::protocol::paths::{self, Writer};
use crate::protocol::record::{BatchRecord, LayerPlace, LayerRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
pub use load::Loader;
pub use merger::Merger;
use merger::{Outcome, Request};
pub(crate) use object::remove_unfinished;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use waterclock_core::id::{Checksum, Checksummer, OperatorId, Seq, SourceId};
use waterclock_core::state::{EncodedLayer, StateLayer, StateTable, encode_pieces, merge};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, ErrorKind, Result};

/// So many bytes of changes, at most, stand in a record: the smallest ones.
const INLINE_BYTES: u64 = 4 << 10;

/// So many bytes of the newest layers of a table, at most, are kept in memory, besides those that stand in records: what commits merge.
const HELD_BYTES: u64 = 1 << 20;

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

/// What a batch changed in a table of an owner's.
#[derive(Debug, Clone)]
pub struct StateChange {
    /// Whose table it is.
    pub owner: Owner,
    /// What changed; a batch's parts of a table have no key in common.
    pub part: StateLayer,
    /// Whether it is the whole table, and so are the owner's other changes: what was stored of its tables before counts no more.
    pub is_whole: bool,
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

/// A live layer: what records say of it, and its bytes if they are in memory.
#[derive(Debug, Clone)]
struct LiveLayer {
    reference: LayerRef,
    held: Option<Bytes>,
}

type TableKey = (Owner, StateTable);
type Chains = BTreeMap<TableKey, Vec<LiveLayer>>;

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
    pub objects: Vec<(Path, Vec<Bytes>)>,
    /// Merged layers that are of no use: objects that no record names, nor will any.
    pub useless: Vec<Path>,
}

/// A layer that is new in a batch.
struct NewLayer {
    key: TableKey,
    /// How many layers of the chain it leaves below it.
    above: usize,
    rows: u64,
    expires_at: Option<Timestamp>,
    encoded: Encoded,
}

/// A layer's bytes, in pieces.
struct Encoded {
    pieces: Vec<Bytes>,
    size: u64,
}

impl NewLayer {
    /// A layer in parts.
    fn of(key: TableKey, above: usize, parts: &[StateLayer]) -> Result<Self> {
        let EncodedLayer { pieces, rows, expires_at } = encode_pieces(parts)?;
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        Ok(Self { key, above, rows, expires_at, encoded: Encoded { pieces, size } })
    }
}

impl Encoded {
    fn checksum(&self) -> Checksum {
        let mut all = Checksummer::default();
        self.pieces.iter().for_each(|piece| all.update(piece));
        all.finish()
    }

    /// In one piece: for few bytes.
    fn whole(&self) -> Bytes {
        match self.pieces.as_slice() {
            [all] => all.clone(),
            pieces => pieces.concat().into(),
        }
    }
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
            let mut held = None;
            if let LayerPlace::Inline(data) = &layer.place {
                // What can't be decoded is read again, and reported, by the loader.
                held = STANDARD.decode(data).ok().map(Bytes::from).filter(|bytes| Checksum::of(bytes) == layer.checksum);
                reference.place = LayerPlace::Record(seq);
            }
            self.chains.entry((owner.clone(), layer.table.clone())).or_default().push(LiveLayer { reference, held });
        }
    }

    /// Reads the layers that stand in records: from then on they are in memory, as those of this driver's own batches are, and merging
    /// them reads nothing.
    pub fn recall(&mut self, loader: &Loader) -> Result<()> {
        for ((owner, _), chain) in &mut self.chains {
            for layer in chain {
                if layer.held.is_none() && matches!(layer.reference.place, LayerPlace::Record(_)) {
                    layer.held = Some(loader.bytes(owner, &layer.reference)?);
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

    /// The content of an owner's tables, each in parts that follow each other and have no key in common.
    ///
    /// # Errors
    /// `Corrupt` if a layer is damaged or missing, `Unavailable` if one can't be read.
    pub fn load(&self, owner: &Owner, loader: &Loader) -> Result<Vec<StateLayer>> {
        let mut all = Vec::new();
        self.load_parts(owner, loader, &mut |parts| {
            all.extend(parts);
            Ok(())
        })?;
        Ok(all)
    }

    /// The same, handed to `each` some parts at a time. What was handed out counts when all was, for only then all is verified.
    ///
    /// # Errors
    /// As [`load`](Self::load); what `each` fails with, unless it is `Internal` because of damage.
    pub fn load_parts(&self, owner: &Owner, loader: &Loader, each: &mut dyn FnMut(Vec<StateLayer>) -> Result<()>) -> Result<()> {
        let own = self.chains.iter().filter(|((of, _), chain)| of == owner && !chain.is_empty());
        content::of(&own.map(|(_, chain)| chain.as_slice()).collect::<Vec<_>>(), owner, loader, each)
    }

    /// Puts a batch's changes on top, leaving out layers that the owner's watermark has killed, and merging where chains grow too long:
    /// small layers here, large ones by putting in what the merger has made of them. `writer` is who is about to commit.
    ///
    /// # Errors
    /// `Corrupt` if a layer that is merged, here or beside the batches, is damaged or missing; `Unavailable` if one that must be merged now
    /// can't be read, or what it becomes can't be written.
    pub fn stage(
        &self,
        changes: Vec<StateChange>,
        watermarks: &BTreeMap<Owner, Watermark>,
        writer: &Writer,
        loader: &Loader,
        merger: &mut Merger,
    ) -> Result<StagedState> {
        let watermark = |owner: &Owner| watermarks.get(owner).copied().unwrap_or(Watermark::Unknown);
        let mut living = self.clone();
        for ((owner, _), chain) in &mut living.chains {
            chain.retain(|layer| layer.reference.expires_at.is_none_or(|expiry| Watermark::At(expiry) > watermark(owner)));
        }
        // What was merged is in its place, or of no use.
        let mut merged: Vec<Path> = Vec::new();
        if let Some(outcome) = merger.take()? {
            merged.extend(living.put_in_place(outcome, &watermark)?);
        }
        let whole: BTreeSet<&Owner> = changes.iter().filter(|change| change.is_whole).map(|change| &change.owner).collect();
        living.chains.retain(|(owner, _), _| !whole.contains(owner));
        let mut by_table: BTreeMap<TableKey, Vec<StateLayer>> = BTreeMap::new();
        for StateChange { owner, part, .. } in changes.into_iter().filter(|change| change.part.rows.num_rows() > 0) {
            by_table.entry((owner, part.table.clone())).or_default().push(part);
        }
        for key in by_table.keys() {
            if compaction::is_overdue(&sizes(living.chain(key))) {
                merged.extend(living.catch_up(key, &watermark, writer, merger)?);
            }
        }
        // IMPORTANT: nothing puts a merged layer in place from here on: each new layer says how many of its chain stay below it.
        let mut fresh = Vec::with_capacity(by_table.len());
        for (key, changes) in by_table {
            let watermark = watermark(&key.0);
            fresh.push(living.put_on_top(key, changes, watermark, loader, merger)?);
        }
        let (tables, objects) = living.place(fresh, writer);
        merged.retain(|path| !tables.holds(path));
        Ok(StagedState { tables, objects, useless: merged })
    }

    fn chain(&self, key: &TableKey) -> &[LiveLayer] {
        self.chains.get(key).map_or(&[], Vec::as_slice)
    }

    fn put_on_top(
        &self,
        key: TableKey,
        changes: Vec<StateLayer>,
        watermark: Watermark,
        loader: &Loader,
        merger: &Merger,
    ) -> Result<NewLayer> {
        let chain = self.chain(&key);
        let change = NewLayer::of(key.clone(), chain.len(), &changes)?;
        // Layers that are being merged beside this batch, and those below them, stand as they are.
        let fixed = chain.iter().position(|layer| Some(&layer.reference) == merger.newest_of(&key)).map_or(0, |newest| newest + 1);
        let mut sizes = sizes(&chain[fixed..]);
        sizes.push(change.encoded.size);
        let plan = if fixed > 0 { compaction::plan_above } else { compaction::plan };
        let Merge::Now(merged) = plan(&sizes, merger.beside_from()) else { return Ok(change) };
        let above = fixed + merged.start;
        let mut layers = load_all(&chain[above..], &key.0, loader)?;
        layers.extend(changes);
        let layer = merge(&layers, above == 0, watermark)?;
        NewLayer::of(key, above, &[layer])
    }

    /// Merges the layers of a table that is overdue, waiting for it: first for what is under way, and if that does not suffice, for all of
    /// them. Returns the paths of what was merged. Small ones are left to whoever puts the next change on top.
    fn catch_up(
        &mut self,
        key: &TableKey,
        watermark: &impl Fn(&Owner) -> Watermark,
        writer: &Writer,
        merger: &mut Merger,
    ) -> Result<Vec<Path>> {
        let mut merged = Vec::new();
        if let Some(outcome) = merger.wait()? {
            merged.extend(self.put_in_place(outcome, watermark)?);
        }
        let chain = self.chain(key);
        let sizes = sizes(chain);
        if !compaction::is_overdue(&sizes) || sizes.iter().sum::<u64>() < merger.beside_from() {
            return Ok(merged);
        }
        let path = merger.path(writer);
        merger.begin(Request { key: key.clone(), layers: chain.to_vec(), is_oldest: true, watermark: watermark(&key.0), path });
        if let Some(outcome) = merger.wait()? {
            if let Err(error) = outcome.merged {
                return Err(error.within("merging layers of state"));
            }
            merged.extend(self.put_in_place(outcome, watermark)?);
        }
        Ok(merged)
    }

    /// Puts a merged layer in the place of those that it stands for, if all of them are there that have not expired. Returns its path.
    fn put_in_place(&mut self, outcome: Outcome, watermark: &impl Fn(&Owner) -> Watermark) -> Result<Option<Path>> {
        let Outcome { key, replaced, is_oldest, merged } = outcome;
        let requested = replaced.len();
        let counts = |layer: &LayerRef| layer.expires_at.is_none_or(|expiry| Watermark::At(expiry) > watermark(&key.0));
        let replaced: Vec<LayerRef> = replaced.into_iter().filter(counts).collect();
        let chain = self.chains.entry(key).or_default();
        let same = |layers: &[LiveLayer]| layers.iter().map(|layer| &layer.reference).eq(&replaced);
        let found = if replaced.is_empty() { None } else { chain.windows(replaced.len()).position(same) };
        let (layer, path) = match merged {
            Ok(Some(merged)) => merged,
            Ok(None) => return Ok(None),
            // What has expired, or is no longer needed, may have been removed meanwhile.
            Err(error) if error.kind() == ErrorKind::Corrupt && found.is_some() && replaced.len() == requested => {
                return Err(error.within("merging layers of state"));
            }
            Err(error) => {
                tracing::warn!(%error, "layers of state are not merged, which a later batch tries again");
                return Ok(None);
            }
        };
        if let Some(at) = found.filter(|at| !is_oldest || *at == 0) {
            chain.splice(at..at + replaced.len(), [layer]);
        }
        Ok(Some(path))
    }

    /// Whether an object is one of the layers.
    fn holds(&self, path: &Path) -> bool {
        let is_it = |layer: &LiveLayer| matches!(&layer.reference.place, LayerPlace::Object(object) if object == path.as_ref());
        self.chains.values().flatten().any(is_it)
    }

    /// Lets the merger begin with a table that is due, if it has nothing else to do. These tables are those of a record by
    /// this writer that is committed, or about to be put.
    pub fn merge_beside(&self, watermarks: &BTreeMap<Owner, Watermark>, writer: &Writer, merger: &mut Merger) {
        if merger.is_busy() {
            return;
        }
        let due = self.chains.iter().find_map(|(key, chain)| match compaction::plan(&sizes(chain), merger.beside_from()) {
            Merge::Beside(layers) => Some((key, chain, layers)),
            Merge::Nothing | Merge::Now(_) => None,
        });
        let Some((key, chain, layers)) = due else { return };
        let watermark = watermarks.get(&key.0).copied().unwrap_or(Watermark::Unknown);
        let path = merger.path(writer);
        merger.begin(Request { key: key.clone(), is_oldest: layers.start == 0, layers: chain[layers].to_vec(), watermark, path });
    }

    /// Gives each new layer its place: in the record, or in an object of its own.
    fn place(self, mut fresh: Vec<NewLayer>, writer: &Writer) -> (Self, Vec<(Path, Vec<Bytes>)>) {
        let (mut tables, mut objects, mut inline_bytes) = (self, Vec::new(), 0);
        fresh.sort_by_key(|layer| layer.encoded.size);
        for layer in fresh {
            let Encoded { size, .. } = layer.encoded;
            inline_bytes += size;
            let (held, checksum) = ((size <= HELD_BYTES).then(|| layer.encoded.whole()), layer.encoded.checksum());
            let is_inline = inline_bytes < INLINE_BYTES;
            let place = if is_inline {
                LayerPlace::Inline(STANDARD.encode(layer.encoded.whole()))
            } else {
                let path = paths::state(writer, objects.len());
                objects.push((path.clone(), layer.encoded.pieces));
                LayerPlace::Object(path.to_string())
            };
            let reference =
                LayerRef { table: layer.key.1.clone(), rows: layer.rows, bytes: size, checksum, expires_at: layer.expires_at, place };
            let chain = tables.chains.entry(layer.key).or_default();
            chain.truncate(layer.above);
            chain.push(LiveLayer { reference, held });
            let_go(chain);
        }
        (tables, objects)
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

fn sizes(chain: &[LiveLayer]) -> Vec<u64> {
    chain.iter().map(|layer| layer.reference.bytes).collect()
}

/// Forgets the bytes of layers that no commit will merge: what a commit merges are a table's newest layers, and few bytes.
fn let_go(chain: &mut [LiveLayer]) {
    let mut sum = 0u64;
    for layer in chain.iter_mut().rev() {
        sum = sum.saturating_add(layer.reference.bytes);
        if sum > HELD_BYTES && matches!(layer.reference.place, LayerPlace::Object(_)) {
            layer.held = None;
        }
    }
}

/// Layers of an owner's, in their order.
fn load_all(layers: &[LiveLayer], owner: &Owner, loader: &Loader) -> Result<Vec<StateLayer>> {
    let bytes = all_bytes(&layers.iter().collect::<Vec<_>>(), owner, loader)?;
    layers.iter().zip(bytes).map(|(layer, bytes)| loader.decode(&layer.reference, bytes)).collect()
}

/// The bytes of layers of an owner's. Those that are not in memory are read side by side.
fn all_bytes(layers: &[&LiveLayer], owner: &Owner, loader: &Loader) -> Result<Vec<Bytes>> {
    let missing: Vec<&LayerRef> = layers.iter().filter(|layer| layer.held.is_none()).map(|layer| &layer.reference).collect();
    let mut read = loader.all_bytes(owner, &missing)?.into_iter();
    let bytes = layers.iter().map(|layer| layer.held.clone().or_else(|| read.next()));
    bytes.map(|bytes| bytes.ok_or_else(|| Error::internal("a layer of state was not read"))).collect()
}
