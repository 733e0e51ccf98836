//! Numbers of text that a column can't hold as they are: arrow would cut them off silently.
//!
//! - A fraction where whole numbers belong, and more digits behind the point than a DECIMAL's scale holds, unless they are zeros.
//! - A whole number written with a point or an exponent is read by way of a double: beyond 2^53 that may be another number.
//!
//! In JSON, nearly all lines are cleared by one search through many of them for a point or an exponent in a number that stands behind
//! the name of such a field and has digits too many. Only a line where that is found, or can't be told, is looked at once more, value
//! by value.

use super::{marks, scan};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::ops::Range;

/// Which fields of a schema hold numbers of so many digits behind the point, at any depth.
pub(super) struct ExactNumbers {
    fields: Fields,
    /// The least number of digits by name.
    named: HashMap<Vec<u8>, i64>,
    /// The same of those that stand in a list, or behind names that the data choose.
    unnamed: Option<i64>,
}

impl ExactNumbers {
    pub(super) fn of(schema: &Schema) -> Self {
        let mut found = Self { fields: schema.fields().clone(), named: HashMap::new(), unnamed: None };
        for field in schema.fields() {
            found.collect(field, Some(field.name()));
        }
        found
    }

    fn collect(&mut self, field: &Field, name: Option<&str>) {
        match field.data_type() {
            DataType::Struct(fields) => fields.iter().for_each(|field| self.collect(field, Some(field.name()))),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => self.collect(item, None),
            DataType::Map(entries, _) => {
                if let DataType::Struct(fields) = entries.data_type() {
                    fields.iter().for_each(|field| self.collect(field, None));
                }
            }
            other => {
                let Some(digits) = fraction_digits_of(other) else { return };
                match name {
                    Some(name) => {
                        let least = self.named.entry(name.as_bytes().to_vec()).or_insert(digits);
                        *least = digits.min(*least);
                    }
                    None => self.unnamed = Some(self.unnamed.map_or(digits, |least| digits.min(least))),
                }
            }
        }
    }

    /// # Errors
    /// If a number of these lines, each of which is one JSON object, can't be held as it is.
    pub(super) fn check(&self, lines: &[u8]) -> Result<(), ArrowError> {
        if self.named.is_empty() && self.unnamed.is_none() {
            return Ok(());
        }
        let mut checked = 0;
        marks::try_for_each(lines, |at| {
            if at >= checked && is_in_number(lines, at) && self.may_be_cut(lines, at) {
                let line = line_around(lines, at);
                checked = line.end;
                check_members(&self.fields, &lines[line])?;
            }
            Ok(())
        })
    }

    /// Whether the number around this byte, a point or an exponent's letter, may be a value that one of the fields can't hold.
    fn may_be_cut(&self, line: &[u8], at: usize) -> bool {
        let number = line[..at].iter().rposition(|&byte| !is_number_byte(byte)).map_or(0, |index| index + 1);
        let before = line[..number].strip_suffix(b"\"").unwrap_or(&line[..number]).trim_ascii_end();
        let digits = match before.last() {
            Some(b',' | b'[') => self.unnamed,
            Some(b':') => self.unnamed.into_iter().chain(self.digits_behind(before[..before.len() - 1].trim_ascii_end())).min(),
            _ => None,
        };
        digits.is_some_and(|digits| {
            let fraction = line[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let plain = line[at] == b'.' && !matches!(line.get(at + 1 + fraction), Some(b'e' | b'E'));
            // A whole number with a point is read by way of a double.
            !plain || digits == 0 || fraction as i64 > digits
        })
    }

    /// How many digits the field holds whose quoted name ends here; none if it is no such field.
    fn digits_behind(&self, before_colon: &[u8]) -> Option<i64> {
        let quoted = before_colon.strip_suffix(b"\"")?;
        let start = memchr::memrchr(b'"', quoted)?;
        let name = &quoted[start + 1..];
        let escaped = memchr::memchr(b'\\', name).is_some() || (start > 0 && quoted[start - 1] == b'\\');
        if escaped { Some(0) } else { self.named.get(name).copied() }
    }
}

/// The line that holds this byte.
fn line_around(lines: &[u8], at: usize) -> Range<usize> {
    let start = memchr::memrchr(b'\n', &lines[..at]).map_or(0, |index| index + 1);
    let end = memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |index| at + index + 1);
    start..end
}

/// Digits behind the point that a type holds; none of a type that is no exact number.
fn fraction_digits_of(data_type: &DataType) -> Option<i64> {
    match data_type {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            Some(i64::from(*scale))
        }
        other => (other.is_integer() || other.is_temporal()).then_some(0),
    }
}

