//! Rows as groups take them: their keys, and what they give to each call; and the panes that they belong to.

use super::calls::CallInput;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::window::WindowSpec;
use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use std::collections::BTreeMap;
use std::ops::Range;

/// The groups of rows and the arguments of the calls, row by row.
pub(super) struct Rows {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) inputs: Vec<CallInput>,
    pub(super) count: usize,
}

/// Some rows, as runs of rows that follow each other, ascending.
pub(super) struct Members(Vec<Range<usize>>);

impl Members {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }
}

impl Rows {
    /// Some of the rows.
    pub(super) fn part(&self, members: &Members) -> Result<Self> {
        let (inputs, count) = (self.inputs.iter(), members.len());
        if let [run] = members.0.as_slice() {
            let keys = self.keys.iter().map(|key| key.slice(run.start, count)).collect();
            return Ok(Self { keys, inputs: inputs.map(|input| input.slice(run.start, count)).collect(), count });
        }
        let members = UInt32Array::from_iter_values(members.0.iter().flat_map(|run| run.start as u32..run.end as u32));
        let keys = self.keys.iter().map(|key| take(key, &members, None)).collect::<Result<_, _>>();
        let keys = keys.or_error(ErrorKind::Internal, || "dividing rows among windows".into())?;
        Ok(Self { keys, inputs: inputs.map(|input| input.take(&members)).collect::<Result<_>>()?, count })
    }
}

/// The rows that have a time, by their panes. Most streams are nearly in order, so that a pane is few runs of rows.
pub(super) fn by_pane(spec: WindowSpec, times: &TimestampMicrosecondArray) -> BTreeMap<i64, Members> {
    let mut panes: BTreeMap<i64, Members> = BTreeMap::new();
    let length = spec.pane().unwrap_or(1);
    let mut row = 0;
    while row < times.len() {
        let first = row;
        row += 1;
        if times.is_null(first) {
            continue;
        }
        let pane = spec.pane_of(times.value(first));
        let of_pane = pane..pane + length;
        while row < times.len() && times.is_valid(row) && of_pane.contains(&times.value(row)) {
            row += 1;
        }
        panes.entry(pane).or_insert_with(|| Members(Vec::new())).0.push(first..row);
    }
    panes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_row_with_a_time_is_in_its_pane(times in prop::collection::vec(prop::option::of(-50i64..50), 0..60), size in 1i64..40) {
            let spec = WindowSpec::Tumble { size, offset: 0 };
            let panes = by_pane(spec, &TimestampMicrosecondArray::from(times.clone()));
            let mut expected: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
            for (row, time) in times.into_iter().enumerate() {
                if let Some(time) = time {
                    expected.entry(spec.pane_of(time)).or_default().push(row);
                }
            }
            let got: BTreeMap<i64, Vec<usize>> = panes.into_iter().map(|(pane, rows)| (pane, rows.0.into_iter().flatten().collect())).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
