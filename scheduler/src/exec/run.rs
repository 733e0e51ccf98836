//! One batch, from splits to staged lanes and changed state.

use super::coordinator::{Lanes, PlannedLane, run_lanes};
use super::emitted::Emitted;
use super::flow::{BoundTransforms, Flow, Target};
use super::keyed::{KeyedOperator, TaskOutput};
use super::lane::{BatchShared, Exchanged, LaneResult, LaneSource, write};
use super::{Base, BatchFailure, BatchInput, BatchOutput, Executor, OperatorOutput, SourceInput, SourceOutput, SourceTime, lanes};
use std::collections::BTreeMap;
use std::sync::Arc;
use waterclock_core::id::OperatorId;
use waterclock_core::operator::Port;
use waterclock_core::plan::{NodeId, NodeKind, PlannedSource, TimeBound, Upstream};
use waterclock_core::sink::{Lane, LaneOutput, LaneWriter};
use waterclock_core::time::Watermark;
use waterclock_core::{Error, Result};

/// The least work of a batch, in decoded bytes, for which the next one may begin while it runs: smaller ones are done sooner than
/// another is cut, and would wait for that. Of those, a batch of one lane is run by one thread.
const LEAST_WORK_AHEAD: usize = 1 << 20;

/// A batch whose lanes may be under way. Dropping it leaves what it has staged to be collected.
pub struct BegunBatch {
    shared: Arc<BatchShared>,
    pub(super) lanes: Lanes,
    /// The source of each lane.
    source_of: Vec<usize>,
    /// For each source, whether it holds others back.
    idle: Vec<bool>,
    /// The work of all splits, in decoded bytes.
    work: usize,
    end_of_stream: bool,
}

/// What has come out of a batch so far.
struct Gathered<'a> {
    base: &'a Base,
    operators: &'a mut BTreeMap<NodeId, KeyedOperator>,
    shared: Arc<BatchShared>,
    sources: Vec<SourceOutput>,
    sinks: Vec<Vec<LaneOutput>>,
    /// Rows for inputs behind the first, which wait until the first has had all of its rows.
    inboxes: BTreeMap<(NodeId, Port), Vec<Exchanged>>,
    /// Files of operators' outputs: one lane for each operator, behind the lanes of the sources.
    writers: BTreeMap<NodeId, BTreeMap<usize, Box<dyn LaneWriter>>>,
    first_operator_lane: usize,
}

/// What an edge carries behind a batch's rows.
#[derive(Debug, Clone, Copy)]
struct Edge {
    watermark: Watermark,
    /// Whether it holds nothing back that it flows together with.
    idle: bool,
}

impl Edge {
    /// Several as one: the least that is not idle; idle if all are.
    fn together(inputs: &[Self]) -> Self {
        let idle = inputs.iter().all(|input| input.idle);
        let holding = inputs.iter().filter(|input| idle || !input.idle).map(|input| input.watermark);
        Self { watermark: holding.min().unwrap_or(Watermark::Unknown), idle }
    }

    /// The watermark of each of the inputs that make this one: an idle one is as far as the others.
    fn holding(self, inputs: &[Self]) -> Vec<Watermark> {
        inputs.iter().map(|input| if input.idle { input.watermark.max(self.watermark) } else { input.watermark }).collect()
    }
}

impl Executor {
    /// Makes a batch ready. Nothing of it runs yet.
    ///
    /// # Errors
    /// `Config` or `Internal` if it does not fit the plan.
    pub fn begin(&self, input: BatchInput) -> Result<BegunBatch> {
        self.base.begin(input)
    }

