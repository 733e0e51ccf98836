//! What a reader sees in a sink's directory, read with other means than the code under test.

use arrow::json::LineDelimitedWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The published files of a sink: for each name its rows as JSON, sorted.
pub type Files = BTreeMap<String, Vec<String>>;

/// Reads what any reader of the directory takes for data: names that begin with neither `.` nor `_`.
///
/// A file must be whole whenever it is there at all, so one that can't be read fails the test.
pub fn read(directory: &Path) -> Files {
    let Ok(entries) = fs::read_dir(directory) else { return Files::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let visible = names.filter(|name| !name.starts_with(['.', '_']));
    visible.map(|name| (name.clone(), rows(&name, &fs::read(directory.join(&name)).unwrap()))).collect()
}

/// The rows of a whole file.
pub fn rows(name: &str, content: &[u8]) -> Vec<String> {
    let mut rows = match name.rsplit_once('.') {
        Some((_, "json")) => lines(name, content),
        Some((_, "parquet")) => parquet_rows(name, content),
        _ => panic!("{name} is no name that a sink gives"),
    };
    rows.sort();
    rows
}

fn lines(name: &str, content: &[u8]) -> Vec<String> {
    assert!(content.is_empty() || content.ends_with(b"\n"), "{name} is cut off");
    let text = std::str::from_utf8(content).unwrap_or_else(|error| panic!("{name}: {error}"));
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{name}: {error}")).to_string();
    text.lines().map(row).collect()
}

fn parquet_rows(name: &str, content: &[u8]) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(content))
        .and_then(|builder| builder.build())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut json = LineDelimitedWriter::new(Vec::new());
    for batch in reader {
        json.write(&batch.unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap();
    }
    lines(name, &json.into_inner())
}

/// The number of the batch that a published file belongs to.
pub fn batch_of(name: &str) -> u64 {
    let (batch, rest) = name.split_once('-').unwrap_or_else(|| panic!("{name} has no batch number"));
    let (part, _) = rest.split_once('.').unwrap_or_else(|| panic!("{name} has no extension"));
    assert!(batch.len() == 20 && part.len() == 5, "{name} is not <20 digits>-<5 digits>.<extension>");
    batch.parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rows of each batch, sorted.
pub fn by_batch(files: &Files) -> BTreeMap<u64, Vec<String>> {
    let mut batches: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (name, rows) in files {
        batches.entry(batch_of(name)).or_default().extend(rows.iter().cloned());
    }
    for rows in batches.values_mut() {
        rows.sort();
    }
    batches
}

/// Fails unless all that is visible stands in the truth, batch by batch: nothing half written, nothing twice, nothing uncommitted.
#[track_caller]
pub fn assert_part_of(visible: &Files, truth: &Files) {
    let truth = by_batch(truth);
    for (batch, rows) in by_batch(visible) {
        let mut expected = truth.get(&batch).unwrap_or_else(|| panic!("batch {batch} is visible and should not exist")).iter().peekable();
        for row in rows {
            while expected.next_if(|other| **other < row).is_some() {}
            assert!(expected.next_if(|other| **other == row).is_some(), "batch {batch} shows a row that it has not, or too often: {row}");
        }
    }
}

/// Fails unless both show the same rows in the same batches.
#[track_caller]
pub fn assert_same(found: &Files, truth: &Files) {
    let (found, truth) = (by_batch(found), by_batch(truth));
    assert_eq!(found.keys().collect::<Vec<_>>(), truth.keys().collect::<Vec<_>>(), "the batches");
    for (batch, rows) in &truth {
        let difference = rows.iter().zip(&found[batch]).find(|(expected, row)| expected != row);
        assert!(found[batch] == *rows, "batch {batch}: {} rows, not {}; first difference: {difference:?}", found[batch].len(), rows.len());
    }
}
