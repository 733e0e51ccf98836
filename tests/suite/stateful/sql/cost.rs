//! What a batch writes follows what it changed, not what is held.

use crate::log::records;
use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;
use std::time::{Duration, SystemTime};

const CHANGED: u64 = 1_000;
/// Batches that change keys, behind the first, which makes them.
const BATCHES: u64 = 4;

/// Holds so many keys, changes so many of them in each of the batches behind, and returns the records of these.
fn run(held: u64, changed: u64) -> Vec<Value> {
    let place = Place::new();
    let file = |number: u64, keys: &mut dyn Iterator<Item = u64>| {
        let path = place.write(&format!("in/{number}.csv"), keys.map(|key| format!("{key},{number}\n")).collect::<String>());
        let dated = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200 + number);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(dated).unwrap();
    };
    file(0, &mut (0..held));
    for batch in 1..=BATCHES {
        file(batch, &mut (0..changed).map(|key| key * (held / changed)));
    }
    place.sql(
        "CREATE UNBOUNDED EXTERNAL TABLE t (k BIGINT, v BIGINT) STORED AS CSV LOCATION '{root}/in/'
             OPTIONS ('max_files_per_batch' '1', 'has_header' 'false');
         CREATE EXTERNAL TABLE sums STORED AS BLACKHOLE LOCATION 'blackhole://' OPTIONS ('mode' 'update');
         INSERT INTO sums SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k;",
    );
    Invocation::catch_up(&place).finish().expect(0);
    let records = records(&place.path("checkpoint"));
    let mut batches: Vec<Value> =
        records.iter().map(|record| serde_json::from_str(record).unwrap()).filter(|record: &Value| record["kind"] == "batch").collect();
    assert_eq!(batches.len() as u64, BATCHES + 1);
    batches.split_off(1)
}

/// A batch's layers of state.
fn layers(batch: &Value) -> Vec<&Value> {
    batch["operators"].as_object().unwrap().values().flat_map(|operator| operator["layers"].as_array().unwrap()).collect()
}

/// The bytes of the layers that are new in a batch: those in objects of its own, or in its record.
fn bytes_of(batch: &Value) -> u64 {
    let own = format!("{:020}-", batch["seq"].as_u64().unwrap());
    let new = layers(batch)
        .into_iter()
        .filter(|layer| layer.get("inline").is_some() || layer["object"].as_str().is_some_and(|path| path.contains(&own)));
    new.map(|layer| layer["bytes"].as_u64().unwrap()).sum()
}

#[test]
fn the_bytes_of_a_delta_do_not_follow_the_keys_held() {
    let written = |held| run(held, CHANGED).iter().map(bytes_of).collect::<Vec<_>>();
    let (few, many) = (written(10_000), written(200_000));
    for (batch, (few, many)) in few.iter().zip(&many).enumerate() {
        assert!(*few > 0 && *many > 0, "batch {batch} wrote state");
        assert!(many * 2 <= few * 3, "batch {batch} wrote {many} bytes with 200,000 keys held, and {few} with 10,000");
    }
}

/// Then there is nothing to merge.
#[test]
fn a_table_that_is_mostly_changed_is_stored_as_a_whole() {
    for (changed, is_whole) in [(1_000, false), (1_300, false), (1_500, true), (3_000, true)] {
        for batch in run(3_000, changed) {
            let rows: Vec<u64> = layers(&batch).iter().map(|layer| layer["rows"].as_u64().unwrap()).collect();
            assert_eq!(rows == [3_000], is_whole, "{changed} of 3,000 keys have changed: layers of {rows:?} rows");
        }
    }
}
