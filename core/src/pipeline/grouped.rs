//! GROUP BY from Rust.

use super::Stream;
use crate::error::Result;
use crate::sql::functions::on_batch_time;
use datafusion_expr::Expr;

/// A stream with what it is grouped by. See [`Stream::group_by`].
#[derive(Debug, Clone)]
#[must_use = "a grouping gives rows once it is aggregated"]
pub struct GroupedStream {
    stream: Stream,
    keys: Vec<Expr>,
}

impl Stream {
    /// Groups rows by what these expressions give; at most one of them is a window, such as
    /// [`tumbling`](crate::expressions::tumbling). Without any, all rows are one group.
    ///
    /// Where a sink takes final rows only, something must close the groups: a window over the event time, or the event time itself.
    pub fn group_by(self, keys: impl IntoIterator<Item = Expr>) -> GroupedStream {
        GroupedStream { stream: self, keys: keys.into_iter().map(on_batch_time).collect() }
    }
}

impl GroupedStream {
    /// A row per group: its keys, then these aggregates. Name them by `alias`, or they are called as they are written. Without aggregates
    /// each group is a row as soon as it is there.
    ///
    /// # Errors
    /// `Config` if an expression names an unknown column, or if its types don't fit.
    pub fn aggregate(self, aggregates: impl IntoIterator<Item = Expr>) -> Result<Stream> {
        let aggregates: Vec<Expr> = aggregates.into_iter().map(on_batch_time).collect();
        self.stream.build(|plan| plan.aggregate(self.keys, aggregates))
    }
}
