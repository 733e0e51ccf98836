//! Rows into a Parquet file.
//!
//! The first rows of a file decide which of its columns have dictionaries: a dictionary of values that hardly repeat takes more time and
//! room than the values, and is given up when it is full. A file with fewer rows than that has all of them, for they are small.

use super::encode::{Encode, failed};
use super::options::FileOptions;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use parquet::arrow::ArrowWriter;
use std::collections::HashSet;
use std::sync::Arc;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// How many rows are looked at.
const SAMPLE: usize = 4096;
/// A dictionary is worth its making if one row in so many, of those looked at, repeats a value.
const LEAST_REPEATS: usize = 8;

pub(super) struct Parquet {
    schema: SchemaRef,
    options: FileOptions,
    /// A row group is closed when it has about so many encoded bytes: until then it is held in memory.
    group_bytes: usize,
    file: File,
}

enum File {
    /// Rows that wait until there are enough to look at.
    First(Vec<RecordBatch>),
    Begun(Box<ArrowWriter<Vec<u8>>>),
    Finished,
}

impl Parquet {
    pub(super) fn new(schema: &SchemaRef, options: &FileOptions, group_bytes: usize) -> Self {
        Self { schema: Arc::clone(schema), options: options.clone(), group_bytes, file: File::First(Vec::new()) }
    }

    /// The file with its first rows.
    fn begin(&self, first: &[RecordBatch]) -> Result<Box<ArrowWriter<Vec<u8>>>> {
        let properties = self.options.parquet_properties(&hardly_repeating(&self.schema, first)?);
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties))
            .or_error(ErrorKind::Config, failed(Format::Parquet))?;
        first.iter().try_for_each(|rows| self.write(&mut writer, rows))?;
        Ok(Box::new(writer))
    }

    fn write(&self, writer: &mut ArrowWriter<Vec<u8>>, rows: &RecordBatch) -> Result<()> {
        writer.write(rows).or_error(ErrorKind::Internal, failed(Format::Parquet))?;
        if writer.in_progress_size() >= self.group_bytes {
            writer.flush().or_error(ErrorKind::Internal, failed(Format::Parquet))?;
        }
        Ok(())
    }
}

impl Encode for Parquet {
    fn rows(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.file = match std::mem::replace(&mut self.file, File::Finished) {
            File::First(mut first) => {
                first.push(rows.clone());
                let is_enough = first.iter().map(RecordBatch::num_rows).sum::<usize>() >= SAMPLE;
                if is_enough { File::Begun(self.begin(&first)?) } else { File::First(first) }
            }
            File::Begun(mut writer) => {
                self.write(&mut writer, rows)?;
                File::Begun(writer)
            }
            File::Finished => return Err(Error::internal("rows behind the end of a file")),
        };
        if let File::Begun(writer) = &mut self.file {
            out.append(writer.inner_mut());
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let writer = match std::mem::replace(&mut self.file, File::Finished) {
            File::First(first) => self.begin(&first)?,
            File::Begun(writer) => writer,
            File::Finished => return Ok(()),
        };
        out.append(&mut writer.into_inner().or_error(ErrorKind::Internal, failed(Format::Parquet))?);
        Ok(())
    }
}

/// The columns whose values hardly repeat; none if there are too few rows to tell, and none of those that are nested.
fn hardly_repeating<'a>(schema: &'a SchemaRef, first: &[RecordBatch]) -> Result<Vec<&'a str>> {
    if first.iter().map(RecordBatch::num_rows).sum::<usize>() < SAMPLE {
        return Ok(Vec::new());
    }
    let mut columns = Vec::new();
    for (index, field) in schema.fields().iter().enumerate().filter(|(_, field)| !field.data_type().is_nested()) {
        if distinct(first, index)? > SAMPLE - SAMPLE / LEAST_REPEATS {
            columns.push(field.name().as_str());
        }
    }
    Ok(columns)
}

/// How many values a column has in the first rows; none if they can't be compared.
fn distinct(first: &[RecordBatch], column: usize) -> Result<usize> {
    let looking = || "looking at the first rows of a file".to_owned();
    let Some(any) = first.first() else { return Ok(0) };
    let kind = vec![SortField::new(any.column(column).data_type().clone())];
    if !RowConverter::supports_fields(&kind) {
        return Ok(0);
    }
    let converter = RowConverter::new(kind).or_error(ErrorKind::Internal, looking)?;
    let mut values = converter.empty_rows(SAMPLE, 0);
    for rows in first {
        let count = rows.num_rows().min(SAMPLE - values.num_rows());
        converter.append(&mut values, &[rows.column(column).slice(0, count)]).or_error(ErrorKind::Internal, looking)?;
    }
    Ok(values.iter().collect::<HashSet<_>>().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;
    use waterclock_core::options::Options;

    /// Numbers and texts, each repeating and not, and lists.
    fn rows(count: i64) -> RecordBatch {
        let texts =
            |number: &dyn Fn(i64) -> i64| Arc::new(StringArray::from_iter_values((0..count).map(|row| format!("t{}", number(row)))));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..count).map(|row| Some(vec![Some(row)])));
        let columns: [(&str, ArrayRef); 5] = [
            ("unique", Arc::new(Int64Array::from_iter(0..count))),
            ("few", Arc::new(Int64Array::from_iter((0..count).map(|row| (row % 5 > 0).then_some(row % 1000))))),
            ("unique.text", texts(&|row| row)),
            ("few texts", texts(&|row| row % 1000)),
            ("list", Arc::new(lists)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn only_values_that_repeat_have_a_dictionary(
            count in prop_oneof![1..SAMPLE as i64, SAMPLE as i64..3 * SAMPLE as i64],
            pieces in prop::collection::vec(0usize..3000, 0..5),
            group_bytes in prop_oneof![1usize..2000, Just(usize::MAX)],
        ) {
            let rows = rows(count);
            let options = FileOptions::take(Format::Parquet, &mut Options::new("t", [])).unwrap();
            let (mut encoder, mut file) = (Parquet::new(&rows.schema(), &options, group_bytes), Vec::new());
            let mut start = 0;
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let piece = piece.min(rows.num_rows() - start);
                encoder.rows(&rows.slice(start, piece), &mut file).unwrap();
                start += piece;
            }
            encoder.finish(&mut file).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
            let is_large = rows.num_rows() >= SAMPLE;
            for group in reader.metadata().row_groups() {
                let dictionaries: Vec<bool> = group.columns().iter().map(|column| column.dictionary_page_offset().is_some()).collect();
                prop_assert_eq!(dictionaries, [!is_large, true, !is_large, true, true]);
            }
            let read = reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
            prop_assert_eq!(concat_batches(&rows.schema(), &read).unwrap(), rows);
        }
    }
}
