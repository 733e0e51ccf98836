//! Event time from Rust: which column of a source it is, and how late rows may come.
//!
//! It is the source's, as its columns are: whoever reads the source, by SQL or as a stream made before, sees the same event time.

use super::Stream;
use crate::error::{Error, Result};
use crate::source::EventTime;
use crate::sql::language::StreamTable;
use datafusion_expr::LogicalPlan;
use std::time::Duration;

impl Stream {
    /// Says which column of a source is its event time, and how far the watermark stays behind the latest one: rows that come later than
    /// that may be dropped. For a stream as a source gives it, before any other step; said once, it holds for all that read the source.
    ///
    /// # Errors
    /// `Config` if this is not a source's own stream, if there is no such column or it is no TIMESTAMP, or if another event time
    /// was said before.
    pub fn watermark(self, column: &str, delay: Duration) -> Result<Self> {
        self.event_time(EventTime { column: column.to_owned(), delay, idle_timeout: None })
    }

    /// As [`watermark`](Self::watermark), with all that can be said of an event time.
    ///
    /// # Errors
    /// The same.
    pub fn event_time(self, event_time: EventTime) -> Result<Self> {
        let table = match self.plan() {
            LogicalPlan::TableScan(scan) => scan.source.downcast_ref::<StreamTable>(),
            _ => None,
        };
        let table = table.ok_or_else(|| {
            Error::config(format!(
                "the event time '{}' is said of a source: call watermark on the stream that the source gives, before any other step; static \
                 tables have none",
                event_time.column
            ))
        })?;
        event_time.check(&table.schema).map_err(|error| error.within(format!("source '{}'", table.name)))?;
        let said = table.event_time.get_or_init(|| event_time.clone());
        if *said != event_time {
            return Err(Error::config(format!(
                "source '{}' has the event time '{}' with a watermark {:?} behind it; it can have no other, for all that read it",
                table.name, said.column, said.delay
            )));
        }
        Ok(self)
    }
}
