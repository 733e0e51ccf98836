//! What an owner's layers say together.
//!
//! What flows in: chains of layers, which can be several times their tables. What flows out: each table once, in parts that have no key in
//! common, handed out as they are read, so that a large table is not in memory besides what is made of it. The keys of the layers are looked
//! at newest first, for they tell what stays of those behind them; rows are handed out oldest first, as they were written, for sums of
//! doubles and lists depend on it. So the layers above the oldest are read twice, unless they are few bytes. What can fail: a layer that is
//! damaged or missing, which is `Corrupt`, and may show only when parts of it were handed out.

use super::object::PieceHashes;
use super::{LiveLayer, Loader, Owner, all_bytes};
use crate::protocol::record::{LayerPlace, LayerRef};
use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use std::collections::VecDeque;
use waterclock_core::state::{KeyShare, LayerMerge, LayerShape, StateLayer};
use waterclock_core::time::Watermark;
use waterclock_core::{Error, Result};

/// So many bytes of layers are read side by side, at most, if they come from afar. A layer that is larger is read part by part.
const TOGETHER: u64 = 64 << 20;
/// The same of local files, of which each read is as quick as the next.
const TOGETHER_LOCALLY: u64 = 1 << 20;
/// From so many rows on, shares of the keys are looked up side by side, by the threads of the pool that this is called in. Tests have no more
/// rows than they need to do both.
const MANY_ROWS: u64 = if cfg!(test) { 16 } else { 1_000_000 };

/// So many bytes of rows, nearly, are handed out at once: enough for all threads.
const AT_ONCE: usize = if cfg!(test) { 1 << 10 } else { 32 << 20 };

/// Each share passes over all keys, so more gain little.
const MOST_SHARES: usize = 8;

/// Hands out the tables of an owner's chains, none of which is empty, in their order. Each has at least one part.
pub(super) fn of(
    chains: &[&[LiveLayer]],
    owner: &Owner,
    loader: &Loader,
    each: &mut dyn FnMut(Vec<StateLayer>) -> Result<()>,
) -> Result<()> {
    let wanted: Vec<&LiveLayer> = chains.iter().flat_map(|chain| chain.iter().rev()).collect();
    let mut layers = Layers { owner, loader, wanted: &wanted, read: VecDeque::new() };
    let mut found = Found { parts: Vec::new(), bytes: 0, has_rows: false, empty: None, each };
    chains.iter().try_for_each(|chain| table(chain, &mut layers, &mut found))?;
    found.hand_out()
}

/// Parts that were not yet handed out.
struct Found<'a> {
    parts: Vec<StateLayer>,
    bytes: usize,
    /// Whether the table at hand has rows.
    has_rows: bool,
    /// A part of it that has none.
    empty: Option<StateLayer>,
    each: &'a mut dyn FnMut(Vec<StateLayer>) -> Result<()>,
}

impl Found<'_> {
    fn push(&mut self, part: StateLayer) -> Result<()> {
        if part.rows.num_rows() == 0 {
            self.empty = Some(part);
            return Ok(());
        }
        self.has_rows = true;
        self.bytes += part.encoded_size();
        self.parts.push(part);
        if self.bytes < AT_ONCE { Ok(()) } else { self.hand_out() }
    }

    /// Says that no part of the table follows. One without rows is handed out all the same.
    fn end_table(&mut self) {
        let empty = self.empty.take();
        if !std::mem::take(&mut self.has_rows) {
            self.parts.extend(empty);
        }
    }

    fn hand_out(&mut self) -> Result<()> {
        self.bytes = 0;
        (self.each)(std::mem::take(&mut self.parts))
    }
}

/// The table of a chain, whose layers are the next ones.
fn table(chain: &[LiveLayer], layers: &mut Layers<'_>, found: &mut Found<'_>) -> Result<()> {
    let rows: Vec<u64> = chain.iter().map(|layer| layer.reference.rows).collect();
    let threads = rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads().min(MOST_SHARES));
    let shares = if rows.iter().sum::<u64>() < MANY_ROWS { 1 } else { threads };
    let merge = |share| LayerMerge::new(&rows, true, Watermark::Unknown, share);
    let mut merges: Vec<LayerMerge> = KeyShare::all(shares).into_iter().map(merge).collect();
    let newer = look_at_newer(&chain[1..], &mut merges, layers)?;
    layers.next(&mut PieceHashes::default(), &mut |part| {
        let stay = look_at(&mut merges, &part, true)?;
        found.push(shape(&merges)?.take(&part, &stay)?)
    })?;
    let shape = shape(&merges)?.clone();
    // The keys are as much as a column.
    drop(merges);
    for LookedAt { reference, mut hashes, stay, parts } in newer.into_iter().rev() {
        parts.into_iter().try_for_each(|part| found.push(part))?;
        if !stay.is_empty() {
            let mut stay = stay.iter();
            let mut again = |part| found.push(shape.take(&part, stay.next().ok_or_else(changed)?)?);
            layers.loader.parts(layers.owner, reference, &mut hashes, &mut again)?;
        }
    }
    found.end_table();
    Ok(())
}

