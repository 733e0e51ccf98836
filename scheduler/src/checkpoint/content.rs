//! What an owner's layers say together.
//!
//! What flows in: chains of layers, which can be several times their tables. What flows out: each table once, as one layer. Layers are
//! read newest first, and only what stays of them is kept. What can fail: a layer that is damaged or missing, which is `Corrupt`.

use super::object::PieceHashes;
use super::{LiveLayer, Loader, Owner, all_bytes};
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

/// Each share passes over all keys, so more gain little.
const MOST_SHARES: usize = 8;

/// The tables of an owner's chains, none of which is empty, in their order.
pub(super) fn of(chains: &[&[LiveLayer]], owner: &Owner, loader: &Loader) -> Result<Vec<StateLayer>> {
    let wanted: Vec<&LiveLayer> = chains.iter().flat_map(|chain| chain.iter().rev()).collect();
    let mut layers = Layers { owner, loader, wanted: &wanted, read: VecDeque::new() };
    chains.iter().map(|chain| table(chain, &mut layers)).collect()
}

/// The table of a chain, whose layers are the next ones.
fn table(chain: &[LiveLayer], layers: &mut Layers<'_>) -> Result<StateLayer> {
    let rows: Vec<u64> = chain.iter().map(|layer| layer.reference.rows).collect();
    let threads = rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads().min(MOST_SHARES));
    let shares = if rows.iter().sum::<u64>() < MANY_ROWS { 1 } else { threads };
    let merge = |share| LayerMerge::new(&rows, true, Watermark::Unknown, share);
    let mut merges: Vec<LayerMerge> = KeyShare::all(shares).into_iter().map(merge).collect();
    let mut kept: Vec<Vec<StateLayer>> = Vec::with_capacity(chain.len());
    for index in (0..chain.len()).rev() {
        let mut of_layer = Vec::new();
        layers.next(&mut |part| {
            let stay = look_at(&mut merges, &part, index == 0)?;
            of_layer.push(shape(&merges)?.take(&part, &stay)?);
            Ok(())
        })?;
        kept.push(of_layer);
    }
    let shape = shape(&merges)?.clone();
    // The keys are as much as a column.
    drop(merges);
    shape.join(kept.into_iter().rev().flatten().collect())
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
    /// Hands the rows of the next layer to `each`.
    fn next(&mut self, each: &mut dyn FnMut(StateLayer) -> Result<()>) -> Result<()> {
        if self.read.is_empty() {
            self.read()?;
        }
        match self.read.pop_front() {
            Some((layer, Some(bytes))) => self.loader.decode_parts(&layer.reference, bytes, each),
            Some((layer, None)) => self.loader.parts(self.owner, &layer.reference, &mut PieceHashes::default(), each),
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
