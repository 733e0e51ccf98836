//! Rows and files that can't be read as what they were declared: exit code 3, with the file, the line and the reason.

use super::{ROWS, copy_job, rows, run, with_files};
use crate::support::input::{self, Format, lay_down};
use crate::support::output::read;
use crate::support::place::Place;

/// Puts a file down that comes after the good ones, runs, and expects a refusal that names it; then mends it and expects the rest.
fn refused(place: &Place, good_rows: u64, name: &str, bad: impl AsRef<[u8]>, good: impl AsRef<[u8]>, words: &[&str]) {
    place.write(name, bad);
    for _ in 0..2 {
        run(place).expect(3).says(&[name]).says(words);
        assert_eq!(rows(place) as u64, good_rows, "the batch before is whole, and of the bad one nothing is visible");
    }
    place.write(name, good);
    run(place).expect(0);
    assert_eq!(rows(place) as u64, good_rows + ROWS);
}

#[test]
fn broken_json_names_file_line_and_reason() {
    let place = with_files(1);
    let good = input::json(ROWS..2 * ROWS);
    let text = String::from_utf8(good.clone()).unwrap();
    let broken: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(index, line)| if index == 6 { line[..line.len() - 9].to_owned() } else { line.to_owned() })
        .collect();
    refused(&place, ROWS, "in/1.json", broken.join("\n") + "\n", good, &["line 7"]);
}

#[test]
fn values_of_another_type_name_the_column() {
    for value in ["3.7", "\"x\"", "[1]", "9223372036854775808", "true"] {
        let place = with_files(1);
        let bad = format!("{{\"id\": 1}}\n\n{{\"id\": 2, \"price\": {value}}}\n");
        refused(&place, ROWS, "in/1.json", bad, input::json(ROWS..2 * ROWS), &["line 3", "price"]);
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    let place = with_files(1);
    refused(&place, ROWS, "in/1.json", "{\"date_time\": \"yesterday\"}\n", input::json(ROWS..2 * ROWS), &["line 1", "yesterday"]);
}

#[test]
fn lines_that_are_no_objects_are_refused() {
    for line in ["[1, 2]", "7", "\"text\"", "{} {}", "{\"id\": 1}, {\"id\": 2}"] {
        let place = with_files(1);
        refused(&place, ROWS, "in/1.json", format!("{{\"id\": 1}}\n{line}\n"), input::json(ROWS..2 * ROWS), &["line 2"]);
    }
}

#[test]
fn text_that_is_no_utf8_is_refused() {
    let place = with_files(1);
    refused(&place, ROWS, "in/1.json", b"{\"id\": 1, \"channel\": \"\xff\xfe\"}\n", input::json(ROWS..2 * ROWS), &["line 1"]);
}

#[test]
fn an_expression_that_fails_on_a_row_says_which_and_commits_nothing() {
    for (expression, value) in [("CAST(channel AS BIGINT)", "\"x\""), ("100 / price", "null, \"price\": 0")] {
        let place = Place::new();
        place.sql(&format!(
            "CREATE UNBOUNDED EXTERNAL TABLE bid (id BIGINT, price BIGINT, channel VARCHAR) STORED AS JSON LOCATION 'file://{{root}}/in/'
                 OPTIONS ('max_files_per_batch' '1');
             CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{{root}}/out/';
             INSERT INTO copy SELECT id, {expression} AS x FROM bid;"
        ));
        place.write("in/0.json", "{\"id\": 1, \"price\": 5, \"channel\": \"7\"}\n");
        place.write("in/1.json", format!("{{\"id\": 2, \"price\": 5, \"channel\": \"7\"}}\n{{\"id\": 3, \"channel\": {value}}}\n"));
        run(&place).expect(3).says(&["batch 1"]);
        assert_eq!(rows(&place), 1, "{expression}");
    }
}

/// Bids as CSV.
fn csv(header: &str, lines: u64) -> String {
    let line = |id: u64| format!("{id},{id},{id},\"a, \"\"b\"\"\",2024-01-01T00:00:00Z\n");
    format!("{header}\n{}", (0..lines).map(line).collect::<String>())
}

const HEADER: &str = "id,auction,price,channel,date_time";

fn csv_job() -> Place {
    let place = copy_job("CSV", "");
    place.write("in/0.csv", csv(HEADER, ROWS));
    run(&place).expect(0);
    place
}

#[test]
fn csv_with_other_columns_is_refused() {
    let good = csv(HEADER, ROWS);
    refused(&csv_job(), ROWS, "in/1.csv", csv("id,auction,price,channel", 0) + "1,2,3,x\n", &good, &["date_time"]);
    refused(&csv_job(), ROWS, "in/1.csv", csv("id,auction,cost,channel,date_time", 2), &good, &["price"]);
}

#[test]
fn csv_rows_of_another_length_or_type_are_refused() {
    let good = csv(HEADER, ROWS);
    refused(&csv_job(), ROWS, "in/1.csv", csv(HEADER, 2) + "1,2\n", &good, &["line 4"]);
    refused(&csv_job(), ROWS, "in/1.csv", csv(HEADER, 2) + "1,2,3,x,2024-01-01T00:00:00Z,more\n", &good, &["line 4"]);
    refused(&csv_job(), ROWS, "in/1.csv", csv(HEADER, 2) + "1,2,many,x,2024-01-01T00:00:00Z\n", &good, &["line 4", "many"]);
}

fn parquet_job() -> Place {
    let place = copy_job("PARQUET", "");
    lay_down(&place, "in", Format::Parquet, 0..1, ROWS);
    place
}

/// A Parquet file with these columns, each of ten rows.
fn other_parquet(columns: &[(&str, arrow::array::ArrayRef)]) -> Vec<u8> {
    let batch = arrow::array::RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_of_another_schema_is_refused() {
    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..10).map(|number| format!("no {number}"))));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..10));
    let good = input::parquet(ROWS..2 * ROWS);
    let missing = [("id", &numbers), ("auction", &numbers), ("channel", &texts), ("date_time", &times)].map(|(name, c)| (name, c.clone()));
    refused(&parquet_job(), ROWS, "in/1.parquet", other_parquet(&missing), &good, &["price"]);
    let wrong = [("id", &numbers), ("auction", &numbers), ("price", &texts), ("channel", &texts), ("date_time", &times)];
    refused(&parquet_job(), ROWS, "in/1.parquet", other_parquet(&wrong.map(|(name, c)| (name, c.clone()))), &good, &["price"]);
}

