//! Large layers in storage, piece by piece.
//!
//! What flows: the bytes of one object, in their order, so that a few MiB of it are in memory at a time, some more where the
//! store is far away. An object that is written is there
//! only once it is finished, as a whole. What can fail: the store; an object that is missing or has another size, which is `Corrupt`.

use crate::protocol::paths;
use bytes::{Bytes, BytesMut};
use crossbeam::channel::{Receiver, bounded};
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange};
use std::collections::VecDeque;
use std::io::ErrorKind::NotFound;
use std::sync::Arc;
use waterclock_core::id::{Checksum, Checksummer, Epoch};
use waterclock_core::memory::MemoryBudget;
use waterclock_core::storage::{Store, Upload};
use waterclock_core::{Error, ErrorKind, Result, ResultExt};
use xxhash_rust::xxh3::xxh3_64;

/// So many bytes are asked for in one request, of a store that is far away, and so many requests are under way at once.
const PIECE_BYTES: usize = 4 << 20;
const AHEAD: usize = 4;
/// So many bytes are read at once of a local file.
const LOCAL_PIECE_BYTES: usize = 1 << 20;
/// So many bytes wait for storage, at most.
const ON_THEIR_WAY: usize = 16 << 20;

/// The hashes of an object's pieces, once it was read and verified: when it is read again, they tell as well, and much quicker, whether it
/// is as it was.
#[derive(Debug, Default)]
pub(super) struct PieceHashes(Vec<u64>);

/// An object that is read.
pub(super) struct Reader<'a> {
    store: &'a Store,
    path: Path,
    size: u64,
    /// How many bytes of it were asked for.
    asked: u64,
    /// The pieces that were, and have not been looked at, in their order.
    under_way: VecDeque<Asked>,
    /// What was not yet taken of the last piece that has been.
    ahead: Bytes,
    verified: Verified<'a>,
}

/// A piece on its way: how many bytes it is to have, the object's size and what came.
struct Asked {
    bytes: u64,
    found: Receiver<object_store::Result<(u64, Bytes)>>,
}

/// How bytes are verified.
enum Verified<'a> {
    /// All together.
    AtTheEnd(Checksummer, &'a mut PieceHashes),
    /// Piece by piece; how many were.
    AtOnce(&'a PieceHashes, usize),
}

impl<'a> Reader<'a> {
    /// From its beginning. It is to have so many bytes. `known` is empty when it is read for the first time.
    pub(super) fn new(store: &'a Store, path: Path, size: u64, known: &'a mut PieceHashes) -> Self {
        let verified = match known.0.is_empty() {
            true => Verified::AtTheEnd(Checksummer::default(), known),
            false => Verified::AtOnce(known, 0),
        };
        Self { store, path, size, asked: 0, under_way: VecDeque::new(), ahead: Bytes::new(), verified }
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        self.store.display(&self.path)
    }

    /// The next so many bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<Bytes> {
        if self.ahead.is_empty() && length > 0 {
            self.ahead = self.piece()?;
        }
        if self.ahead.len() >= length {
            return Ok(self.ahead.split_to(length));
        }
        let mut taken = BytesMut::with_capacity(length);
        taken.extend_from_slice(&std::mem::take(&mut self.ahead));
        while taken.len() < length {
            self.ahead = self.piece()?;
            let lacking = self.ahead.len().min(length - taken.len());
            taken.extend_from_slice(&self.ahead.split_to(lacking));
        }
        Ok(taken.freeze())
    }

    /// The next piece of the object. Those behind it are asked for meanwhile.
    fn piece(&mut self) -> Result<Bytes> {
        let ahead = if self.store.local_root().is_some() { 1 } else { AHEAD };
        while self.under_way.len() < ahead && self.asked < self.size {
            self.ask();
        }
        let Some(Asked { bytes: expected, found }) = self.under_way.pop_front() else { return Err(self.cut_off()) };
        let (size, bytes) = match found.recv() {
            Ok(Ok(found)) => found,
            Ok(Err(StoreError::NotFound { .. })) => return Err(Error::corrupt("this state is missing; restore it")),
            // A range that begins behind the end is refused.
            Ok(Err(_)) if self.store.head(&self.path)?.is_some_and(|found| found.size != self.size) => return Err(self.cut_off()),
            Ok(Err(cause)) => return Err(self.store.error("read", &self.path, cause)),
            Err(_) => return Err(Error::internal("the storage thread ended while it read")),
        };
        if size != self.size || bytes.len() as u64 != expected {
            return Err(self.cut_off());
        }
        self.verify(&bytes)?;
        Ok(bytes)
    }

    /// Asks for the next piece: a local file system is asked here and now.
    fn ask(&mut self) {
        let piece = if self.store.local_root().is_some() { LOCAL_PIECE_BYTES } else { PIECE_BYTES };
        let end = self.size.min(self.asked + piece as u64);
        let range = GetOptions { range: Some(GetRange::Bounded(self.asked..end)), ..GetOptions::default() };
        let (objects, path) = (Arc::clone(self.store.objects()), self.path.clone());
        let get = async move {
            let found = objects.get_opts(&path, range).await?;
            Ok((found.meta.size, found.bytes().await?))
        };
        let (report, found) = bounded(1);
        // Nobody listens once a piece before it has failed.
        if self.store.local_root().is_some() {
            let _ = report.send(self.store.wait(get));
        } else {
            self.store.storage().spawn(async move { drop(report.send(get.await)) });
        }
        self.under_way.push_back(Asked { bytes: end - self.asked, found });
        self.asked = end;
    }

    /// Reads, and verifies, what was not yet read.
    pub(super) fn skip_rest(&mut self) -> Result<()> {
        while self.asked < self.size || !self.under_way.is_empty() {
            self.piece()?;
        }
        Ok(())
    }

    fn verify(&mut self, piece: &[u8]) -> Result<()> {
        let hash = xxh3_64(piece);
        match &mut self.verified {
            Verified::AtTheEnd(checksum, hashes) => {
                checksum.update(piece);
                hashes.0.push(hash);
            }
            Verified::AtOnce(hashes, pieces) => {
                if hashes.0.get(*pieces) != Some(&hash) {
                    return Err(Error::corrupt("this state is damaged since it was read last; restore it"));
                }
                *pieces += 1;
            }
        }
        Ok(())
    }

    fn cut_off(&self) -> Error {
        Error::corrupt(format!("this state is cut off, or has not the {} bytes that it had; restore it", self.size))
    }

    /// Whether the object has this checksum, once all bytes were taken.
    pub(super) fn is(self, checksum: &Checksum) -> bool {
        match self.verified {
            Verified::AtTheEnd(all, hashes) => {
                let is_it = all.finish() == *checksum;
                if !is_it {
                    hashes.0.clear();
                }
                is_it
            }
            Verified::AtOnce(hashes, pieces) => hashes.0.len() == pieces,
        }
    }
}

