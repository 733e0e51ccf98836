//! Reading a layer part by part.
//!
//! What flows in: the bytes of a layer, in their order. What flows out: its rows, a record batch at a time, so that a large layer is never
//! in memory as a whole. Whether the bytes are what was stored is known only behind the last of them: what was read before may be anything,
//! and counts when all is read and checked. What can fail: damaged bytes, which are `Corrupt` whatever they make of lengths and places.

use super::StateLayer;
use super::codec::table_of;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What an Arrow IPC file begins with, filled up with zeros to a whole number of words.
const MAGIC: &[u8; 8] = b"ARROW1\0\0";
/// A word of zeros.
const PADDING: [u8; WORD] = [0; WORD];
/// What messages are aligned to, and begin with: a mark and a length.
const WORD: usize = 8;
const MARK: [u8; 4] = [0xff; 4];
/// What stands behind the last message.
const END: [u8; WORD] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Reads what [`encode_layer`](super::encode_layer) or a [`LayerWriter`](super::LayerWriter) wrote. `take` is asked for the next so many
/// bytes, until all `size` were taken; `each` gets the rows in their order, and at least one part, which may be empty.
///
/// # Errors
/// `Corrupt` if the bytes are not such a file; what `take` and `each` fail with.
pub fn decode_parts(size: u64, take: &mut dyn FnMut(usize) -> Result<Bytes>, each: &mut dyn FnMut(StateLayer) -> Result<()>) -> Result<()> {
    let mut messages = Messages { take, left: size };
    if messages.take(WORD as u64)?.as_ref() != MAGIC {
        return Err(corrupt());
    }
    let mut decoder = StreamDecoder::new();
    let mut is_empty = true;
    let mut feed = |bytes: Bytes| {
        let mut bytes = Buffer::from(bytes);
        while let Some(rows) = decode(&mut decoder, &mut bytes)? {
            is_empty = false;
            each(layer(&decoder, Some(&rows))?)?;
        }
        Ok(())
    };
    while let Some(message) = messages.next()? {
        message.into_iter().try_for_each(&mut feed)?;
    }
    // The decoder looks at a message without a body when it sees what follows.
    feed(Bytes::from_static(&END))?;
    if is_empty {
        each(layer(&decoder, None)?)?;
    }
    // Where the record batches are, for those who read them in another order.
    let footer = messages.left;
    messages.take(footer).map(drop)
}

/// The messages of the stream that an Arrow IPC file is besides.
struct Messages<'a> {
    take: &'a mut dyn FnMut(usize) -> Result<Bytes>,
    left: u64,
}

impl Messages<'_> {
    fn take(&mut self, bytes: u64) -> Result<Bytes> {
        self.left = self.left.checked_sub(bytes).ok_or_else(corrupt)?;
        (self.take)(usize::try_from(bytes).or_error(ErrorKind::Corrupt, reading)?)
    }

    /// The pieces of the next message; none behind the last.
    fn next(&mut self) -> Result<Option<[Bytes; 3]>> {
        let mut start = self.take(WORD as u64)?;
        while start.as_ref() == PADDING {
            start = self.take(WORD as u64)?;
        }
        let length = start.strip_prefix(&MARK).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes).ok_or_else(corrupt)?;
        if length == 0 {
            return Ok(None);
        }
        let head = self.take(u64::from(length))?;
        let body = root_as_message(&head).map_err(|cause| corrupt().caused_by(cause.to_string()))?.bodyLength();
        let body = self.take(u64::try_from(body).or_error(ErrorKind::Corrupt, reading)?)?;
        Ok(Some([start, head, body]))
    }
}

/// The rows that end within these bytes; none once all of them are used up. The decoder panics where lengths do not fit each other.
fn decode(decoder: &mut StreamDecoder, bytes: &mut Buffer) -> Result<Option<RecordBatch>> {
    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(bytes)));
    decoded.map_err(|_| corrupt())?.or_error(ErrorKind::Corrupt, reading)
}

