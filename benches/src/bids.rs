//! A directory of bids as Parquet files, made by Waterclock's own Nexmark generator.

use crate::stream::{self, Settings};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use waterclock_core::{Error, Result};

/// Into how many batches the benches cut a run.
pub const BATCHES: u64 = 20;

/// The directory; it goes away when dropped.
pub struct Bids {
    root: TempDir,
    /// How many files it has.
    pub files: u64,
    /// How many bids they hold.
    pub rows: u64,
}

impl Bids {
    /// Generates the bids among so many Nexmark events.
    ///
    /// # Errors
    /// `Unavailable` if the files can't be written.
    pub fn generate(events: u64) -> Result<Self> {
        let failed = |cause: io::Error| Error::unavailable("can't make the bench's input").caused_by(cause);
        let root = TempDir::with_prefix("waterclock-bench-").map_err(failed)?;
        let directory = root.path().join("bid");
        let sql = format!(
            "CREATE UNBOUNDED EXTERNAL TABLE bid STORED AS NEXMARK LOCATION 'nexmark://bid?events={events}&seed=1&rate=10000'
                 OPTIONS ('max_rows_per_batch' '{}');
             CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '{}/';
             INSERT INTO files SELECT * FROM bid;",
            (events * 46 / 50).div_ceil(BATCHES),
            directory.display()
        );
        stream::run(&sql, &root.path().join("generate"), &Settings { fsync: false, ..Settings::default() })?;
        let (mut files, mut rows) = (0, 0);
        for path in data_files(&directory).map_err(failed)? {
            let reader = SerializedFileReader::new(File::open(path).map_err(failed)?);
            let reader = reader.map_err(|cause| Error::internal("the generated files can't be read").caused_by(cause))?;
            rows += reader.metadata().file_metadata().num_rows() as u64;
            files += 1;
        }
        Ok(Self { root, files, rows })
    }

    /// Where the files are.
    pub fn directory(&self) -> PathBuf {
        self.root.path().join("bid")
    }

    /// A fresh place on the same disk, for output and checkpoint.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn scratch(&self) -> io::Result<TempDir> {
        TempDir::new_in(self.root.path())
    }

    /// The table of the bids in SQL, cut into [`BATCHES`] batches.
    pub fn table(&self) -> String {
        format!(
            "CREATE UNBOUNDED EXTERNAL TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
                 date_time TIMESTAMP, extra VARCHAR)
             STORED AS PARQUET LOCATION '{}/' OPTIONS ('max_files_per_batch' '{}');",
            self.directory().display(),
            self.files.div_ceil(BATCHES)
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
