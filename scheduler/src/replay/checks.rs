//! Whether a program can run recorded batches again.

use crate::driver::Input;
use crate::history::{batch_of, opening};
use crate::log::Log;
use crate::protocol::compatibility::{self, Program};
use crate::protocol::record::{BatchRecord, Record};
use waterclock_core::plan::Plan;
use waterclock_core::{Error, Result};

/// A batch and the program must read the same sources: the rows would be others.
pub(super) fn check_sources(inputs: &[Input], batch: &BatchRecord) -> Result<()> {
    if let Some(id) = batch.sources.keys().find(|id| !inputs.iter().any(|input| &input.id == *id)) {
        return Err(Error::config(format!("batch {} read the source '{id}', which is not in the program; add it", batch.batch)));
    }
    match inputs.iter().find(|input| !batch.sources.contains_key(&input.id)) {
        Some(input) => Err(Error::config(format!(
            "batch {} did not read the source '{}', which is in the program; replay batches that did, or take it out",
            batch.batch, input.id
        ))),
        None => Ok(()),
    }
}

/// The memory of the first batch's operators must mean to this program what it meant to the one that wrote it.
pub(super) fn check_program(plan: &Plan, log: &Log, before: &Record) -> Result<()> {
    let differences = compatibility::differences(&Program::of(plan), &opening(log, before)?, batch_of(before)?);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!(
        "the program does not fit the state that is recorded: {}; replay from batch 0 on, where all state is empty, or run the program that \
         wrote it",
        differences.join("; ")
    )))
}
