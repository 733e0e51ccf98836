//! Logs for tests: one source, one sink, an opening before batch 0 and another before batch 3.

use super::envelope;
use super::record::*;
use std::collections::BTreeMap;
use waterclock_core::id::{BatchId, Checksum, Epoch, Nonce, Seq};
use waterclock_core::sink::{Manifest, StagedFile};
use waterclock_core::source::{Offset, PartitionCut};
use waterclock_core::state::StateTable;
use waterclock_core::time::{Timestamp, Watermark};

/// A log of so many batches.
pub(crate) fn log(batches: u64) -> Vec<Record> {
    let mut log: Vec<Record> = Vec::new();
    push(&mut log, Epoch(0), open(None));
    for batch in 0..batches {
        let mut epoch = log[log.len() - 1].epoch;
        if batch == 3 {
            epoch = epoch.next();
            let last = log[log.len() - 1].last_batch();
            push(&mut log, epoch, open(last));
        }
        let (previous, opened) = (log[log.len() - 1].last_batch(), log[log.len() - 1].opened());
        push(&mut log, epoch, Body::Batch(Box::new(batch_record(BatchId(batch), previous, opened))));
    }
    log
}

fn push(log: &mut Vec<Record>, epoch: Epoch, body: Body) {
    let parent = log.last().map(|record| Checksum::of(&envelope::encode(record).unwrap()));
    let seq = Seq(log.len() as u64);
    log.push(Record { seq, epoch, nonce: Nonce::from(format!("n{epoch}")), parent, time: Timestamp(1_000_000 + seq.0 as i64), body });
}

fn open(last: Option<BatchRef>) -> Body {
    Body::Open(Box::new(OpenRecord {
        last,
        operators: BTreeMap::from([("counts".into(), "counts by v".into())]),
        inputs: BTreeMap::new(),
        sources: BTreeMap::new(),
        event_times: BTreeMap::new(),
        statics: BTreeMap::from([("dim".into(), StaticRecord { ranges: vec![cut(0)], rows: 10 })]),
        sinks: BTreeMap::from([("out".into(), "file:///out".into())]),
        configuration: serde_json::json!({"interval": "1s"}),
    }))
}

/// A range of ten rows.
fn cut(start: u64) -> PartitionCut {
    let offset = |rows: u64| Offset(rows.into());
    PartitionCut { partition: "p".into(), start: offset(start), end: offset(start + 10), detail: serde_json::json!({"files": ["a.json"]}) }
}

fn batch_record(batch: BatchId, previous: Option<BatchRef>, opened: Seq) -> BatchRecord {
    let layer = |name: &str, place| LayerRef {
        table: StateTable::new(name, 1),
        rows: 2,
        bytes: 12,
        checksum: Checksum::of(name.as_bytes()),
        expires_at: None,
        place,
    };
    let source = SourceRecord {
        partitions: vec![PartitionRecord { cut: cut(batch.0 * 10), rows: 9, latest: Some(Timestamp(batch.0 as i64)) }],
        standing: BTreeMap::new(),
        watermark: Watermark::At(Timestamp(batch.0 as i64)),
        latest: BTreeMap::from([("p".into(), Timestamp(batch.0 as i64))]),
        idle: false,
        active: None,
        more: true,
        lag: Some(3),
        bad_rows: 1,
        spool: None,
        layers: vec![
            layer("seen", LayerPlace::Object("state/x".into())),
            layer("seen", LayerPlace::Inline("AAAA".into())),
            layer("seen", LayerPlace::Record(opened)),
        ],
    };
    let file = StagedFile { staged: "_staged/x".into(), published: Some("0.json".into()), bytes: 3, rows: 9 };
    let manifest = Manifest { rows: 9, files: vec![file] };
    BatchRecord {
        batch,
        previous,
        opened,
        sources: BTreeMap::from([("bid".into(), source)]),
        operators: BTreeMap::from([("counts".into(), OperatorRecord { watermark: Watermark::Unknown, late_rows: 0, layers: Vec::new() })]),
        sinks: BTreeMap::from([("out".into(), SinkRecord { manifest, published: previous.map(|previous| previous.batch) })]),
        retained: BatchId::FIRST,
        drained: false,
        timings: Timings { cut_ms: 1, run_ms: 20, stage_ms: 3 },
        configuration: Checksum::of(b"configuration"),
        plan: Checksum::of(b"plan"),
    }
}
