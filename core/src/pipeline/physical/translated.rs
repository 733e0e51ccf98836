//! What the planner knows of the rows of a logical node: where they stand in the plan, what they say of time, and what they mean.

use super::super::times::Times;
use crate::error::{Error, Result};
use crate::plan::{NodeId, Upstream, readable};
use datafusion_common::Column;
use datafusion_expr::Expr;

/// A logical node's rows: where they come from, and at which position of that output each logical column stands.
pub(in crate::pipeline) struct Translated {
    pub(in crate::pipeline) upstream: Upstream,
    pub(in crate::pipeline) columns: Vec<usize>,
    /// What each logical column says of time.
    pub(in crate::pipeline) times: Times,
    pub(in crate::pipeline) kind: StreamKind,
}

/// What rows of a stream mean for the rows before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) enum StreamKind {
    /// Each is final.
    AppendOnly,
    /// Each replaces the one with the same key before it. For each logical column, whether it is of the key.
    Upsert(Vec<bool>),
    /// Those of a batch replace all before them.
    Complete,
}

impl StreamKind {
    /// The same for so many columns that don't tell which row they are of.
    pub(super) fn without_key(&self, width: usize) -> Self {
        match self {
            Self::Upsert(_) => Self::Upsert(vec![false; width]),
            other => other.clone(),
        }
    }
}

/// All columns of a node, as they are, without event time.
pub(in crate::pipeline) fn rows_of(node: NodeId, width: usize) -> Translated {
    Translated { upstream: node.into(), columns: (0..width).collect(), times: vec![None; width], kind: StreamKind::AppendOnly }
}

/// A condition on what can change would let a row vanish that stands in the sink.
pub(super) fn check_filter_of_upserts(predicate: &Expr, is_key: &dyn Fn(&Column) -> bool) -> Result<()> {
    match predicate.column_refs().into_iter().find(|column| !is_key(column)) {
        None => Ok(()),
        Some(column) => Err(Error::config(format!(
            "the condition {} is on '{}', which changes: a row that no longer meets it would have to be deleted, and the mode 'update' \
             writes new rows only; use the mode 'complete', or filter where the rows are read",
            readable(&predicate.to_string()),
            column.name
        ))),
    }
}
