//! A layer as bytes: an Arrow IPC file, readable by any Arrow reader.
//!
//! The rows' columns come first, then `_removed`. The schema's metadata name the table and the number of key columns. A large layer has
//! several record batches, and can be written and read part by part, so that it need not be in memory as a whole.

use super::merge::have_distinct_keys;
use super::{StateLayer, StateTable};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::time::Timestamp;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

const TABLE: &str = "waterclock.table";
const KEY_COLUMNS: &str = "waterclock.key_columns";
const EXPIRES: &str = "waterclock.expires";
const REMOVED: &str = "_removed";

/// So many rows, at most, are a record batch.
const PART_ROWS: usize = 1 << 16;
/// About so many bytes are encoded at once.
const PIECE_BYTES: usize = 1 << 20;

impl StateLayer {
    /// How many bytes its rows come to, nearly.
    pub fn encoded_size(&self) -> usize {
        encoded_size(&self.rows)
    }

    /// The rows in one piece, with a last column that says which keys went.
    ///
    /// # Errors
    /// `Internal` if that column does not fit the rows.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        let mut fields: Vec<Arc<Field>> = self.rows.schema().fields().to_vec();
        fields.push(removed_field());
        let mut columns = self.rows.columns().to_vec();
        columns.push(Arc::new(self.removed.clone()) as ArrayRef);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .or_error(ErrorKind::Internal, || format!("encoding the state table '{}'", self.table.name))
    }

    /// The layer of such rows.
    ///
    /// # Errors
    /// `Corrupt` if the last column does not say which keys went.
    pub fn from_batch(table: StateTable, batch: &RecordBatch) -> Result<Self> {
        let failed = || format!("reading the state table '{}'", table.name);
        let (removed, columns) = batch.columns().split_last().ok_or_else(|| Error::corrupt(failed()))?;
        let removed: BooleanArray = removed.as_boolean_opt().ok_or_else(|| Error::corrupt(failed()))?.clone();
        let fields = batch.schema().fields()[..columns.len()].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns.to_vec(), &options);
        let rows = rows.or_error(ErrorKind::Corrupt, failed)?;
        Ok(Self { table, rows, removed })
    }
}

/// The layer as an Arrow IPC file.
pub fn encode_layer(layer: &StateLayer) -> Result<Bytes> {
    let mut writer = LayerWriter::new(&layer.table, &layer.rows.schema())?;
    writer.write(layer)?;
    Ok(writer.finish()?.rest)
}

/// A layer that is given in parts, in pieces of about a MiB: larger ones, once they are given back, stay with the thread that took them.
///
/// # Errors
/// `Internal` if the parts are of different shapes, or without any.
pub fn encode_pieces(parts: &[StateLayer]) -> Result<EncodedLayer> {
    debug_assert!(have_distinct_keys(parts), "parts of a layer have a key in common");
    let first = parts.first().ok_or_else(|| Error::internal("encoding no layer of state"))?;
    let mut writer = LayerWriter::new(&first.table, &first.rows.schema())?;
    let mut pieces = Vec::new();
    for part in parts {
        let rows = part.rows.num_rows();
        let at_once = (PIECE_BYTES * rows / part.encoded_size().max(1)).clamp(1, PART_ROWS);
        for start in (0..rows).step_by(at_once) {
            writer.write(&part.slice(start, at_once.min(rows - start)))?;
            pieces.push(writer.take());
        }
    }
    let WrittenLayer { rest, rows, expires_at } = writer.finish()?;
    pieces.push(rest);
    Ok(EncodedLayer { pieces, rows, expires_at })
}

