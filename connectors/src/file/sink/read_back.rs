//! What a batch's files hold, as the rows of JSON that the sink itself would write: so that rows of any format can be compared.

use super::encode::encoder;
use super::options::FileOptions;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::FileReader;
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io::Cursor;
use std::sync::Arc;
use waterclock_core::options::Options;
use waterclock_core::sink::{Manifest, StagedFile};
use waterclock_core::storage::Store;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// The rows of all files of a batch.
///
/// # Errors
/// `Unavailable` if a file is gone; `Corrupt` if it is not the one that was committed.
pub(super) fn rows(store: &Store, format: Format, manifest: &Manifest) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    for file in &manifest.files {
        let (path, bytes) = read(store, file)?;
        let name = store.display(&path);
        let found = lines(format, bytes).map_err(|error| error.within(format!("{name} can't be read back")))?;
        if found.len() as u64 != file.rows {
            let (found, committed) = (found.len(), file.rows);
            return Err(Error::corrupt(format!("{name} has {found} rows, and the commit record says {committed}; restore it")));
        }
        rows.extend(found);
    }
    Ok(rows)
}

/// The bytes of a file: where it was published, or, if that has not happened yet, where it was staged; it may be published between the two
/// looks.
fn read(store: &Store, file: &StagedFile) -> Result<(Path, Bytes)> {
    let published = file.published.iter();
    for path in published.clone().chain([&file.staged]).chain(published).map(|path| Path::from(path.as_str())) {
        let Some(bytes) = store.get(&path)? else { continue };
        if bytes.len() as u64 != file.bytes {
            let (name, found, committed) = (store.display(&path), bytes.len(), file.bytes);
            return Err(Error::corrupt(format!("{name} has {found} bytes, and the commit record says {committed}; restore it")));
        }
        return Ok((path, bytes));
    }
    let name = store.display(&Path::from(file.published.as_deref().unwrap_or(&file.staged)));
    Err(Error::unavailable(format!("{name} was committed and is not there any more; put it back")))
}

fn lines(format: Format, bytes: Bytes) -> Result<Vec<String>> {
    let damaged = || format!("it is no whole file of {format}");
    let text = match format {
        Format::Json => bytes.to_vec(),
        Format::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
            json(reader.or_error(ErrorKind::Corrupt, damaged)?)?
        }
        Format::Arrow => json(FileReader::try_new(Cursor::new(bytes), None).or_error(ErrorKind::Corrupt, damaged)?)?,
        Format::Csv | Format::Text => return Err(Error::internal(format!("rows of {format} have no types"))),
    };
    let text = String::from_utf8(text).or_error(ErrorKind::Corrupt, damaged)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn json(batches: impl Iterator<Item = arrow::error::Result<RecordBatch>>) -> Result<Vec<u8>> {
    let options = FileOptions::take(Format::Json, &mut Options::new("rows", []))?;
    let (mut encoder, mut out) = (encoder(Format::Json, &Arc::new(Schema::empty()), &options, usize::MAX)?, Vec::new());
    for batch in batches {
        encoder.rows(&batch.or_error(ErrorKind::Corrupt, || "it is damaged".into())?, &mut out)?;
    }
    encoder.finish(&mut out)?;
    Ok(out)
}