/// An object that is written.
pub(super) struct Writer {
    upload: Upload,
    on_their_way: MemoryBudget,
    checksum: Checksummer,
}

impl Writer {
    pub(super) fn new(store: &Store, path: Path) -> Self {
        let on_their_way = MemoryBudget::new(ON_THEIR_WAY);
        Self { upload: store.upload(path, &on_their_way), on_their_way, checksum: Checksummer::default() }
    }

    /// Puts bytes behind those before. Waits while storage can't keep up. A failure shows when it is finished.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.checksum.update(&bytes);
        while !self.on_their_way.has_room(bytes.len()) {
            // Room is made also by an upload that has failed. The budget itself keeps the channel open.
            let _ = self.on_their_way.released().recv();
        }
        self.upload.push(bytes);
    }

    /// Waits until it is stored. Returns its size and its checksum.
    pub(super) fn finish(self) -> Result<(u64, Checksum)> {
        let bytes = self.upload.bytes();
        self.upload.finish().wait()?;
        Ok((bytes, self.checksum.finish()))
    }

    /// Waits until nothing is left of it.
    pub(super) fn abandon(self) {
        self.upload.abandon();
    }
}

/// Removes what drivers of earlier epochs had written of objects when they were killed: a local file system keeps it, under names that
/// the store hides.
///
/// # Errors
/// `Unavailable` if the directory can't be read, or a file can't be removed.
pub(crate) fn remove_unfinished(store: &Store, current: Epoch) -> Result<()> {
    let Some(directory) = store.local_root().map(|root| root.join(paths::states().as_ref())) else { return Ok(()) };
    let failed = || format!("can't clear {}", directory.display());
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == NotFound => return Ok(()),
        entries => entries.or_error(ErrorKind::Unavailable, failed)?,
    };
    for entry in entries {
        let entry = entry.or_error(ErrorKind::Unavailable, failed)?;
        let writer = entry.file_name().to_str().and_then(paths::parse_unfinished);
        if writer.is_some_and(|writer| writer.epoch < current) {
            match std::fs::remove_file(entry.path()) {
                // Its driver was not dead, and has given it up.
                Err(error) if error.kind() == NotFound => {}
                removed => removed.or_error(ErrorKind::Unavailable, failed)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::paths::Writer as By;
    use waterclock_core::id::{Nonce, Seq};
    use waterclock_core::storage::{Access, Location, Storage, StoreOptions};

    /// In a store that is asked by whoever waits, and in one that is not.
    fn stores() -> ([Store; 2], tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let open = |location: &str| {
            let storage = Storage::builder().fsync(false).start().unwrap();
            storage.open(&Location::parse(location).unwrap(), &StoreOptions::default(), Access::Write).unwrap()
        };
        ([open(&format!("file://{}", directory.path().display())), open("memory://layers")], directory)
    }

    fn content(size: usize) -> Bytes {
        (0..size).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn what_is_written_in_pieces_is_read_in_others() {
        let (stores, _directory) = stores();
        for (store, size) in stores.iter().flat_map(|store| [0, 1000, 2 * PIECE_BYTES + 999].map(|size| (store, size))) {
            let (content, path) = (content(size), Path::from(format!("layer-{size}")));
            let mut writer = Writer::new(store, path.clone());
            content.chunks(777_777).for_each(|piece| writer.push(Bytes::copy_from_slice(piece)));
            let (bytes, checksum) = writer.finish().unwrap();
            assert_eq!((bytes, &checksum), (size as u64, &Checksum::of(&content)));
            for piece in [300, PIECE_BYTES + 7, 3 * PIECE_BYTES] {
                let mut known = PieceHashes::default();
                for _ in 0..2 {
                    let mut reader = Reader::new(store, path.clone(), bytes, &mut known);
                    for part in content.chunks(piece) {
                        assert!(reader.take(part.len()).unwrap() == part, "{size} bytes in pieces of {piece}");
                    }
                    assert_eq!(reader.take(1).unwrap_err().kind(), ErrorKind::Corrupt);
                    assert!(reader.is(&checksum));
                }
            }
        }
    }

    #[test]
    fn an_object_that_has_changed_since_it_was_read_is_corrupt() {
        let (stores, _directory) = stores();
        let (mut bytes, mut known) = (content(PIECE_BYTES + 500).to_vec(), PieceHashes::default());
        let (path, size) = (Path::from("layer"), bytes.len() as u64);
        stores[0].put(&path, bytes.clone().into()).unwrap();
        let mut reader = Reader::new(&stores[0], path.clone(), size, &mut known);
        reader.take(bytes.len()).unwrap();
        assert!(reader.is(&Checksum::of(&bytes)));
        bytes[PIECE_BYTES + 7] ^= 1;
        stores[0].put(&path, bytes.into()).unwrap();
        let mut reader = Reader::new(&stores[0], path, size, &mut known);
        reader.take(PIECE_BYTES).unwrap();
        assert_eq!(reader.take(1).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_object_that_is_missing_or_of_another_size_is_corrupt() {
        let (stores, _directory) = stores();
        for store in stores {
            store.put(&Path::from("there"), content(1000)).unwrap();
            store.put(&Path::from("empty"), Bytes::new()).unwrap();
            for (path, size) in [("missing", 1000), ("there", 999), ("there", 1001), ("there", 3 * PIECE_BYTES as u64), ("empty", 1000)] {
                let error = Reader::new(&store, Path::from(path), size, &mut PieceHashes::default()).take(10).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{path} of {size} bytes: {error}");
            }
        }
    }

    #[test]
    fn what_was_unfinished_when_its_driver_was_killed_is_removed() {
        let ([store, _], directory) = stores();
        remove_unfinished(&store, Epoch(2)).unwrap();
        let by = |epoch: u64| By { seq: Seq(7), epoch: Epoch(epoch), nonce: Nonce::from("n") };
        let objects: Vec<Path> = (1..3).flat_map(|epoch| [paths::merged(&by(epoch), 3), paths::state(&by(epoch), 0)]).collect();
        let write = |name: String| std::fs::write(directory.path().join(name), "half").unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        objects.iter().for_each(|path| write(format!("{path}#1")));
        write(objects[0].to_string());
        write("state/notes#1".into());
        remove_unfinished(&store, Epoch(2)).unwrap();
        let left = std::fs::read_dir(directory.path().join("state")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: std::collections::BTreeSet<String> = left.map(|name| format!("state/{}", name.to_string_lossy())).collect();
        let expected = [objects[0].to_string(), format!("{}#1", objects[2]), format!("{}#1", objects[3]), "state/notes#1".into()];
        assert_eq!(left, expected.into());
    }

    #[test]
    fn what_is_abandoned_leaves_nothing() {
        let (stores, directory) = stores();
        for (store, size) in stores.iter().flat_map(|store| [(store, 6), (store, 20 << 20)]) {
            let mut writer = Writer::new(store, Path::from("half"));
            content(size).chunks(1 << 20).for_each(|piece| writer.push(Bytes::copy_from_slice(piece)));
            writer.abandon();
            assert_eq!(store.list(None).unwrap(), []);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
