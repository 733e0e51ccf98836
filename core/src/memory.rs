//! The memory budget of a running batch: bytes that were fetched and not yet decoded, and bytes that were encoded and not yet
//! stored.
//!
//! Work is started while the budget allows it and held back while it does not; a single piece that is larger than the whole
//! budget still runs, alone, because holding it back would hold it back for ever.

use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget in bytes, shared by everything that holds data between two steps of a batch.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    released: (Sender<()>, Receiver<()>),
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0), released: bounded(1) }))
    }

    /// The budget's size in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    /// The most bytes that were ever reserved at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Acquire)
    }

    /// Whether so many more bytes fit. Always true while nothing is reserved.
    pub fn has_room(&self, bytes: usize) -> bool {
        let used = self.used();
        used == 0 || used.saturating_add(bytes) <= self.0.limit
    }

    /// Gets a message after bytes were given back: whoever found no room looks again.
    pub fn released(&self) -> &Receiver<()> {
        &self.0.released.1
    }

    /// Takes bytes out of the budget until the reservation is dropped. It never fails: whoever can wait asks
    /// [`has_room`](Self::has_room) first.
    #[must_use]
    pub fn reserve(&self, bytes: usize) -> Reservation {
        let used = self.0.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.0.peak.fetch_max(used, Ordering::AcqRel);
        Reservation { budget: self.clone(), bytes }
    }
}

/// Bytes taken out of a [`MemoryBudget`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
        // A full channel already holds a message that nobody has read yet.
        let _ = self.budget.0.released.0.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_larger_than_the_budget_runs_alone() {
        let budget = MemoryBudget::new(10);
        assert!(budget.has_room(100));
        let held = budget.reserve(100);
        assert!(!budget.has_room(1));
        drop(held);
        assert_eq!((budget.used(), budget.peak()), (0, 100));
    }
}
