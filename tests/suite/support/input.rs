//! Input files: bids, each a function of its number alone.

use super::place::Place;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The columns of the bids, for CREATE TABLE.
pub const COLUMNS: &str = "id BIGINT, auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP";

/// 2024-01-01T00:00:00Z in seconds.
const BASE_SECONDS: u64 = 1_704_067_200;

const CHANNELS: [&str; 4] = ["Apple", "Größe", "a \"quoted\" one", ""];

/// The formats that the tests write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Parquet,
}

/// Puts down files `first..first + files` with so many bids each, named and dated in their order.
pub fn lay_down(place: &Place, directory: &str, format: Format, files: std::ops::Range<u64>, rows: u64) {
    for number in files {
        let ids = number * rows..(number + 1) * rows;
        let (content, extension) = match format {
            Format::Json => (json(ids), "json"),
            Format::Parquet => (parquet(ids), "parquet"),
        };
        // A reader must never meet half a file: it is written under a hidden name, dated, and then renamed.
        let hidden = place.write(&format!("{directory}/.{number:05}.{extension}"), content);
        let dated = SystemTime::UNIX_EPOCH + Duration::from_secs(BASE_SECONDS + number);
        File::options().write(true).open(&hidden).unwrap().set_modified(dated).unwrap();
        std::fs::rename(&hidden, place.path(&format!("{directory}/{number:05}.{extension}"))).unwrap();
    }
}

/// The same bid for the same number, for ever.
fn price(id: u64) -> i64 {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44) as i64
}

fn auction(id: u64) -> i64 {
    price(id + 7) % 1_000
}

/// The auctions of these bids.
pub fn auctions(ids: std::ops::Range<u64>) -> impl Iterator<Item = i64> {
    ids.map(auction)
}

fn channel(id: u64) -> Option<&'static str> {
    CHANNELS.get((price(id + 13) % 5) as usize).copied()
}

fn micros(id: u64) -> i64 {
    (BASE_SECONDS * 1_000_000 + id * 1_000) as i64
}

/// Bids as lines of JSON.
pub fn json(ids: std::ops::Range<u64>) -> Vec<u8> {
    let line = |id: u64| {
        let time = chrono::DateTime::from_timestamp_micros(micros(id)).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ");
        let row = serde_json::json!({
            "id": id, "auction": auction(id), "price": price(id), "channel": channel(id), "date_time": time.to_string(),
        });
        format!("{row}\n")
    };
    ids.map(line).collect::<String>().into_bytes()
}

/// Bids as a Parquet file.
pub fn parquet(ids: std::ops::Range<u64>) -> Vec<u8> {
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(ids.clone().map(|id| id as i64).collect::<Int64Array>())),
        ("auction", Arc::new(ids.clone().map(auction).collect::<Int64Array>())),
        ("price", Arc::new(ids.clone().map(price).collect::<Int64Array>())),
        ("channel", Arc::new(ids.clone().map(channel).collect::<StringArray>())),
        ("date_time", Arc::new(TimestampMicrosecondArray::from_iter_values(ids.map(micros)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}
