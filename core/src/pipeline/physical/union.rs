//! UNION ALL, and what its branches together say of time.

use super::super::times::{self, Times};
use super::{Planner, StreamKind, Translated, output_schema};
use crate::error::Result;
use crate::plan::{NodeKind, TimeBound};
use datafusion_common::DFSchemaRef;
use datafusion_expr::LogicalPlan;
use std::sync::Arc;

impl Planner {
    pub(super) fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchemaRef) -> Result<Translated> {
        let schema = output_schema(schema);
        let (mut upstreams, mut branches, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for input in inputs {
            let translated = self.translate(input)?;
            branches.push(translated.times.clone());
            kinds.push(translated.kind.clone());
            upstreams.push(self.in_full(translated, &schema)?);
        }
        let (bounds, times) = united_times(&branches, schema.fields().len());
        let kind = match kinds.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => first.clone(),
            _ if kinds.contains(&StreamKind::Complete) => StreamKind::AppendOnly,
            _ => StreamKind::Upsert(vec![false; schema.fields().len()]),
        };
        let id = self.next_id("union");
        let inputs = upstreams.into_iter().zip(bounds).collect();
        Ok(Translated { times, kind, ..self.push(id, NodeKind::Union, inputs, schema) })
    }
}

/// Of a union's columns, those that are times in all branches; and for each branch, by which bound its watermark is the union's. If the
/// branches bound several columns in different ways, only the first of them stays an event time.
fn united_times(branches: &[Times], width: usize) -> (Vec<TimeBound>, Times) {
    let of_column = |column: usize| -> Times { branches.iter().map(|branch| branch[column].clone()).collect() };
    let mut times: Times = (0..width).map(|column| times::united(&of_column(column))).collect();
    let differs = (0..width).find(|column| times[*column].is_some() && !times::same_bound(&of_column(*column)));
    let Some(chosen) = differs else { return (vec![TimeBound::default(); branches.len()], times) };
    let chosen = times.iter().position(|time| time.as_ref().is_some_and(|time| time.bound().is_some())).unwrap_or(chosen);
    let bounds = of_column(chosen).iter().map(|time| time.as_ref().and_then(|time| time.bound().cloned()).unwrap_or_default()).collect();
    for (column, time) in times.iter_mut().enumerate() {
        let kept = column == chosen || time.as_ref().is_some_and(|time| time.bound().is_none());
        *time = time.take().filter(|_| kept).map(|time| times::normal(&time));
    }
    (bounds, times)
}
