//! What every source must do, whatever it reads: each row once however it is cut, a cut that anyone can read again, a restart that goes on
//! where the last commit ended, and columns that do not depend on which others are asked for.

use crate::support::{Place, schema, stage};
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use waterclock_connectors::connectors;
use waterclock_connectors::rate::rate_source;
use waterclock_core::ErrorKind;
use waterclock_core::connector::{ConnectorContext, TableDefinition};
use waterclock_core::id::{BatchId, PartitionId, SourceId};
use waterclock_core::options::Options;
use waterclock_core::source::{Cut, CutLimits, OnBadRow, PartitionCut, Scan, Source, SourceSettings, Split};
use waterclock_core::state::StateLayer;
use waterclock_core::storage::Location;
use waterclock_core::time::Timestamp;

type Make<'a> = &'a dyn Fn() -> Box<dyn Source>;

fn read_columns(place: &Place, source: &dyn Source, cut: &Cut, projection: &[usize]) -> RecordBatch {
    let scan = Arc::new(Scan { projection: projection.to_vec(), filters: Vec::new(), event_time: None, watermark_only: false });
    let schema = scan.projected(&source.schema()).unwrap();
    let partitions: Vec<&PartitionId> = cut.partitions.iter().map(|range| &range.partition).collect();
    let mut batches = Vec::new();
    for split in source.splits(cut, &scan).unwrap() {
        assert!(partitions.contains(&split.partition()), "rows of a partition that is not in the cut");
        batches.extend(read_split(place, split));
    }
    join(&schema, &batches)
}

fn read_split(place: &Place, split: Box<dyn Split>) -> Vec<RecordBatch> {
    let mut morsels = place.storage.wait(split.fetch().unwrap().finish()).unwrap();
    let mut batches = Vec::new();
    while let Some(morsel) = morsels.next().unwrap() {
        assert!(morsel.bad.is_empty() && morsel.skipped.rows == 0);
        batches.push(morsel.rows);
    }
    batches
}

/// Without columns a batch is still so many rows.
fn join(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
    if schema.fields().is_empty() {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        return RecordBatch::try_new_with_options(Arc::clone(schema), Vec::<ArrayRef>::new(), &options).unwrap();
    }
    concat_batches(schema, batches).unwrap()
}

fn read(place: &Place, source: &dyn Source, cut: &Cut) -> RecordBatch {
    let all: Vec<usize> = (0..source.schema().fields().len()).collect();
    read_columns(place, source, cut, &all)
}

/// Reads to the end, restarted behind every cut as a process would be that was killed there. Returns the rows of each cut.
fn read_restarted(place: &Place, make: Make, limits: &CutLimits) -> Vec<RecordBatch> {
    let (mut layers, mut last): (Vec<StateLayer>, BTreeMap<PartitionId, PartitionCut>) = Default::default();
    let mut cuts: Vec<RecordBatch> = Vec::new();
    let mut more = true;
    loop {
        let mut source = make();
        source.restore(&layers, &last.values().cloned().collect::<Vec<_>>()).unwrap();
        source.fix_end().unwrap();
        let cut = source.cut(limits).unwrap();
        if cut.is_empty() {
            assert!(!more, "the cut before said that there was more");
            return cuts;
        }
        assert!(more, "the cut before said that it reached the end");
        more = cut.more;

        let recorded: Cut = serde_json::from_str(&serde_json::to_string(&cut).unwrap()).unwrap();
        assert_eq!(recorded, cut);
        let rows = read(place, source.as_ref(), &cut);
        assert_eq!(read(place, make().as_ref(), &recorded), rows, "a cut from a record gives other rows");
        for range in &cut.partitions {
            if let Some(before) = last.insert(range.partition.clone(), range.clone()) {
                assert_eq!(before.end, range.start, "a range does not begin where the last one ended");
            }
        }
        layers.extend(source.checkpoint().unwrap());
        cuts.push(rows);
    }
}

/// The suite, for a source with an end.
fn every_source(place: &Place, make: Make, limits: &[CutLimits]) {
    let schema = make().schema();
    let whole = join(&schema, &read_restarted(place, make, &CutLimits::default()));
    assert!(whole.num_rows() > 0);
    for limits in limits {
        let cuts = read_restarted(place, make, limits);
        assert!(cuts.len() > 1, "{limits:?} limits nothing");
        let fits = |rows: &RecordBatch| limits.max_rows.is_none_or(|most| rows.num_rows() as u64 <= most);
        assert!(cuts.iter().all(fits), "{limits:?}");
        assert_eq!(join(&schema, &cuts), whole, "{limits:?}");
    }

    let mut source = make();
    source.restore(&[], &[]).unwrap();
    source.fix_end().unwrap();
    let cut = source.cut(&CutLimits::default()).unwrap();
    let rows = read(place, source.as_ref(), &cut);
    let columns = schema.fields().len();
    for projection in (0..columns).map(|column| vec![column]).chain([Vec::new(), vec![0, columns - 1]]) {
        let part = read_columns(place, source.as_ref(), &cut, &projection);
        assert_eq!(part, rows.project(&projection).unwrap(), "{projection:?}");
    }
}