#[test]
fn damaged_parquet_is_refused() {
    let good = input::parquet(ROWS..2 * ROWS);
    let mut flipped = good.clone();
    flipped[..4].copy_from_slice(b"PART");
    let footer = good.len() - 20;
    let mut wild = good.clone();
    wild[footer..footer + 8].fill(0xff);
    for bad in [&good[..good.len() / 2], &good[..good.len() - 1], b"not parquet at all", b"", &wild] {
        refused(&parquet_job(), ROWS, "in/1.parquet", bad, &good, &[]);
    }
}

#[test]
fn bad_rows_go_to_the_dead_letter_place_with_their_reasons() {
    let place = copy_job("JSON", ", 'on_bad_row' 'dead_letter', 'dead_letter' 'file://{root}/dead/'");
    lay_down(&place, "in", Format::Json, 0..2, ROWS);
    let mut text = String::from_utf8(input::json(2 * ROWS..3 * ROWS)).unwrap();
    text.insert_str(0, "{\"id\": \n");
    let end = text.len();
    text.push_str("{\"id\": 3.7}\n");
    place.write("in/00002.json", text);
    run(&place).expect(0);
    assert_eq!(rows(&place) as u64, 3 * ROWS);
    let dead: Vec<String> = read(&place.path("dead")).into_values().flatten().collect();
    assert_eq!(dead.len(), 2, "{dead:?}");
    for position in [0, end] {
        let place = format!("\"byte {position}\"");
        assert!(dead.iter().any(|row| row.contains("00002.json") && row.contains(&place)), "{place}: {dead:?}");
    }
    let records = crate::log::records(&place.path("checkpoint")).join("\n");
    assert!(records.contains("bad_rows"), "the record counts them");
}

