//! Values of cases: times as seconds, and rows in one spelling.

use chrono::{DateTime, NaiveDateTime, SecondsFormat};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub type Row = Map<String, Value>;

/// 2024-01-01T00:00:00Z in microseconds.
const BASE_MICROS: i64 = 1_704_067_200_000_000;

/// Seconds after the base as ISO 8601. What is no number is left as it is, for cases about odd input.
pub fn to_time(value: &Value) -> Value {
    let Some(seconds) = value.as_f64() else { return value.clone() };
    let time = DateTime::from_timestamp_micros(BASE_MICROS + (seconds * 1e6).round() as i64).unwrap();
    Value::String(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// ISO 8601, with or without a zone, as seconds after the base.
fn from_time(value: &Value) -> Value {
    let Some(text) = value.as_str() else { return value.clone() };
    let plain = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc());
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).or_else(|_| plain());
    let micros = time.unwrap_or_else(|error| panic!("'{text}' is not a time: {error}")).timestamp_micros() - BASE_MICROS;
    serde_json::json!(micros as f64 / 1e6)
}

/// Rows as sorted text in which equal rows are equal: no nulls, 1.0 is 1, doubles have six digits behind the point.
pub fn canonical(rows: impl IntoIterator<Item = Row>, times: &BTreeSet<String>) -> Vec<String> {
    let text = |row: Row| {
        let fields = row.into_iter().filter(|(_, value)| !value.is_null());
        let fields = fields.map(|(key, value)| {
            let value = if times.contains(&key) { from_time(&value) } else { value };
            (key, number(value))
        });
        Value::Object(fields.collect()).to_string()
    };
    let mut rows: Vec<String> = rows.into_iter().map(text).collect();
    rows.sort();
    rows
}

fn number(value: Value) -> Value {
    match value.as_f64() {
        Some(double) if value.is_f64() && double.fract() == 0.0 && double.abs() < 1e15 => Value::from(double as i64),
        Some(double) if value.is_f64() => Value::from((double * 1e6).round() / 1e6),
        _ => value,
    }
}