    /// Runs a batch on the pool, and waits for it; `times` are those of the sources before it. When there is nothing more of it to begin,
    /// and workers would have to wait for its last lanes, `ahead` is asked for the next batch, whose first lanes then run; it is returned.
    /// It is not asked where a batch is small.
    ///
    /// # Errors
    /// The first failure in the order of the rows. The operators' memory is of no use afterwards: drop this executor.
    pub fn run(
        &mut self,
        mut batch: BegunBatch,
        times: Vec<SourceTime>,
        mut ahead: impl FnMut() -> Option<BatchInput>,
    ) -> Result<(BatchOutput, Option<Result<BegunBatch>>), BatchFailure> {
        let before: Vec<Edge> = times.iter().zip(&batch.idle).map(|(time, idle)| Edge { watermark: time.watermark, idle: *idle }).collect();
        let read_before = |time: SourceTime| SourceOutput { latest: time.latest, watermark: time.reached, ..SourceOutput::default() };
        let base = &self.base;
        let mut gathered = Gathered {
            base,
            operators: &mut self.operators,
            shared: Arc::clone(&batch.shared),
            sources: times.into_iter().map(read_before).collect(),
            sinks: base.plan.sinks.iter().map(|_| Vec::new()).collect(),
            inboxes: BTreeMap::new(),
            writers: BTreeMap::new(),
            first_operator_lane: batch.source_of.len(),
        };
        let is_small = batch.work < LEAST_WORK_AHEAD;
        let (next, operators) = if is_small && batch.lanes.work_in_place() {
            (None, gathered.run_by_one_thread(&mut batch, &before)?)
        } else {
            let mut failed = None;
            let mut ahead = || if is_small { None } else { ahead() };
            let begin = || ahead().and_then(|input| base.begin(input).map_err(|error| failed = Some(error)).ok());
            let source_of = &batch.source_of;
            let next = run_lanes(base, &mut batch.lanes, begin, |result| gathered.merge(source_of[result.lane.0], result))?;
            let operators = base.in_pool(|| gathered.run_operators(&before, batch.end_of_stream))?;
            (failed.map(Err).or(next.map(Ok)), operators)
        };
        gathered.finish_writers()?;
        let (sources, sinks) = (gathered.sources, gathered.sinks);
        let output = BatchOutput { sources, operators, sinks, next_timer: self.next_timer() };
        Ok((output, next))
    }
}

impl Base {
    fn begin(&self, input: BatchInput) -> Result<BegunBatch> {
        let shared = Arc::new(BatchShared {
            context: input.context,
            transforms: BoundTransforms::of(&self.plan, &input.context)?,
            sinks: input.sinks,
            exchanges: Arc::clone(&self.exchanges),
            uploads: self.uploads.clone(),
        });
        let idle = input.sources.iter().map(|source| source.idle).collect();
        let work = input.sources.iter().flat_map(|source| &source.splits).map(|split| split.work_bytes()).sum();
        let lanes = self.lanes(input.sources)?;
        let source_of = lanes.iter().map(|lane| lane.source.index).collect();
        Ok(BegunBatch { lanes: Lanes::new(Arc::clone(&shared), lanes), shared, source_of, idle, work, end_of_stream: input.end_of_stream })
    }

