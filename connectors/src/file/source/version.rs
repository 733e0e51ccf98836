//! Which version of a file was cut, and which part of it: what a commit record says, so that the very same rows can be read again.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use waterclock_core::time::Timestamp;

/// A file as a listing saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileVersion {
    /// Relative to the source's location.
    pub(super) path: Arc<str>,
    /// Bytes as stored.
    pub(super) size: u64,
    /// When it was last modified.
    pub(super) mtime: Timestamp,
    /// The store's mark of this version; local files have none, for an inode number does not survive a copy or a remount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

impl FileVersion {
    /// Whether both are the same version of a file.
    pub(super) fn is_same(&self, other: &FileVersion) -> bool {
        let marked = match (&self.etag, &other.etag) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.mtime == other.mtime,
        };
        self.path == other.path && self.size == other.size && marked
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Range {
    /// All of it.
    Whole,
    /// `[start, end)` in bytes: the lines or records that begin there.
    Bytes(u64, u64),
    /// `[start, end)` in rows, from 0.
    Rows(u64, u64),
}

impl Range {
    /// Where it begins, in its unit.
    pub(super) fn start(self) -> u64 {
        match self {
            Range::Whole => 0,
            Range::Bytes(start, _) | Range::Rows(start, _) => start,
        }
    }

    /// The end behind which nothing belongs to it.
    pub(super) fn end(self) -> u64 {
        match self {
            Range::Whole => u64::MAX,
            Range::Bytes(_, end) | Range::Rows(_, end) => end,
        }
    }
}

fn is_whole(range: &Range) -> bool {
    *range == Range::Whole
}

fn whole() -> Range {
    Range::Whole
}

/// A part of a version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    #[serde(flatten)]
    pub(super) file: FileVersion,
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub(super) range: Range,
}

/// The detail of a cut: its pieces, in the order of their rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CutDetail {
    pub(super) files: Vec<Piece>,
}