fn rows_of(counts: &[u64]) -> Vec<CutLimits> {
    counts.iter().map(|&rows| CutLimits { max_rows: Some(rows), ..CutLimits::default() }).collect()
}

fn open(place: &Place, location: &str, format: &str, columns: Option<SchemaRef>) -> Box<dyn Source> {
    let location = Location::parse(location).unwrap();
    let table = TableDefinition { name: "t".into(), columns, format: format.into(), location: location.clone(), unbounded: true };
    let settings = SourceSettings { id: SourceId::from("t"), event_time: None, limits: CutLimits::default(), on_bad_row: OnBadRow::Fail };
    let context = ConnectorContext { storage: place.storage.clone() };
    connectors().of(&location).unwrap().source(&table, &settings, &mut Options::new("t", []), &context).unwrap()
}

#[test]
fn files_that_our_sink_wrote() {
    for format in ["json", "csv", "parquet", "arrow"] {
        let (place, directory) = (Place::new(), tempfile::tempdir().unwrap());
        let out = directory.path().to_str().unwrap();
        let sink = place.files(out, format);
        sink.open(place.context("a", None)).unwrap();
        for batch in 0..3 {
            let manifest = stage(sink.as_ref(), batch, 0, &[&[1, 2, 3], &[4, 5], &[6; 20]]);
            sink.publish(BatchId(batch), &manifest).unwrap();
        }
        let files = CutLimits { max_files: Some(2), ..CutLimits::default() };
        let limits = [rows_of(&[1, 4, 26]), vec![files]].concat();
        every_source(&place, &|| open(&place, out, format, Some(schema())), &limits);
    }
}

#[test]
fn nexmark() {
    let place = Place::new();
    for kind in ["person", "auction", "bid"] {
        let location = format!("nexmark://{kind}?events=3000&seed=7&out_of_order=2s&late_share=0.1");
        let bytes = CutLimits { max_bytes: Some(5_000), ..CutLimits::default() };
        every_source(&place, &|| open(&place, &location, "nexmark", None), &[rows_of(&[11, 46]), vec![bytes]].concat());
    }
}

fn rate(location: &str, clock: fn() -> Timestamp) -> Box<dyn Source> {
    let location = Location::parse(location).unwrap();
    let table = TableDefinition { name: "t".into(), columns: None, format: "rate".into(), location, unbounded: true };
    rate_source(&table, clock).unwrap()
}

#[test]
fn rates() {
    let place = Place::new();
    let make = || rate("rate://?rows_per_second=7&rows=700", || Timestamp(1_000_000_000_000_000));
    every_source(&place, &make, &rows_of(&[1, 64, 699]));
}

#[test]
fn a_rate_gives_what_is_due_since_the_job_first_ran() {
    static NOW: AtomicI64 = AtomicI64::new(1_000_000_000_000_000);
    let place = Place::new();
    let make = || rate("rate://?rows_per_second=10", || Timestamp(NOW.load(Ordering::Relaxed)));
    let mut source = make();
    source.restore(&[], &[]).unwrap();
    assert!(source.cut(&CutLimits::default()).unwrap().is_empty(), "nothing is due at the start");

    NOW.fetch_add(1_250_000, Ordering::Relaxed);
    let first = source.cut(&CutLimits::default()).unwrap();
    let rows = read(&place, source.as_ref(), &first);
    let times: &[i64] = rows.column(1).as_primitive::<TimestampMicrosecondType>().values();
    assert_eq!(times, (0..12).map(|row| 1_000_000_000_000_000 + row * 100_000).collect::<Vec<i64>>());

    NOW.fetch_add(1_000_000, Ordering::Relaxed);
    let mut restarted = make();
    restarted.restore(&[], &first.partitions).unwrap();
    let second = restarted.cut(&CutLimits::default()).unwrap();
    let rows = read(&place, restarted.as_ref(), &second);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &(12..22).collect::<Vec<i64>>()[..]);
}

#[test]
fn a_job_keeps_its_rate() {
    let clock = || Timestamp(1_000_000_000_000_000);
    let mut source = rate("rate://?rows_per_second=7&rows=10", clock);
    source.fix_end().unwrap();
    let cut = source.cut(&CutLimits::default()).unwrap();
    let error = rate("rate://?rows_per_second=8", clock).restore(&[], &cut.partitions).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("rows_per_second=7"), "{error}");
}