fn layer(decoder: &StreamDecoder, rows: Option<&RecordBatch>) -> Result<StateLayer> {
    let schema = decoder.schema().ok_or_else(corrupt)?;
    let table = table_of(&schema)?;
    match rows {
        Some(rows) => StateLayer::from_batch(table, rows),
        None => StateLayer::from_batch(table, &RecordBatch::new_empty(schema)),
    }
}

fn reading() -> String {
    "this is no layer of state, or not a whole one; restore it".into()
}

fn corrupt() -> Error {
    Error::corrupt(reading())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{LayerWriter, StateTable, decode_layer};
    use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn sample(keys: &[(Option<i64>, String)]) -> StateLayer {
        let numbers: ArrayRef = Arc::new(keys.iter().map(|(number, _)| *number).collect::<Int64Array>());
        let texts: ArrayRef = Arc::new(keys.iter().map(|(_, text)| Some(text.as_str())).collect::<StringArray>());
        let rows = RecordBatch::try_from_iter_with_nullable([("k", numbers, true), ("v", texts, true)]).unwrap();
        let removed = keys.iter().map(|(number, _)| Some(number.is_some_and(|number| number % 3 == 0))).collect::<BooleanArray>();
        StateLayer { table: StateTable::new("seen", 1), rows, removed }
    }

    /// All parts of a layer, in one.
    fn decoded(bytes: &Bytes) -> Result<StateLayer> {
        let (mut rest, mut parts) = (bytes.clone(), Vec::new());
        let mut take = |length: usize| if length <= rest.len() { Ok(rest.split_to(length)) } else { Err(corrupt()) };
        decode_parts(bytes.len() as u64, &mut take, &mut |part| {
            parts.push(part);
            Ok(())
        })?;
        assert!(rest.is_empty(), "all bytes are taken");
        let batches: Vec<RecordBatch> = parts.iter().map(|part| part.to_batch().unwrap()).collect();
        StateLayer::from_batch(parts[0].table.clone(), &concat_batches(&batches[0].schema(), &batches).unwrap())
    }

    fn encoded(parts: &[StateLayer]) -> Bytes {
        let mut writer = LayerWriter::new(&parts[0].table, &parts[0].rows.schema()).unwrap();
        parts.iter().for_each(|part| writer.write(part).unwrap());
        writer.finish().unwrap().rest
    }

    proptest! {
        #[test]
        fn part_by_part_a_layer_is_read_as_it_is_as_a_whole(
            parts in prop::collection::vec(prop::collection::vec((any::<Option<i64>>(), "[a-z]{0,9}"), 0..9), 1..6),
        ) {
            let bytes = encoded(&parts.iter().map(|part| sample(part)).collect::<Vec<_>>());
            let (back, whole) = (decoded(&bytes).unwrap(), decode_layer(bytes).unwrap());
            prop_assert_eq!((back.table, back.rows, back.removed), (whole.table, whole.rows, whole.removed));
        }
    }

    /// It is either told or makes no difference before the checksum is compared: nothing panics, and nothing is read beyond the end.
    #[test]
    fn damaged_bytes_are_corrupt_at_most() {
        let layer = sample(&[(Some(1), "one".into()), (None, "none".into()), (Some(3), "three".into())]);
        let bytes = encoded(&[layer.clone(), layer]);
        for at in 0..bytes.len() {
            for flipped in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flipped;
                if let Err(error) = decoded(&damaged.into()) {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
                }
            }
        }
    }

    #[test]
    fn cut_off_bytes_are_corrupt() {
        let bytes = encoded(&[sample(&[(Some(1), "one".into())])]);
        let body = bytes.len() - decode_footer_length(&bytes);
        for length in 0..body {
            assert_eq!(decoded(&bytes.slice(..length)).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
        }
    }

    /// How long the footer is, with its length and the magic behind it.
    fn decode_footer_length(bytes: &Bytes) -> usize {
        let end = bytes.len() - 10;
        u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize + 10
    }
}
