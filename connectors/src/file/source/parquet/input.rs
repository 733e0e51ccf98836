//! The bytes of a Parquet file, as its reader asks for them.

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;

/// The bytes of a file that are at hand.
#[derive(Debug)]
pub(in crate::file::source) enum Input {
    /// A local file: all of it.
    File(File),
    /// Pieces of a remote file, each with its position, ascending; and the file's size.
    Pieces(Vec<(u64, Bytes)>, u64),
}

impl Length for Input {
    fn len(&self) -> u64 {
        match self {
            Input::File(file) => Length::len(file),
            Input::Pieces(_, size) => *size,
        }
    }
}

impl ChunkReader for Input {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        match self {
            Input::File(file) => {
                let reader: BufReader<File> = file.get_read(start)?;
                Ok(Box::new(reader))
            }
            Input::Pieces(pieces, _) => Ok(Box::new(piece_from(pieces, start, 0)?.reader())),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match self {
            Input::File(file) => file.get_bytes(start, length),
            Input::Pieces(pieces, _) => Ok(piece_from(pieces, start, length)?.slice(..length)),
        }
    }
}

/// What is at hand from a position on, at least so many bytes.
fn piece_from(pieces: &[(u64, Bytes)], start: u64, length: usize) -> Result<Bytes> {
    let index = pieces.partition_point(|(position, _)| *position <= start).checked_sub(1);
    let piece = index.map(|index| &pieces[index]).and_then(|(position, bytes)| {
        let skip = usize::try_from(start - position).ok().filter(|skip| *skip <= bytes.len())?;
        Some(bytes.slice(skip..)).filter(|bytes| bytes.len() >= length)
    });
    piece.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} lie outside of the file or its column chunks")))
}

/// An input that several readers of one file share.
pub(super) struct SharedInput(pub(super) Arc<Input>);

impl Length for SharedInput {
    fn len(&self) -> u64 {
        Length::len(self.0.as_ref())
    }
}

impl ChunkReader for SharedInput {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}
