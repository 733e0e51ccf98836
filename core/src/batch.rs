//! What is fixed for all of a batch before it runs.

use crate::id::BatchId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A batch's number and its clock. Everything that a job computes is a function of this, the cut and the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchContext {
    /// The batch's number.
    pub batch: BatchId,
    /// When the batch was triggered: the value of `now()` and `proc_time()` in all its rows. Never earlier than that of the batch
    /// before.
    pub trigger_time: Timestamp,
}
