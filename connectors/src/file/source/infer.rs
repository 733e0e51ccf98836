//! Columns that are not declared, inferred from the first file that says anything.

use super::conform::normalised;
use super::directory::Directory;
use super::failed_reading;
use super::settings::Settings;
use super::text::{self, compression::Compression};
use super::version::FileVersion;
use crate::format::Format;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::FileReader;
use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;
use waterclock_core::{Error, Result};

/// How many rows of text are looked at.
const ROWS: usize = 1000;

/// # Errors
/// `Config` if there is no file yet that tells the columns.
pub(super) fn infer(directory: &Arc<Directory>, settings: &Settings) -> Result<SchemaRef> {
    let mut files = directory.list()?;
    files.sort_by(|a, b| (a.mtime, &a.path).cmp(&(b.mtime, &b.path)));
    for file in files.iter().filter(|file| file.size > 0) {
        let schema = normalised(&schema_of(directory, settings, file)?);
        if !schema.fields().is_empty() {
            return check(schema, &directory.display(&file.path));
        }
    }
    let place = directory.display("");
    Err(Error::config(format!(
        "the columns can't be inferred, for there are no rows below {place}; declare them, or put a file there first"
    )))
}

fn check(schema: Schema, name: &str) -> Result<SchemaRef> {
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::bad_data(format!("{name} has two columns named '{}'; declare the table's columns", pair[0]))),
        None => Ok(Arc::new(schema)),
    }
}

fn schema_of(directory: &Arc<Directory>, settings: &Settings, file: &FileVersion) -> Result<Schema> {
    let name = directory.display(&file.path);
    match settings.format {
        Format::Json => text::infer_json(reader(directory, file, &name)?, &name, ROWS),
        Format::Text => Ok(text::default_columns().as_ref().clone()),
        Format::Csv => text::infer_csv(reader(directory, file, &name)?, &settings.csv, &name, ROWS),
        Format::Parquet => {
            let options = ArrowReaderOptions::new();
            let metadata = if directory.is_local() {
                ArrowReaderMetadata::load(&directory.open_local(file)?, options)
            } else {
                ArrowReaderMetadata::load(&directory.open_remote(file)?, options)
            };
            Ok(metadata.map_err(|error| failed_reading(&name, "a Parquet file", error))?.schema().as_ref().clone())
        }
        Format::Arrow => {
            let schema = if directory.is_local() {
                FileReader::try_new(BufReader::new(directory.open_local(file)?), None).map(|reader| reader.schema())
            } else {
                let bytes = directory.open_remote(file)?.range_now(0..file.size)?;
                FileReader::try_new(Cursor::new(bytes), None).map(|reader| reader.schema())
            };
            Ok(schema.map_err(|error| failed_reading(&name, "an Arrow IPC file", error))?.as_ref().clone())
        }
    }
}

fn reader(directory: &Arc<Directory>, file: &FileVersion, name: &str) -> Result<Box<dyn Read + Send>> {
    let reader: Box<dyn Read + Send> =
        if directory.is_local() { Box::new(directory.open_local(file)?) } else { Box::new(directory.open_remote(file)?.reader(0)) };
    Compression::of(&file.path).decoder(reader, name)
}
