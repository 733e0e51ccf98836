//! What stands in a case, and how it is laid out on disk.
//!
//! ```toml
//! name, origin            # what it shows, and where the semantics come from
//! sink_mode               # append | update | complete | changelog
//! query                   # the SELECT that is written to the sink
//! time_columns            # output columns that hold timestamps, compared in seconds
//! [tables.NAME]           # columns (SQL); optionally event_time, delay, format, bounded = true (a static table), options
//! drain                   # whether the last batch ends the stream
//! [[batches]]             # rows = { table = [row, ...] }, expect = [row, ...]: a multiset; absent and null are the same;
//!                         # late: how many rows the batch drops as late; fails: words of the error that the batch fails with
//! ```
//! Times are seconds after 2024-01-01T00:00:00Z.

use crate::support::place::Place;
use crate::values::{Row, canonical, to_time};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    #[serde(rename = "origin")]
    _origin: String,
    #[serde(default = "append")]
    sink_mode: String,
    query: String,
    #[serde(default)]
    time_columns: BTreeSet<String>,
    #[serde(default)]
    pub drain: bool,
    tables: BTreeMap<String, Table>,
    pub batches: Vec<Batch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    columns: String,
    event_time: Option<String>,
    delay: Option<String>,
    format: Option<String>,
    #[serde(default)]
    bounded: bool,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    #[serde(default)]
    rows: BTreeMap<String, Vec<Row>>,
    #[serde(default)]
    expect: Vec<Row>,
    pub late: Option<u64>,
    pub fails: Option<String>,
}

fn append() -> String {
    "append".to_owned()
}

impl Case {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn is_append(&self) -> bool {
        self.sink_mode == "append"
    }

    /// Writes the job's SQL and makes its directories.
    pub fn prepare(&self, place: &Place) {
        place.directory("out");
        for name in self.tables.keys() {
            place.directory(&format!("in/{name}"));
        }
        place.sql(&self.statements());
    }

    fn statements(&self) -> String {
        let tables: String = self.tables.iter().map(|(name, table)| table.statement(name)).collect();
        format!(
            "{tables}CREATE EXTERNAL TABLE result STORED AS JSON LOCATION 'file://{{root}}/out/' OPTIONS ('mode' '{}');\n\n\
             INSERT INTO result\n{};\n",
            self.sink_mode,
            self.query.trim().trim_end_matches(';')
        )
    }

    /// Puts the files of one batch down. A static table gets a file only where there are rows.
    pub fn feed(&self, place: &Place, number: usize) {
        for (name, table) in &self.tables {
            let rows = self.batches[number].rows.get(name).map_or(&[][..], Vec::as_slice);
            if rows.is_empty() && table.bounded {
                continue;
            }
            let times = table.time_columns();
            let lines: String = rows.iter().map(|row| format!("{}\n", serde_json::Value::Object(with_times(row, &times)))).collect();
            let hidden = place.write(&format!("in/{name}/.{number:04}.json"), lines);
            std::fs::rename(&hidden, place.path(&format!("in/{name}/{number:04}.json"))).unwrap();
        }
    }

    /// The rows of files that were not there before.
    pub fn added(&self, place: &Place, seen: &mut BTreeSet<PathBuf>) -> Vec<String> {
        let mut rows = Vec::new();
        for entry in std::fs::read_dir(place.path("out")).unwrap().map(Result::unwrap) {
            let hidden = entry.file_name().to_string_lossy().starts_with(['_', '.']);
            if !hidden && seen.insert(entry.path()) {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                rows.extend(text.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()));
            }
        }
        canonical(rows, &self.time_columns)
    }

    /// The rows that these batches should give.
    pub fn expected<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>) -> Vec<String> {
        canonical(batches.into_iter().flat_map(|batch| batch.expect.iter().cloned()), &BTreeSet::new())
    }
}

impl Table {
    fn statement(&self, name: &str) -> String {
        let mut options: BTreeMap<&str, &str> = BTreeMap::new();
        if !self.bounded {
            options.insert("max_files_per_batch", "1");
        }
        if let Some(event_time) = &self.event_time {
            options.insert("event_time", event_time);
            options.insert("watermark_delay", self.delay.as_deref().unwrap_or("0 seconds"));
        }
        options.extend(self.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let options: Vec<String> = options.iter().map(|(key, value)| format!("'{key}' '{value}'")).collect();
        format!(
            "CREATE {}EXTERNAL TABLE {name} ({})\nSTORED AS {} LOCATION 'file://{{root}}/in/{name}/'{};\n\n",
            if self.bounded { "" } else { "UNBOUNDED " },
            self.columns,
            self.format.as_deref().unwrap_or("JSON"),
            if options.is_empty() { String::new() } else { format!("\nOPTIONS ({})", options.join(", ")) },
        )
    }

    /// The columns declared as TIMESTAMP.
    fn time_columns(&self) -> BTreeSet<String> {
        let words = self.columns.split(',').map(|column| column.split_whitespace().collect::<Vec<_>>());
        let times = words.filter(|words| words.get(1).is_some_and(|word| word.to_ascii_uppercase().starts_with("TIMESTAMP")));
        times.map(|words| words[0].to_owned()).collect()
    }
}

fn with_times(row: &Row, times: &BTreeSet<String>) -> Row {
    let convert = |(key, value): (&String, &serde_json::Value)| {
        let value = if times.contains(key) && !value.is_null() { to_time(value) } else { value.clone() };
        (key.clone(), value)
    };
    row.iter().map(convert).collect()
}
