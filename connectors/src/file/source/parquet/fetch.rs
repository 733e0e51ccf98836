//! Fetching of a large remote file the column chunks that a split reads.

use super::super::Shared;
use super::super::directory::RemoteFile;
use super::super::version;
use super::input::Input;
use super::reading;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use std::ops::Range;
use std::sync::Arc;
use waterclock_core::Result;

/// Fetches what a split reads of a large remote file.
pub(in crate::file::source) async fn fetch(
    shared: &Shared,
    file: &RemoteFile,
    size: u64,
    name: &Arc<str>,
    metadata: &ArrowReaderMetadata,
    range: version::Range,
) -> Result<Input> {
    let reading = reading::plan(shared, name, metadata, range)?;
    let mut wanted = Vec::new();
    for (run, group) in reading.runs.iter().flat_map(|run| run.groups.iter().map(move |group| (run, group))) {
        for (index, column) in metadata.metadata().row_group(*group).columns().iter().enumerate() {
            if reading.columns(run).mask.leaf_included(index) {
                let (start, length) = column.byte_range();
                wanted.push(start..(start + length).min(size));
            }
        }
    }
    wanted.sort_by_key(|range| range.start);
    let mut pieces = Vec::new();
    for range in coalesced(wanted) {
        pieces.push((range.start, file.range(range).await?));
    }
    Ok(Input::Pieces(pieces, size))
}

/// Ranges that lie close together as one: a request costs more than the bytes between them.
fn coalesced(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    const GAP: u64 = 256 << 10;
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
