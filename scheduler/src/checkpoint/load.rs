//! Reading layers back, verified.

use super::Owner;
use super::object::{PieceHashes, Reader};
use crate::log::Log;
use crate::protocol::paths;
use crate::protocol::record::{BatchRecord, LayerPlace, LayerRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use waterclock_core::id::{Checksum, Seq};
use waterclock_core::state::{StateLayer, decode_layer, decode_parts};
use waterclock_core::storage::{Storage, Store};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Layers read at the same time.
const READS: usize = 16;

/// Reads layers of state.
#[derive(Debug, Clone)]
pub struct Loader {
    log: Log,
}

impl Loader {
    /// Reads from the checkpoint of a log.
    pub fn new(log: Log) -> Self {
        Self { log }
    }

    /// The storage thread.
    pub fn storage(&self) -> &Storage {
        self.log.store().storage()
    }

    pub(super) fn store(&self) -> &Store {
        self.log.store()
    }

    /// A layer's bytes, verified.
    ///
    /// # Errors
    /// `Corrupt` if they are damaged or missing.
    pub fn bytes(&self, owner: &Owner, layer: &LayerRef) -> Result<Bytes> {
        let (name, bytes) = match &layer.place {
            LayerPlace::Inline(data) => ("a record's inline state".to_owned(), base64(data)?),
            LayerPlace::Object(path) => {
                let path = Path::from(path.as_str());
                (self.store().display(&path), self.whole(&path, layer.bytes, self.store().get(&path)?)?)
            }
            LayerPlace::Record(seq) => (self.store().display(&paths::commit(*seq)), self.inline(*seq, owner, layer)?),
        };
        verified(&name, layer, bytes)
    }

    /// The same of several layers. Those that are objects are read side by side.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), for the first of them that can't be read.
    pub fn all_bytes(&self, owner: &Owner, layers: &[&LayerRef]) -> Result<Vec<Bytes>> {
        let path = |layer: &LayerRef| match &layer.place {
            LayerPlace::Object(path) => Some((Path::from(path.as_str()), layer.bytes)),
            _ => None,
        };
        let objects: Vec<(Path, u64)> = layers.iter().filter_map(|layer| path(layer)).collect();
        if objects.len() < 2 {
            return layers.iter().map(|layer| self.bytes(owner, layer)).collect();
        }
        let read = |(path, size): (Path, u64)| async move {
            let get = async { self.store().objects().get(&path).await?.bytes().await };
            let bytes = match get.await {
                Ok(bytes) => Some(bytes),
                Err(StoreError::NotFound { .. }) => None,
                Err(cause) => return Err(self.store().error("read", &path, cause)),
            };
            Ok((self.store().display(&path), self.whole(&path, size, bytes)?))
        };
        let reads = futures::stream::iter(objects).map(read).buffered(READS);
        let mut found = self.storage().wait(reads.try_collect::<Vec<_>>())?.into_iter();
        let bytes = |layer: &&LayerRef| match &layer.place {
            LayerPlace::Object(_) => {
                let (name, bytes) = found.next().ok_or_else(|| Error::internal("a layer of state was not read"))?;
                verified(&name, layer, bytes)
            }
            _ => self.bytes(owner, layer),
        };
        layers.iter().map(bytes).collect()
    }

    /// Decodes a layer's bytes.
    pub fn decode(&self, layer: &LayerRef, bytes: Bytes) -> Result<StateLayer> {
        decode_layer(bytes).map_err(|error| error.within(format!("the state table '{}'", layer.table.name)))
    }

    /// The same part by part.
    pub(super) fn decode_parts(&self, layer: &LayerRef, mut bytes: Bytes, each: &mut dyn FnMut(StateLayer) -> Result<()>) -> Result<()> {
        let failed = || Error::corrupt("a layer of state is cut off");
        let mut take = |length: usize| if length <= bytes.len() { Ok(bytes.split_to(length)) } else { Err(failed()) };
        decode_parts(layer.bytes, &mut take, each).map_err(|error| error.within(format!("the state table '{}'", layer.table.name)))
    }

    /// Hands a layer's rows to `each`, part by part: an object is never in memory as a whole. Nothing that was handed out counts before
    /// all of it was, for only then is it verified. `known` is empty at first, and lets the same layer be read again at less cost.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged or missing; what `each` fails with.
    pub(super) fn parts(
        &self,
        owner: &Owner,
        layer: &LayerRef,
        known: &mut PieceHashes,
        each: &mut dyn FnMut(StateLayer) -> Result<()>,
    ) -> Result<()> {
        let LayerPlace::Object(path) = &layer.place else { return each(self.decode(layer, self.bytes(owner, layer)?)?) };
        let mut object = Reader::new(self.store(), Path::from(path.as_str()), layer.bytes, known);
        let name = object.name();
        match decode_parts(layer.bytes, &mut |length| object.take(length), each) {
            // Damage can make of the rows what nobody can work with.
            Err(error) if error.kind() != ErrorKind::Internal || object.skip_rest().is_err() => Err(error.within(&name)),
            read => match object.is(&layer.checksum) {
                true => read.map_err(|error| error.within(&name)),
                false => Err(damaged(&name, layer)),
            },
        }
    }

    /// An object that must be there with all its bytes.
    fn whole(&self, path: &Path, size: u64, found: Option<Bytes>) -> Result<Bytes> {
        match found {
            None => Err(Error::corrupt(format!("the state {} is missing; restore it", self.store().display(path)))),
            Some(bytes) if (bytes.len() as u64) < size => {
                Err(Error::corrupt(format!("the state {} is cut off; restore it", self.store().display(path))))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    fn inline(&self, seq: Seq, owner: &Owner, layer: &LayerRef) -> Result<Bytes> {
        let record = self.log.require(seq)?.record;
        let layers = record.batch().map_or(&[][..], |batch| layers_of(batch, owner));
        // An earlier batch may have made the very same change: it stands in the chain too, with its own place.
        let own = layers.iter().filter(|found| found.table == layer.table && found.checksum == layer.checksum);
        let mut inline = own.filter_map(|found| match &found.place {
            LayerPlace::Inline(data) => Some(data),
            _ => None,
        });
        match inline.next() {
            Some(data) => base64(data),
            None => Err(damaged(&self.log.store().display(&paths::commit(seq)), layer)),
        }
    }
}

fn layers_of<'a>(batch: &'a BatchRecord, owner: &Owner) -> &'a [LayerRef] {
    match owner {
        Owner::Source(id) => batch.sources.get(id).map_or(&[], |source| &source.layers),
        Owner::Operator(id) => batch.operators.get(id).map_or(&[], |operator| &operator.layers),
    }
}

fn base64(data: &str) -> Result<Bytes> {
    STANDARD.decode(data).map(Bytes::from).or_error(ErrorKind::Corrupt, || "inline state is not base64".into())
}

fn verified(name: &str, layer: &LayerRef, bytes: Bytes) -> Result<Bytes> {
    if Checksum::of(&bytes) == layer.checksum { Ok(bytes) } else { Err(damaged(name, layer)) }
}

fn damaged(name: &str, layer: &LayerRef) -> Error {
    Error::corrupt(format!("{name} is damaged: the state table '{}' is not what was committed; restore it", layer.table.name))
}
