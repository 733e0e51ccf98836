//! What the tasks of an operator emit, on its way to the sinks and to other operators.
//!
//! What flows in: per task, rows by output port. What flows out: for each sink its rows, and for each input of an operator its exchanged
//! rows, both in the order of the tasks. The rows of a task pass their transforms, and are combined, beside those of the others: so what
//! closes in all tasks at once, and then comes to few groups, or to one task, is most of it worked on by all threads. A failure is that
//! of the first task that has one.

use super::flow::{Flow, Receiver, Target};
use super::keyed::{TaskOutput, one_by_one};
use super::lane::{BatchShared, Exchanged};
use arrow::array::RecordBatch;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::Result;
use waterclock_core::operator::Port;
use waterclock_core::plan::{NodeId, Upstream};

/// Fewer rows of a task than this are combined together with those of the other tasks: alone, each group of theirs would stand for few.
const LEAST_ROWS: usize = 1024;

/// What all tasks emitted.
#[derive(Default)]
pub(super) struct Emitted {
    /// Rows for sinks, by their index.
    pub(super) sinks: Vec<(usize, RecordBatch)>,
    pub(super) exchanged: Vec<Exchanged>,
}

/// What has come to the ends of a task's ways.
#[derive(Default)]
struct Ends {
    sinks: Vec<(usize, RecordBatch)>,
    inputs: BTreeMap<(NodeId, Port), Rows>,
}

/// Rows for an input of an operator.
#[derive(Default)]
struct Rows {
    /// As they came.
    plain: Vec<RecordBatch>,
    /// Those that stand for others.
    combined: Vec<RecordBatch>,
}

impl Emitted {
    /// Sends what tasks of a node emitted on its way. Runs inside the pool.
    pub(super) fn of(node: NodeId, tasks: Vec<TaskOutput>, flows: &BTreeMap<Upstream, Arc<Flow>>, shared: &BatchShared) -> Result<Self> {
        let of_task = |output| Ends::of(node, output, flows, shared);
        let ends: Vec<Ends> = one_by_one(tasks.into_par_iter()).map(of_task).collect::<Result<_>>()?;
        let (mut emitted, mut inputs) = (Self::default(), BTreeMap::<_, Rows>::new());
        for Ends { sinks, inputs: of_task } in ends {
            emitted.sinks.extend(sinks);
            for (input, rows) in of_task {
                let all = inputs.entry(input).or_default();
                all.plain.extend(rows.plain);
                all.combined.extend(rows.combined);
            }
        }
        for ((to, port), rows) in inputs {
            if !rows.combined.is_empty() {
                emitted.exchanged.push(shared.divide_combined(to, port, &rows.combined)?);
            }
            if !rows.plain.is_empty() {
                emitted.exchanged.push(shared.divide(to, port, &rows.plain)?);
            }
        }
        Ok(emitted)
    }
}

impl Ends {
    fn of(node: NodeId, output: TaskOutput, flows: &BTreeMap<Upstream, Arc<Flow>>, shared: &BatchShared) -> Result<Self> {
        let mut ends = Self::default();
        for (port, rows) in output {
            if let Some(flow) = flows.get(&Upstream { node, port }) {
                flow.push(rows, &shared.transforms, &mut ends)?;
            }
        }
        for (&(to, port), Rows { plain, combined }) in &mut ends.inputs {
            if plain.iter().map(RecordBatch::num_rows).sum::<usize>() >= LEAST_ROWS
                && let Some(rows) = shared.combine(to, port, plain)
            {
                plain.clear();
                combined.push(rows);
            }
        }
        Ok(ends)
    }
}

impl Receiver for Ends {
    fn deliver(&mut self, target: Target, rows: RecordBatch) -> Result<()> {
        match target {
            Target::Sink(sink) => self.sinks.push((sink, rows)),
            Target::Exchange(to, port) => self.inputs.entry((to, port)).or_default().plain.push(rows),
        }
        Ok(())
    }
}
