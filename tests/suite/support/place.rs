//! A directory of a job: inputs, outputs, checkpoint and the SQL file. It goes away with the test, unless the test fails.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A job's directory.
pub struct Place {
    root: Option<TempDir>,
}

impl Place {
    /// An empty directory.
    pub fn new() -> Self {
        Self { root: Some(TempDir::with_prefix("waterclock-test-").unwrap()) }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        self.root.as_ref().unwrap().path()
    }

    /// A path below it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A path below it, as a LOCATION.
    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// Makes a directory below it.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file below it, with the directories that it needs.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes the job's SQL file; `{root}` in it stands for this directory.
    pub fn sql(&self, text: &str) -> &Self {
        self.write("job.sql", text.replace("{root}", &self.root().display().to_string()));
        self
    }

    /// Forgets output and checkpoint, and keeps the input.
    pub fn forget_progress(&self) {
        for entry in fs::read_dir(self.root()).unwrap().map(Result::unwrap) {
            let kept = entry.file_name() == "in" || entry.file_name() == "job.sql";
            if !kept && entry.path().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }
}

/// A failed test leaves its directory behind and says where.
impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = self.root.take().unwrap().keep();
            eprintln!("the job's directory is kept: {}", kept.display());
        }
    }
}
