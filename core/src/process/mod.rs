//! Keyed process functions: code of one's own with state and timers, behind the same traits as every other operator.
//!
//! What flows in: rows of a stream that is [keyed](crate::pipeline::Stream::key_by), and watermarks. What flows out: rows of a type of
//! one's own. Spark knows this as `transformWithState`, Flink as `KeyedProcessFunction`.
//!
//! - **Order.** Rows of a key come in the order of the input. Behind a batch's rows the watermark moves on, and timers that are due fire:
//!   first those of processing time, then those of event time, each in the order of time, then key. Nothing depends on the number of
//!   threads.
//! - **Event time.** [`ProcessContext::event_time`] is the row's own, or the timer's. A timer for a time `t` fires once the watermark has
//!   reached `t`: rows before `t` are not expected any more. `--drain` ends the stream, and fires all that are left. What comes out may have
//!   an event time of its own ([`ProcessFunction::EVENT_TIME`]), of which the watermark is that of the rows that came in.
//! - **Processing time** is the batch's trigger time, the same for all its rows, recorded, and repeated when the batch is run again. A
//!   timer that is due gets a batch without rows if no rows come. `--drain` does not wait for timers of processing time.
//! - **State** is a [`ValueState`], [`ListState`] or [`MapState`] per key, declared by name. Each is a table of the checkpoint, with the
//!   key's columns first: a column of Arrow's type where the type can be told from the Rust type (numbers, texts, lists, structs), else
//!   JSON text, which can hold no NaN and no infinity: such a value fails the batch. A checkpoint holds what the batch changed.
//! - **Time to live.** A state with a [`Ttl`] forgets entries that were not written for so long. By event time an entry that was written at
//!   `w` is not there for rows and timers at or behind `w + ttl`, however the input is cut, and goes once the watermark has passed that. By
//!   processing time it is the batch's trigger time that counts.
//! - **What is atomic**: nothing here. A failure fails the batch; state, timers and output are those of the last commit.
//!
//! [`operator`] drives a function; [`context`] is what it sees. [`states`] are its handles on [`table`]s and [`timers`], by [`keys`] and in
//! columns of a [`codec`] ([`finite`]: what JSON can't hold). A table has [`entries`] for each key, and keeps [`tracked`] which of them
//! changed. [`fields`] tells which columns a function reads.

mod codec;
mod context;
mod entries;
mod fields;
mod finite;
mod keys;
mod operator;
mod states;
mod table;
mod timers;
mod tracked;

pub use context::ProcessContext;
pub use states::{ListState, MapState, States, ValueState};
pub use table::Stored;

pub(crate) use operator::{Bind, Layout, Process};

use crate::error::Result;
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::Duration;

/// What is done with the rows and timers of each key. One value serves all keys, from several threads at once: what it must remember it
/// keeps in states, which it gets from [`States`] when it is made.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use waterclock_core::Result;
/// use waterclock_core::process::{ProcessContext, ProcessFunction, States, Timer, ValueState};
///
/// #[derive(Deserialize)]
/// struct Click {
///     page: String,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Visited {
///     user: i64,
///     pages: u64,
/// }
///
/// /// How many clicks each user made until there was a minute without one.
/// struct Visits {
///     pages: ValueState<u64>,
///     end: ValueState<i64>,
/// }
///
/// impl Visits {
///     fn new(states: &mut States) -> Self {
///         Self { pages: states.value("pages"), end: states.value("end") }
///     }
/// }
///
/// impl ProcessFunction for Visits {
///     type Key = i64;
///     type Input = Click;
///     type Output = Visited;
///
///     fn process(&self, _user: &i64, _click: Click, context: &mut ProcessContext<'_, Visited>) -> Result<()> {
///         let pages = self.pages.get(context).copied().unwrap_or(0);
///         self.pages.set(context, pages + 1)?;
///         let end = context.event_time()?.0 + 60_000_000;
///         if let Some(earlier) = self.end.get(context).copied().filter(|earlier| *earlier < end) {
///             context.delete_timer(Timer::event_time(earlier));
///         }
///         self.end.set(context, end)?;
///         context.set_timer(Timer::event_time(end))
///     }
///
///     fn on_timer(&self, user: &i64, _timer: Timer, context: &mut ProcessContext<'_, Visited>) -> Result<()> {
///         let pages = self.pages.get(context).copied().unwrap_or(0);
///         context.emit(Visited { user: *user, pages });
///         self.pages.clear(context);
///         self.end.clear(context);
///         Ok(())
///     }
/// }
/// ```
pub trait ProcessFunction: Send + Sync + 'static {
    /// The key: the type of its column, or for several columns a tuple in their order, or a struct with their names.
    type Key: DeserializeOwned;
    /// A row that comes in. Columns and fields are matched by name, other columns are passed over, and of a struct not even read from the
    /// source; a column that can be null is an `Option`. A TIMESTAMP is read as microseconds into an `i64`, or as a time of the crate `chrono`.
    type Input: DeserializeOwned;
    /// A row that goes out.
    type Output: Serialize;

    /// Which column of the rows that go out is their event time; none if they have none. It is a TIMESTAMP, and the rows that come in have an
    /// event time.
    ///
    /// The time of the row, or of the timer, at hand is in time for whatever stands behind the function, unless the row was late itself, or the
    /// timer was set for a time that the watermark had passed before the batch. A row with an earlier time may be late there.
    const EVENT_TIME: Option<&'static str> = None;

    /// Takes a row.
    ///
    /// # Errors
    /// Any error fails the batch.
    fn process(&self, key: &Self::Key, row: Self::Input, context: &mut ProcessContext<'_, Self::Output>) -> Result<()>;

    /// A timer of this key is due. It is gone: set it again if it is wanted again.
    ///
    /// # Errors
    /// Any error fails the batch.
    fn on_timer(&self, key: &Self::Key, timer: Timer, context: &mut ProcessContext<'_, Self::Output>) -> Result<()> {
        let _ = (key, timer, context);
        Ok(())
    }
}

/// By which clock something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// The times of the rows, and the watermark behind them.
    EventTime,
    /// The trigger times of the batches.
    ProcessingTime,
}

impl fmt::Display for TimeDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventTime => "event time",
            Self::ProcessingTime => "processing time",
        })
    }
}

/// A timer of a key. There is one for a time and a clock: setting it twice is setting it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// By which clock it fires.
    pub domain: TimeDomain,
    /// When.
    pub time: Timestamp,
}

impl Timer {
    /// Fires when the watermark reaches a time, in microseconds.
    pub fn event_time(micros: i64) -> Self {
        Self { domain: TimeDomain::EventTime, time: Timestamp(micros) }
    }

    /// Fires in the first batch that is triggered at a time, in microseconds, or behind it.
    pub fn processing_time(micros: i64) -> Self {
        Self { domain: TimeDomain::ProcessingTime, time: Timestamp(micros) }
    }
}

/// How long an entry of a state lives after it was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    pub(crate) domain: TimeDomain,
    pub(crate) micros: i64,
}

impl Ttl {
    /// By event time: the same results however the input is cut, for rows that are not late. The choice for results.
    pub fn event_time(length: Duration) -> Self {
        Self::of(TimeDomain::EventTime, length)
    }

    /// By processing time: bounds the state also where event time stands still. The choice for caches.
    pub fn processing_time(length: Duration) -> Self {
        Self::of(TimeDomain::ProcessingTime, length)
    }

    fn of(domain: TimeDomain, length: Duration) -> Self {
        Self { domain, micros: i64::try_from(length.as_micros()).unwrap_or(i64::MAX) }
    }
}
