//! Rows as groups take them: their keys, and what they give to each call; and the panes that they belong to.

use super::calls::CallInput;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::window::WindowSpec;
use arrow::array::{ArrayRef, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use std::collections::BTreeMap;

/// The groups of rows and the arguments of the calls, row by row.
pub(super) struct Rows {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) inputs: Vec<CallInput>,
    pub(super) count: usize,
}

impl Rows {
    /// Some of the rows.
    pub(super) fn take(&self, members: Vec<u32>) -> Result<Self> {
        let members = UInt32Array::from(members);
        let keys = self.keys.iter().map(|key| take(key, &members, None)).collect::<Result<_, _>>();
        Ok(Self {
            keys: keys.or_error(ErrorKind::Internal, || "dividing rows among windows".into())?,
            inputs: self.inputs.iter().map(|input| input.take(&members)).collect::<Result<_>>()?,
            count: members.len(),
        })
    }
}

/// The rows that have a time, by their panes.
pub(super) fn by_pane(spec: WindowSpec, times: &TimestampMicrosecondArray) -> BTreeMap<i64, Vec<u32>> {
    let mut panes: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, time) in (0u32..).zip(times) {
        if let Some(time) = time {
            panes.entry(spec.pane_of(time)).or_default().push(row);
        }
    }
    panes
}
