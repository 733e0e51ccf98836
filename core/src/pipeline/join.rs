//! Joins: which side is the stream, and which joins can be run.

use super::Stream;
use super::config_error;
use super::statics::Reads;
use crate::error::Result;
use crate::sql::functions::on_batch_time;
use crate::sql::syntax::refusal;
use datafusion_expr::{Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder};

/// Which rows a join gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs of rows that fit together.
    Inner,
    /// The same, and each row of the left side that fits to none, with nulls beside it.
    Left,
}

/// Where the sides of a join with static rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sides {
    /// Whether the side that is looked up row by row, the stream, is the left one.
    pub(super) stream_is_left: bool,
    /// Whether its rows without a partner are kept.
    pub(super) keeps_stream: bool,
}

impl Sides {
    /// Of two static sides, the one whose rows are kept takes the stream's place.
    ///
    /// # Errors
    /// `Config` for a join that can't be run on a stream.
    pub(super) fn of(join: &Join) -> Result<Self> {
        let (left, right) = (Reads::of(&join.left)?, Reads::of(&join.right)?);
        if left.min(right) == Reads::Nothing {
            return Err(refusal("a join with rows of no table", "UNNEST can be joined with CROSS JOIN, or LEFT JOIN ... ON true"));
        }
        let (left, right) = (left == Reads::Statics, right == Reads::Statics);
        if !left && !right {
            return Err(refusal(
                "a join of two streams",
                "one side can be a static table (CREATE EXTERNAL TABLE without UNBOUNDED), which is read when the job starts, and UNNEST of \
                 a list of the same row can be joined",
            ));
        }
        match join.join_type {
            JoinType::Inner => Ok(Self { stream_is_left: right, keeps_stream: false }),
            JoinType::Left if right => Ok(Self { stream_is_left: true, keeps_stream: true }),
            JoinType::Right if left => Ok(Self { stream_is_left: false, keeps_stream: true }),
            JoinType::Left | JoinType::Right | JoinType::Full => Err(refusal(
                &format!("a {} JOIN that keeps the rows of a static table", join.join_type.to_string().to_uppercase()),
                "that a row of it fits to no row of the stream is only known when the stream has ended; keep the stream's rows (LEFT JOIN \
                 with the stream on the left), or write INNER JOIN",
            )),
            other => Err(refusal(&format!("a {other} JOIN"), "write INNER JOIN or LEFT JOIN")),
        }
    }

    /// The side of the stream, then the static side.
    pub(super) fn split<T>(self, left: T, right: T) -> (T, T) {
        if self.stream_is_left { (left, right) } else { (right, left) }
    }
}

impl Stream {
    /// Joins a stream with a [static table](super::Pipeline::static_table), or what was made of one: rows for which the two expressions of
    /// each pair are equal, the first over this side, the second over the other. Null equals nothing. Either side of an inner join can be
    /// the static one.
    ///
    /// # Errors
    /// `Config` if an expression names an unknown column, if types can't be compared, or if both sides are streams.
    pub fn join(self, other: Stream, kind: JoinKind, on: Vec<(Expr, Expr)>) -> Result<Self> {
        let (left, right) = on.into_iter().map(|(left, right)| (on_batch_time(left), on_batch_time(right))).unzip();
        let kind = match kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::Left => JoinType::Left,
        };
        let joined = LogicalPlanBuilder::from(self.into_plan())
            .join_with_expr_keys(other.into_plan(), kind, (left, right), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(config_error)?;
        if let LogicalPlan::Join(join) = &joined {
            Sides::of(join)?;
        }
        Ok(Self::of(joined))
    }
}
