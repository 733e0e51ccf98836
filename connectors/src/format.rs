//! The formats of files, for reading and writing: the word behind STORED AS, and the extension of a file's name.

use std::fmt;
use waterclock_core::{Error, Result};

/// How rows are stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Comma-separated values, by default with a header.
    Csv,
    /// Lines, each a row with the one column `value`. Only read.
    Text,
    /// Apache Parquet.
    Parquet,
    /// The Arrow IPC file format.
    Arrow,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 5] = [Format::Json, Format::Csv, Format::Text, Format::Parquet, Format::Arrow];

    /// Reads the word behind STORED AS, in any case.
    ///
    /// # Errors
    /// `Config` for a word that is not a format; the message lists the formats.
    pub fn parse(word: &str) -> Result<Self> {
        match word.to_ascii_lowercase().as_str() {
            "json" | "ndjson" | "jsonl" => Ok(Format::Json),
            "csv" => Ok(Format::Csv),
            "text" | "txt" => Ok(Format::Text),
            "parquet" => Ok(Format::Parquet),
            "arrow" | "ipc" => Ok(Format::Arrow),
            _ => Err(Error::config(format!("STORED AS '{word}' is not a format of files; there are JSON, CSV, TEXT, PARQUET and ARROW"))),
        }
    }

    /// The extension of files that are written, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Text => "txt",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    /// Whether files of this format are text, which may be compressed as a whole.
    pub fn is_text(self) -> bool {
        matches!(self, Format::Json | Format::Csv | Format::Text)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_names_its_format() {
        for format in Format::ALL {
            assert_eq!(Format::parse(&format.extension().to_uppercase()).unwrap(), format);
        }
        let error = Format::parse("avro").unwrap_err().to_string();
        assert!(error.contains("'avro'") && error.contains("PARQUET"), "{error}");
    }
}
