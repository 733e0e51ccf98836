//! How much of the waiting files a cut takes: a pure decision over listings, limits and what was measured inside a file.

use super::seen::{Progress, SeenSet};
use super::version::{FileVersion, Piece, Range};
use waterclock_core::Result;
use waterclock_core::source::CutLimits;

/// Looks inside a file. Only asked where a limit could end within the file.
pub(super) trait Measure {
    /// The part of the file that begins at `from` and is within these limits, at least one row or byte; and how many rows it
    /// has, if a limit of rows was given.
    fn part(&self, file: &FileVersion, from: Progress, bytes: Option<u64>, rows: Option<u64>) -> Result<Part>;
}

/// What a [`Measure`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) range: Range,
    /// Whether the range ends the file.
    pub(super) ends: bool,
    pub(super) rows: u64,
}

/// What a cut takes.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) pieces: Vec<Piece>,
    /// How far each file was read with it.
    pub(super) progress: Vec<(FileVersion, Progress)>,
    /// Whether a limit held something back.
    pub(super) more: bool,
    /// How many files wait behind it, with one that was read in part.
    pub(super) waiting: u64,
}

/// Files that were never seen, oldest first. Files with one modification time are ordered by path.
pub(super) fn unseen(mut listing: Vec<FileVersion>, seen: &SeenSet) -> Vec<FileVersion> {
    listing.retain(|file| seen.version(&file.path).is_none());
    listing.sort_by(|a, b| (a.mtime, &a.path).cmp(&(b.mtime, &b.path)));
    listing
}

/// What is left of a batch's limits.
struct Room {
    files: Option<u64>,
    bytes: Option<u64>,
    rows: Option<u64>,
}

impl Room {
    fn is_used_up(&self) -> bool {
        self.bytes == Some(0) || self.rows == Some(0)
    }
}

/// Takes files in order, and of the last one a part if it is larger than a whole batch may be.
pub(super) fn take(seen: &SeenSet, unseen: &[FileVersion], limits: &CutLimits, measure: &dyn Measure) -> Result<Taken> {
    let mut room = Room { files: limits.max_files, bytes: limits.max_bytes, rows: limits.max_rows };
    let mut taken = Taken::default();
    let begun = seen.partial().map(|(file, progress)| (file, progress, false));
    let fresh = unseen.iter().map(|file| (file, Progress::Byte(0), true));
    let total = unseen.len() as u64 + u64::from(begun.is_some());
    let mut ended = 0;
    for (file, from, is_new) in begun.into_iter().chain(fresh) {
        let first = taken.pieces.is_empty();
        if !first && (room.is_used_up() || (is_new && room.files == Some(0))) {
            break;
        }
        let Some(part) = next_part(file, from, first, &room, measure)? else { break };
        if is_new {
            room.files = room.files.map(|files| files.saturating_sub(1));
        }
        room.bytes = room.bytes.map(|bytes| bytes.saturating_sub(size_of(file, from, part)));
        room.rows = room.rows.map(|rows| rows.saturating_sub(part.rows));
        let progress = if part.ends { Progress::Done } else { Progress::behind(part.range) };
        taken.progress.push((file.clone(), progress));
        taken.pieces.push(Piece { file: file.clone(), range: part.range });
        if !part.ends {
            break;
        }
        ended += 1;
    }
    taken.waiting = total - ended;
    taken.more = taken.waiting > 0;
    Ok(taken)
}

/// The part of a file that still fits; none if less room is left than the file needs and a batch of its own has more.
fn next_part(file: &FileVersion, from: Progress, first: bool, room: &Room, measure: &dyn Measure) -> Result<Option<Part>> {
    let rest = match from {
        Progress::Byte(byte) => file.size.saturating_sub(byte),
        _ => file.size,
    };
    let bytes = room.bytes.filter(|&bytes| rest > bytes);
    if bytes.is_none() && room.rows.is_none() {
        return Ok(Some(Part { range: rest_of(file, from), ends: true, rows: 0 }));
    }
    if bytes.is_some() && !first {
        return Ok(None);
    }
    measure.part(file, from, bytes, room.rows).map(Some)
}

/// All of a file from a position on.
pub(super) fn rest_of(file: &FileVersion, from: Progress) -> Range {
    match from {
        Progress::Byte(0) | Progress::Row(0) => Range::Whole,
        Progress::Byte(byte) => Range::Bytes(byte, file.size),
        Progress::Row(row) => Range::Rows(row, u64::MAX),
        Progress::Done => Range::Rows(u64::MAX, u64::MAX),
    }
}

/// The stored bytes that a part counts for.
fn size_of(file: &FileVersion, from: Progress, part: Part) -> u64 {
    match (from, part.range) {
        (_, Range::Bytes(start, end)) => end - start,
        (Progress::Byte(start), Range::Whole) => file.size - start,
        _ => file.size,
    }
}