const DEAD_LETTER: &str = "OPTIONS ('on_bad_row' 'dead_letter', 'dead_letter' 'file://{root}/dead/')";

/// A job over amounts.
fn amounts(format: &str, options: &str) -> Place {
    let place = Place::new();
    place.sql(&format!(
        "CREATE UNBOUNDED EXTERNAL TABLE paid (id BIGINT NOT NULL, amount DECIMAL(10, 2)) STORED AS {format} LOCATION 'file://{{root}}/in/'
             {options};
         CREATE EXTERNAL TABLE copy STORED AS JSON LOCATION 'file://{{root}}/out/';
         INSERT INTO copy SELECT id, amount FROM paid;"
    ));
    place
}

fn lines(place: &Place, directory: &str) -> Vec<String> {
    read(&place.path(directory)).into_values().flatten().collect()
}

#[test]
fn amounts_with_too_many_digits_are_bad_rows_and_never_cut_off() {
    let csv = "id,amount\n1,1.25\n2,1.259\n3,-1.259\n4,1.2500\n5,\n6,12.5e-1\n";
    let json = csv.lines().skip(1).map(|line| match line.split_once(',') {
        Some((id, "")) => format!("{{\"id\":{id}}}\n"),
        Some((id, amount)) if id != "3" => format!("{{\"id\":{id},\"amount\":{amount}}}\n"),
        Some((id, amount)) => format!("{{\"id\":{id},\"amount\":\"{amount}\"}}\n"),
        None => unreachable!(),
    });
    for (format, text) in [("CSV", csv.to_owned()), ("JSON", json.collect())] {
        let place = amounts(format, DEAD_LETTER);
        place.write(&format!("in/0.{}", format.to_lowercase()), text);
        run(&place).expect(0);
        let good = [(1, "1.25"), (4, "1.25"), (6, "1.25")].map(|(id, amount)| format!("{{\"amount\":{amount},\"id\":{id}}}"));
        let mut shown = lines(&place, "out");
        shown.retain(|row| row != "{\"id\":5}");
        assert_eq!(shown, good, "{format}");
        let dead = lines(&place, "dead");
        assert_eq!(dead.len(), 2, "{dead:?}");
        for (row, amount) in dead.iter().zip(["1.259", "-1.259"]) {
            assert!(row.contains(&format!("{amount} has more than 2 digits behind the point, for the field 'amount'")), "{row}");
        }
    }
}

#[test]
fn a_column_that_must_not_be_null_is_named() {
    for (format, text) in [("CSV", "id,amount\n1,1\n,2\n3,3\n"), ("JSON", "\n{\"id\":1}\n{\"amount\":2}\n{\"id\":3}\n")] {
        let name = format!("in/0.{}", format.to_lowercase());
        let said = ["line 3", "the column 'id' is NOT NULL"];
        let strict = amounts(format, "");
        strict.write(&name, text);
        run(&strict).expect(3).says(&said);
        let place = amounts(format, DEAD_LETTER);
        place.write(&name, text);
        run(&place).expect(0);
        assert_eq!(lines(&place, "out").len(), 2);
        let dead = lines(&place, "dead");
        assert!(dead.len() == 1 && dead[0].contains(said[1]), "{dead:?}");
    }
}

/// What a sink's table promises is kept, or the batch fails.
#[test]
fn a_null_for_a_column_that_takes_none_fails_the_batch() {
    let place = Place::new();
    place.write("in/0.json", "{\"id\": 1}\n");
    place.sql(
        "CREATE UNBOUNDED EXTERNAL TABLE t (id BIGINT) STORED AS JSON LOCATION 'file://{root}/in/';
         CREATE EXTERNAL TABLE o (id BIGINT NOT NULL) STORED AS JSON LOCATION 'file://{root}/out/';
         INSERT INTO o SELECT nullif(id, 2) FROM t;",
    );
    run(&place).expect(0);
    place.write("in/1.json", "{\"id\": 3}\n{\"id\": 2}\n");
    run(&place).expect(3).says(&["'id', which is NOT NULL", "coalesce"]);
    assert_eq!(rows(&place), 1);
}
