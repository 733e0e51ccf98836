//! What a batch writes follows what it changed, not what is held.

use crate::log::records;
use crate::support::place::Place;
use crate::support::process::Invocation;
use serde_json::Value;
use std::time::{Duration, SystemTime};

const CHANGED: u64 = 1_000;
/// Batches that change keys, behind the first, which makes them.
const BATCHES: u64 = 4;

/// Holds so many keys, changes some of them in each of the batches behind, and returns the bytes of state that each of these wrote.
fn written(held: u64) -> Vec<u64> {
    let place = Place::new();
    let file = |number: u64, keys: &mut dyn Iterator<Item = u64>| {
        let path = place.write(&format!("in/{number}.csv"), keys.map(|key| format!("{key},{number}\n")).collect::<String>());
        let dated = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200 + number);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(dated).unwrap();
    };
    file(0, &mut (0..held));
    for batch in 1..=BATCHES {
        file(batch, &mut (0..CHANGED).map(|key| key * (held / CHANGED)));
    }
    place.sql(
        "CREATE UNBOUNDED EXTERNAL TABLE t (k BIGINT, v BIGINT) STORED AS CSV LOCATION '{root}/in/'
             OPTIONS ('max_files_per_batch' '1', 'has_header' 'false');
         CREATE EXTERNAL TABLE sums STORED AS BLACKHOLE LOCATION 'blackhole://' OPTIONS ('mode' 'update');
         INSERT INTO sums SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k;",
    );
    Invocation::catch_up(&place).finish().expect(0);
    let records = records(&place.path("checkpoint"));
    let batches: Vec<Value> =
        records.iter().map(|record| serde_json::from_str(record).unwrap()).filter(|record: &Value| record["kind"] == "batch").collect();
    assert_eq!(batches.len() as u64, BATCHES + 1);
    batches[1..].iter().map(bytes_of).collect()
}

/// The bytes of the layers that are new in a batch: those in objects of its own, or in its record.
fn bytes_of(batch: &Value) -> u64 {
    let own = format!("{:020}-", batch["seq"].as_u64().unwrap());
    let operators = batch["operators"].as_object().unwrap().values();
    let layers = operators.flat_map(|operator| operator["layers"].as_array().unwrap());
    let new = layers.filter(|layer| layer.get("inline").is_some() || layer["object"].as_str().is_some_and(|path| path.contains(&own)));
    new.map(|layer| layer["bytes"].as_u64().unwrap()).sum()
}

#[test]
fn the_bytes_of_a_delta_do_not_follow_the_keys_held() {
    let (few, many) = (written(10_000), written(200_000));
    for (batch, (few, many)) in few.iter().zip(&many).enumerate() {
        assert!(*few > 0 && *many > 0, "batch {batch} wrote state");
        assert!(many * 2 <= few * 3, "batch {batch} wrote {many} bytes with 200,000 keys held, and {few} with 10,000");
    }
}