/// Looks at the keys of the layers above the oldest, newest first.
fn look_at_newer<'a>(newer: &'a [LiveLayer], merges: &mut [LayerMerge], layers: &mut Layers<'_>) -> Result<Vec<LookedAt<'a>>> {
    let are_many = newer.iter().map(|layer| layer.reference.bytes).sum::<u64>() > AT_ONCE as u64;
    let look = |live: &'a LiveLayer| {
        let is_read_again = are_many && matches!(live.reference.place, LayerPlace::Object(_));
        let mut of = LookedAt { reference: &live.reference, hashes: PieceHashes::default(), stay: Vec::new(), parts: Vec::new() };
        layers.next(&mut of.hashes, &mut |part| {
            let stay = look_at(merges, &part, false)?;
            if is_read_again {
                of.stay.push(stay);
            } else {
                of.parts.push(shape(merges)?.take(&part, &stay)?);
            }
            Ok(())
        })?;
        Ok(of)
    };
    newer.iter().rev().map(look).collect()
}

/// A layer whose keys were looked at, and what is known of its rows: those that stay, or, to be read again, which ones.
struct LookedAt<'a> {
    reference: &'a LayerRef,
    hashes: PieceHashes,
    stay: Vec<BooleanBuffer>,
    parts: Vec<StateLayer>,
}

fn changed() -> Error {
    Error::corrupt("a layer of state has changed while it was read")
}

/// Which rows of a part stay, of all shares of the keys.
fn look_at(merges: &mut [LayerMerge], part: &StateLayer, is_oldest: bool) -> Result<BooleanBuffer> {
    if let [whole] = merges {
        return whole.look_at(part, is_oldest);
    }
    let stay = merges.par_iter_mut().map(|merge| merge.look_at(part, is_oldest)).try_reduce_with(|one, other| Ok(&one & &other));
    stay.unwrap_or_else(|| Err(Error::internal("merging no keys")))
}

fn shape(merges: &[LayerMerge]) -> Result<&LayerShape> {
    merges.first().ok_or_else(|| Error::internal("merging no keys"))?.shape()
}

/// Layers in the order in which they are wanted.
struct Layers<'a> {
    owner: &'a Owner,
    loader: &'a Loader,
    /// Those that were not yet read.
    wanted: &'a [&'a LiveLayer],
    /// Those that were, without their bytes if they are too many.
    read: VecDeque<(&'a LiveLayer, Option<Bytes>)>,
}

impl Layers<'_> {
    /// Hands the rows of the next layer to `each`. `hashes` are as [`Loader::parts`] has them.
    fn next(&mut self, hashes: &mut PieceHashes, each: &mut dyn FnMut(StateLayer) -> Result<()>) -> Result<()> {
        if self.read.is_empty() {
            self.read()?;
        }
        match self.read.pop_front() {
            Some((layer, Some(bytes))) => self.loader.decode_parts(&layer.reference, bytes, each),
            Some((layer, None)) => self.loader.parts(self.owner, &layer.reference, hashes, each),
            None => Err(Error::internal("a layer of state was not read")),
        }
    }

    fn read(&mut self) -> Result<()> {
        let most = if self.loader.store().local_root().is_some() { TOGETHER_LOCALLY } else { TOGETHER };
        let mut sum = 0u64;
        let fits = |layer: &&&LiveLayer| {
            sum = sum.saturating_add(layer.reference.bytes);
            sum <= most
        };
        let together = self.wanted.iter().take_while(fits).count();
        let (wanted, later) = self.wanted.split_at(together.max(1).min(self.wanted.len()));
        self.wanted = later;
        if together == 0 {
            self.read.extend(wanted.iter().map(|layer| (*layer, layer.held.clone())));
        } else {
            self.read.extend(wanted.iter().copied().zip(all_bytes(wanted, self.owner, self.loader)?.into_iter().map(Some)));
        }
        Ok(())
    }
}
