//! The place where a source's files are: lists them and opens them, each read conditional on the version that was listed.
//!
//! Local directories are walked here, not through the store, which hides names such as `a#1.json` that it might have made itself.
//! What is listed: every file at any depth, except below names that begin with `.` or `_`.

use super::version::FileVersion;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Component, PathBuf};
use std::sync::Arc;
use waterclock_core::storage::{Access, Location, Storage, Store, StoreOptions};
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// An opened location.
#[derive(Debug)]
pub(super) struct Directory {
    location: Location,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Local(PathBuf),
    /// A location that names one local file, which is listed under its own name.
    LocalFile(PathBuf),
    Remote(Store),
}

impl Directory {
    /// # Errors
    /// `Unavailable` if there is no such place.
    pub(super) fn open(location: &Location, options: &StoreOptions, storage: &Storage) -> Result<Self> {
        let place = match location.local_path() {
            Some(path) if path.is_file() => Place::LocalFile(path),
            _ => {
                let store = storage.open(location, options, Access::Read)?;
                match store.local_root() {
                    Some(root) => Place::Local(root.to_owned()),
                    None => Place::Remote(store),
                }
            }
        };
        Ok(Self { location: location.clone(), place })
    }

    /// A file's name for messages.
    pub(super) fn display(&self, path: &str) -> Arc<str> {
        match &self.place {
            Place::LocalFile(_) => self.location.to_string().into(),
            _ => format!("{}{path}", self.prefix()).into(),
        }
    }

    /// The path of a file from its name in messages.
    pub(super) fn path_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        match &self.place {
            Place::LocalFile(_) => name.rsplit('/').next(),
            _ => name.strip_prefix(&self.prefix()),
        }
    }

    fn prefix(&self) -> String {
        format!("{}/", self.location.to_string().trim_end_matches('/'))
    }

    /// All files, in no particular order.
    pub(super) fn list(&self) -> Result<Vec<FileVersion>> {
        match &self.place {
            Place::Local(root) => self.walk(root),
            Place::LocalFile(path) => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let metadata = std::fs::metadata(path).or_error(ErrorKind::Unavailable, || format!("can't look at {}", self.location))?;
                Ok(vec![self.local_version(name, &metadata)?])
            }
            Place::Remote(store) => Ok(store.list(None)?.iter().filter(|meta| is_visible(meta)).map(remote_version).collect()),
        }
    }

    fn walk(&self, root: &std::path::Path) -> Result<Vec<FileVersion>> {
        if !root.is_dir() {
            return Err(Error::unavailable(format!("{} is not there any more", self.location)));
        }
        let visible = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().as_encoded_bytes().first().is_some_and(|first| matches!(first, b'.' | b'_'))
        };
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(root).follow_links(true).into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => files.extend(self.walked(root, &entry)?),
                // Gone between the listing and the look: it was never there.
                Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => {}
                Err(error) => return Err(Error::unavailable(format!("can't list {}", self.location)).caused_by(error)),
            }
        }
        Ok(files)
    }

    fn walked(&self, root: &std::path::Path, entry: &walkdir::DirEntry) -> Result<Option<FileVersion>> {
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(Error::unavailable(format!("can't look at {}", entry.path().display())).caused_by(error)),
        };
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let segments: Option<Vec<&str>> = relative.components().map(|part| part.as_os_str().to_str()).collect();
        let unreadable = || Error::bad_data(format!("the file name '{}' is not UTF-8; rename the file", relative.display()));
        let path = segments.ok_or_else(unreadable)?.join("/");
        if metadata.is_file() { self.local_version(&path, &metadata).map(Some) } else { Ok(None) }
    }

    fn local_version(&self, path: &str, metadata: &std::fs::Metadata) -> Result<FileVersion> {
        let time = metadata.modified().or_error(ErrorKind::Unavailable, || format!("{} has no time", self.display(path)))?;
        let mtime = Timestamp(chrono::DateTime::<chrono::Utc>::from(time).timestamp_micros());
        Ok(FileVersion { path: path.into(), size: metadata.len(), mtime, etag: None })
    }

    /// Whether files are opened on the local file system.
    pub(super) fn is_local(&self) -> bool {
        !matches!(self.place, Place::Remote(_))
    }

    /// Opens a local file, if it is still the version that was cut.
    pub(super) fn open_local(&self, version: &FileVersion) -> Result<File> {
        let path = match &self.place {
            Place::Local(root) => root.join(self.checked(&version.path)?),
            Place::LocalFile(path) => path.clone(),
            Place::Remote(_) => return Err(Error::internal("a remote file opened as a local one")),
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.vanished(&version.path)),
            Err(error) => return Err(Error::unavailable(format!("can't read {}", self.display(&version.path))).caused_by(error)),
        };
        self.check_local(&file, version)?;
        Ok(file)
    }

    /// # Errors
    /// `BadData` if an open file is not the version that was cut.
    pub(super) fn check_local(&self, file: &File, version: &FileVersion) -> Result<()> {
        let metadata = file.metadata().or_error(ErrorKind::Unavailable, || format!("can't read {}", self.display(&version.path)))?;
        if version.is_same(&self.local_version(&version.path, &metadata)?) { Ok(()) } else { Err(self.changed(&version.path)) }
    }

    /// A path out of a record must not lead out of the directory.
    fn checked(&self, path: &str) -> Result<PathBuf> {
        let path = PathBuf::from(path);
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(Error::corrupt(format!("a record names the file '{}', outside of {}", path.display(), self.location)));
        }
        Ok(path)
    }

    /// A remote file of this version; nothing is read yet.
    pub(super) fn open_remote(self: &Arc<Self>, version: &FileVersion) -> Result<RemoteFile> {
        let path = Path::parse(&version.path).or_error(ErrorKind::Corrupt, || format!("'{}' is not the name of a file", version.path))?;
        Ok(RemoteFile { directory: Arc::clone(self), path, version: version.clone(), position: 0 })
    }

    /// That a file is not the one that was read or cut before.
    pub(super) fn changed(&self, path: &str) -> Error {
        let name = self.display(path);
        Error::bad_data(format!("{name} has changed since it was first seen; input files must not change: write new rows to a new file"))
    }

    fn vanished(&self, path: &str) -> Error {
        let name = self.display(path);
        Error::bad_data(format!("{name} has vanished before it was read to its end; put it back, unchanged"))
    }
}

