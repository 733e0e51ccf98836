//! Nexmark's queries with a memory: in batches, drained, they give what DataFusion answers over all events at once.

// A panic here is a failure with a place.
#![allow(clippy::unwrap_used)]

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use std::fs;
use waterclock_benches::events::{Events, Table, data_files};
use waterclock_benches::one_shot::OneShot;
use waterclock_benches::queries::STATEFUL;
use waterclock_benches::stream::{self, Settings};

/// 15 seconds of event time: some windows close on the way, the others at the end.
const EVENTS: u64 = 150_000;

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut json = LineDelimitedWriter::new(Vec::new());
    batches.iter().for_each(|batch| json.write(batch).unwrap());
    let text = String::from_utf8(json.into_inner()).unwrap();
    sorted(text.lines().map(str::to_owned).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn queries_with_a_memory_give_the_answer_over_all_events() {
    let (bids, auctions) = (Events::generate(Table::Bid, EVENTS).unwrap(), Events::generate(Table::Auction, EVENTS).unwrap());
    let one_shot = OneShot::open([&bids, &auctions], 2).unwrap();
    for (query, batches) in STATEFUL.into_iter().flat_map(|query| [(query, 1), (query, 7)]) {
        let events = if query.table == Table::Bid { &bids } else { &auctions };
        let scratch = events.scratch().unwrap();
        let (output, mode) = (scratch.path().join("out"), if query.mode == "update" { "complete" } else { query.mode });
        let sql = format!(
            "{} CREATE EXTERNAL TABLE result STORED AS JSON LOCATION '{}/' OPTIONS ('mode' '{mode}'); INSERT INTO result {};",
            events.definition(batches),
            output.display(),
            query.sql
        );
        stream::run(&sql, &scratch.path().join("checkpoint"), &Settings { drain: true, fsync: false, ..Settings::default() }).unwrap();
        let mut files: Vec<String> = data_files(&output).unwrap().into_iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        // The last full result counts.
        let found = if mode == "complete" { files.pop().unwrap() } else { files.concat() };
        let answer = lines(&one_shot.rows(query.one_shot).unwrap());
        assert!(!answer.is_empty(), "{} has an answer", query.name);
        assert!(sorted(found.lines().map(str::to_owned).collect()) == answer, "{} differs in {batches} batches", query.name);
    }
}
