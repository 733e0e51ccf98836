//! The jobs that the scenarios run.

use crate::support::input::{COLUMNS, Format, lay_down};
use crate::support::output::{Files, read};
use crate::support::place::Place;
use crate::support::process::Invocation;
use std::collections::BTreeMap;

/// What all sinks of a job show: for each sink's directory its files.
pub type Shown = BTreeMap<&'static str, Files>;

/// Two sources and two sinks: JSON and Parquet in, Parquet and JSON out, one file of each source per batch.
pub struct TwoByTwo;

impl TwoByTwo {
    pub const SINKS: [&str; 2] = ["hot", "all"];

    /// A place with so many files of so many rows for each source.
    pub fn prepare(files: u64, rows: u64) -> Place {
        let place = Place::new();
        lay_down(&place, "in/web", Format::Json, 0..files, rows);
        lay_down(&place, "in/app", Format::Parquet, files..files * 2, rows);
        place.sql(&Self::sql("file://{root}/in", "file://{root}/out"));
        place
    }

    pub fn sql(input: &str, output: &str) -> String {
        format!(
            "CREATE UNBOUNDED EXTERNAL TABLE web ({COLUMNS}) STORED AS JSON LOCATION '{input}/web/'
                 OPTIONS ('max_files_per_batch' '1', 'event_time' 'date_time');
             CREATE UNBOUNDED EXTERNAL TABLE app ({COLUMNS}) STORED AS PARQUET LOCATION '{input}/app/'
                 OPTIONS ('max_files_per_batch' '1');
             CREATE EXTERNAL TABLE hot STORED AS PARQUET LOCATION '{output}/hot/';
             CREATE EXTERNAL TABLE everything STORED AS JSON LOCATION '{output}/all/';
             INSERT INTO hot SELECT auction, price, channel, date_time FROM web WHERE price % 3 = 0
                 UNION ALL SELECT auction, price * 2 AS price, upper(channel) AS channel, date_time FROM app WHERE price % 5 = 0;
             INSERT INTO everything SELECT id, coalesce(channel, '?') AS channel FROM web
                 UNION ALL SELECT id, channel FROM app WHERE id % 2 = 0;"
        )
    }

    /// What the job's sinks show now.
    pub fn shown(place: &Place) -> Shown {
        Self::SINKS.into_iter().map(|sink| (sink, read(&place.path(&format!("out/{sink}"))))).collect()
    }

    /// What they show after a run that nothing disturbed, in a place of its own.
    pub fn truth(files: u64, rows: u64) -> Shown {
        let place = Self::prepare(files, rows);
        Invocation::catch_up(&place).finish().expect(0);
        let truth = Self::shown(&place);
        for (sink, shown) in &truth {
            assert!(shown.len() as u64 >= files, "{sink} shows {} files after {files} batches", shown.len());
        }
        truth
    }
}