    /// Runs what operators have to do within the pool, where its steps wake no thread but those that they divide their work among; without
    /// operators, right here.
    pub(super) fn in_pool<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let has_operators = self.plan.nodes.iter().any(|node| matches!(node.kind, NodeKind::Operator(_)));
        if has_operators { self.pool.install(work) } else { work() }
    }

    /// The lanes of all sources: first of those that feed first inputs, so that others need not wait in memory.
    fn lanes(&self, inputs: Vec<SourceInput>) -> Result<Vec<PlannedLane>> {
        if inputs.len() != self.plan.sources.len() {
            return Err(Error::internal("a batch has other sources than its plan"));
        }
        let mut sources = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            let flow = self.flow_of_source(index)?;
            let ports = flow.targets().into_iter().filter_map(|target| match target {
                Target::Exchange(_, port) => Some(port),
                Target::Sink(_) => None,
            });
            sources.push((ports.min(), index, flow, input));
        }
        sources.sort_by_key(|(port, index, ..)| (*port, *index));
        let mut planned = Vec::new();
        for (port, index, flow, input) in sources {
            let source = Arc::new(lane_source(&self.plan.sources[index], index, flow, input.dead_letter)?);
            let lanes = lanes::cut(input.splits, port.is_some()).into_iter();
            planned.extend(lanes.map(|splits| PlannedLane { source: Arc::clone(&source), splits: splits.into() }));
        }
        Ok(planned)
    }

    fn flow_of_source(&self, index: usize) -> Result<Arc<Flow>> {
        let scans = |kind: &NodeKind| matches!(kind, NodeKind::Scan(source) if *source == index);
        let node = self.plan.nodes.iter().position(|node| scans(&node.kind));
        let flow = node.and_then(|node| self.flows.get(&NodeId(node).into()));
        flow.cloned().ok_or_else(|| Error::internal(format!("no node reads source {index}")))
    }
}

fn lane_source(
    planned: &PlannedSource,
    index: usize,
    flow: Arc<Flow>,
    dead_letter: Option<Arc<dyn waterclock_core::sink::Staging>>,
) -> Result<LaneSource> {
    let event_time = match (&planned.settings.event_time, planned.scan.event_time) {
        (Some(event_time), Some(column)) => {
            let column = planned.scan.projection.iter().position(|&projected| projected == column);
            let column = column.ok_or_else(|| Error::internal("an event-time column is not read"))?;
            Some((event_time.column.clone(), column))
        }
        _ => None,
    };
    Ok(LaneSource { index, name: planned.settings.id.to_string(), flow, event_time, dead_letter })
}