fn is_number_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
}

fn is_in_number(line: &[u8], at: usize) -> bool {
    at > 0 && line[at - 1].is_ascii_digit() && line.get(at + 1).is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-'))
}

/// What arrow-json has accepted is one whole object, so that what is no such shape here was read as null.
fn check_members(fields: &Fields, object: &[u8]) -> Result<(), ArrowError> {
    for (name, value) in scan::members(object) {
        if let Some((_, field)) = fields.find(&name) {
            check_value(field, value)?;
        }
    }
    Ok(())
}

fn check_value(field: &Field, value: &[u8]) -> Result<(), ArrowError> {
    match field.data_type() {
        DataType::Struct(fields) => check_members(fields, value),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            scan::elements(value).try_for_each(|value| check_value(item, value))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => scan::members(value).try_for_each(|(_, value)| check_value(&fields[1], value)),
            _ => Ok(()),
        },
        data_type => match (fraction_digits_of(data_type), number(data_type, value)) {
            (Some(_), Some(number)) => check_number(field, number).map_err(ArrowError::JsonError),
            _ => Ok(()),
        },
    }
}

/// The text of a number. That of a decimal may stand in quotes.
fn number<'a>(data_type: &DataType, value: &'a [u8]) -> Option<&'a str> {
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).filter(|_| is_decimal(data_type));
    let text = std::str::from_utf8(quoted.unwrap_or(value)).ok()?;
    text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')).then_some(text)
}

pub(super) fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// # Errors
/// The reason, if the column can't hold the number as it is. What is no number is another's affair.
pub(super) fn check_number(field: &Field, number: &str) -> Result<(), String> {
    let data_type = field.data_type();
    let Some(digits) = fraction_digits_of(data_type) else { return Ok(()) };
    let place = || format!("for the field '{}' of type {data_type}", field.name());
    let Some(decimal) = Decimal::parse(number) else { return Ok(()) };
    match digits {
        0 if decimal.fraction_digits() > 0 => Err(format!("{number} is not a whole number, {}", place())),
        digits if decimal.fraction_digits() > digits => {
            Err(format!("{number} has more than {digits} digits behind the point, {}", place()))
        }
        _ if !is_decimal(data_type) && !decimal.is_exact_as_double(number) => {
            Err(format!("{number} can't be read exactly; write it without point and exponent, {}", place()))
        }
        _ => Ok(()),
    }
}

