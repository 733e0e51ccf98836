//! The physical plan of a job: a graph of sources, transforms, unions, keyed operators and sinks, made once and run for every batch.
//!
//! A plan is plain data behind an `Arc`: which node feeds which. The scheduler cuts it into stages where rows must change
//! hands (in front of an operator with keys) and runs it; nothing in here runs.

mod explain;
mod readable;
mod statics;
mod time_bound;

pub use explain::explain;
pub(crate) use readable::readable;
pub use statics::{PlannedStatic, StaticRows};
pub use time_bound::TimeBound;

use crate::id::OperatorId;
use crate::operator::{OperatorFactory, Port, Transform};
use crate::sink::SinkSettings;
use crate::source::{Scan, SourceSettings};
use arrow::datatypes::SchemaRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The index of a node in [`Plan::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// An edge's upper end: a node, and which of its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream {
    /// The node.
    pub node: NodeId,
    /// Its output; 0 unless it has side outputs.
    pub port: Port,
}

impl From<NodeId> for Upstream {
    fn from(node: NodeId) -> Self {
        Self { node, port: Port(0) }
    }
}

/// A job's physical plan. See the [module](self).
#[derive(Debug)]
pub struct Plan {
    /// The sources, each read once per batch whatever the number of its consumers.
    pub sources: Vec<PlannedSource>,
    /// The static tables, each read whole when the job is opened.
    pub statics: Vec<PlannedStatic>,
    /// The nodes; each stands behind all its inputs.
    pub nodes: Vec<Node>,
    /// The sinks.
    pub sinks: Vec<PlannedSink>,
    /// The optimized logical plan, for `explain`.
    pub logical: String,
}

/// A source as the plan uses it.
#[derive(Debug)]
pub struct PlannedSource {
    /// Name, event time, limits, bad rows.
    pub settings: SourceSettings,
    /// All its columns.
    pub schema: SchemaRef,
    /// What is read of it.
    pub scan: Arc<Scan>,
    /// Its location, for `explain`.
    pub description: String,
}

/// A sink as the plan uses it.
#[derive(Debug)]
pub struct PlannedSink {
    /// Name, mode, place.
    pub settings: SinkSettings,
    /// Where its rows come from.
    pub input: Upstream,
    /// Its columns.
    pub schema: SchemaRef,
}

/// A step of the plan.
#[derive(Debug)]
pub struct Node {
    /// Its name, unique in the plan.
    pub id: OperatorId,
    /// What it does.
    pub kind: NodeKind,
    /// Where its rows come from: one for each input port.
    pub inputs: Vec<Upstream>,
    /// For each input, what the upstream's watermark says of the event-time column that this node goes by.
    pub bounds: Vec<TimeBound>,
    /// The columns of each of its outputs.
    pub outputs: Vec<SchemaRef>,
    /// Which columns of its first output keep an event time, that consumers know of.
    pub event_times: BTreeSet<usize>,
}

/// What a node does.
#[derive(Debug)]
pub enum NodeKind {
    /// Reads the source of this index in [`Plan::sources`].
    Scan(usize),
    /// A function of rows.
    Transform(Arc<dyn Transform>),
    /// The rows of all inputs.
    Union,
    /// An operator with a memory, behind an exchange by key group.
    Operator(Arc<dyn OperatorFactory>),
}

impl Plan {
    /// The nodes that take the output of each node, with the input port that they take it at.
    pub fn consumers(&self) -> BTreeMap<Upstream, Vec<(NodeId, Port)>> {
        let mut consumers: BTreeMap<Upstream, Vec<(NodeId, Port)>> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for (port, upstream) in node.inputs.iter().enumerate() {
                consumers.entry(*upstream).or_default().push((NodeId(index), Port(port)));
            }
        }
        consumers
    }

    /// Whether the watermark of a node's output is the batch's time, so that its columns with a time are bounded by that.
    pub fn is_clocked(&self, node: NodeId) -> bool {
        is_clocked(&self.nodes, node)
    }

    /// What the state of each operator with a memory means: compared with the record when a job is opened.
    pub fn fingerprints(&self) -> BTreeMap<OperatorId, String> {
        self.operators().map(|(id, factory)| (id.clone(), factory.fingerprint())).collect()
    }

    /// Which rows come to the operators whose names are derived from their places.
    pub fn inputs(&self) -> BTreeMap<OperatorId, String> {
        self.operators().filter_map(|(id, factory)| Some((id.clone(), factory.input()?))).collect()
    }

    fn operators(&self) -> impl Iterator<Item = (&OperatorId, &Arc<dyn OperatorFactory>)> {
        self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Operator(factory) => Some((&node.id, factory)),
            _ => None,
        })
    }
}

/// See [`Plan::is_clocked`].
pub(crate) fn is_clocked(nodes: &[Node], node: NodeId) -> bool {
    let Node { kind, inputs, .. } = &nodes[node.0];
    match kind {
        NodeKind::Scan(_) => false,
        NodeKind::Operator(factory) => factory.is_clocked(),
        NodeKind::Transform(_) | NodeKind::Union => inputs.iter().all(|input| is_clocked(nodes, input.node)),
    }
}
