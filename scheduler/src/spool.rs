//! Cuts of sources that can't replay: stored before the batch runs, named by its record.
//!
//! An object is one line of JSON, which says whose cut it is, and then the source's bytes. It explains itself, because a cut whose batch
//! never came to be is found by listing alone, and becomes one of the next batches.

use crate::protocol::paths::{self, Writer};
use crate::protocol::record::{Record, SpoolRef};
use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use waterclock_core::id::{Checksum, SourceId};
use waterclock_core::source::Cut;
use waterclock_core::storage::Store;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

#[derive(Serialize, Deserialize)]
struct Header {
    source: SourceId,
    cut: Cut,
    /// Of the bytes behind this line.
    checksum: Checksum,
}

/// A cut that was stored.
#[derive(Debug, Clone)]
pub struct SpooledCut {
    /// Whose it is.
    pub source: SourceId,
    /// The cut.
    pub cut: Cut,
    /// What the source gave for it.
    pub bytes: Bytes,
    /// What the record says of it.
    pub reference: SpoolRef,
}

/// Stores a cut.
pub fn write(store: &Store, writer: &Writer, source: &SourceId, cut: &Cut, bytes: &Bytes) -> Result<SpoolRef> {
    let header = Header { source: source.clone(), cut: cut.clone(), checksum: Checksum::of(bytes) };
    let mut object = serde_json::to_vec(&header).or_error(ErrorKind::Internal, || "encoding a cut".into())?;
    object.push(b'\n');
    object.extend_from_slice(bytes);
    let path = paths::spool(writer, source);
    let reference = SpoolRef { path: path.to_string(), bytes: object.len() as u64, checksum: Checksum::of(&object) };
    store.put(&path, Bytes::from(object))?;
    Ok(reference)
}

/// Cuts that no record names, in the order in which they were made. `recent` are the newest records; a cut made for an older number
/// was taken up long ago.
pub fn unnamed(store: &Store, recent: &[Record]) -> Result<Vec<SpooledCut>> {
    let Some(oldest) = recent.first().map(|record| record.seq) else { return Ok(Vec::new()) };
    let batches = recent.iter().filter_map(Record::batch);
    let named: BTreeSet<&str> =
        batches.flat_map(|batch| batch.sources.values()).flat_map(|source| &source.spool).map(|spool| spool.path.as_str()).collect();
    let mut found: Vec<(Writer, Path)> = Vec::new();
    for object in store.list(Some(&paths::spools()))? {
        if let Some(writer) = paths::parse_spool(&object.location)
            && writer.seq >= oldest
            && !named.contains(object.location.as_ref())
        {
            found.push((writer, object.location));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| read(store, &path)).collect()
}

/// Reads a cut back.
///
/// # Errors
/// `Corrupt` if it is missing or damaged.
pub fn read(store: &Store, path: &Path) -> Result<SpooledCut> {
    let damaged = || format!("the stored cut {} is damaged; restore it", store.display(path));
    let object =
        store.get(path)?.ok_or_else(|| Error::corrupt(format!("the stored cut {} is missing; restore it", store.display(path))))?;
    let line = object.iter().position(|&byte| byte == b'\n').ok_or_else(|| Error::corrupt(damaged()))?;
    let header: Header = serde_json::from_slice(&object[..line]).or_error(ErrorKind::Corrupt, damaged)?;
    let bytes = object.slice(line + 1..);
    if Checksum::of(&bytes) != header.checksum {
        return Err(Error::corrupt(damaged()));
    }
    let reference = SpoolRef { path: path.to_string(), bytes: object.len() as u64, checksum: Checksum::of(&object) };
    Ok(SpooledCut { source: header.source, cut: header.cut, bytes, reference })
}