fn is_visible(meta: &ObjectMeta) -> bool {
    let directory_marker = meta.size == 0 && meta.location.as_ref().is_empty();
    !directory_marker && meta.location.parts().all(|part| !part.as_ref().starts_with(['.', '_']))
}

fn remote_version(meta: &ObjectMeta) -> FileVersion {
    FileVersion {
        path: meta.location.as_ref().into(),
        size: meta.size,
        mtime: Timestamp(meta.last_modified.timestamp_micros()),
        etag: meta.e_tag.clone(),
    }
}

/// A file in an object store, read by ranges. Its [`io::Read`] and [`io::Seek`] wait on storage: for the driver's thread alone.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    directory: Arc<Directory>,
    path: Path,
    version: FileVersion,
    position: u64,
}

/// How much a sequential reader of a remote file asks for at once, in bytes.
const READ_AHEAD: u64 = 4 << 20;

impl RemoteFile {
    /// The bytes of a range, if the file is still the version that was cut.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), if_match: self.version.etag.clone(), ..GetOptions::default() };
        let store = self.store()?;
        let result = store.objects().get_opts(&self.path, options).await.map_err(|cause| self.failed(cause))?;
        // A store may name an object by more than its path below the root; which object it is was asked for.
        let found = FileVersion { path: Arc::clone(&self.version.path), ..remote_version(&result.meta) };
        if !self.version.is_same(&found) {
            return Err(self.directory.changed(&self.version.path));
        }
        result.bytes().await.map_err(|cause| self.failed(cause))
    }

    /// The bytes of a range, waited for.
    pub(super) fn range_now(&self, range: Range<u64>) -> Result<Bytes> {
        self.store()?.storage().wait(self.range(range))
    }

    fn store(&self) -> Result<&Store> {
        match &self.directory.place {
            Place::Remote(store) => Ok(store),
            _ => Err(Error::internal("a local file opened as a remote one")),
        }
    }

    fn failed(&self, cause: StoreError) -> Error {
        match cause {
            StoreError::NotFound { .. } => self.directory.vanished(&self.version.path),
            StoreError::Precondition { .. } => self.directory.changed(&self.version.path),
            cause => Error::unavailable(format!("can't read {}", self.directory.display(&self.version.path))).caused_by(cause),
        }
    }

    /// A sequential reader from a byte on, that waits on storage.
    pub(super) fn reader(self, position: u64) -> io::BufReader<Self> {
        io::BufReader::with_capacity(READ_AHEAD as usize, Self { position, ..self })
    }
}

impl io::Read for RemoteFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = (self.position + buffer.len() as u64).min(self.version.size);
        let bytes = self.range_now(self.position.min(end)..end).map_err(io::Error::other)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl io::Seek for RemoteFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(position) => Some(position),
            io::SeekFrom::End(offset) => self.version.size.checked_add_signed(offset),
            io::SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl parquet::file::reader::Length for RemoteFile {
    fn len(&self) -> u64 {
        self.version.size
    }
}

impl parquet::file::reader::ChunkReader for RemoteFile {
    type T = io::BufReader<Self>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.clone().reader(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.range_now(start..start + length as u64).map_err(|error| parquet::errors::ParquetError::External(Box::new(error)))
    }
}
