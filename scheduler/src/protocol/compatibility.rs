//! Whether a program may go on where another stopped.
//!
//! Stateless parts, parallelism, limits and sinks may change, sources and operators may be added: an added one begins with the next
//! batch. What has a position or a state must still be there, with the same meaning.

use super::record::{BatchRecord, OpenRecord};
use std::collections::{BTreeMap, BTreeSet};
use waterclock_core::id::{OperatorId, SourceId};
use waterclock_core::{Error, Result};

/// What a program has that a log can disagree with.
#[derive(Debug, Clone)]
pub struct Program {
    /// What the state of each operator with a memory means.
    pub operators: BTreeMap<OperatorId, String>,
    /// The sources.
    pub sources: BTreeSet<SourceId>,
}

/// Compares a program with the newest opening and the newest batch.
///
/// # Errors
/// `Config` that lists every difference.
pub fn check(program: &Program, open: &OpenRecord, last: &BatchRecord) -> Result<()> {
    let differences = differences(program, open, last);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!(
        "the program does not fit the checkpoint: {}; run the program that made it, or start with another checkpoint and other sinks",
        differences.join("; ")
    )))
}

/// What of a program differs from an opening, and from a batch that was written after it.
pub fn differences(program: &Program, open: &OpenRecord, last: &BatchRecord) -> Vec<String> {
    let mut differences = Vec::new();
    for id in last.sources.keys().filter(|id| !program.sources.contains(*id)) {
        differences.push(format!("the source '{id}' is gone, of which the checkpoint holds a position"));
    }
    for id in last.operators.keys() {
        match (open.operators.get(id), program.operators.get(id)) {
            (_, None) => differences.push(format!("the operator '{id}' is gone, of which the checkpoint holds state")),
            (Some(before), Some(now)) if before != now => {
                differences.push(format!("the operator '{id}' was '{before}' and is now '{now}'"));
            }
            _ => {}
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn check_with(change: impl FnOnce(&mut Program)) -> Result<()> {
        let log = samples::log(1);
        let mut program =
            Program { operators: BTreeMap::from([("counts".into(), "counts by v".into())]), sources: BTreeSet::from(["bid".into()]) };
        change(&mut program);
        check(&program, log[0].open().unwrap(), log[1].batch().unwrap())
    }

    #[test]
    fn sources_and_operators_may_be_added() {
        assert!(check_with(|_| ()).is_ok());
        let more = |program: &mut Program| {
            program.sources.insert("ask".into());
            program.operators.insert("sums".into(), "sums".into());
        };
        assert!(check_with(more).is_ok());
    }

    #[test]
    fn what_has_state_must_stay_and_mean_the_same() {
        let text = |change: fn(&mut Program)| check_with(change).unwrap_err().to_string();
        assert!(text(|program| program.sources.clear()).contains("source 'bid' is gone"));
        assert!(text(|program| program.operators.clear()).contains("operator 'counts' is gone"));
        let other = text(|program| drop(program.operators.insert("counts".into(), "counts by w".into())));
        assert!(other.contains("'counts by v'") && other.contains("'counts by w'"), "{other}");
    }
}
