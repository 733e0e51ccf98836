//! Whether a program may go on where another stopped.
//!
//! Stateless parts, parallelism, limits and sinks may change, sources and operators may be added: an added one begins with the next
//! batch. What has a position or a state must still be there, with the same meaning.
//!
//! Groupings of one sink are named by their numbers. Where several of them mean the same, as the branches of a UNION ALL that differ in
//! their WHERE, a number could become that of another one: then the rows that come to each must be the same as before, too.

use super::meaning::difference;
use super::record::{BatchRecord, OpenRecord};
use std::collections::{BTreeMap, BTreeSet};
use waterclock_core::id::{OperatorId, SourceId};
use waterclock_core::plan::Plan;
use waterclock_core::{Error, Result};

/// What a program has that a log can disagree with.
#[derive(Debug, Clone)]
pub struct Program {
    /// What the state of each operator with a memory means.
    pub operators: BTreeMap<OperatorId, String>,
    /// Which rows come to the operators whose names are derived from their places.
    pub inputs: BTreeMap<OperatorId, String>,
    /// The sources.
    pub sources: BTreeSet<SourceId>,
}

impl Program {
    /// The program of a plan.
    pub fn of(plan: &Plan) -> Self {
        let sources = plan.sources.iter().map(|source| source.settings.id.clone()).collect();
        Self { operators: plan.fingerprints(), inputs: plan.inputs(), sources }
    }
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
                differences.push(format!("the operator '{id}' means something else: {}", difference(before, now)));
            }
            _ => differences.extend(mistaken(program, open, id)),
        }
    }
    differences
}

/// Of an operator that means what it meant: whether it could be another one that means the same.
fn mistaken(program: &Program, open: &OpenRecord, id: &OperatorId) -> Option<String> {
    let (before, now) = (open.inputs.get(id)?, program.inputs.get(id)?);
    if before == now {
        return None;
    }
    let twin = twin(&open.operators, id).or_else(|| twin(&program.operators, id))?;
    Some(format!(
        "rows of ({before}) came to the operator '{id}' and now rows of ({now}), and '{twin}' means the same, so that the state of one could be \
         taken for that of the other: leave the order and the conditions of such branches as they were"
    ))
}

/// An operator that means the same, and whose name differs in its number only.
fn twin<'a>(operators: &'a BTreeMap<OperatorId, String>, id: &OperatorId) -> Option<&'a OperatorId> {
    let stem = |id: &OperatorId| id.as_str().rsplit_once('-').map(|(stem, _)| stem.to_owned());
    let meaning = operators.get(id)?;
    operators
        .iter()
        .find(|(other, other_meaning)| *other != id && *other_meaning == meaning && stem(other) == stem(id))
        .map(|(other, _)| other)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn check_with(change: impl FnOnce(&mut Program)) -> Result<()> {
        let log = samples::log(1);
        let mut program = Program {
            operators: BTreeMap::from([("counts".into(), "counts by v".into())]),
            inputs: BTreeMap::new(),
            sources: BTreeSet::from(["bid".into()]),
        };
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

    /// What is found of groupings that all mean the same, by the rows that came to each and come to it now.
    fn differences_of_twins(before: &[(&str, &str)], now: &[(&str, &str)]) -> Vec<String> {
        let log = samples::log(1);
        let (mut open, mut last) = (log[0].open().unwrap().clone(), log[1].batch().unwrap().clone());
        let state = last.operators.values().next().unwrap().clone();
        let inputs = |of: &[(&str, &str)]| of.iter().map(|(id, rows)| (OperatorId::from(id), (*rows).to_owned())).collect();
        let operators = |of: &[(&str, &str)]| of.iter().map(|(id, _)| (OperatorId::from(id), "counts".to_owned())).collect();
        last.operators = before.iter().map(|(id, _)| (OperatorId::from(id), state.clone())).collect();
        (open.operators, open.inputs) = (operators(before), inputs(before));
        let program = Program { operators: operators(now), inputs: inputs(now), sources: BTreeSet::from(["bid".into()]) };
        differences(&program, &open, &last)
    }

    #[test]
    fn what_means_the_same_is_told_apart_by_its_rows() {
        let (a, b) = (("o-group-1", "t where a"), ("o-group-2", "t where b"));
        let (a_second, b_first) = (("o-group-2", "t where a"), ("o-group-1", "t where b"));
        assert!(differences_of_twins(&[a, b], &[a, b]).is_empty());
        let swapped = differences_of_twins(&[a, b], &[b_first, a_second]);
        assert!(swapped.len() == 2 && swapped[0].contains("'o-group-2' means the same"), "{swapped:?}");
        assert_eq!(differences_of_twins(&[a, b], &[a, ("o-group-2", "t where c")]).len(), 1);
        assert!(differences_of_twins(&[a], &[b_first]).is_empty(), "there is nothing that it could be mistaken for");
        assert!(differences_of_twins(&[a], &[a, b]).is_empty(), "one is added behind");
        assert_eq!(differences_of_twins(&[a], &[b_first, a_second]).len(), 1, "one is added before");
    }

    #[test]
    fn groupings_of_other_sinks_are_no_twins() {
        let (mine, theirs) = (("o-group-1", "t where a"), ("p-group-1", "t where b"));
        assert!(differences_of_twins(&[mine, theirs], &[("o-group-1", "t where c"), theirs]).is_empty());
    }

    #[test]
    fn records_that_do_not_tell_rows_are_as_good_as_before() {
        let log = samples::log(1);
        let mut open = log[0].open().unwrap().clone();
        open.operators = BTreeMap::from([("counts".into(), "c".into()), ("counts-2".into(), "c".into())]);
        let inputs = BTreeMap::from([("counts".into(), "t".into())]);
        let program = Program { operators: open.operators.clone(), inputs, sources: BTreeSet::from(["bid".into()]) };
        assert!(differences(&program, &open, log[1].batch().unwrap()).is_empty());
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
