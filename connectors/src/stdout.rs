//! `stdout://`: each committed batch, as a table or as JSON lines. At least once: a crash while a batch is printed prints it again.

use crate::for_each_batch::ForEachBatch;
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use waterclock_core::sink::Sink;
use waterclock_core::{ErrorKind, Result, ResultExt};

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One table per batch.
    Table,
    /// One JSON object per row and line.
    Json,
}

/// Shows rows to whoever looks at a stream of text; a sink as a [function](ForEachBatch) of each batch.
pub struct PrintSink {
    style: Style,
    writer: Mutex<Box<dyn Write + Send>>,
}

impl PrintSink {
    /// Prints on standard output.
    pub fn stdout(style: Style) -> Arc<dyn Sink> {
        Self::to(style, std::io::stdout())
    }

    /// Prints into a writer.
    pub fn to(style: Style, writer: impl Write + Send + 'static) -> Arc<dyn Sink> {
        let printer = Self { style, writer: Mutex::new(Box::new(writer)) };
        ForEachBatch::sink(move |_, batches| printer.print(batches))
    }

    fn print(&self, batches: &[RecordBatch]) -> Result<()> {
        let failed = || "can't write to standard output".to_owned();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match self.style {
            Style::Table => {
                let table = pretty_format_batches(batches).or_error(ErrorKind::Internal, || "showing rows as a table".into())?;
                writeln!(writer, "{table}").or_error(ErrorKind::Unavailable, failed)?;
            }
            Style::Json => {
                let mut lines = arrow_json::LineDelimitedWriter::new(&mut *writer);
                let written = batches.iter().try_for_each(|batch| lines.write(batch));
                written.and_then(|()| lines.finish()).or_error(ErrorKind::Unavailable, failed)?;
            }
        }
        writer.flush().or_error(ErrorKind::Unavailable, failed)
    }
}
