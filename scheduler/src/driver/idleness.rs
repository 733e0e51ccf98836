//! Whether a source is idle: so long without rows that it no longer holds back what flows together with it.
//!
//! Pure decisions over trigger times, so that a replay and a restart find the same.

use std::time::Duration;
use waterclock_core::time::Timestamp;

/// How long a source has been without rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Idleness {
    /// After how long it is idle; none is never.
    timeout: Option<Duration>,
    /// The trigger time of the newest batch that read rows of it; of the first batch if none did. None before the first batch.
    pub active: Option<Timestamp>,
    /// Whether it is idle.
    pub idle: bool,
}

impl Idleness {
    pub fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, active: None, idle: false }
    }

    /// A batch is triggered, with rows of the source or without.
    #[must_use]
    pub fn after(self, trigger_time: Timestamp, has_rows: bool) -> Self {
        let active = self.active.filter(|_| !has_rows).unwrap_or(trigger_time);
        Self { active: Some(active), idle: self.ends(active).is_some_and(|end| end <= trigger_time), ..self }
    }

    /// When it will be idle, if no rows come; none if it is, or never will be.
    pub fn due(self) -> Option<Timestamp> {
        self.ends(self.active?).filter(|_| !self.idle)
    }

    fn ends(self, active: Timestamp) -> Option<Timestamp> {
        let timeout = i64::try_from(self.timeout?.as_micros()).unwrap_or(i64::MAX);
        // A timeout of nothing would make a source idle that has just had rows.
        Some(Timestamp(active.0.saturating_add(timeout.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_micros(10);

    #[test]
    fn a_source_is_idle_once_its_timeout_has_passed_without_rows() {
        let before = Idleness::new(Some(TIMEOUT));
        assert_eq!((before.due(), before.idle), (None, false), "nothing is known before the first batch");
        let first = before.after(Timestamp(100), false);
        assert_eq!((first.due(), first.idle), (Some(Timestamp(110)), false));
        let read = first.after(Timestamp(105), true);
        assert_eq!((read.due(), read.idle), (Some(Timestamp(115)), false));
        assert!(!read.after(Timestamp(114), false).idle);
        let idle = read.after(Timestamp(115), false);
        assert_eq!((idle.due(), idle.idle), (None, true), "it is not due twice");
        assert!(idle.after(Timestamp(116), false).idle);
        assert!(!idle.after(Timestamp(500), true).idle, "rows wake it");
    }

    #[test]
    fn without_a_timeout_a_source_is_never_idle() {
        let source = Idleness::new(None).after(Timestamp(0), true).after(Timestamp(i64::MAX), false);
        assert_eq!((source.due(), source.idle), (None, false));
    }
}
