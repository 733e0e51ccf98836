//! A job: a plan with the sources and sinks that it runs on.

use crate::plan::Plan;
use crate::sink::Sink;
use crate::source::Source;
use std::sync::Arc;

/// A job that is ready to run: planned, and not yet opened.
pub struct Job {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The sources, in the order of [`Plan::sources`].
    pub sources: Vec<Box<dyn Source>>,
    /// The static tables, in the order of [`Plan::statics`]: each can be read again, and has an end.
    pub statics: Vec<Box<dyn Source>>,
    /// The sinks, in the order of [`Plan::sinks`].
    pub sinks: Vec<Arc<dyn Sink>>,
    /// Where the bad rows of each source go, in the order of [`Plan::sources`]; none if they fail the batch. Rows have the columns of
    /// [`dead_letter_schema`](crate::source::dead_letter_schema); the sink's name is the source's with `.dead_letter` behind it.
    pub dead_letters: Vec<Option<Arc<dyn Sink>>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("plan", &self.plan).finish_non_exhaustive()
    }
}
