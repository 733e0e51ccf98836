//! Rows into the bytes of a file.

use super::options::FileOptions;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use std::sync::Arc;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Turns rows into bytes of one file. Bytes come out when they are ready, not with every call.
pub(super) trait Encode: Send {
    /// Takes rows; appends what is ready.
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()>;

    /// Appends the rest.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

/// An encoder for a file of a format.
pub(super) fn encoder(format: Format, schema: &SchemaRef, options: &FileOptions, group_bytes: usize) -> Result<Box<dyn Encode>> {
    Ok(match format {
        Format::Json => Box::new(Json),
        Format::Text => return Err(Error::internal("lines of text are not written")),
        Format::Csv => Box::new(Csv { header: options.has_header, delimiter: options.delimiter }),
        Format::Parquet => Box::new(Parquet::new(schema, options, group_bytes)?),
        Format::Arrow => Box::new(Ipc::new(schema)?),
    })
}

/// # Errors
/// `Config` if the format can't hold a column.
pub(super) fn check(format: Format, schema: &SchemaRef) -> Result<()> {
    let nested = |kind: &DataType| kind.is_nested();
    match schema.fields().iter().find(|field| format == Format::Csv && nested(field.data_type())) {
        Some(field) => Err(Error::config(format!(
            "column '{}' is {}, which CSV can't hold; take it apart in the query, or write JSON, PARQUET or ARROW",
            field.name(),
            field.data_type()
        ))),
        None => Ok(()),
    }
}

fn failed(format: Format) -> impl FnOnce() -> String {
    move || format!("writing rows as {format}")
}

/// One object per line; nulls are left out.
struct Json;

impl Encode for Json {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut writer = arrow_json::LineDelimitedWriter::new(out);
        writer.write(rows).and_then(|()| writer.finish()).or_error(ErrorKind::Internal, failed(Format::Json))
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

struct Csv {
    /// Whether the header is still to be written.
    header: bool,
    delimiter: u8,
}

impl Encode for Csv {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let header = std::mem::take(&mut self.header);
        let mut writer = WriterBuilder::new().with_header(header).with_delimiter(self.delimiter).build(out);
        writer.write(rows).or_error(ErrorKind::Internal, failed(Format::Csv))
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

struct Parquet {
    writer: Option<ArrowWriter<Vec<u8>>>,
    /// A row group is closed when it has about so many encoded bytes: until then it is held in memory.
    group_bytes: usize,
}

impl Parquet {
    fn new(schema: &SchemaRef, options: &FileOptions, group_bytes: usize) -> Result<Self> {
        let properties = options.parquet_properties();
        let writer =
            ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties)).or_error(ErrorKind::Config, failed(Format::Parquet))?;
        Ok(Self { writer: Some(writer), group_bytes })
    }
}

impl Encode for Parquet {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Err(Error::internal("rows behind the end of a file")) };
        writer.write(rows).or_error(ErrorKind::Internal, failed(Format::Parquet))?;
        if writer.in_progress_size() >= self.group_bytes {
            writer.flush().or_error(ErrorKind::Internal, failed(Format::Parquet))?;
        }
        out.append(writer.inner_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        out.append(&mut writer.into_inner().or_error(ErrorKind::Internal, failed(Format::Parquet))?);
        Ok(())
    }
}

struct Ipc(Option<FileWriter<Vec<u8>>>);

impl Ipc {
    fn new(schema: &SchemaRef) -> Result<Self> {
        Ok(Self(Some(FileWriter::try_new(Vec::new(), schema).or_error(ErrorKind::Config, failed(Format::Arrow))?)))
    }
}

impl Encode for Ipc {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let Some(writer) = &mut self.0 else { return Err(Error::internal("rows behind the end of a file")) };
        writer.write(rows).or_error(ErrorKind::Internal, failed(Format::Arrow))?;
        out.append(writer.get_mut());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let Some(mut writer) = self.0.take() else { return Ok(()) };
        writer.finish().or_error(ErrorKind::Internal, failed(Format::Arrow))?;
        out.append(writer.get_mut());
        Ok(())
    }
}
