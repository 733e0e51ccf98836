//! What a table says of its files: format, text details, sizes.

use crate::format::Format;
use std::time::Duration;
use waterclock_core::options::Options;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// How files are read. Everything but the sizes comes from STORED AS and OPTIONS.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    /// Files younger than this wait. Default 0.
    pub(crate) settle_age: Duration,
    pub(crate) csv: CsvSettings,
    pub(crate) sizes: Sizes,
}

/// How CSV is written.
#[derive(Debug, Clone)]
pub(crate) struct CsvSettings {
    /// Whether the first record names the columns. Default true.
    pub(crate) has_header: bool,
    /// Default a comma.
    pub(crate) delimiter: u8,
    /// Default a double quote.
    pub(crate) quote: u8,
    /// What escapes a quote besides doubling it. Default none.
    pub(crate) escape: Option<u8>,
    /// A text that means null, besides the empty one. Default none.
    pub(crate) null: Option<regex::Regex>,
    /// Whether a quoted value may hold a line break. Default true, which is always right; where it is false, a large file is read
    /// by several tasks.
    pub(crate) newlines_in_values: bool,
}

/// Sizes that shape splits and morsels. Rows and their order do not depend on them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of stored input that one split reads, about.
    pub(crate) split: u64,
    /// The most files that one split reads.
    pub(crate) files: usize,
    /// Bytes of text that are read at once.
    pub(crate) chunk: usize,
    /// The most rows of a morsel.
    pub(crate) rows: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { split: 8 << 20, files: 256, chunk: 1 << 20, rows: 8192 }
    }
}

impl Settings {
    /// Takes the options of a table.
    pub(crate) fn take(format: Format, options: &mut Options) -> Result<Self> {
        let settle_age = options.take_duration("settle_age")?.unwrap_or_default();
        Ok(Self { settle_age, ..Self::of_text(format, options)? })
    }

    /// Takes the options of a table of text that is not in files.
    pub(crate) fn of_text(format: Format, options: &mut Options) -> Result<Self> {
        let csv = if format == Format::Csv { CsvSettings::take(options)? } else { CsvSettings::default() };
        Ok(Self { format, settle_age: Duration::ZERO, csv, sizes: Sizes::default() })
    }
}

impl Default for CsvSettings {
    fn default() -> Self {
        Self { has_header: true, delimiter: b',', quote: b'"', escape: None, null: None, newlines_in_values: true }
    }
}

impl CsvSettings {
    fn take(options: &mut Options) -> Result<Self> {
        let default = Self::default();
        Ok(Self {
            has_header: options.take_bool("has_header")?.unwrap_or(default.has_header),
            delimiter: options.take_with("delimiter", byte)?.unwrap_or(default.delimiter),
            quote: options.take_with("quote", byte)?.unwrap_or(default.quote),
            escape: options.take_with("escape", byte)?,
            null: options.take_with("null_value", null_pattern)?,
            newlines_in_values: options.take_bool("newlines_in_values")?.unwrap_or(default.newlines_in_values),
        })
    }

    /// The parser that finds fields and records.
    pub(crate) fn parser(&self) -> csv_core::Reader {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(self.delimiter).quote(self.quote).escape(self.escape);
        builder.build()
    }
}

fn byte(text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err(Error::config(format!("'{text}' is not a single character; a tab is written \\t"))),
    }
}

fn null_pattern(text: &str) -> Result<regex::Regex> {
    let pattern = format!("^(?:{})?$", regex::escape(text));
    regex::Regex::new(&pattern).or_error(ErrorKind::Config, || format!("'{text}' can't be a null value"))
}
