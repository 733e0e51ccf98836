//! What the driver takes from the machine: time, random words, a thread to merge on, and the wish to stop. Injected, so that a run can
//! be repeated.

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use waterclock_core::id::Nonce;
use waterclock_core::time::Timestamp;

/// Time, and waiting for it.
pub trait Clock: Send + Sync {
    /// The time of day. It may go back; trigger times do not.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, for durations.
    fn elapsed(&self) -> Duration;

    /// Waits, but not beyond a stop. Returns whether the run is to stop.
    fn wait(&self, stop: &Stop, time: Duration) -> bool;
}

/// Random words.
pub trait Nonces: Send + Sync {
    /// A word that nobody else has: lower-case letters and digits.
    fn fresh(&self) -> Nonce;
}

/// How stored layers of state are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merging {
    /// Merges of at least so many bytes are done beside the batches, smaller ones by the commit that makes them due.
    pub beside_from: u64,
    /// Whether a thread of its own does those beside the batches; else the committer does, behind a batch, so that the order of storage
    /// operations does not depend on time.
    pub on_a_thread: bool,
    /// How many keys those beside the batches have in memory, more or less, where local files can be read again at little cost.
    pub keys_at_once: u64,
}

impl Default for Merging {
    /// A commit merges what takes it a few milliseconds; keys take a few dozen MiB.
    fn default() -> Self {
        Self { beside_from: 1 << 20, on_a_thread: true, keys_at_once: 2_500_000 }
    }
}

/// What the driver takes from the machine.
#[derive(Clone)]
pub struct Seams {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random words.
    pub nonces: Arc<dyn Nonces>,
    /// What is done beside the batches.
    pub merging: Merging,
    /// How many batches that have run may be staged, committed and published at once. With one, the order of these steps' storage
    /// operations does not depend on time.
    pub in_flight: NonZeroUsize,
}

/// One is published, one is committed, one is staged.
const IN_FLIGHT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

impl Seams {
    /// The machine's own clock and random numbers.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock { start: Instant::now() }),
            nonces: Arc::new(RandomNonces),
            merging: Merging::default(),
            in_flight: IN_FLIGHT,
        }
    }
}

struct SystemClock {
    start: Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the driver's clock, from which everything else takes the time")]
        Timestamp(chrono::Utc::now().timestamp_micros())
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait(&self, stop: &Stop, time: Duration) -> bool {
        stop.wait(time)
    }
}

struct RandomNonces;

impl Nonces for RandomNonces {
    fn fresh(&self) -> Nonce {
        Nonce::from(format!("{:016x}", rand::random::<u64>()))
    }
}

/// The wish to stop a run, from another thread. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Dropped to stop: that wakes everybody who waits, now and later.
    alive: Arc<Mutex<Option<Sender<()>>>>,
    stopped: Receiver<()>,
}

impl Default for Stop {
    fn default() -> Self {
        let (alive, stopped) = bounded(0);
        Self { alive: Arc::new(Mutex::new(Some(alive))), stopped }
    }
}

impl Stop {
    /// A wish that is not yet made.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run after the batch at hand.
    pub fn stop(&self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the run is to stop.
    pub fn is_stopped(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits, but not beyond a stop. Returns whether the run is to stop.
    pub fn wait(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_wakes_who_waits_and_stays() {
        let stop = Stop::new();
        assert!(!stop.is_stopped());
        let waiting = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait(Duration::from_secs(600))
        });
        stop.stop();
        assert!(waiting.join().unwrap());
        assert!(stop.is_stopped());
    }
}
