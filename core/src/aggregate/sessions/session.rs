//! A session of one key: how it begins, grows and ends.

use crate::window::Window;
use std::ops::Range;

/// A session of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    /// The time of its earliest row.
    pub(super) first: i64,
    /// The time of its latest row.
    pub(super) last: i64,
    pub(super) slot: u32,
    /// Rows that the batch at hand put into it.
    pub(super) rows: u64,
    /// Whether it was there before the batch at hand, or merged with one that was.
    pub(super) established: bool,
    /// The earliest row under which it was checkpointed.
    pub(super) stored: Option<i64>,
    pub(super) changed: bool,
}

impl Session {
    /// The session of a row that belongs to none.
    pub(super) fn begun(time: i64, slot: u32) -> Self {
        Self { first: time, last: time, slot, rows: 1, established: false, stored: None, changed: true }
    }

    /// A session out of a checkpoint.
    pub(super) fn restored(first: i64, last: i64, slot: u32) -> Self {
        Self { first, last, slot, rows: 0, established: true, stored: Some(first), changed: false }
    }

    /// Takes a row, and the sessions behind it that the row joins to it.
    pub(super) fn extend(&mut self, time: i64, joined: &[Self]) {
        self.rows += 1 + joined.iter().map(|other| other.rows).sum::<u64>();
        self.changed = true;
        self.first = self.first.min(time);
        self.last = joined.iter().map(|other| other.last).chain([time]).fold(self.last, i64::max);
        self.established |= joined.iter().any(|other| other.established);
    }

    /// From its earliest row to a gap behind its latest.
    pub(super) fn window(&self, gap: i64) -> Window {
        Window { start: self.first, end: self.last + gap }
    }

    /// See [`expiry`].
    pub(super) fn expiry(&self, gap: i64) -> i64 {
        expiry(self.last, gap)
    }
}

/// The first watermark that closes a session with this latest row. Its end is still part of it, so that is a microsecond later.
pub(super) fn expiry(last: i64, gap: i64) -> i64 {
    last + gap + 1
}

/// Which of a key's sessions, in the order of time, a row of this time belongs to: it joins them. If there are none, where one begins.
pub(super) fn touched(sessions: &[Session], time: i64, gap: i64) -> Range<usize> {
    let from = sessions.partition_point(|session| session.last + gap < time);
    let to = sessions.partition_point(|session| session.first - gap <= time);
    from..to
}
