//! How functions stand in a plan: names, keys, columns of state, fingerprints, and what is refused.

use super::machine::{Machine, Row, built, columns, factories, source};
use crate::support::{NoSink, assert_says};
use arrow::datatypes::DataType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use waterclock_core::expressions::{cast, col, count_all, lit, tumbling};
use waterclock_core::pipeline::Stream;
use waterclock_core::process::{ListState, MapState, ProcessContext, ProcessFunction, States, Timer, Ttl, ValueState};
use waterclock_core::sink::SinkMode;
use waterclock_core::time::Watermark;
use waterclock_core::{ErrorKind, Result};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Last {
    ts: i64,
    words: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sum {
    k: i64,
    sum: i64,
}

/// A state of each kind.
struct Kinds {
    last: ValueState<Last>,
    values: ListState<i64>,
    odd: MapState<String, BTreeMap<String, i64>>,
}

impl Kinds {
    fn new(states: &mut States) -> Self {
        Self {
            last: states.value("last"),
            values: states.list("values"),
            odd: states.ttl(Ttl::event_time(Duration::from_secs(1))).map("odd"),
        }
    }
}

impl ProcessFunction for Kinds {
    type Key = i64;
    type Input = Row;
    type Output = Sum;

    fn process(&self, key: &i64, row: Row, context: &mut ProcessContext<'_, Sum>) -> Result<()> {
        self.last.set(context, Last { ts: row.ts, words: vec![format!("word {}", row.v)] })?;
        self.values.push(context, row.v)?;
        self.odd.insert(context, format!("at {}", row.ts), BTreeMap::from([("v".to_owned(), row.v)]))?;
        context.emit(Sum { k: *key, sum: self.values.iter(context).sum() });
        context.set_timer(Timer::event_time(row.ts + 100))
    }
}

#[test]
fn state_is_tables_that_say_what_they_hold() {
    let mut machine = Machine::of(Kinds::new);
    let rows = [Row { k: 1, ts: 5, v: 7 }, Row { k: 1, ts: 6, v: 8 }];
    assert_eq!(machine.run(&rows, 0, Watermark::Unknown), [r#"{"k":1,"sum":7}"#, r#"{"k":1,"sum":15}"#]);
    let shown: Vec<String> = machine
        .state()
        .iter()
        .flat_map(|layer| {
            let name = layer.table.name.clone();
            crate::support::lines(&layer.rows).into_iter().map(move |row| format!("{name} {row}"))
        })
        .collect();
    let expected = [
        r#"event_timers {"k":1,"time":"1970-01-01T00:00:00.000105"}"#,
        r#"event_timers {"k":1,"time":"1970-01-01T00:00:00.000106"}"#,
        r#"last {"k":1,"value":{"ts":6,"words":["word 8"]}}"#,
        r#"odd {"k":1,"key":"at 5","value":"{\"v\":7}","expires":"1970-01-01T00:00:01.000005"}"#,
        r#"odd {"k":1,"key":"at 6","value":"{\"v\":8}","expires":"1970-01-01T00:00:01.000006"}"#,
        r#"values {"k":1,"index":0,"value":7}"#,
        r#"values {"k":1,"index":1,"value":8}"#,
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_key_from_a_dictionary_is_taken_up_again() {
    let (pipeline, from) = source(true);
    let key = cast(col("k"), DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64))).alias("k");
    let mut machine = Machine::new(&built(pipeline, from.key_by([key]).process("f", Kinds::new).unwrap()).unwrap());
    assert_eq!(machine.run(&[Row { k: 1, ts: 5, v: 7 }], 0, Watermark::Unknown), [r#"{"k":1,"sum":7}"#]);
    machine.restart();
    assert_eq!(machine.run(&[Row { k: 1, ts: 6, v: 8 }], 0, Watermark::Unknown), [r#"{"k":1,"sum":15}"#]);
}

#[test]
fn a_push_stores_one_row() {
    let mut machine = Machine::of(Kinds::new);
    for ts in 0..5 {
        machine.run(&[Row { k: 1, ts, v: ts }], 0, Watermark::Unknown);
    }
    let values = |machine: &Machine| machine.stored_rows("values");
    assert_eq!(values(&machine), [1, 1, 1, 1, 1]);
}

#[test]
fn a_fingerprint_is_of_keys_and_states_alone() {
    let fingerprint = |stream: fn(Stream) -> Result<Stream>| {
        let (pipeline, from) = source(true);
        let job = built(pipeline, stream(from).unwrap()).unwrap();
        factories(&job)[0].fingerprint()
    };
    let first = fingerprint(|stream| stream.key_by([col("k")]).process("f", Kinds::new));
    let renamed = fingerprint(|stream| stream.filter(col("v").gt(lit(1_i64)))?.key_by([col("k").alias("z")]).process("g", Kinds::new));
    assert_eq!(first, renamed);
    let moved = fingerprint(|stream| stream.key_by([(col("k") + lit(1_i64)).alias("k")]).process("f", Kinds::new));
    assert_ne!(first, moved, "state of one key is none of another");
    assert_says(&moved, &["t.k + Int64(1): Int64"]);
    let longer = fingerprint(|stream| {
        stream.key_by([col("k")]).process("f", |states| Kinds {
            odd: states.ttl(Ttl::event_time(Duration::from_secs(9))).map("odd"),
            last: states.value("last"),
            values: states.list("values"),
        })
    });
    assert_eq!(first, longer, "neither the length of a life nor the order of declaration");
    let other = fingerprint(|stream| {
        stream.key_by([col("k")]).process("f", |states| Kinds {
            last: states.value("last"),
            values: states.list("values"),
            odd: states.map("odd"),
        })
    });
    assert_ne!(first, other, "whether there is a life");
    assert_says(&first, &["Int64", "\"last\"", "words", "\"list\"", "event time", "JSON"]);
}

/// Sums by a key of two columns.
struct ByTwo;

#[derive(Debug, Deserialize)]
struct Value {
    v: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    key: String,
}

impl ProcessFunction for ByTwo {
    type Key = (Option<i64>, String);
    type Input = Value;
    type Output = Shown;

    fn process(&self, key: &Self::Key, row: Value, context: &mut ProcessContext<'_, Shown>) -> Result<()> {
        context.emit(Shown { key: format!("{key:?} {}", row.v) });
        Ok(())
    }
}

#[test]
fn a_key_of_several_columns_is_a_tuple_and_can_be_computed() {
    let (pipeline, stream) = source(true);
    let word = waterclock_core::expressions::cast(col("v"), DataType::Utf8).alias("word");
    let stream = stream.key_by([col("k"), word]).process("f", |_| ByTwo).unwrap();
    let mut machine = Machine::new(&built(pipeline, stream).unwrap());
    let out = machine.run(&[Row { k: 3, ts: 0, v: 4 }], 0, Watermark::Unknown);
    assert_eq!(out, [r#"{"key":"(Some(3), \"4\") 4"}"#]);
}

#[test]
fn a_key_that_does_not_fit_its_type_is_bad_data() {
    let (pipeline, stream) = source(true);
    let stream =
        stream.key_by([waterclock_core::expressions::cast(col("v"), DataType::Utf8).alias("word")]).process("f", Kinds::new).unwrap();
    let error = Machine::new(&built(pipeline, stream).unwrap()).try_run(&[Row { k: 1, ts: 0, v: 4 }], 0, Watermark::Unknown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert_says(&error.to_string(), &["'word' Utf8", "i64"]);
}

#[test]
fn a_stream_with_a_function_can_go_two_ways_and_on() {
    let (mut pipeline, stream) = source(true);
    let sums = stream.key_by([col("k")]).process("sums", Kinds::new).unwrap();
    pipeline.sink("all", Arc::new(NoSink), sums.clone()).unwrap();
    pipeline.sink("high", Arc::new(NoSink), sums.clone().filter(col("sum").gt(lit(9_i64))).unwrap()).unwrap();
    let counted = sums.group_by([col("k")]).aggregate([count_all().alias("n")]).unwrap();
    pipeline.sink_in_mode("counted", Arc::new(NoSink), SinkMode::Update, counted).unwrap();
    let job = pipeline.build().unwrap();
    assert_eq!(job.plan.nodes.iter().filter(|node| node.id.as_str() == "sums").count(), 1);
}

#[test]
fn rows_of_closed_windows_can_be_processed() {
    struct Counts;
    #[derive(Deserialize)]
    struct Counted {
        n: i64,
    }
    impl ProcessFunction for Counts {
        type Key = i64;
        type Input = Counted;
        type Output = Sum;
        fn process(&self, key: &i64, row: Counted, context: &mut ProcessContext<'_, Sum>) -> Result<()> {
            context.emit(Sum { k: *key, sum: row.n });
            Ok(())
        }
    }
    let (pipeline, stream) = source(true);
    let counted = stream.group_by([tumbling(col("ts"), Duration::from_secs(1)), col("k")]).aggregate([count_all().alias("n")]).unwrap();
    let job = built(pipeline, counted.key_by([col("k")]).process("f", |_| Counts).unwrap()).unwrap();
    assert_says(&factories(&job)[0].describe(), &["emits what has closed"]);
}

fn refused(stream: impl FnOnce(Stream) -> Result<Stream>) -> String {
    let (pipeline, from) = source(true);
    let error = stream(from).and_then(|stream| built(pipeline, stream)).expect_err("this is refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

/// A function without states of its own; what is declared around it is what is wrong.
struct Nothing;

impl ProcessFunction for Nothing {
    type Key = i64;
    type Input = Row;
    type Output = Sum;

    fn process(&self, _key: &i64, _row: Row, _context: &mut ProcessContext<'_, Sum>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let declared = |declare: fn(&mut States)| {
        refused(|stream| {
            stream.key_by([col("k")]).process("f", |states| {
                declare(states);
                Nothing
            })
        })
    };
    let twice = declared(|states| {
        states.value::<i64>("a");
        states.list::<i64>("a");
    });
    assert_says(&twice, &["operator 'f'", "two states", "'a'"]);
    assert_says(&declared(|states| _ = states.value::<i64>("event_timers")), &["'event_timers'"]);
    assert_says(&declared(|states| _ = states.ttl(Ttl::event_time(Duration::ZERO)).value::<i64>("a")), &["'a'", "above zero"]);
    assert_says(&refused(|stream| stream.key_by([]).process("f", |_| Nothing)), &["operator 'f'", "no key"]);
    assert_says(&refused(|stream| stream.key_by([col("k"), col("k")]).process("f", |_| Nothing)), &["two keys", "'k'"]);
    assert_says(&refused(|stream| stream.key_by([col("z")]).process("f", |_| Nothing)), &["'z'"]);
    let twice = |stream: Stream| stream.key_by([col("k")]).process("f", |_| ByKey)?.key_by([col("k")]).process("f", |_| ByKey);
    assert_says(&refused(twice), &["two operators are called 'f'"]);
}

/// Takes and gives the same rows.
struct ByKey;

impl ProcessFunction for ByKey {
    type Key = i64;
    type Input = Sum;
    type Output = Sum;

    fn process(&self, _key: &i64, row: Sum, context: &mut ProcessContext<'_, Sum>) -> Result<()> {
        context.emit(row);
        Ok(())
    }
}

#[test]
fn the_full_result_of_a_function_is_refused() {
    let (mut pipeline, stream) = source(true);
    let stream = stream.key_by([col("k")]).process("f", |_| Nothing).unwrap();
    pipeline.sink_in_mode("out", Arc::new(NoSink), SinkMode::Complete, stream).unwrap();
    assert_says(&pipeline.build().expect_err("there is no full result").to_string(), &["'complete'", "'append'"]);
}

#[test]
fn columns_can_be_given() {
    let (pipeline, stream) = source(true);
    let given = crate::support::schema([("k", DataType::Int64), ("sum", crate::support::timestamp())]);
    let stream = stream.key_by([col("k")]).process_with_schema("f", given, Kinds::new).unwrap();
    assert_eq!(stream.schema().field(1).data_type(), columns().field(1).data_type());
    let out = Machine::new(&built(pipeline, stream).unwrap()).run(&[Row { k: 1, ts: 0, v: 1 }], 0, Watermark::Unknown);
    assert_eq!(out, [r#"{"k":1,"sum":"1970-01-01T00:00:00.000001"}"#]);
}

/// Takes rows of some type, and does nothing with them.
struct Takes<R>(PhantomData<fn() -> R>);

impl<R: DeserializeOwned + 'static> ProcessFunction for Takes<R> {
    type Key = i64;
    type Input = R;
    type Output = Sum;

    fn process(&self, _: &i64, _: R, _: &mut ProcessContext<'_, Sum>) -> Result<()> {
        Ok(())
    }
}

/// The columns that are read from the source for a function of such rows.
fn read_for<R: DeserializeOwned + 'static>(key: &str) -> Vec<String> {
    let (pipeline, stream) = source(true);
    let stream = stream.key_by([col(key)]).process("takes", |_| Takes::<R>(PhantomData)).unwrap();
    let job = built(pipeline, stream).unwrap();
    let source = &job.plan.sources[0];
    source.scan.projection.iter().map(|&column| source.schema.field(column).name().clone()).collect()
}

#[test]
fn what_a_function_does_not_read_is_not_read_from_the_source() {
    #[derive(Deserialize)]
    struct Value {
        #[serde(alias = "v")]
        _value: i64,
    }
    #[derive(Deserialize)]
    struct Key {
        #[serde(rename = "k")]
        _key: i64,
    }
    #[derive(Deserialize)]
    struct Other {
        #[serde(rename = "other")]
        _other: Option<i64>,
    }
    // The event time is read for the watermark.
    assert_eq!(read_for::<Key>("k"), ["k", "ts"]);
    assert_eq!(read_for::<Value>("k"), ["k", "ts", "v"]);
    assert_eq!(read_for::<Value>("v"), ["ts", "v"]);
    assert_eq!(read_for::<BTreeMap<String, i64>>("k"), ["k", "ts", "v"], "any column may be wanted");
    assert_eq!(read_for::<Other>("k"), ["k", "ts", "v"], "rows without columns could not be counted");
}