/// How many bytes rows come to, nearly.
fn encoded_size(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Encodes a layer part by part.
pub struct LayerWriter {
    table: StateTable,
    schema: SchemaRef,
    writer: FileWriter<Vec<u8>>,
    rows: u64,
    /// When the last of the rows expires that do.
    latest: Option<Timestamp>,
    /// Whether a row stays until it is removed.
    is_kept: bool,
}

/// What was encoded.
#[derive(Debug)]
pub struct WrittenLayer {
    /// The bytes that were not yet taken.
    pub rest: Bytes,
    /// How many rows the layer has.
    pub rows: u64,
    /// As [`StateLayer::expires_at`].
    pub expires_at: Option<Timestamp>,
}

/// A layer that was encoded as a whole.
#[derive(Debug)]
pub struct EncodedLayer {
    /// Its bytes, in their order.
    pub pieces: Vec<Bytes>,
    /// How many rows it has.
    pub rows: u64,
    /// As [`StateLayer::expires_at`].
    pub expires_at: Option<Timestamp>,
}

impl LayerWriter {
    /// A layer whose rows have these columns.
    ///
    /// # Errors
    /// `Internal` if they can't be encoded.
    pub fn new(table: &StateTable, columns: &Schema) -> Result<Self> {
        let mut metadata = HashMap::from([(TABLE.to_owned(), table.name.clone()), (KEY_COLUMNS.to_owned(), table.key_columns.to_string())]);
        metadata.extend(table.expires.map(|column| (EXPIRES.to_owned(), column.to_string())));
        let mut fields: Vec<Arc<Field>> = columns.fields().to_vec();
        fields.push(removed_field());
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let writer = FileWriter::try_new(Vec::new(), &schema);
        let writer = writer.or_error(ErrorKind::Internal, || format!("encoding the state table '{}'", table.name))?;
        Ok(Self { table: table.clone(), schema, writer, rows: 0, latest: None, is_kept: false })
    }

    /// Puts rows of the layer behind those that were written before.
    ///
    /// # Errors
    /// `Internal` if they are of another shape.
    pub fn write(&mut self, part: &StateLayer) -> Result<()> {
        let failed = || format!("encoding the state table '{}'", part.table.name);
        let rows = part.to_batch()?.with_schema(Arc::clone(&self.schema)).or_error(ErrorKind::Internal, failed)?;
        let size = encoded_size(&rows);
        // Bytes of validity come to what the columns have, and the footer.
        self.writer.get_mut().reserve(size + size / 8 + (4 << 10));
        for start in (0..rows.num_rows()).step_by(PART_ROWS) {
            let part = rows.slice(start, PART_ROWS.min(rows.num_rows() - start));
            self.writer.write(&part).or_error(ErrorKind::Internal, failed)?;
        }
        if part.rows.num_rows() > 0 {
            let expires_at = part.expires_at();
            self.is_kept |= expires_at.is_none();
            self.latest = self.latest.max(expires_at);
            self.rows += part.rows.num_rows() as u64;
        }
        Ok(())
    }

    /// The bytes of what was written since the last time.
    pub fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.writer.get_mut()))
    }

    /// Says that no part follows.
    ///
    /// # Errors
    /// `Internal` if the end can't be encoded.
    pub fn finish(mut self) -> Result<WrittenLayer> {
        self.writer.finish().or_error(ErrorKind::Internal, || format!("encoding the state table '{}'", self.table.name))?;
        let expires_at = if self.is_kept { None } else { self.latest };
        Ok(WrittenLayer { rest: self.take(), rows: self.rows, expires_at })
    }
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWriter").field("table", &self.table).field("rows", &self.rows).finish_non_exhaustive()
    }
}

fn removed_field() -> Arc<Field> {
    Arc::new(Field::new(REMOVED, DataType::Boolean, false))
}

/// Reads what [`encode_layer`] or a [`LayerWriter`] wrote.
///
/// # Errors
/// `Corrupt` if the bytes are not such a file.
pub fn decode_layer(bytes: Bytes) -> Result<StateLayer> {
    let failed = || "reading a layer of state".to_owned();
    let reader = FileReader::try_new(Cursor::new(bytes), None).or_error(ErrorKind::Corrupt, failed)?;
    let schema = reader.schema();
    let table = table_of(&schema)?;
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().or_error(ErrorKind::Corrupt, failed)?;
    let batch = concat_batches(&schema, &batches).or_error(ErrorKind::Corrupt, failed)?;
    StateLayer::from_batch(table, &batch)
}

pub(super) fn table_of(schema: &Schema) -> Result<StateTable> {
    let entry = |key: &str| schema.metadata().get(key).ok_or_else(|| Error::corrupt(format!("a layer of state lacks '{key}'")));
    let name = entry(TABLE)?.clone();
    let key_columns = entry(KEY_COLUMNS)?.parse().or_error(ErrorKind::Corrupt, || format!("the state table '{name}' has no key"))?;
    if schema.fields().last().is_none_or(|field| field.name() != REMOVED) || key_columns >= schema.fields().len() {
        return Err(Error::corrupt(format!("the state table '{name}' lacks columns")));
    }
    let expires = schema.metadata().get(EXPIRES).map(|column| column.parse::<usize>());
    let expires = expires.transpose().or_error(ErrorKind::Corrupt, || format!("the state table '{name}' has no time of expiry"))?;
    if expires.is_some_and(|column| column + 1 >= schema.fields().len()) {
        return Err(Error::corrupt(format!("the state table '{name}' lacks columns")));
    }
    Ok(StateTable { name, key_columns, expires })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    fn sample() -> StateLayer {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let rows = RecordBatch::try_from_iter_with_nullable([("k", column, true)]).unwrap();
        let removed = BooleanArray::from(vec![false, true, false]);
        StateLayer { table: StateTable::new("seen", 1), rows, removed }
    }

    #[test]
    fn a_layer_survives_its_encoding() {
        let layer = sample();
        let back = decode_layer(encode_layer(&layer).unwrap()).unwrap();
        assert_eq!((back.table, back.rows, back.removed), (layer.table, layer.rows, layer.removed));
    }

    #[test]
    fn a_large_layer_is_several_parts() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2 * PART_ROWS as i64 + 9));
        let layer = StateLayer::upserts(StateTable::new("seen", 1), RecordBatch::try_from_iter([("k", keys)]).unwrap());
        let bytes = encode_layer(&layer).unwrap();
        assert_eq!(FileReader::try_new(Cursor::new(bytes.clone()), None).unwrap().num_batches(), 3);
        let pieces = encode_pieces(&[layer.slice(0, 70_000), layer.slice(70_000, 0), layer.slice(70_000, 2 * PART_ROWS + 9 - 70_000)]);
        assert_eq!(decode_layer(pieces.unwrap().pieces.concat().into()).unwrap().rows, layer.rows);
        assert_eq!(decode_layer(bytes).unwrap().rows, layer.rows);
    }

    #[test]
    fn a_cut_off_layer_is_corrupt() {
        let bytes = encode_layer(&sample()).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(decode_layer(bytes.slice(..length)).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
        }
    }
}
