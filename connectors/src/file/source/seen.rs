//! The seen-set: which files were read, in which version, and how far. It is checkpointed like an operator's state.

use super::version::{FileVersion, Range};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use waterclock_core::state::{StateLayer, StateTable, merge};
use waterclock_core::time::{Timestamp, Watermark};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

const TABLE: &str = "seen";

/// How far a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// To its end.
    Done,
    /// Up to this byte.
    Byte(u64),
    /// Up to this row.
    Row(u64),
}

impl Progress {
    /// How far a file was read when this part of it was, if the part does not end the file.
    pub(super) fn behind(range: Range) -> Self {
        match range {
            Range::Whole => Progress::Done,
            Range::Bytes(_, end) => Progress::Byte(end),
            Range::Rows(_, end) => Progress::Row(end),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    file: FileVersion,
    progress: Progress,
}

/// The files that were read, and what changed since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct SeenSet {
    files: HashMap<Arc<str>, Entry>,
    /// The file that was read in part; there is at most one.
    partial: Option<Arc<str>>,
    changed: BTreeSet<Arc<str>>,
}

impl SeenSet {
    /// The version of a file that was seen, if any was.
    pub(super) fn version(&self, path: &str) -> Option<&FileVersion> {
        self.files.get(path).map(|entry| &entry.file)
    }

    /// The file that was read in part, and how far.
    pub(super) fn partial(&self) -> Option<(&FileVersion, Progress)> {
        let entry = self.files.get(self.partial.as_ref()?)?;
        Some((&entry.file, entry.progress))
    }

    /// Notes how far a file was read.
    pub(super) fn note(&mut self, file: FileVersion, progress: Progress) {
        let path = Arc::clone(&file.path);
        self.partial = (progress != Progress::Done).then(|| Arc::clone(&path));
        self.changed.insert(Arc::clone(&path));
        self.files.insert(path, Entry { file, progress });
    }

    /// What changed since the last call, as a layer.
    pub(super) fn checkpoint(&mut self) -> Result<Vec<StateLayer>> {
        let changed = std::mem::take(&mut self.changed);
        let entries: Vec<&Entry> = changed.iter().filter_map(|path| self.files.get(path)).collect();
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![StateLayer::upserts(table(), encode(&entries)?)])
    }

    /// Takes the layers back.
    pub(super) fn restore(layers: &[StateLayer]) -> Result<Self> {
        let mut seen = Self::default();
        if let Some(other) = layers.iter().find(|layer| layer.table != table()) {
            return Err(Error::config(format!("a source of files has no state table '{}'", other.table.name)));
        }
        if !layers.is_empty() {
            for entry in decode(&merge(layers, true, Watermark::Unknown)?.rows)? {
                if entry.progress != Progress::Done {
                    seen.partial = Some(Arc::clone(&entry.file.path));
                }
                seen.files.insert(Arc::clone(&entry.file.path), entry);
            }
        }
        Ok(seen)
    }
}

fn table() -> StateTable {
    StateTable::new(TABLE, 1)
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("mtime", Timestamp::DATA_TYPE, false),
        Field::new("size", DataType::Int64, false),
        Field::new("etag", DataType::Utf8, true),
        Field::new("read_bytes", DataType::Int64, true),
        Field::new("read_rows", DataType::Int64, true),
    ])
}

fn encode(entries: &[&Entry]) -> Result<RecordBatch> {
    let bytes = |entry: &&Entry| if let Progress::Byte(byte) = entry.progress { Some(byte as i64) } else { None };
    let rows = |entry: &&Entry| if let Progress::Row(row) = entry.progress { Some(row as i64) } else { None };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(entries.iter().map(|entry| Some(&*entry.file.path)).collect::<StringArray>()),
        Arc::new(entries.iter().map(|entry| Some(entry.file.mtime.0)).collect::<TimestampMicrosecondArray>()),
        Arc::new(entries.iter().map(|entry| Some(entry.file.size as i64)).collect::<Int64Array>()),
        Arc::new(entries.iter().map(|entry| entry.file.etag.as_deref()).collect::<StringArray>()),
        Arc::new(entries.iter().map(bytes).collect::<Int64Array>()),
        Arc::new(entries.iter().map(rows).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).or_error(ErrorKind::Internal, || "the state of a source of files".into())
}

fn decode(rows: &RecordBatch) -> Result<Vec<Entry>> {
    if rows.schema().fields() != schema().fields() {
        return Err(Error::corrupt("the state table 'seen' has other columns than a source of files writes"));
    }
    let paths = rows.column(0).as_string::<i32>();
    let times = rows.column(1).as_primitive::<TimestampMicrosecondType>();
    let sizes = rows.column(2).as_primitive::<Int64Type>();
    let etags = rows.column(3).as_string::<i32>();
    let (bytes, read_rows) = (rows.column(4).as_primitive::<Int64Type>(), rows.column(5).as_primitive::<Int64Type>());
    let entry = |row: usize| {
        let progress = match (bytes.is_valid(row), read_rows.is_valid(row)) {
            (true, _) => Progress::Byte(bytes.value(row) as u64),
            (_, true) => Progress::Row(read_rows.value(row) as u64),
            _ => Progress::Done,
        };
        let file = FileVersion {
            path: paths.value(row).into(),
            size: sizes.value(row) as u64,
            mtime: Timestamp(times.value(row)),
            etag: etags.is_valid(row).then(|| etags.value(row).to_owned()),
        };
        Entry { file, progress }
    };
    Ok((0..rows.num_rows()).map(entry).collect())
}
