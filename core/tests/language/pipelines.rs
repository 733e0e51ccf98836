//! Pipelines from Rust.

use crate::support::{NoRows, NoSink, assert_says, lines, rows, run, schema, timestamp};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion_expr::{col, lit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use waterclock_core::pipeline::{Pipeline, Stream};
use waterclock_core::{Error, ErrorKind, Result};

const ROWS: &str = "{\"a\":1,\"s\":\"x y\"}\n{\"a\":2}\n{\"s\":\"z\"}\n";

fn columns() -> SchemaRef {
    schema([("a", DataType::Int64), ("s", DataType::Utf8)])
}

fn source() -> (Pipeline, Stream) {
    let mut pipeline = Pipeline::new();
    let stream = pipeline.source("t", Box::new(NoRows(columns()))).unwrap();
    (pipeline, stream)
}

fn try_output(mut pipeline: Pipeline, stream: Stream) -> Result<RecordBatch> {
    pipeline.sink("out", Arc::new(NoSink), stream)?;
    let job = pipeline.build()?;
    let input = rows(&job.plan.sources[0].schema, ROWS);
    Ok(run(&job.plan, &[("t", input)].into())?.remove("out").unwrap())
}

fn output(pipeline: Pipeline, stream: Stream) -> Vec<String> {
    lines(&try_output(pipeline, stream).unwrap())
}

fn failure(pipeline: Pipeline, stream: Stream) -> Error {
    try_output(pipeline, stream).unwrap_err()
}

#[test]
fn filter_select_and_with_column() {
    let (pipeline, stream) = source();
    let stream = stream.filter(col("a").gt(lit(1))).unwrap().select([col("s"), (col("a") + lit(1)).alias("b")]).unwrap();
    assert_eq!(output(pipeline, stream), ["{\"b\":3}"]);
    let (pipeline, stream) = source();
    let stream = stream.with_column("b", col("a") * lit(2)).unwrap().with_column("a", col("a") + col("b")).unwrap();
    assert_eq!(output(pipeline, stream), [r#"{"a":3,"s":"x y","b":2}"#, r#"{"a":6,"b":4}"#, r#"{"s":"z"}"#]);
}

#[test]
fn with_column_knows_a_name_as_it_is_written() {
    let mut pipeline = Pipeline::new();
    let stream = pipeline.source("Odd.Name", Box::new(NoRows(schema([("Upper", DataType::Int64)])))).unwrap();
    let stream = stream.with_column("Upper", lit(1_i64)).unwrap().with_column("a.b", lit(2_i64)).unwrap();
    assert_eq!(stream.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["Upper", "a.b"]);
    pipeline.sink("out", Arc::new(NoSink), stream).unwrap();
    assert_eq!(pipeline.build().unwrap().plan.sources[0].settings.id.as_str(), "Odd.Name");
}

#[test]
fn a_union_coerces_and_keeps_the_first_names() {
    let (pipeline, stream) = source();
    let halves = stream.clone().select([(col("a").alias("x") / lit(2.0)).alias("half")]).unwrap();
    let stream = stream.select([col("a")]).unwrap().union(halves).unwrap();
    assert_eq!(output(pipeline, stream), [r#"{"a":1.0}"#, r#"{"a":2.0}"#, "{}", r#"{"a":0.5}"#, r#"{"a":1.0}"#, "{}"]);
    let (_, stream) = source();
    let other = stream.clone().select([col("a")]).unwrap();
    assert_eq!(stream.union(other).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn errors_of_building_name_what_is_wrong() {
    let (pipeline, stream) = source();
    assert_says(&stream.clone().filter(col("nope").gt(lit(1))).unwrap_err().to_string(), &["'nope'", "t.a"]);
    assert_says(&stream.clone().select([col("a"), col("a")]).unwrap_err().to_string(), &["a", "AS"]);
    assert_says(&stream.clone().filter(col("a")).unwrap_err().to_string(), &["a", "Int64"]);
    assert_says(&pipeline.stream("nope").unwrap_err().to_string(), &["'nope'"]);
    assert_says(&pipeline.build().unwrap_err().to_string(), &["sink"]);
    let (mut pipeline, stream) = source();
    let again = pipeline.source("t", Box::new(NoRows(columns()))).map(|_| ()).unwrap_err();
    assert_says(&again.to_string(), &["two sources 't'"]);
    pipeline.sink("out", Arc::new(NoSink), stream.clone()).unwrap();
    assert_says(&pipeline.sink("out", Arc::new(NoSink), stream.clone()).unwrap_err().to_string(), &["two sinks 'out'"]);
    let reserved = stream.with_column("_op", lit("x")).unwrap();
    assert_says(&pipeline.sink("o", Arc::new(NoSink), reserved).unwrap_err().to_string(), &["'_op'"]);
}

#[test]
fn functions_that_a_replay_could_not_repeat_are_refused() {
    let (mut pipeline, stream) = source();
    let random = datafusion_functions::math::random().call(vec![]);
    let error = stream.with_column("r", random).and_then(|stream| pipeline.sink("out", Arc::new(NoSink), stream)).unwrap_err();
    assert_says(&error.to_string(), &["random()"]);
}

#[test]
fn the_librarys_own_clock_is_the_batchs() {
    let (pipeline, stream) = source();
    let now = datafusion_functions::datetime::expr_fn::now();
    let stream = stream.select([col("a")]).unwrap().with_column("at", now).unwrap().filter(col("a").eq(lit(1))).unwrap();
    assert_eq!(output(pipeline, stream), [r#"{"a":1,"at":"2024-02-29T12:34:56.789012"}"#]);
}

/// Doubles `a`, a function of batches.
fn doubled(rows: &RecordBatch) -> Result<RecordBatch> {
    let doubled = rows.column_by_name("a").unwrap().as_primitive::<Int64Type>().unary::<_, Int64Type>(|a| a * 2);
    RecordBatch::try_new(schema([("double", DataType::Int64)]), vec![Arc::new(doubled)]).map_err(|cause| Error::internal(cause.to_string()))
}

#[test]
fn a_function_of_batches_gets_all_columns_and_gives_the_declared_ones() {
    let (pipeline, stream) = source();
    let stream = stream.map_batches("double", schema([("double", DataType::Int64)]), |rows| {
        assert_eq!(rows.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["a", "s"]);
        doubled(rows)
    });
    let stream = stream.unwrap().filter(col("double").gt(lit(2))).unwrap();
    assert_eq!(output(pipeline, stream), [r#"{"double":4}"#]);
}

#[test]
fn a_function_that_fails_or_breaks_its_word_is_named() {
    let declared = || schema([("double", DataType::Int64)]);
    let (pipeline, stream) = source();
    let stream = stream.map_batches("cleaner", declared(), |_| Err(Error::bad_data("row 7 is odd"))).unwrap();
    let error = failure(pipeline, stream);
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert_says(&error.to_string(), &["operator 'cleaner'", "row 7 is odd"]);
    let (pipeline, stream) = source();
    let stream = stream.map_batches("cleaner", declared(), |rows| Ok(rows.clone())).unwrap();
    let error = failure(pipeline, stream);
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_says(&error.to_string(), &["operator 'cleaner'", "a Int64, s Utf8", "double Int64"]);
}

#[test]
fn operators_have_names_of_their_own() {
    let (pipeline, stream) = source();
    let double = |stream: Stream| stream.map_batches("double", schema([("a", DataType::Int64)]), |rows| Ok(rows.clone())).unwrap();
    let error = failure(pipeline, double(double(stream)));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_says(&error.to_string(), &["two operators are called 'double'"]);
}

#[test]
fn a_stream_with_a_function_can_go_two_ways() {
    let (mut pipeline, stream) = source();
    let stream = stream.map_batches("double", schema([("double", DataType::Int64)]), doubled).unwrap();
    let low = stream.clone().filter(col("double").lt(lit(3))).unwrap();
    pipeline.sink("low", Arc::new(NoSink), low).unwrap();
    pipeline.sink("all", Arc::new(NoSink), stream).unwrap();
    let job = pipeline.build().unwrap();
    let input = rows(&job.plan.sources[0].schema, ROWS);
    let outputs = run(&job.plan, &[("t", input)].into()).unwrap();
    assert_eq!((outputs["low"].num_rows(), outputs["all"].num_rows()), (1, 3));
    assert_eq!(job.plan.nodes.iter().filter(|node| node.id.as_str() == "double").count(), 1);
}

#[derive(Debug, Deserialize)]
struct Line {
    s: Option<String>,
    a: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    line: i64,
    last: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Word {
    word: String,
    length: Option<u32>,
    places: Vec<Place>,
}

fn words(line: Line) -> Vec<Word> {
    let text = line.s.unwrap_or_default();
    let word = |word: &str| Word {
        word: word.to_owned(),
        length: line.a.map(|_| word.len() as u32),
        places: line.a.map(|line| Place { line, last: text.ends_with(word) }).into_iter().collect(),
    };
    text.split_whitespace().map(word).collect()
}

const WORDS: [&str; 3] = [
    r#"{"word":"x","length":1,"places":[{"line":1,"last":false}]}"#,
    r#"{"word":"y","length":1,"places":[{"line":1,"last":true}]}"#,
    r#"{"word":"z","places":[]}"#,
];

#[test]
fn typed_rows_by_name_with_nulls_lists_and_structs() {
    let (pipeline, stream) = source();
    assert_eq!(output(pipeline, stream.flat_map("split", words).unwrap()), WORDS);
}

#[test]
fn typed_rows_are_the_same_however_the_batch_is_cut() {
    let (mut pipeline, stream) = source();
    pipeline.sink("out", Arc::new(NoSink), stream.flat_map("split", words).unwrap()).unwrap();
    let job = pipeline.build().unwrap();
    let input = rows(&columns(), ROWS);
    let part = |from: usize, rows: usize| run(&job.plan, &[("t", input.slice(from, rows))].into()).unwrap().remove("out").unwrap();
    let whole = part(0, 3);
    for cut in 0..=3 {
        assert_eq!(concat_batches(&whole.schema(), &[part(0, cut), part(cut, 3 - cut)]).unwrap(), whole);
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Numbers {
    small: i8,
    real: f32,
    yes: bool,
    maybe: Option<Vec<Option<i64>>>,
}

#[test]
fn map_gives_a_row_for_each_row() {
    let (pipeline, stream) = source();
    let stream = stream.map("numbers", |line: Line| Numbers {
        small: line.a.unwrap_or(-1) as i8,
        real: 0.5,
        yes: line.s.is_some(),
        maybe: line.a.map(|a| vec![Some(a), None]),
    });
    let expected = [
        r#"{"small":1,"real":0.5,"yes":true,"maybe":[1,null]}"#,
        r#"{"small":2,"real":0.5,"yes":false,"maybe":[2,null]}"#,
        r#"{"small":-1,"real":0.5,"yes":true}"#,
    ];
    assert_eq!(output(pipeline, stream.unwrap()), expected);
}

#[derive(Debug, Deserialize)]
struct Strict {
    a: i64,
}

#[test]
fn a_null_without_an_option_is_bad_data_of_the_operator() {
    let (pipeline, stream) = source();
    let stream = stream.map("strict", |row: Strict| Numbers { small: row.a as i8, real: 0.0, yes: true, maybe: None }).unwrap();
    let error = failure(pipeline, stream);
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert_says(&error.to_string(), &["operator 'strict'", "reading rows"]);
}

#[derive(Debug, Serialize, Deserialize)]
struct Timed {
    at: chrono::NaiveDateTime,
}

#[test]
fn a_timestamp_goes_through_a_function_with_its_columns_given() {
    let mut pipeline = Pipeline::new();
    let stream = pipeline.source("t", Box::new(NoRows(schema([("at", timestamp())])))).unwrap();
    let later = |row: Timed| [Timed { at: row.at + chrono::Duration::hours(1) }];
    let stream = stream.flat_map_with_schema("later", schema([("at", timestamp())]), later);
    let job = stream.and_then(|stream| {
        pipeline.sink("out", Arc::new(NoSink), stream)?;
        pipeline.build()
    });
    let job = job.unwrap();
    let input = rows(&schema([("at", timestamp())]), "{\"at\":\"2024-02-29T12:34:56.789012\"}\n");
    let output = run(&job.plan, &[("t", input)].into()).unwrap();
    assert_eq!(lines(&output["out"]), [r#"{"at":"2024-02-29T13:34:56.789012"}"#]);
}

#[test]
fn sql_expressions_and_closures_meet_in_one_plan() {
    let (mut pipeline, stream) = source();
    let selected = pipeline.sql("SELECT a, s FROM t WHERE s IS NOT NULL").unwrap();
    let split = selected.flat_map("split", words).unwrap().select([col("word")]).unwrap();
    pipeline.sink("words", Arc::new(NoSink), split.filter(col("word").not_eq(lit("x"))).unwrap()).unwrap();
    pipeline.sink("rows", Arc::new(NoSink), stream.select([col("a")]).unwrap()).unwrap();
    let job = pipeline.build().unwrap();
    assert_eq!((job.plan.sources.len(), job.sources.len()), (1, 1));
    let input = rows(&columns(), ROWS);
    let outputs = run(&job.plan, &[("t", input)].into()).unwrap();
    assert_eq!(lines(&outputs["words"]), [r#"{"word":"y"}"#, r#"{"word":"z"}"#]);
    assert_eq!(outputs["rows"].num_rows(), 3);
}

#[test]
fn sql_in_a_program_is_one_select() {
    let (pipeline, _) = source();
    for text in ["SELECT a FROM t; SELECT a FROM t", "INSERT INTO x SELECT a FROM t", "CREATE TABLE x (a INT)", ""] {
        assert_says(&pipeline.sql(text).unwrap_err().to_string(), &["not one SELECT"]);
    }
}