/// A decimal number: digits without zeros at either end, and how far the point stands to the right of them.
struct Decimal {
    digits: String,
    exponent: i64,
    /// Whether it is written with a point or an exponent.
    is_plain: bool,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let exponent = i64::from(exponent) - fraction.len() as i64 + (all.len() - digits.len()) as i64;
        Some(Self {
            digits: digits.trim_start_matches('0').to_owned(),
            exponent,
            is_plain: mantissa.len() == unsigned.len() && whole.len() == mantissa.len(),
        })
    }

    /// Digits behind the point.
    fn fraction_digits(&self) -> i64 {
        if self.digits.is_empty() { 0 } else { (-self.exponent).max(0) }
    }

    /// Whether a whole number stays the same on the way through a double.
    fn is_exact_as_double(&self, text: &str) -> bool {
        if self.is_plain || self.digits.is_empty() {
            return true;
        }
        // No whole number that a column holds has more digits.
        if self.digits.len() as i64 + self.exponent > 38 {
            return true;
        }
        let zeros = "0".repeat(usize::try_from(self.exponent).unwrap_or(0));
        let exact: Option<i128> = format!("{}{zeros}", self.digits).parse().ok();
        let double: Option<f64> = text.parse().ok();
        exact.is_none_or(|exact| double.is_some_and(|double| double.abs() as i128 == exact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn numbers() -> ExactNumbers {
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Decimal128(10, 1), true)];
        ExactNumbers::of(&Schema::new(vec![
            Field::new("v", DataType::Int64, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("f", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(10, 2), true),
            Field::new("l", DataType::List(item), true),
            Field::new(
                "s",
                DataType::Struct(vec![Field::new("w", DataType::Int64, true), Field::new("d", DataType::Decimal128(9, 3), true)].into()),
                true,
            ),
            Field::new("m", DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false), true),
        ]))
    }

    #[test]
    fn a_number_that_would_be_cut_off_is_found_wherever_it_stands() {
        let bad = [
            r#"{"v":3.7}"#,
            r#"{"v" : -1.5e0 }"#,
            r#"{"t":1e-3}"#,
            r#"{"l":[1,2.5]}"#,
            r#"{"s":{"w":0.1}}"#,
            r#"{"\u0076":1.5}"#,
            r#"{"f":1,"d":1.259}"#,
            r#"{"d":-1.259}"#,
            r#"{"d":"1.259"}"#,
            r#"{"d": 12590e-4}"#,
            r#"{"s":{"d":0.0001}}"#,
            r#"{"m":{"any \" name":0.25}}"#,
            r#"{"v":9007199254740993.0}"#,
            r#"{"v":9.007199254740993e15}"#,
        ];
        for line in bad {
            assert!(numbers().check(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn what_can_be_held_passes() {
        let good = [
            r#"{"v":3,"f":3.7}"#,
            r#"{"v":3.0}"#,
            r#"{"v":1e3}"#,
            r#"{"v":1e18}"#,
            r#"{"v":9007199254740993}"#,
            r#"{"v":9007199254740992.0}"#,
            r#"{"v":0.0e5}"#,
            r#"{"d":1.25}"#,
            r#"{"d":1.2500}"#,
            r#"{"d":"-1.250"}"#,
            r#"{"d":125e-2}"#,
            r#"{"s":{"d":0.125},"d":null}"#,
            r#"{"x":3.7,"y":"v: 3.7","z":{"v":1.5}}"#,
            r#"{"f":1.5,"v":12}"#,
            r#"{"x":[1.5,{"d":1.259}],"d":"nonsense 1.259"}"#,
        ];
        for line in good {
            assert!(numbers().check(line.as_bytes()).is_ok(), "{line}");
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["v", "t", "f", "d", "x", "\\u0076", "a \\\" b"]);
        let value = prop::sample::select(vec![
            "3",
            "3.7",
            "3.0",
            "1e3",
            "1.259",
            "1.25",
            "-1.5E0",
            "9007199254740993.0",
            r#""1.259""#,
            r#""v: 3.7 1e5""#,
            "[1.5]",
            "null",
            r#"{"v":1.5}"#,
            r#"{"w":0.1}"#,
        ]);
        let members = prop::collection::btree_map(name, value, 0..6);
        (members, " {0,70}", any::<bool>()).prop_map(|(members, spaces, crlf)| {
            let members: Vec<_> = members.into_iter().map(|(name, value)| format!("\"{name}\":{spaces}{value}")).collect();
            format!("{{{}}}{}", members.join(","), if crlf { "\r\n" } else { "\n" })
        })
    }

    proptest! {
        /// The search through many lines and its filters, against looking at every value.
        #[test]
        fn many_lines_pass_together_where_each_of_them_does(lines in prop::collection::vec(line(), 0..12)) {
            let numbers = numbers();
            let each = lines.iter().all(|line| check_members(&numbers.fields, line.as_bytes()).is_ok());
            prop_assert_eq!(numbers.check(lines.concat().as_bytes()).is_ok(), each, "{:?}", lines);
        }

        /// What passes is read by arrow as the number that is written, and what does not can't be held.
        #[test]
        fn what_passes_is_read_as_it_is(units in -99_999_999i64..99_999_999, places in 0usize..5, zeros in 0usize..3, quoted: bool) {
            let digits = format!("{:0width$}", units.abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let sign = if units < 0 { "-" } else { "" };
            let point = if places + zeros > 0 { "." } else { "" };
            let number = format!("{sign}{whole}{point}{fraction}{}", "0".repeat(zeros));
            let value = if quoted { format!("\"{number}\"") } else { number };
            let line = format!("{{\"d\":{value}}}\n");
            let hundredths = units as i128 * 100;
            let unit = 10i128.pow(places as u32);
            let schema = Arc::new(Schema::new(vec![Field::new("d", DataType::Decimal128(10, 2), true)]));
            let passes = ExactNumbers::of(&schema).check(line.as_bytes()).is_ok();
            prop_assert_eq!(passes, hundredths % unit == 0, "{}", line);
            if passes {
                let mut reader = arrow::json::ReaderBuilder::new(schema).build(line.as_bytes()).unwrap();
                let rows = reader.next().unwrap().unwrap();
                let read = arrow::array::AsArray::as_primitive::<arrow::datatypes::Decimal128Type>(rows.column(0)).value(0);
                prop_assert_eq!(read, hundredths / unit, "{}", line);
            }
        }

        #[test]
        fn a_whole_number_with_a_point_is_read_as_it_is_or_refused(value: i64) {
            let line = format!("{{\"v\":{value}.0}}\n");
            let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
            let passes = ExactNumbers::of(&schema).check(line.as_bytes()).is_ok();
            prop_assert_eq!(passes, value as f64 as i128 == i128::from(value));
        }
    }
}