impl Gathered<'_> {
    /// Runs a batch of few rows: at most one thread is woken for all of it.
    fn run_by_one_thread(&mut self, batch: &mut BegunBatch, before: &[Edge]) -> Result<BTreeMap<OperatorId, OperatorOutput>, BatchFailure> {
        let BegunBatch { lanes, source_of, end_of_stream, .. } = batch;
        let base = self.base;
        base.in_pool(|| {
            run_lanes(base, lanes, || None, |result| self.merge(source_of[result.lane.0], result))?;
            Ok(self.run_operators(before, *end_of_stream)?)
        })
    }

    fn merge(&mut self, source: usize, lane: LaneResult) -> Result<(), BatchFailure> {
        let counts = &mut self.sources[source];
        for (partition, read) in lane.source.partitions {
            if let Some(latest) = read.latest {
                let known = counts.latest.entry(partition.clone()).or_insert(latest);
                *known = latest.max(*known);
            }
            let total = counts.partitions.entry(partition).or_default();
            total.rows += read.rows;
            total.latest = total.latest.max(read.latest);
        }
        counts.bad_rows += lane.source.bad_rows;
        counts.dead_letter.extend(lane.source.dead_letter);
        for (sink, mut output) in lane.sinks {
            // The first file may wait for the end of the batch: if it is the only one, no other thread need be woken for it.
            if self.sinks.iter().any(|lanes| !lanes.is_empty()) {
                output.files.iter_mut().for_each(|file| file.upload.begin());
            }
            self.sinks[sink].push(output);
        }
        for exchanged in lane.exchanged {
            self.receive(exchanged)?;
        }
        Ok(())
    }

    /// Rows of an operator's first input are taken at once, those of others when it is their turn.
    fn receive(&mut self, exchanged: Exchanged) -> Result<()> {
        if exchanged.port > Port(0) {
            self.inboxes.entry((exchanged.node, exchanged.port)).or_default().push(exchanged);
            return Ok(());
        }
        self.process(exchanged)
    }

    fn process(&mut self, exchanged: Exchanged) -> Result<()> {
        let node = exchanged.node;
        let operator = self.operators.get_mut(&node).ok_or_else(|| Error::internal("rows for a node that is no operator"))?;
        let outputs = self.base.pool.install(|| operator.process(exchanged, &self.shared.context))?;
        self.emit(node, outputs)
    }

    /// Sends what tasks emitted on its way.
    fn emit(&mut self, node: NodeId, outputs: Vec<TaskOutput>) -> Result<()> {
        if outputs.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let (flows, shared) = (&self.base.flows, &self.shared);
        let emitted = self.base.pool.install(|| Emitted::of(node, outputs, flows, shared))?;
        let lane = Lane(self.first_operator_lane + node.0);
        for (sink, rows) in emitted.sinks {
            write(self.writers.entry(node).or_default(), &self.shared.sinks, lane, sink, &rows)?;
        }
        emitted.exchanged.into_iter().try_for_each(|exchanged| self.receive(exchanged))
    }

    /// Lets the watermarks flow through the plan: each operator takes the rest of its rows, advances and emits, before the next.
    fn run_operators(&mut self, before: &[Edge], end: bool) -> Result<BTreeMap<OperatorId, OperatorOutput>> {
        let plan = &self.base.plan;
        let mut reached: Vec<Edge> = Vec::with_capacity(plan.nodes.len());
        let mut outputs = BTreeMap::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            let of_input = |(upstream, bound): (&Upstream, &TimeBound)| {
                let Edge { watermark, idle } = reached[upstream.node.0];
                Ok(Edge { watermark: bound.apply(watermark)?, idle })
            };
            let inputs = node.inputs.iter().zip(&node.bounds).map(of_input).collect::<Result<Vec<Edge>>>()?;
            let together = Edge::together(&inputs);
            reached.push(match &node.kind {
                NodeKind::Scan(source) => {
                    let Edge { watermark, idle } = before[*source];
                    Edge { watermark: self.source_watermark(*source, watermark, end), idle }
                }
                NodeKind::Transform(_) | NodeKind::Union => together,
                NodeKind::Operator(_) => {
                    let output = self.run_operator(NodeId(index), &together.holding(&inputs))?;
                    let watermark = output.watermark;
                    outputs.insert(node.id.clone(), output);
                    Edge { watermark, idle: together.idle }
                }
            });
        }
        Ok(outputs)
    }

    fn run_operator(&mut self, node: NodeId, inputs: &[Watermark]) -> Result<OperatorOutput> {
        let missing = || Error::internal("the plan has an operator without instances");
        for port in 1..self.operators.get(&node).ok_or_else(missing)?.ports() {
            for exchanged in self.inboxes.remove(&(node, Port(port))).unwrap_or_default() {
                self.process(exchanged)?;
            }
        }
        let operator = self.operators.get_mut(&node).ok_or_else(missing)?;
        let outputs = operator.advance(inputs, &self.shared.context)?;
        self.emit(node, outputs)?;
        self.operators.get_mut(&node).ok_or_else(missing)?.checkpoint()
    }

    /// The source's watermark behind this batch's rows. It goes by the latest of all rows ever read, for the delay may be another one than
    /// it was; and it never goes back. Of a batch that runs again it may be known.
    fn source_watermark(&mut self, source: usize, before: Watermark, end: bool) -> Watermark {
        let output = &mut self.sources[source];
        if let Some(known) = output.watermark {
            return known;
        }
        let behind = self.base.plan.sources[source].settings.event_time.as_ref().and_then(|event_time| {
            let latest = output.latest.values().min()?;
            Some(Watermark::behind(*latest, event_time.delay))
        });
        let after = if end { Watermark::End } else { before.max(behind.unwrap_or(Watermark::Unknown)) };
        output.watermark = Some(after);
        after
    }

    fn finish_writers(&mut self) -> Result<()> {
        for (_, writers) in std::mem::take(&mut self.writers) {
            for (sink, writer) in writers {
                self.sinks[sink].push(writer.finish()?);
            }
        }
        Ok(())
    }
}
