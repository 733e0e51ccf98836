//! Which watermarks a replayed batch has: those that were recorded, or those that the program computes.
//!
//! A delay may have been changed between two runs of a job. A program whose event times are what they were, when the batch was committed or
//! when the job was last opened, changes nothing about them, so the recorded watermarks are taken. With another event time of its own, a program
//! shows what that does.

use crate::protocol::record::{EventTimeRecord, OpenRecord};
use std::collections::BTreeMap;
use waterclock_core::id::SourceId;
use waterclock_core::plan::Plan;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Watermarks {
    program: BTreeMap<SourceId, Option<EventTimeRecord>>,
    newest: BTreeMap<SourceId, Option<EventTimeRecord>>,
}

impl Watermarks {
    /// Of a program, and of the job as it was last opened.
    pub fn new(plan: &Plan, newest: &OpenRecord) -> Self {
        Self { program: EventTimeRecord::of_sources(plan), newest: newest.event_times.clone() }
    }

    /// Whether a source has the watermarks that were recorded by the driver of this opening. What an opening of an earlier version does not
    /// say is taken for unchanged.
    pub fn are_recorded(&self, source: &SourceId, then: &OpenRecord) -> bool {
        let program = self.program.get(source);
        [&then.event_times, &self.newest].into_iter().any(|known| known.get(source).is_none_or(|event_time| Some(event_time) == program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::samples;

    fn opened(delay_us: Option<u64>) -> OpenRecord {
        let event_time = |delay_us| Some(EventTimeRecord { column: "ts".into(), delay_us });
        let event_times = delay_us.map(|delay_us| (SourceId::from("t"), event_time(delay_us))).into_iter().collect();
        OpenRecord { event_times, ..samples::log(1)[0].open().unwrap().clone() }
    }

    #[test]
    fn an_event_time_that_nobody_changed_is_as_it_was_recorded() {
        let watermarks = |program, newest| Watermarks { program: opened(Some(program)).event_times, newest: opened(newest).event_times };
        let recorded = |program, newest, then| watermarks(program, newest).are_recorded(&"t".into(), &opened(then));
        assert!(recorded(1, Some(1), Some(1)));
        assert!(recorded(1, Some(1), Some(2)), "the job was changed after the batch, and the program is that job");
        assert!(recorded(2, Some(1), Some(2)), "the program is the one that wrote the batch");
        assert!(!recorded(3, Some(1), Some(2)));
        assert!(!recorded(2, Some(1), Some(1)));
        assert!(recorded(3, Some(1), None) && recorded(3, None, None), "the record does not tell");
    }
}
