//! Stored state on its way to the tasks that own its keys.
//!
//! What flows in: an operator's tables, each in parts that have no key in common. What flows out: what each task owns of them, in parts too,
//! for a task may have more texts than one column holds.

use super::exchange::split;
use arrow::array::RecordBatch;
use rayon::prelude::*;
use waterclock_core::Result;
use waterclock_core::state::{StateLayer, key_groups, live};
use waterclock_core::time::Watermark;

/// The parts of each task. The operator's key is the first columns of each. Runs inside the pool.
pub(super) fn divide(layers: Vec<StateLayer>, keys: usize, tasks: usize) -> Result<Vec<Vec<StateLayer>>> {
    let divided: Vec<Vec<StateLayer>> = layers.into_par_iter().map(|layer| divide_part(&layer, keys, tasks)).collect::<Result<_>>()?;
    let mut by_task: Vec<Vec<StateLayer>> = (0..tasks).map(|_| Vec::with_capacity(divided.len())).collect();
    for parts in divided {
        for (task, part) in by_task.iter_mut().zip(parts) {
            task.push(part);
        }
    }
    Ok(by_task)
}

/// What each task owns of a part.
fn divide_part(layer: &StateLayer, keys: usize, tasks: usize) -> Result<Vec<StateLayer>> {
    if tasks == 1 {
        return Ok(vec![layer.clone()]);
    }
    let groups = key_groups(&layer.rows.columns()[..keys], layer.rows.num_rows())?;
    let part = |rows: &RecordBatch| StateLayer::from_batch(layer.table.clone(), rows);
    split(&layer.to_batch()?, &groups, tasks)?.iter().map(part).collect()
}

/// What counts of a task's parts, without those that hold nothing.
pub(super) fn live_parts(parts: Vec<StateLayer>, watermark: Watermark) -> Result<Vec<StateLayer>> {
    let parts = parts.into_iter().map(|part| live(&part, watermark)).collect::<Result<Vec<_>>>()?;
    Ok(parts.into_iter().filter(|part| part.rows.num_rows() > 0).collect())
}
