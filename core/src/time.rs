//! Event time and processing time: microseconds since 1970 in UTC, without a zone.
//!
//! Nothing in this crate asks the machine for the time. The clock that a job sees is the batch's trigger time, which the driver
//! takes once per batch and records.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The unit of times that the calendar of dates does not reach.
const BEYOND_THE_CALENDAR: &str = " us";

/// Microseconds since 1970-01-01T00:00:00Z. Serialised as ISO 8601 in UTC, with a sign before years that have not four digits; some 262,000
/// years from now, where dates end, as a number of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The type of columns of times: TIMESTAMP in SQL.
    pub const DATA_TYPE: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
    /// The earliest event time that is taken for real: the start of the year 1900.
    pub const EARLIEST_EVENT: Self = Self(-2_208_988_800_000_000);
    /// Event times from here on are taken for mistakes: the start of the year 2201.
    pub const AFTER_LATEST_EVENT: Self = Self(7_289_654_400_000_000);

    /// Whether an event time lies in the years 1900 to 2200.
    pub fn is_plausible(self) -> bool {
        Self::EARLIEST_EVENT <= self && self < Self::AFTER_LATEST_EVENT
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{}{BEYOND_THE_CALENDAR}", self.0),
        }
    }
}

/// Reads whatever [`Display`](fmt::Display) writes, and every other ISO 8601 time with a zone.
impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("'{text}' is not a time; write it as 2024-01-01T00:00:00Z");
        if let Some(micros) = text.strip_suffix(BEYOND_THE_CALENDAR) {
            return micros.parse().map(Self).or_error(ErrorKind::BadData, wrong);
        }
        // Unlike RFC 3339, this knows years with a sign.
        let time: DateTime<Utc> = text.parse().or_error(ErrorKind::BadData, wrong)?;
        Ok(Self(time.timestamp_micros()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// "Rows with an earlier event time than this are not expected any more." A watermark never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watermark {
    /// Nothing is known yet: every row is expected.
    Unknown,
    /// Rows before this time are not expected.
    At(Timestamp),
    /// The stream has ended: no row is expected.
    End,
}

impl Watermark {
    /// The watermark of rows whose latest event time is known, with a delay.
    pub fn behind(latest: Timestamp, delay: Duration) -> Self {
        let delay = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        Self::At(Timestamp(latest.0.saturating_sub(delay)))
    }
}

/// As JSON: null for unknown, a time, or "end".
impl Serialize for Watermark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Watermark::Unknown => serializer.serialize_none(),
            Watermark::At(time) => time.serialize(serializer),
            Watermark::End => serializer.serialize_str("end"),
        }
    }
}

impl<'de> Deserialize<'de> for Watermark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None => Ok(Watermark::Unknown),
            Some("end") => Ok(Watermark::End),
            Some(text) => text.parse().map(Watermark::At).map_err(serde::de::Error::custom),
        }
    }
}

/// A duration as users write it: `1s`, `100ms`, `5 seconds`, `2 minutes`. A bare number is refused, for it says no unit.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong =
        || Error::config(format!("'{text}' is not a duration; write a number and a unit, such as 100ms, 5s, 5 seconds, 10 minutes"));
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let number: f64 = text[..split].parse().map_err(|_| wrong())?;
    let seconds = match text[split..].trim().to_ascii_lowercase().as_str() {
        "us" | "microsecond" | "microseconds" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(wrong()),
    };
    let micros = (number * seconds * 1e6).round();
    if !(0.0..=9e15).contains(&micros) {
        return Err(wrong());
    }
    Ok(Duration::from_micros(micros as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn survives_json(mark: Watermark) {
        let text = serde_json::to_string(&mark).unwrap();
        assert_eq!(serde_json::from_str::<Watermark>(&text).unwrap(), mark, "{text}");
    }

    proptest! {
        #[test]
        fn every_time_is_read_as_it_is_written(any: i64, near in -300_000_000_000_000_000i64..300_000_000_000_000_000) {
            for time in [Timestamp(any), Timestamp(near)] {
                prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time, "{}", time);
                survives_json(Watermark::At(time));
            }
        }
    }

    #[test]
    fn times_around_the_ends_of_what_can_be_written_are_read() {
        let ends = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC].map(|time| time.timestamp_micros());
        let years = ["0000-01-01T00:00:00Z", "+10000-01-01T00:00:00Z", "-0001-12-31T23:59:59Z"];
        let years = years.map(|year| year.parse::<Timestamp>().unwrap().0);
        let around = |time: i64| (-2..=2).map(move |distance| Timestamp(time.saturating_add(distance)));
        for time in [i64::MIN, i64::MAX, 0].into_iter().chain(ends).chain(years).flat_map(around) {
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time, "{time}");
            survives_json(Watermark::At(time));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in ["", "us", " us", "9223372036854775808 us", "2024-01-01", "2024-01-01T00:00:00", "tomorrow"] {
            assert_eq!(wrong.parse::<Timestamp>().unwrap_err().kind(), ErrorKind::BadData, "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("5 seconds").unwrap(), Duration::from_secs(5));
        assert_eq!(parse_duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(parse_duration("1.5 m").unwrap(), Duration::from_secs(90));
        for wrong in ["", "5", "s", "-1s", "1 fortnight", "1e3s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn timestamps_and_watermarks_survive_json() {
        [Watermark::Unknown, Watermark::At(Timestamp(1_704_067_200_000_001)), Watermark::End].into_iter().for_each(survives_json);
        assert_eq!(Timestamp(1_704_067_200_000_001).to_string(), "2024-01-01T00:00:00.000001Z");
    }

    #[test]
    fn watermarks_are_ordered_from_unknown_to_end() {
        assert!(Watermark::Unknown < Watermark::At(Timestamp(i64::MIN)));
        assert!(Watermark::At(Timestamp(i64::MAX)) < Watermark::End);
    }

    #[test]
    fn absurd_times_are_recognised() {
        let at = |text: &str| Timestamp(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros());
        assert!(at("1900-01-01T00:00:00Z").is_plausible() && at("2200-12-31T23:59:59Z").is_plausible());
        assert!(!at("1899-12-31T23:59:59Z").is_plausible() && !at("2201-01-01T00:00:00Z").is_plausible());
    }
}
