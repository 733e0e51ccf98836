//! How a job is driven.

use crate::exec::ExecutorSettings;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::time::Duration;
use waterclock_core::id::{BatchId, Epoch};

/// When a batch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// At a fixed interval, and at once while a limit keeps something back. Without end.
    Interval(Duration),
    /// Once, within the limits.
    Once,
    /// At once, until everything is read that was there at the start.
    UntilCaughtUp,
}

/// How a job is driven.
#[derive(Debug, Clone)]
pub struct DriverSettings {
    /// When a batch is cut.
    pub trigger: Trigger,
    /// Whether the stream ends with this run: the last batch takes every watermark to its end, and none follows. Implies
    /// [`Trigger::UntilCaughtUp`].
    pub drain: bool,
    /// After how many batches the run ends; none is no limit.
    pub max_batches: Option<NonZeroU64>,
    /// Of how many of the newest batches the state is kept; what only older ones need is removed.
    pub retain: NonZeroU64,
    /// Workers and memory.
    pub executor: ExecutorSettings,
    /// The resolved configuration, for the record: without credentials.
    pub configuration: serde_json::Value,
}

impl DriverSettings {
    pub(super) fn trigger(&self) -> Trigger {
        if self.drain { Trigger::UntilCaughtUp } else { self.trigger }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The run's epoch.
    pub epoch: Epoch,
    /// Batches committed and published by this run.
    pub batches: u64,
    /// Rows read by this run, without bad ones.
    pub rows_in: u64,
    /// Rows written by this run.
    pub rows_out: u64,
    /// The newest batch in the log.
    pub last: Option<BatchId>,
    /// Whether the stream has ended.
    pub drained: bool,
}
