//! When to cut, and what to do with a cut: pure decisions over plain data.

use super::settings::Trigger;
use std::time::Duration;

/// Decides when batches are cut. Times are those of the clock's [`elapsed`](crate::seams::Clock::elapsed).
#[derive(Debug)]
pub(super) struct Pacer {
    trigger: Trigger,
    drain: bool,
    /// How many batches may still be run.
    left: Option<u64>,
    /// When to cut next.
    next: Duration,
}

/// What a cut showed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Whether there is new input.
    pub input: bool,
    /// Whether more could be cut at once.
    pub more: bool,
    /// Whether an operator wants a batch now.
    pub timer: bool,
}

/// What to do with a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Run a batch.
    Run {
        /// Whether the stream ends with it.
        end_of_stream: bool,
        /// Whether the run ends with it.
        last: bool,
    },
    /// Run none, and look again later.
    Pass,
    /// Run none, and end.
    End,
}

impl Pacer {
    pub fn new(trigger: Trigger, drain: bool, max_batches: Option<u64>) -> Self {
        Self { trigger, drain, left: max_batches, next: Duration::ZERO }
    }

    /// How long to wait before the next cut. `timer` is how long it is until an operator wants a batch.
    pub fn wait(&self, now: Duration, timer: Option<Duration>) -> Duration {
        let tick = self.next.saturating_sub(now);
        timer.map_or(tick, |timer| tick.min(timer))
    }

    /// Judges a cut that was begun at `now`.
    pub fn judge(&mut self, now: Duration, seen: Seen) -> Decision {
        let runs = seen.input || seen.timer;
        match self.trigger {
            Trigger::Interval(interval) => {
                self.next = if seen.input && seen.more { now } else { now + interval };
                if runs { self.run(false, false) } else { Decision::Pass }
            }
            Trigger::Once if runs => self.run(false, true),
            Trigger::UntilCaughtUp if seen.input => self.run(self.drain && !seen.more, !seen.more),
            // There is more to come, and none of it yet.
            Trigger::Once | Trigger::UntilCaughtUp if seen.more => Decision::Pass,
            Trigger::UntilCaughtUp if seen.timer || self.drain => self.run(self.drain, true),
            Trigger::Once | Trigger::UntilCaughtUp => Decision::End,
        }
    }

    fn run(&mut self, end_of_stream: bool, last: bool) -> Decision {
        self.left = self.left.map(|left| left.saturating_sub(1));
        Decision::Run { end_of_stream, last: last || self.left == Some(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(input: bool, more: bool, timer: bool) -> Seen {
        Seen { input, more, timer }
    }

    #[test]
    fn an_interval_counts_from_cut_to_cut_and_overruns_do_not_queue() {
        let mut pacer = Pacer::new(Trigger::Interval(SECOND), false, None);
        assert_eq!(pacer.wait(Duration::ZERO, None), Duration::ZERO);
        assert_eq!(pacer.judge(10 * SECOND, seen(true, false, false)), Decision::Run { end_of_stream: false, last: false });
        assert_eq!(pacer.wait(10 * SECOND + SECOND / 4, None), SECOND * 3 / 4);
        assert_eq!(pacer.wait(15 * SECOND, None), Duration::ZERO, "it ran over");
        assert_eq!(pacer.judge(15 * SECOND, seen(false, false, false)), Decision::Pass);
        assert_eq!(pacer.wait(15 * SECOND, None), SECOND, "one tick, not five");
        assert_eq!(pacer.wait(15 * SECOND, Some(SECOND / 8)), SECOND / 8, "a timer is earlier");
        assert_eq!(pacer.judge(16 * SECOND, seen(true, true, false)), Decision::Run { end_of_stream: false, last: false });
        assert_eq!(pacer.wait(16 * SECOND, None), Duration::ZERO, "catching up");
    }

    #[test]
    fn once_is_one_batch_or_none() {
        let judge = |seen| Pacer::new(Trigger::Once, false, None).judge(SECOND, seen);
        assert_eq!(judge(seen(true, true, false)), Decision::Run { end_of_stream: false, last: true });
        assert_eq!(judge(seen(false, false, true)), Decision::Run { end_of_stream: false, last: true });
        assert_eq!(judge(seen(false, false, false)), Decision::End);
    }

    #[test]
    fn catching_up_ends_with_the_cut_that_keeps_nothing_back() {
        let mut pacer = Pacer::new(Trigger::UntilCaughtUp, false, None);
        assert_eq!(pacer.judge(SECOND, seen(true, true, false)), Decision::Run { end_of_stream: false, last: false });
        assert_eq!(pacer.judge(SECOND, seen(true, false, false)), Decision::Run { end_of_stream: false, last: true });
        assert_eq!(pacer.judge(SECOND, seen(false, false, true)), Decision::Run { end_of_stream: false, last: true });
        assert_eq!(pacer.judge(SECOND, seen(false, false, false)), Decision::End);
    }

    #[test]
    fn draining_always_ends_with_a_batch_of_its_own_or_the_last_one() {
        let mut pacer = Pacer::new(Trigger::UntilCaughtUp, true, None);
        assert_eq!(pacer.judge(SECOND, seen(true, true, false)), Decision::Run { end_of_stream: false, last: false });
        assert_eq!(pacer.judge(SECOND, seen(false, true, false)), Decision::Pass, "the end is not there yet");
        assert_eq!(pacer.judge(SECOND, seen(true, false, false)), Decision::Run { end_of_stream: true, last: true });
        assert_eq!(pacer.judge(SECOND, seen(false, false, false)), Decision::Run { end_of_stream: true, last: true });
    }

    #[test]
    fn the_number_of_batches_is_a_limit() {
        let mut pacer = Pacer::new(Trigger::Interval(SECOND), false, Some(2));
        assert_eq!(pacer.judge(SECOND, seen(false, false, false)), Decision::Pass);
        assert_eq!(pacer.judge(SECOND, seen(true, false, false)), Decision::Run { end_of_stream: false, last: false });
        assert_eq!(pacer.judge(SECOND, seen(true, false, false)), Decision::Run { end_of_stream: false, last: true });
    }
}
