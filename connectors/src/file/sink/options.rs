//! The options of a table that files are written to.

use crate::format::Format;
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use waterclock_core::options::Options;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// How files are written.
#[derive(Debug, Clone)]
pub(super) struct FileOptions {
    pub(super) csv: CsvOptions,
    /// Parquet: how pages are compressed. Default: zstd(1).
    compression: Compression,
}

/// How CSV is written: the options that CSV is read with, so that a table can be read as it was written.
#[derive(Debug, Clone)]
pub(super) struct CsvOptions {
    /// Whether the first line names the columns. Default: true.
    pub(super) has_header: bool,
    /// What stands between two values. Default: a comma.
    pub(super) delimiter: u8,
    /// What encloses a value that holds a delimiter, a quote or a line break. Default: a double quote.
    pub(super) quote: u8,
    /// What stands for null. Default: nothing.
    pub(super) null: String,
}

impl FileOptions {
    /// Takes the options of a format.
    ///
    /// # Errors
    /// `Config` for a value that can't be read, or a format that can't be written.
    pub(super) fn take(format: Format, options: &mut Options) -> Result<Self> {
        let mut taken = Self { csv: CsvOptions::default(), compression: default_compression()? };
        match format {
            Format::Csv => taken.csv = CsvOptions::take(options)?,
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

    /// How a Parquet file is written; `plain` columns have no dictionary.
    pub(super) fn parquet_properties(&self, plain: &[&str]) -> WriterProperties {
        let properties = WriterProperties::builder().set_compression(self.compression).set_created_by("waterclock".to_owned());
        let without =
            |properties: WriterPropertiesBuilder, column: &&str| properties.set_column_dictionary_enabled((*column).into(), false);
        plain.iter().fold(properties, without).build()
    }
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { has_header: true, delimiter: b',', quote: b'"', null: String::new() }
    }
}

impl CsvOptions {
    fn take(options: &mut Options) -> Result<Self> {
        let default = Self::default();
        let has_header = options.take_bool("has_header")?.unwrap_or(default.has_header);
        let quote = options.take_with("quote", byte)?.unwrap_or(default.quote);
        let delimiter = options.take_with("delimiter", byte)?.unwrap_or(default.delimiter);
        if delimiter == quote {
            return Err(Error::config("the options 'delimiter' and 'quote' of CSV must differ"));
        }
        Ok(Self { has_header, delimiter, quote, null: options.take("null_value").unwrap_or(default.null) })
    }
}

fn default_compression() -> Result<Compression> {
    compression("zstd(1)")
}

fn byte(text: &str) -> Result<u8> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if !matches!(byte, b'\n' | b'\r') => Ok(*byte),
        _ => Err(Error::config(format!("'{text}' is not a single character within a line; a tab is written \\t"))),
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

    #[test]
    fn csv_is_written_only_in_a_way_that_can_be_read() {
        let take = |key: &str, value: &str| FileOptions::take(Format::Csv, &mut Options::new("t", [(key.to_owned(), value.to_owned())]));
        assert_eq!(take("delimiter", "\\t").unwrap().csv.delimiter, b'\t');
        for (key, value) in [("delimiter", "\""), ("quote", ","), ("delimiter", "\n"), ("delimiter", "||"), ("quote", "")] {
            assert_eq!(take(key, value).unwrap_err().kind(), ErrorKind::Config, "{key} {value:?}");
        }
    }

    #[test]
    fn compressions_have_their_usual_names() {
        for name in ["none", "uncompressed", "SNAPPY", "lz4", "lz4_raw", "zstd", "zstd(3)", "gzip", "gzip(6)", "brotli(2)"] {
            assert!(compression(name).is_ok(), "{name}");
        }
        for name in ["", "zip", "zstd(99)", "snappy(1)"] {
            let error = compression(name).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains("snappy"), "{error}");
        }
    }
}
