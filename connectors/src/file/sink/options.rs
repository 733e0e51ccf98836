//! The options of a table that files are written to.

use crate::format::Format;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use waterclock_core::options::Options;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// How files are written.
#[derive(Debug, Clone)]
pub(super) struct FileOptions {
    /// CSV: whether the first line names the columns. Default: true.
    pub(super) has_header: bool,
    /// CSV: what stands between two values. Default: a comma.
    pub(super) delimiter: u8,
    /// Parquet: how pages are compressed. Default: zstd(1).
    compression: Compression,
}

impl FileOptions {
    /// Takes the options of a format.
    ///
    /// # Errors
    /// `Config` for a value that can't be read, or a format that can't be written.
    pub(super) fn take(format: Format, options: &mut Options) -> Result<Self> {
        let mut taken = Self { has_header: true, delimiter: b',', compression: default_compression()? };
        match format {
            Format::Csv => {
                taken.has_header = options.take_bool("has_header")?.unwrap_or(true);
                taken.delimiter = options.take_with("delimiter", one_byte)?.unwrap_or(b',');
            }
            Format::Parquet => {
                if let Some(compression) = options.take_with("compression", compression)? {
                    taken.compression = compression;
                }
            }
            Format::Text => return Err(Error::config("STORED AS TEXT can be read, not written; write JSON, CSV, PARQUET or ARROW")),
            Format::Json | Format::Arrow => {}
        }
        Ok(taken)
    }

    pub(super) fn parquet_properties(&self) -> WriterProperties {
        WriterProperties::builder().set_compression(self.compression).set_created_by("waterclock".to_owned()).build()
    }
}

fn default_compression() -> Result<Compression> {
    compression("zstd(1)")
}

fn one_byte(text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Error::config(format!("'{text}' is not one ASCII character"))),
    }
}

fn compression(text: &str) -> Result<Compression> {
    let text = text.trim().to_ascii_lowercase();
    let text = match text.as_str() {
        "none" => "uncompressed",
        "zstd" => "zstd(1)",
        "gzip" => "gzip(6)",
        "brotli" => "brotli(1)",
        "lz4" => "lz4_raw",
        other => other,
    };
    text.parse().or_error(ErrorKind::Config, || {
        format!("'{text}' is not a compression; there are none, snappy, lz4, zstd, zstd(LEVEL), gzip(LEVEL), brotli(LEVEL)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_text_are_not_written() {
        let error = FileOptions::take(Format::Text, &mut Options::new("t", [])).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("PARQUET"), "{error}");
    }
}
