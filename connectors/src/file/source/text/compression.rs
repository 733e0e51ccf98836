//! Compressed text: told by the extension of the file's name.

use std::io::{BufRead, BufReader, Read};
use waterclock_core::{ErrorKind, Result, ResultExt};

/// How a file of text is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    /// `.gz`, of any number of members.
    Gzip,
    /// `.zst`, of any number of frames.
    Zstd,
}

impl Compression {
    /// The compression of a file, by its name.
    pub(crate) fn of(path: &str) -> Self {
        match path.rsplit_once('.') {
            Some((_, extension)) if extension.eq_ignore_ascii_case("gz") => Compression::Gzip,
            Some((_, extension)) if extension.eq_ignore_ascii_case("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// A reader of what a reader of a compressed file holds. A file of no bytes holds nothing.
    pub(crate) fn decoder(self, reader: Box<dyn Read + Send>, name: &str) -> Result<Box<dyn Read + Send>> {
        if self == Compression::None {
            return Ok(reader);
        }
        let failed = || format!("can't read {name}");
        let mut reader = BufReader::with_capacity(256 << 10, reader);
        if reader.fill_buf().or_error(ErrorKind::Unavailable, failed)?.is_empty() {
            return Ok(Box::new(reader));
        }
        Ok(match self {
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader).or_error(ErrorKind::Unavailable, failed)?),
            _ => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        })
    }
}
