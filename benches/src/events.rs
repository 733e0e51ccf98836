//! Directories of Nexmark events as Parquet files, made by Waterclock's own generator.

use crate::stream::{self, Settings};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use waterclock_core::{Error, Result};

/// Into how many batches the benches cut a run.
pub const BATCHES: u64 = 20;

/// One of Nexmark's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// 46 of 50 events.
    Bid,
    /// 3 of 50 events.
    Auction,
}

impl Table {
    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bid => "bid",
            Self::Auction => "auction",
        }
    }

    fn of_50(self) -> u64 {
        match self {
            Self::Bid => 46,
            Self::Auction => 3,
        }
    }

    fn columns(self) -> &'static str {
        match self {
            Self::Bid => "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR",
            Self::Auction => {
                "id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP,
                 expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR"
            }
        }
    }
}

/// The events of one table. The directory goes away with whoever made it.
pub struct Events {
    root: PathBuf,
    _made: Option<TempDir>,
    /// Whose they are.
    pub table: Table,
    /// How many files there are.
    pub files: u64,
    /// How many events they hold.
    pub rows: u64,
}

impl Events {
    /// Generates a table's events among so many Nexmark events, at 10,000 events per second of event time.
    ///
    /// # Errors
    /// `Unavailable` if the files can't be written.
    pub fn generate(table: Table, events: u64) -> Result<Self> {
        let failed = |cause: io::Error| Error::unavailable("can't make the bench's input").caused_by(cause);
        let made = TempDir::with_prefix("waterclock-bench-").map_err(failed)?;
        let directory = made.path().join(table.name());
        let sql = format!(
            "CREATE UNBOUNDED EXTERNAL TABLE events STORED AS NEXMARK LOCATION 'nexmark://{}?events={events}&seed=1&rate=10000'
                 OPTIONS ('max_rows_per_batch' '{}');
             CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '{}/';
             INSERT INTO files SELECT * FROM events;",
            table.name(),
            (events * table.of_50() / 50).div_ceil(BATCHES),
            directory.display()
        );
        stream::run(&sql, &made.path().join("generate"), &Settings { fsync: false, ..Settings::default() })?;
        let events = Self::open(table, made.path())?;
        Ok(Self { _made: Some(made), ..events })
    }

    /// The events of a table that were generated before, below a [root](Self::root).
    ///
    /// # Errors
    /// `Unavailable` if they are not there; `Internal` if they are damaged.
    pub fn open(table: Table, root: &Path) -> Result<Self> {
        let failed = |cause: io::Error| Error::unavailable("the bench's input can't be read").caused_by(cause);
        let (mut files, mut rows) = (0, 0);
        for path in data_files(&root.join(table.name())).map_err(failed)? {
            let reader = SerializedFileReader::new(File::open(path).map_err(failed)?);
            let reader = reader.map_err(|cause| Error::internal("the generated files can't be read").caused_by(cause))?;
            rows += reader.metadata().file_metadata().num_rows() as u64;
            files += 1;
        }
        Ok(Self { root: root.to_owned(), _made: None, table, files, rows })
    }

    /// The place that holds the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files are.
    pub fn directory(&self) -> PathBuf {
        self.root.join(self.table.name())
    }

    /// A fresh place on the same disk, for output and checkpoint.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn scratch(&self) -> io::Result<TempDir> {
        TempDir::new_in(&self.root)
    }

    /// The table in SQL, with its event time, cut into so many batches.
    pub fn definition(&self, batches: u64) -> String {
        format!(
            "CREATE UNBOUNDED EXTERNAL TABLE {} ({}) STORED AS PARQUET LOCATION '{}/'
                 OPTIONS ('max_files_per_batch' '{}', 'event_time' 'date_time', 'watermark_delay' '2 seconds');",
            self.table.name(),
            self.table.columns(),
            self.directory().display(),
            self.files.div_ceil(batches)
        )
    }
}

/// The files that readers take for data.
///
/// # Errors
/// If the directory can't be read.
pub fn data_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(['_', '.']) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
