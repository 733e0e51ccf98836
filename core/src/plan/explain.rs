//! A plan as text.

use super::{Node, NodeId, NodeKind, Plan, PlannedSource, readable};
use crate::operator::Port;
use crate::source::Scan;
use arrow::datatypes::SchemaRef;
use std::fmt::Write;

/// The logical plan of each sink, then the graph of stages: a stage is what rows pass through without changing hands.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::from("Logical plan\n");
    for line in plan.logical.lines() {
        line_at(&mut text, 1, line);
    }
    if !plan.statics.is_empty() {
        text.push_str("\nStatic tables, read when the job is opened\n");
    }
    for table in &plan.statics {
        line_at(&mut text, 1, &format!("{}: {}", table.id, describe_read(&table.description, &table.schema, &table.scan)));
    }
    text.push_str("\nStages\n");
    for (number, stage) in stages(plan).into_iter().enumerate() {
        line_at(&mut text, 1, &format!("stage {number}"));
        for node in stage {
            explain_node(&mut text, plan, node);
        }
    }
    readable(&text)
}

fn line_at(text: &mut String, depth: usize, line: &str) {
    // Writing to a string never fails.
    let _ = writeln!(text, "{:width$}{line}", "", width = depth * 2);
}

/// A stage begins with a scan or behind an exchange, and holds what is fused with it. A union belongs to each stage that feeds it.
fn stages(plan: &Plan) -> Vec<Vec<NodeId>> {
    let consumers = plan.consumers();
    let begins = |node: &Node| matches!(node.kind, NodeKind::Scan(_) | NodeKind::Operator(_));
    let mut stages = Vec::new();
    for index in (0..plan.nodes.len()).filter(|&index| begins(&plan.nodes[index])) {
        let (mut stage, mut open) = (Vec::new(), vec![NodeId(index)]);
        while let Some(node) = open.pop() {
            stage.push(node);
            let next = (0..plan.nodes[node.0].outputs.len()).flat_map(|port| {
                let upstream = super::Upstream { node, port: Port(port) };
                consumers.get(&upstream).into_iter().flatten().map(|(consumer, _)| *consumer)
            });
            open.extend(next.filter(|next| !begins(&plan.nodes[next.0])));
        }
        stage.sort_unstable();
        stage.dedup();
        stages.push(stage);
    }
    stages
}

fn explain_node(text: &mut String, plan: &Plan, id: NodeId) {
    let node = &plan.nodes[id.0];
    let inputs: Vec<&str> = node.inputs.iter().map(|input| plan.nodes[input.node.0].id.as_str()).collect();
    let from = if inputs.is_empty() { String::new() } else { format!(" <- {}", inputs.join(", ")) };
    let what = match &node.kind {
        NodeKind::Scan(source) => describe_source(&plan.sources[*source]),
        NodeKind::Transform(transform) => transform.describe(),
        NodeKind::Union => "union".to_owned(),
        NodeKind::Operator(operator) => format!("behind an exchange by key: {}", operator.describe()),
    };
    line_at(text, 2, &format!("{}{from}: {what}{}", node.id, times(plan, id)));
    for sink in plan.sinks.iter().filter(|sink| sink.input.node == id) {
        line_at(text, 2, &format!("sink {} <- {}: {} at {}", sink.settings.id, node.id, sink.settings.mode, sink.settings.location));
    }
}

/// The columns that keep a time. Of a source there is one, which is named with its delay.
fn times(plan: &Plan, id: NodeId) -> String {
    let node = &plan.nodes[id.0];
    let what = if plan.is_clocked(id) { "processing time" } else { "event time" };
    let names: Vec<&str> = match (&node.kind, node.outputs.first()) {
        (NodeKind::Scan(_), _) | (_, None) => Vec::new(),
        (_, Some(schema)) => node.event_times.iter().map(|&column| schema.field(column).name().as_str()).collect(),
    };
    if names.is_empty() { String::new() } else { format!(", {what} [{}]", names.join(", ")) }
}

fn describe_source(source: &PlannedSource) -> String {
    let mut text = describe_read(&source.description, &source.schema, &source.scan);
    if let Some(event_time) = &source.settings.event_time {
        let _ = write!(text, ", event time {} delayed by {:?}", event_time.column, event_time.delay);
    }
    text
}

fn describe_read(description: &str, schema: &SchemaRef, scan: &Scan) -> String {
    let columns: Vec<&str> = scan.projection.iter().map(|&column| schema.field(column).name().as_str()).collect();
    let mut text = format!("read {description} columns [{}]", columns.join(", "));
    if !scan.filters.is_empty() {
        let filters: Vec<String> = scan.filters.iter().map(|filter| filter.to_string()).collect();
        let _ = write!(text, ", skipping what can't pass [{}]", filters.join(", "));
    }
    text
}
