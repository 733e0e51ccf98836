//! `string_to_array(text, delimiter)`, the library's function, and quicker where it matters: many texts and one delimiter of one byte.
//!
//! What flows out is the same list of parts per text, null of a null, empty of an empty one.

use arrow::array::{Array, AsArray, ListArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use std::sync::Arc;

/// See the [module](self).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StringToArray(Arc<ScalarUDF>);

impl StringToArray {
    /// In place of the library's.
    pub(super) fn function(library: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self(library))
    }
}

impl ScalarUDFImpl for StringToArray {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Array(texts), ColumnarValue::Scalar(delimiter)] = arguments.args.as_slice()
            && let (Some(texts), Some(Some(delimiter))) = (texts.as_string_opt::<i32>(), delimiter.try_as_str())
            && let [delimiter] = delimiter.as_bytes()
        {
            return Ok(ColumnarValue::Array(Arc::new(split(texts, *delimiter)?)));
        }
        self.0.invoke_with_args(arguments)
    }
}

/// The parts of each text.
fn split(texts: &StringArray, delimiter: u8) -> Result<ListArray> {
    let offsets = texts.value_offsets();
    let mut parts = Parts::with_room_for((offsets[texts.len()] - offsets[0]) as usize);
    let mut ends = Vec::with_capacity(offsets.len());
    ends.push(0);
    for (row, place) in offsets.windows(2).enumerate() {
        let (start, end) = (place[0] as usize, place[1] as usize);
        if start < end && texts.is_valid(row) {
            parts.split(texts.value_data(), start, end, delimiter);
        }
        let too_many = |_| DataFusionError::Execution("string_to_array gives too many parts at once".into());
        ends.push(i32::try_from(parts.ends.len() - 1).map_err(too_many)?);
    }
    let element = Arc::new(Field::new_list_field(DataType::Utf8, true));
    Ok(ListArray::try_new(element, OffsetBuffer::new(ends.into()), Arc::new(parts.finish()?), texts.nulls().cloned())?)
}

/// So many bytes are copied at once: most parts are shorter.
const COPIED: usize = 16;

/// Parts of texts, one behind the other.
struct Parts {
    bytes: Vec<u8>,
    /// How many bytes there are so far.
    length: usize,
    ends: Vec<i32>,
}

impl Parts {
    /// For the parts of texts of so many bytes, which are never longer together.
    fn with_room_for(bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(bytes / 4 + 1);
        ends.push(0);
        Self { bytes: vec![0; bytes], length: 0, ends }
    }

    /// Adds the parts of the text that stands here in a buffer.
    // Eight bytes at once are searched in fewer steps than a call of a searching function takes for a short part.
    fn split(&mut self, buffer: &[u8], start: usize, end: usize, delimiter: u8) {
        let (eights, rest) = buffer[start..end].as_chunks::<8>();
        let (mut part, mut position) = (start, start);
        let pattern = u64::from_le_bytes([delimiter; 8]);
        for eight in eights {
            let mut found = zero_bytes(u64::from_le_bytes(*eight) ^ pattern);
            while found != 0 {
                let at = position + found.trailing_zeros() as usize / 8;
                self.push(buffer, part, at);
                part = at + 1;
                found &= found - 1;
            }
            position += 8;
        }
        for byte in rest {
            if *byte == delimiter {
                self.push(buffer, part, position);
                part = position + 1;
            }
            position += 1;
        }
        self.push(buffer, part, end);
    }

    /// Adds a part that stands here in a buffer.
    #[inline]
    fn push(&mut self, buffer: &[u8], start: usize, end: usize) {
        let length = end - start;
        match (buffer.get(start..start + COPIED), self.bytes.get_mut(self.length..self.length + COPIED)) {
            // What is copied too much lies where the next part goes.
            (Some(from), Some(to)) if length <= COPIED => to.copy_from_slice(from),
            _ => self.bytes[self.length..self.length + length].copy_from_slice(&buffer[start..end]),
        }
        self.length += length;
        self.ends.push(self.length as i32);
    }

    fn finish(mut self) -> Result<StringArray> {
        self.bytes.truncate(self.length);
        Ok(StringArray::try_new(OffsetBuffer::new(self.ends.into()), Buffer::from_vec(self.bytes), None)?)
    }
}

/// The highest bit of each byte that is zero.
fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x7f; 8]);
    !(((word & LOW) + LOW) | word | LOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::ArrayRef;
    use datafusion_common::ScalarValue;
    use datafusion_common::config::ConfigOptions;
    use proptest::prelude::*;

    fn call(function: &ScalarUDF, texts: ArrayRef, delimiter: &str) -> ArrayRef {
        let text = |name| Arc::new(Field::new(name, DataType::Utf8, true));
        let list = function.return_type(&[DataType::Utf8, DataType::Utf8]).unwrap();
        let arguments = ScalarFunctionArgs {
            number_rows: texts.len(),
            args: vec![ColumnarValue::Array(texts), ColumnarValue::Scalar(ScalarValue::from(delimiter))],
            arg_fields: vec![text("text"), text("delimiter")],
            return_field: Arc::new(Field::new("parts", list, true)),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let rows = arguments.number_rows;
        function.invoke_with_args(arguments).unwrap().into_array(rows).unwrap()
    }

    proptest! {
        /// With delimiters side by side and at both ends, nulls with and without bytes of their own, and rows of a larger array.
        #[test]
        fn it_splits_as_the_library_does(
            texts in prop::collection::vec((any::<bool>(), "[ab ,ä\u{0}\u{80}]{0,24}|[a-d]{15,18} [ ,]{0,3}"), 0..30),
            delimiter in prop::sample::select(vec![" ", ",", "\u{0}", "a", "ä", ", ", ""]),
            skipped in 0usize..4,
        ) {
            let all = StringArray::from_iter_values(texts.iter().map(|(_, text)| text));
            let valid = texts.iter().map(|(valid, _)| *valid).collect();
            let all = StringArray::new(all.offsets().clone(), all.values().clone(), Some(valid));
            let skipped = skipped.min(all.len());
            let rows: ArrayRef = Arc::new(all.slice(skipped, all.len() - skipped));
            let library = datafusion_functions_nested::string::string_to_array_udf();
            let own = StringToArray::function(Arc::clone(&library));
            prop_assert_eq!(&call(&own, Arc::clone(&rows), delimiter), &call(&library, rows, delimiter));
        }

        #[test]
        fn bytes_that_are_zero_are_found(bytes in prop::array::uniform8(prop::sample::select(vec![0u8, 1, 0x7f, 0x80, 0x81, 0xff]))) {
            let found = zero_bytes(u64::from_le_bytes(bytes)).to_le_bytes();
            prop_assert_eq!(found, bytes.map(|byte| if byte == 0 { 0x80 } else { 0 }));
        }
    }
}
