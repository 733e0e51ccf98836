//! Stored state on its way to the tasks that own its keys.
//!
//! What flows in: an operator's layers, oldest first per table. What flows out: each task's own tables, whole. Layers are divided before they
//! are merged, for the keys of one task are found in a table that is smaller, and all tasks can do so side by side. What can fail: layers
//! whose shapes do not fit each other, which is `Corrupt`.

use super::exchange::split;
use arrow::array::RecordBatch;
use rayon::prelude::*;
use std::collections::BTreeMap;
use waterclock_core::Result;
use waterclock_core::state::{StateLayer, StateTable, key_groups, merge};
use waterclock_core::time::Watermark;

/// The layers of each task. The operator's key is the first columns of each. Runs inside the pool.
pub(super) fn divide_layers(layers: Vec<StateLayer>, keys: usize, tasks: usize) -> Result<Vec<Vec<StateLayer>>> {
    let divided: Vec<Vec<StateLayer>> = layers.into_par_iter().map(|layer| divide(&layer, keys, tasks)).collect::<Result<_>>()?;
    let mut by_task: Vec<Vec<StateLayer>> = (0..tasks).map(|_| Vec::with_capacity(divided.len())).collect();
    for parts in divided {
        for (task, part) in by_task.iter_mut().zip(parts) {
            task.push(part);
        }
    }
    Ok(by_task)
}

/// The part of a layer that each task owns.
fn divide(layer: &StateLayer, keys: usize, tasks: usize) -> Result<Vec<StateLayer>> {
    if tasks == 1 {
        return Ok(vec![layer.clone()]);
    }
    let groups = key_groups(&layer.rows.columns()[..keys], layer.rows.num_rows())?;
    let part = |rows: &RecordBatch| StateLayer::from_batch(layer.table.clone(), rows);
    split(&layer.to_batch()?, &groups, tasks)?.iter().map(part).collect()
}

/// The tables that a task's layers are of, without those that hold nothing.
pub(super) fn whole_tables(layers: Vec<StateLayer>, watermark: Watermark) -> Result<Vec<StateLayer>> {
    let mut by_table: BTreeMap<StateTable, Vec<StateLayer>> = BTreeMap::new();
    for layer in layers {
        by_table.entry(layer.table.clone()).or_default().push(layer);
    }
    let tables: Vec<StateLayer> = by_table.into_values().map(|layers| merge(&layers, true, watermark)).collect::<Result<_>>()?;
    Ok(tables.into_iter().filter(|table| table.rows.num_rows() > 0).collect())
}
