//! Text that has arrived and is in no cut yet.

use crate::file::source::Layout;
use crate::file::source::text::records::{Boundaries, Record};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use waterclock_core::source::CutLimits;

/// See the [module](self).
pub(super) struct Pending {
    pub(super) text: BytesMut,
    /// Whether nothing more will arrive.
    pub(super) ended: bool,
    /// Whether the first record names the columns.
    pub(super) header: bool,
    /// The position of the first byte.
    base: u64,
    boundaries: Boundaries,
    /// Up to where whole records were found.
    whole: usize,
    /// Where they end, as positions.
    ends: VecDeque<u64>,
    found: Vec<Record>,
}

impl Pending {
    /// No text yet; the first will stand at this position.
    pub(super) fn new(layout: &Layout, base: u64) -> Self {
        Self {
            text: BytesMut::new(),
            ended: false,
            header: layout.has_header(),
            base,
            boundaries: Boundaries::new(layout),
            whole: 0,
            ends: VecDeque::new(),
            found: Vec::new(),
        }
    }

    /// Looks for records in what has arrived since the last time.
    pub(super) fn search(&mut self) {
        self.found.clear();
        self.whole = self.boundaries.find(&self.text, self.whole, self.base, self.ended, &mut self.found);
        self.ends.extend(self.found.iter().map(|record| record.end));
    }

    /// Whether there is a whole row. At the end of the input, a header alone is taken for one, so that it is checked.
    pub(super) fn has_rows(&self) -> bool {
        self.ends.len() > usize::from(self.header && !self.ended)
    }

    /// Takes whole records within limits, at least one row, if there is one. Blank lines alone are none, until there are `blank`
    /// bytes of them.
    pub(super) fn take(&mut self, limits: &CutLimits, blank: usize) -> Option<Bytes> {
        if !self.has_rows() && (self.header || self.whole < blank) {
            return None;
        }
        let header = usize::from(self.header);
        let last_byte = self.base.saturating_add(limits.max_bytes.unwrap_or(u64::MAX));
        let most_rows = limits.max_rows.map_or(usize::MAX, |rows| usize::try_from(rows).unwrap_or(usize::MAX));
        let within = self.ends.partition_point(|&end| end <= last_byte).max(header + 1).min(most_rows.saturating_add(header));
        let length = match self.ends.get(within) {
            Some(_) => (self.ends[within - 1] - self.base) as usize,
            None => self.whole,
        };
        self.ends.drain(..within.min(self.ends.len()));
        self.whole -= length;
        self.base += length as u64;
        self.header = false;
        self.boundaries.shift(length);
        Some(self.text.split_to(length).freeze())
    }
}
