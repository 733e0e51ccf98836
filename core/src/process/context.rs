//! What a function sees beside its row: time, state and timers of the row's key, and a way out.

use super::keys::{Key, KeyRef};
use super::table::{AnyTable, Moment, Stored, Table};
use super::timers::Timers;
use super::{TimeDomain, Timer};
use crate::error::{Error, Result};
use crate::time::{Timestamp, Watermark};
use std::any::Any;
use std::collections::HashMap;

/// How many timers a key may set in one batch, while its timers fire, for times that have come already: far beyond any use, and an end to a
/// function that does so for ever.
const MOST_AT_ONCE: u32 = 100_000;

/// What is remembered of the keys of one task.
pub(super) struct Memory {
    pub(super) tables: Vec<Box<dyn AnyTable>>,
    pub(super) event_timers: Timers,
    pub(super) processing_timers: Timers,
    /// Whether rows have an event time.
    pub(super) has_event_time: bool,
    /// How many timers each key set in this batch, while its timers fired, for a time that had come.
    pub(super) set_at_once: HashMap<Key, u32>,
}

/// What the function of a row or a timer can see and do; all of it is about the key at hand.
pub struct ProcessContext<'a, O> {
    pub(super) memory: &'a mut Memory,
    pub(super) key: KeyRef<'a>,
    pub(super) now: Moment,
    /// The timer that fires; none for a row.
    pub(super) timer: Option<Timer>,
    pub(super) output: &'a mut Vec<O>,
    pub(super) late_rows: &'a mut u64,
}

impl<O> ProcessContext<'_, O> {
    /// Emits a row.
    pub fn emit(&mut self, row: O) {
        self.output.push(row);
    }

    /// The row's event time, or the time of the timer of event time that fires.
    ///
    /// # Errors
    /// `BadData` if the row has none; `Config` if the stream has none, or in a timer of processing time.
    pub fn event_time(&self) -> Result<Timestamp> {
        self.now.event_time.ok_or_else(|| match (self.memory.has_event_time, self.timer) {
            (false, _) => no_event_time(),
            (true, None) => Error::bad_data("a row has no event time"),
            (true, Some(_)) => Error::config("a timer of processing time has no event time; look at the watermark"),
        })
    }

    /// Rows before this time are not expected any more: as it was before this batch for rows, as it is behind it for timers.
    pub fn watermark(&self) -> Watermark {
        self.now.watermark
    }

    /// When the batch was triggered: the processing time.
    pub fn trigger_time(&self) -> Timestamp {
        self.now.trigger_time
    }

    /// Whether the row comes behind the watermark, so that another cut of the input might have shown it earlier.
    pub fn is_late(&self) -> bool {
        self.timer.is_none() && self.now.event_time.is_some_and(|time| Watermark::At(time) < self.now.watermark)
    }

    /// Counts the row as late: for functions that leave such rows out.
    pub fn count_late(&mut self) {
        *self.late_rows += 1;
    }

    /// Sets a timer. One whose time has come fires behind the rows of this batch; one that a timer of processing time sets for a processing
    /// time that has come fires with the next batch.
    ///
    /// # Errors
    /// `Config` for a timer of event time where the stream has none, and for a function whose timers set timers for ever: at the end of the
    /// stream, where all fire, see whether [`watermark`](Self::watermark) is [`Watermark::End`].
    pub fn set_timer(&mut self, timer: Timer) -> Result<()> {
        if timer.domain == TimeDomain::EventTime {
            if !self.memory.has_event_time {
                return Err(no_event_time());
            }
            if self.timer.is_some() && Watermark::At(timer.time) <= self.now.watermark {
                self.count_at_once(timer)?;
            }
        }
        let key = self.key.into();
        self.timers(timer.domain).set(timer.time.0, key);
        Ok(())
    }

    fn count_at_once(&mut self, timer: Timer) -> Result<()> {
        let set = self.memory.set_at_once.entry(self.key.into()).or_default();
        *set += 1;
        if *set <= MOST_AT_ONCE {
            return Ok(());
        }
        Err(Error::config(format!(
            "the timers of a key have set {MOST_AT_ONCE} timers for times that have come, the last for {}: it seems that they never end; set none behind \
             the end of the stream, where the watermark is Watermark::End",
            timer.time
        )))
    }

    /// Deletes a timer, if there is such a one.
    pub fn delete_timer(&mut self, timer: Timer) {
        let key = self.key.into();
        self.timers(timer.domain).delete(timer.time.0, key);
    }

    fn timers(&mut self, domain: TimeDomain) -> &mut Timers {
        match domain {
            TimeDomain::EventTime => &mut self.memory.event_timers,
            TimeDomain::ProcessingTime => &mut self.memory.processing_timers,
        }
    }

    pub(super) fn table<P: Stored + Ord + Clone, T: Stored>(&self, index: usize) -> (&Table<P, T>, KeyRef<'_>, &Moment) {
        let table = self.memory.tables.get(index).and_then(|table| (table.as_ref() as &dyn Any).downcast_ref());
        (table.unwrap_or_else(foreign), self.key, &self.now)
    }

    pub(super) fn table_mut<P: Stored + Ord + Clone, T: Stored>(&mut self, index: usize) -> (&mut Table<P, T>, KeyRef<'_>, &Moment) {
        let table = self.memory.tables.get_mut(index).and_then(|table| (table.as_mut() as &mut dyn Any).downcast_mut());
        (table.unwrap_or_else(foreign), self.key, &self.now)
    }
}

fn no_event_time() -> Error {
    Error::config("the stream has no event time; say which column it is by Stream::watermark, and keep that column up to key_by")
}

/// A handle is made for one function and can't be forged, so this is a mistake in the program that no result could mend.
fn foreign<T>() -> T {
    panic!("a state is used by another function than the one that it was declared for")
}
