//! Fractions where whole numbers belong: arrow-json would cut them off silently.
//!
//! Nearly all lines are cleared by a search for a point or an exponent that stands in a number, behind the name of a field of
//! whole numbers. Only a line where that is found, or can't be told, is parsed once more to know.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use serde_json::Value;

/// The fields of whole numbers of a schema, at any depth.
pub(super) struct WholeNumbers {
    fields: Fields,
    names: Vec<String>,
    /// Whether some of them stand in a list, or behind names that the data choose.
    unnamed: bool,
}

impl WholeNumbers {
    pub(super) fn of(schema: &Schema) -> Self {
        let mut found = Self { fields: schema.fields().clone(), names: Vec::new(), unnamed: false };
        for field in schema.fields() {
            found.collect(field, true);
        }
        found
    }

    fn collect(&mut self, field: &Field, named: bool) {
        match field.data_type() {
            DataType::Struct(fields) => fields.iter().for_each(|field| self.collect(field, true)),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
                self.collect(item, false);
                if let DataType::Struct(fields) = item.data_type() {
                    self.unnamed |=
                        matches!(field.data_type(), DataType::Map(..)) && fields.iter().any(|field| is_whole(field.data_type()));
                }
            }
            other if is_whole(other) && named => self.names.push(field.name().clone()),
            other => self.unnamed |= is_whole(other),
        }
    }

    /// # Errors
    /// If a field of whole numbers has a fraction.
    pub(super) fn check(&self, line: &[u8]) -> Result<(), ArrowError> {
        if (self.names.is_empty() && !self.unnamed) || !self.is_suspicious(line) {
            return Ok(());
        }
        let Ok(Value::Object(object)) = serde_json::from_slice(line) else { return Ok(()) };
        self.fields.iter().try_for_each(|field| check_value(field, object.get(field.name())))
    }

    fn is_suspicious(&self, line: &[u8]) -> bool {
        memchr::memchr3_iter(b'.', b'e', b'E', line).any(|at| is_in_number(line, at) && self.may_be_whole(line, at))
    }

    /// Whether the number around this byte may be a value of one of the fields.
    fn may_be_whole(&self, line: &[u8], at: usize) -> bool {
        let number = line[..at].iter().rposition(|&byte| !is_number_byte(byte)).map_or(0, |index| index + 1);
        let before = line[..number].trim_ascii_end();
        match before.last() {
            Some(b',' | b'[') => self.unnamed,
            Some(b':') => self.unnamed || self.may_be_named(before[..before.len() - 1].trim_ascii_end()),
            _ => false,
        }
    }

    fn may_be_named(&self, before_colon: &[u8]) -> bool {
        let Some((b'"', quoted)) = before_colon.split_last() else { return false };
        let Some(start) = memchr::memrchr(b'"', quoted) else { return false };
        let name = &quoted[start + 1..];
        let escaped = memchr::memchr(b'\\', name).is_some() || (start > 0 && quoted[start - 1] == b'\\');
        escaped || self.names.iter().any(|known| known.as_bytes() == name)
    }
}

fn is_whole(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_temporal()
}

fn is_number_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
}

fn is_in_number(line: &[u8], at: usize) -> bool {
    at > 0 && line[at - 1].is_ascii_digit() && line.get(at + 1).is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-'))
}

fn check_value(field: &Field, value: Option<&Value>) -> Result<(), ArrowError> {
    match (field.data_type(), value) {
        (DataType::Struct(fields), Some(Value::Object(object))) => {
            fields.iter().try_for_each(|field| check_value(field, object.get(field.name())))
        }
        (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), Some(Value::Array(values))) => {
            values.iter().try_for_each(|value| check_value(item, Some(value)))
        }
        (DataType::Map(entries, _), Some(Value::Object(object))) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => object.values().try_for_each(|value| check_value(&fields[1], Some(value))),
            _ => Ok(()),
        },
        (data_type, Some(Value::Number(number))) if is_whole(data_type) && !is_whole_number(number) => {
            Err(ArrowError::JsonError(format!("{number} is not a whole number, for the field '{}' of type {data_type}", field.name())))
        }
        _ => Ok(()),
    }
}

/// Whether a number has no fraction, and a size at which a double would still show one.
fn is_whole_number(number: &serde_json::Number) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    !number.is_f64() || number.as_f64().is_some_and(|value| value.fract() == 0.0 && value.abs() <= EXACT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use std::sync::Arc;

    fn numbers() -> WholeNumbers {
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        WholeNumbers::of(&Schema::new(vec![
            Field::new("v", DataType::Int64, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("f", DataType::Float64, true),
            Field::new("l", DataType::List(item), true),
            Field::new("s", DataType::Struct(vec![Field::new("w", DataType::Int64, true)].into()), true),
        ]))
    }

    #[test]
    fn a_fraction_is_found_wherever_whole_numbers_stand() {
        let bad = [r#"{"v":3.7}"#, r#"{"v" : -1.5e0 }"#, r#"{"t":1e-3}"#, r#"{"l":[1,2.5]}"#, r#"{"s":{"w":0.1}}"#, r#"{"\u0076":1.5}"#];
        for line in bad {
            assert!(numbers().check(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_no_fraction_passes() {
        let good = [r#"{"v":3,"f":3.7}"#, r#"{"v":3.0}"#, r#"{"v":1e3}"#, r#"{"x":3.7,"y":"v: 3.7"}"#, r#"{"f":1.5,"v":12}"#, "broken 1.5"];
        for line in good {
            assert!(numbers().check(line.as_bytes()).is_ok(), "{line}");
        }
    }
}
