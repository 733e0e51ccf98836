//! Routes through the plan: from where rows appear, through fused transforms, to where they change hands.
//!
//! A flow is a tree that is made once per plan. Its inner nodes are transforms; unions vanish, for all that they do is to have several
//! inputs; its leaves are sinks and exchanges. Rows are pushed through the tree a morsel at a time, so that nothing is held between
//! two transforms.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use waterclock_core::batch::BatchContext;
use waterclock_core::id::BatchId;
use waterclock_core::operator::{Port, Transform};
use waterclock_core::plan::{NodeId, NodeKind, Plan, Upstream};
use waterclock_core::{Error, Result};

/// Where a flow ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The sink of this index in the plan.
    Sink(usize),
    /// An input of an operator with keys.
    Exchange(NodeId, Port),
}

/// The ways that rows take from one output of a node.
#[derive(Debug, Default)]
pub(super) struct Flow {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Transform(NodeId, Flow),
    Deliver(Target),
}

/// Takes rows at the end of a flow.
pub(super) trait Receiver {
    fn deliver(&mut self, target: Target, rows: RecordBatch) -> Result<()>;
}

/// The transforms of a plan, with the batch's clock in place.
pub(super) struct BoundTransforms {
    context: BatchContext,
    transforms: BTreeMap<NodeId, (String, Arc<dyn Transform>)>,
}

impl BoundTransforms {
    pub(super) fn of(plan: &Plan, context: &BatchContext) -> Result<Self> {
        let mut transforms = BTreeMap::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            if let NodeKind::Transform(transform) = &node.kind {
                let bound = Arc::clone(transform).for_batch(context)?;
                transforms.insert(NodeId(index), (node.id.to_string(), bound));
            }
        }
        Ok(Self { context: *context, transforms })
    }

    fn apply(&self, node: NodeId, rows: RecordBatch) -> Result<RecordBatch> {
        let (id, transform) =
            self.transforms.get(&node).ok_or_else(|| Error::internal("a flow leads through a node that is no transform"))?;
        guarded(id, When::Batch(self.context.batch), || transform.apply(rows))
    }
}

/// When an operator's code runs.
#[derive(Clone, Copy)]
pub(super) enum When {
    Restoring,
    Batch(BatchId),
}

impl Display for When {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restoring => f.write_str("while it was restored"),
            Self::Batch(batch) => write!(f, "in batch {batch}"),
        }
    }
}

/// Runs code that may be a user's: a panic becomes an error that names the operator and when it was.
pub(super) fn guarded<T>(operator: &str, when: When, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        let said = said.unwrap_or_else(|| "no message".to_owned());
        Err(Error::internal(format!("operator '{operator}' panicked {when}: {said}")))
    })
}

impl Flow {
    /// The flow of each output of a node from which rows start: scans and operators with keys.
    pub(super) fn all(plan: &Plan) -> BTreeMap<Upstream, Flow> {
        let consumers = plan.consumers();
        let mut flows = BTreeMap::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            if matches!(node.kind, NodeKind::Scan(_) | NodeKind::Operator(_)) {
                for port in 0..node.outputs.len() {
                    let upstream = Upstream { node: NodeId(index), port: Port(port) };
                    flows.insert(upstream, Self::behind(plan, &consumers, upstream));
                }
            }
        }
        flows
    }

    fn behind(plan: &Plan, consumers: &BTreeMap<Upstream, Vec<(NodeId, Port)>>, upstream: Upstream) -> Self {
        let mut steps = Vec::new();
        for &(node, port) in consumers.get(&upstream).into_iter().flatten() {
            match &plan.nodes[node.0].kind {
                NodeKind::Transform(_) => steps.push(Step::Transform(node, Self::behind(plan, consumers, node.into()))),
                NodeKind::Union => steps.extend(Self::behind(plan, consumers, node.into()).steps),
                NodeKind::Operator(_) => steps.push(Step::Deliver(Target::Exchange(node, port))),
                NodeKind::Scan(_) => {}
            }
        }
        let sinks = plan.sinks.iter().enumerate().filter(|(_, sink)| sink.input == upstream);
        steps.extend(sinks.map(|(index, _)| Step::Deliver(Target::Sink(index))));
        Self { steps }
    }

    /// Pushes rows to all ends.
    pub(super) fn push(&self, rows: RecordBatch, transforms: &BoundTransforms, receiver: &mut dyn Receiver) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        for step in &self.steps {
            match step {
                Step::Transform(node, next) => next.push(transforms.apply(*node, rows.clone())?, transforms, receiver)?,
                Step::Deliver(target) => receiver.deliver(*target, rows.clone())?,
            }
        }
        Ok(())
    }

    /// The ends of the flow.
    pub(super) fn targets(&self) -> Vec<Target> {
        let ends = |step: &Step| match step {
            Step::Transform(_, next) => next.targets(),
            Step::Deliver(target) => vec![*target],
        };
        self.steps.iter().flat_map(ends).collect()
    }
}
