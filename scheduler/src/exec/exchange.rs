//! Handing rows to the tasks that own their keys.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;
use waterclock_core::state::{KeyGroup, key_groups};
use waterclock_core::{ErrorKind, Result, ResultExt};

/// Into how many tasks an operator with keys is divided. Fixed, so that the order of its output does not depend on the number of
/// threads; well above the threads of one machine's pool would be waste, well below would leave them idle.
pub(super) const TASKS: usize = 16;

/// The rows of one batch for each task, in their order.
pub(super) fn partition(rows: &RecordBatch, keys: &[Arc<dyn PhysicalExpr>], tasks: usize) -> Result<Vec<RecordBatch>> {
    if tasks == 1 {
        return Ok(vec![rows.clone()]);
    }
    let evaluating = || "evaluating the keys of an exchange".to_owned();
    let columns: Vec<ArrayRef> = keys
        .iter()
        .map(|key| key.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())))
        .collect::<Result<_, _>>()
        .or_error(ErrorKind::BadData, evaluating)?;
    split(rows, &key_groups(&columns, rows.num_rows())?, tasks)
}

/// The rows of each task, by the key group of each row.
pub(super) fn split(rows: &RecordBatch, groups: &[KeyGroup], tasks: usize) -> Result<Vec<RecordBatch>> {
    let mut indices: Vec<Vec<u32>> = vec![Vec::new(); tasks];
    for (row, group) in (0u32..).zip(groups) {
        indices[group.task(tasks)].push(row);
    }
    let take = |rows_of_task: Vec<u32>| take_record_batch(rows, &UInt32Array::from(rows_of_task));
    indices.into_iter().map(take).collect::<Result<_, _>>().or_error(ErrorKind::Internal, || "dividing rows among tasks".into())
}
