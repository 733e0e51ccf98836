//! Each error of planning says what is wrong, where, and what to do, and shows no value of OPTIONS.

use crate::support::{assert_says, context, error, error_of, job};
use std::sync::Arc;
use waterclock_core::ErrorKind;
use waterclock_core::id::SourceId;
use waterclock_core::sql::plan_sql;

const OUT: &str = "CREATE EXTERNAL TABLE out STORED AS JSON LOCATION 'test://out';";

const UPDATED: &str = "CREATE EXTERNAL TABLE out STORED AS JSON LOCATION 'test://out' OPTIONS ('mode' 'update');";

fn source(columns: &str, options: &str) -> String {
    let options = if options.is_empty() { String::new() } else { format!("OPTIONS ({options})") };
    format!("CREATE UNBOUNDED EXTERNAL TABLE t {columns} STORED AS JSON LOCATION 'test://t' {options};\n")
}

/// The error of reading a table that is declared like this.
fn error_of_source(columns: &str, options: &str) -> String {
    error_of(&format!("{}{OUT} INSERT INTO out SELECT * FROM t", source(columns, options)))
}

/// The error of writing a table that is declared like this.
fn error_of_sink(table: &str, insert: &str) -> String {
    error_of(&format!("{}{table}; {insert}", source("(a BIGINT, b BIGINT, s VARCHAR)", "")))
}

#[test]
fn names_that_do_not_exist() {
    assert_says(&error("INSERT INTO out SELECT uper(s) FROM t"), &["INSERT INTO out", "'uper'", "'upper'"]);
    assert_says(&error("INSERT INTO out SELECT prise FROM t"), &["INSERT INTO out", "'prise'", "t.a", "t.s"]);
    assert_says(&error("INSERT INTO out SELECT nope.a FROM t"), &["INSERT INTO out", "nope.a"]);
    assert_says(&error("INSERT INTO out SELECT a FROM nope"), &["'nope'", "there are: other, out, t, u"]);
    assert_says(&error("INSERT INTO nope SELECT a FROM t"), &["'nope'", "there are: other, out, t, u"]);
    assert_says(&error("INSERT INTO out SELECT a FROM s.t"), &["INSERT INTO out", "'s.t'"]);
    assert_says(&error("INSERT INTO out SELECT st.nope FROM t"), &["INSERT INTO out", "nope"]);
}

#[test]
fn names_in_double_quotes_keep_their_case() {
    let message = error("INSERT INTO out SELECT \"A\" FROM t");
    assert_says(&message, &["'A'", "t.a"]);
    assert!(!message.contains("datafusion"), "a setting that nobody can set: {message}");
    let text = format!("{}{OUT} INSERT INTO out SELECT Price FROM t", source("(\"Price\" BIGINT)", ""));
    assert_says(&error_of(&text), &["'price'", "\"Price\"", "keeps its case"]);
}

#[test]
fn types_that_do_not_fit() {
    assert_says(&error("INSERT INTO out SELECT a + s FROM t"), &["INSERT INTO out", "Int64 + Utf8"]);
    assert_says(&error("INSERT INTO out SELECT a FROM t WHERE s"), &["INSERT INTO out", "t.s", "Utf8"]);
    assert_says(&error("INSERT INTO out SELECT upper(a, b) FROM t"), &["INSERT INTO out", "no upper(Int64, Int64)", "upper(String)"]);
    assert_says(&error("INSERT INTO out SELECT a FROM t UNION ALL SELECT a, b FROM u"), &["INSERT INTO out", "column"]);
}

#[test]
fn columns_of_one_name() {
    assert_says(&error("INSERT INTO out SELECT a, a FROM t"), &["INSERT INTO out", "t.a", "AS"]);
    assert_says(&error("INSERT INTO out SELECT a, b AS a FROM t"), &["INSERT INTO out", "'a'", "with AS"]);
    assert_says(&error("INSERT INTO out SELECT a AS x, b AS x FROM t"), &["INSERT INTO out", "x", "AS"]);
    assert_says(&error("INSERT INTO out (x, x) SELECT a, b FROM t"), &["INSERT INTO out", "'x'", "twice"]);
    assert_says(&error_of_source("(a BIGINT, A BIGINT)", ""), &["table 't'", "'a'"]);
}

#[test]
fn the_column_of_changes_is_reserved() {
    assert_says(&error("INSERT INTO out SELECT a AS _op FROM t"), &["INSERT INTO out", "'_op'", "reserved", "AS"]);
    assert_says(&error_of_source("(_op VARCHAR)", ""), &["table 't'", "'_op'", "reserved"]);
    let sink = "CREATE EXTERNAL TABLE o (_op VARCHAR) STORED AS JSON LOCATION 'test://o'";
    assert_says(&error_of_sink(sink, "INSERT INTO o SELECT s FROM t"), &["table 'o'", "'_op'", "reserved"]);
}

#[test]
fn who_reads_and_who_writes() {
    let both = "INSERT INTO other SELECT a FROM t; INSERT INTO out SELECT a FROM other";
    assert_says(&error(both), &["'other'", "reads", "writes"]);
    assert_says(&error("INSERT INTO out SELECT a FROM t; INSERT INTO out SELECT a FROM u"), &["two INSERTs", "'out'", "UNION ALL"]);
    assert_says(&error("INSERT INTO u SELECT a FROM t"), &["'u'", "UNBOUNDED", "leave UNBOUNDED out"]);
    assert_says(&error(""), &["no INSERT"]);
    let table = "CREATE EXTERNAL TABLE t (a BIGINT) STORED AS JSON LOCATION 'test://t';";
    assert_says(&error_of(&format!("{table}{OUT} INSERT INTO out SELECT a FROM t")), &["'t'", "UNBOUNDED", "static"]);
    let twice = source("(a BIGINT)", "").repeat(2);
    assert_says(&error_of(&format!("{twice}{OUT} INSERT INTO out SELECT a FROM t")), &["'t'", "created twice"]);
}

#[test]
fn tables_that_nobody_uses_are_fine() {
    assert!(job("INSERT INTO out SELECT a FROM t").unwrap().plan.sources.len() == 1);
}

#[test]
fn statements_that_are_none_of_a_job() {
    assert_says(&error("SELECT a FROM t"), &["SELECT stands alone", "INSERT INTO", "stdout://"]);
    for statement in ["DROP TABLE t", "CREATE TABLE x (a BIGINT)", "UPDATE t SET a = 1", "EXPLAIN SELECT a FROM t", "SET x = 1"] {
        assert_says(&error(statement), &["is not a statement of a job", "CREATE [UNBOUNDED] EXTERNAL TABLE", "INSERT INTO"]);
    }
    assert_says(&error("INSERT OVERWRITE out SELECT a FROM t"), &["INSERT INTO out", "OVERWRITE", "mode"]);
}

#[test]
fn text_that_is_no_sql_has_a_line_and_a_column() {
    let message = error_of("CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT)\nSTORD AS JSON LOCATION 'test://t'");
    assert_says(&message, &["can't be read", "STORD", "Line: 2"]);
    assert_says(&error("INSERT INTO out SELECT a FROM t WHERE a > (1 +"), &["can't be read", "EOF"]);
    assert!(!message.contains("ParserError"), "{message}");
}

#[test]
fn options_of_a_table() {
    let columns = "(a BIGINT, ts TIMESTAMP)";
    let unknown = error_of_source(columns, "'max_file_per_batch' '3'");
    assert_says(&unknown, &["table 't'", "'max_file_per_batch'", "it knows:", "max_files_per_batch", "own_option", "event_time"]);
    assert_says(&error_of_source(columns, "'max_rows_per_batch' '0'"), &["table 't'", "'max_rows_per_batch'", "at least 1"]);
    assert_says(&error_of_source(columns, "'event_time' 'time'"), &["table 't'", "'time'", "there are: a, ts"]);
    assert_says(&error_of_source(columns, "'event_time' 'a'"), &["table 't'", "'a'", "Int64", "TIMESTAMP"]);
    assert_says(&error_of_source(columns, "'watermark_delay' '5 seconds'"), &["table 't'", "watermark_delay", "need 'event_time'"]);
    assert_says(&error_of_source(columns, "'event_time' 'ts', 'watermark_delay' 'soon'"), &["table 't'", "'watermark_delay'", "soon"]);
    let sink = "CREATE EXTERNAL TABLE o STORED AS JSON LOCATION 'test://o' OPTIONS ('max_rows_per_batch' '3')";
    assert_says(&error_of_sink(sink, "INSERT INTO o SELECT a FROM t"), &["table 'o'", "'max_rows_per_batch'", "mode"]);
}

#[test]
fn words_of_a_definition_that_would_be_passed_over() {
    let definitions = [
        ("CREATE UNBOUNDED EXTERNAL TABLE IF NOT EXISTS t (a BIGINT) STORED AS JSON LOCATION 'test://t'", "IF NOT EXISTS"),
        ("CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT PRIMARY KEY) STORED AS JSON LOCATION 'test://t'", ""),
        ("CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT DEFAULT 5) STORED AS JSON LOCATION 'test://t'", "DEFAULT"),
        ("CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT) STORED AS JSON PARTITIONED BY (a) LOCATION 'test://t'", "PARTITIONED BY"),
        ("CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT) STORED AS JSON WITH ORDER (a) LOCATION 'test://t'", "WITH ORDER"),
    ];
    for (definition, word) in definitions {
        let message = error_of(&format!("{definition};{OUT} INSERT INTO out SELECT a FROM t"));
        assert_says(&message, &["table 't'", word, "not supported"]);
    }
}

#[test]
fn bad_rows_need_a_place_and_a_place_needs_bad_rows() {
    let error = |options: &str| error_of_source("(a BIGINT)", options);
    assert_says(&error("'on_bad_row' 'skip'"), &["table 't'", "'skip'", "fail or dead_letter"]);
    assert_says(&error("'on_bad_row' 'dead_letter'"), &["table 't'", "'dead_letter' must say where"]);
    assert_says(&error("'dead_letter' 'memory:///bad/'"), &["table 't'", "'on_bad_row' must be 'dead_letter'"]);
    assert_says(&error("'on_bad_row' 'fail', 'dead_letter' 'memory:///bad/'"), &["'on_bad_row' must be 'dead_letter'"]);
    assert_says(&error("'on_bad_row' 'dead_letter', 'dead_letter' 'test://bad'"), &["table 't'", "test://bad", "a directory"]);
    let good = source("(a BIGINT)", "'on_bad_row' 'dead_letter', 'dead_letter' 'memory:///bad/'");
    let job = plan_sql(&format!("{good}{OUT} INSERT INTO out SELECT a FROM t"), &context()).unwrap();
    assert!(job.dead_letters[0].is_some());
}

#[test]
fn places_that_overlap() {
    let table = |name: &str, kind: &str, place: &str, options: &str| {
        format!("CREATE {kind} EXTERNAL TABLE {name} (a BIGINT) STORED AS JSON LOCATION 'memory:///{place}' {options};")
    };
    let input = table("t", "UNBOUNDED", "data/in/", "");
    let bad = |place: &str| {
        table("t", "UNBOUNDED", "data/in/", &format!("OPTIONS ('on_bad_row' 'dead_letter', 'dead_letter' 'memory:///{place}')"))
    };
    let insert = "INSERT INTO out SELECT a FROM t;";
    for place in ["data/in/", "data/", "data/in/out/"] {
        let message = error_of(&format!("{input}{}{insert}", table("out", "", place, "")));
        assert_says(&message, &["'out'", "'t'", "can't read what it writes", "memory:///data/in/"]);
        let message = error_of(&format!("{}{}{insert}", bad(place), table("out", "", "elsewhere/", "")));
        assert_says(&message, &["'t.dead_letter'", "'t'", "can't read what it writes"]);
    }
    let message = error_of(&format!("{}{}{insert}", bad("out/bad/"), table("out", "", "out/", "")));
    assert_says(&message, &["'out'", "'t.dead_letter'", "a place of its own"]);
    let two = format!("{input}{}{}", table("out", "", "out/", ""), table("o2", "", "out/", ""));
    assert_says(&error_of(&format!("{two}{insert} INSERT INTO o2 SELECT a FROM t")), &["'out'", "'o2'", "a place of its own"]);
    let apart = format!("{input}{}{insert}", table("out", "", "data/in2/", ""));
    assert!(plan_sql(&apart, &context()).is_ok(), "a name that begins alike is another place");
}

#[test]
fn connectors_and_formats() {
    let table = |format: &str, place: &str| {
        format!("CREATE UNBOUNDED EXTERNAL TABLE t (a BIGINT) STORED AS {format} LOCATION '{place}';{OUT} INSERT INTO out SELECT a FROM t")
    };
    assert_says(&error_of(&table("JSON", "ftp://host/t")), &["table 't'", "ftp://", "there are: memory, test"]);
    assert_says(&error_of(&table("XML", "test://t")), &["table 't'", "'xml'", "json"]);
    let credentials = error_of(&table("JSON", "s3://user:hunter2@bucket/t"));
    assert_says(&credentials, &["table 't'", "a password"]);
    assert!(!credentials.contains("hunter2"), "{credentials}");
}

#[test]
fn the_columns_of_a_sink() {
    let sink = "CREATE EXTERNAL TABLE o (x BIGINT, y VARCHAR) STORED AS JSON LOCATION 'test://o'";
    let error = |insert: &str| error_of_sink(sink, insert);
    assert_says(&error("INSERT INTO o SELECT a FROM t"), &["INSERT INTO o", "1 columns", "2 are written", "x, y"]);
    assert_says(&error("INSERT INTO o (x) SELECT a, b FROM t"), &["INSERT INTO o", "2 columns", "1 are written: x"]);
    assert_says(&error("INSERT INTO o (x, z) SELECT a, s FROM t"), &["INSERT INTO o", "'z'", "it has: x, y"]);
    assert_says(&error("INSERT INTO o (x, x) SELECT a, b FROM t"), &["INSERT INTO o", "'x'", "twice"]);
    assert_says(&error("INSERT INTO o SELECT [a], s FROM t"), &["INSERT INTO o", "'x'", "Int64", "CAST"]);
    let free = "CREATE EXTERNAL TABLE o STORED AS JSON LOCATION 'test://o'";
    assert_says(&error_of_sink(free, "INSERT INTO o (x, y) SELECT a FROM t"), &["INSERT INTO o", "1 columns", "2 are written"]);
}

#[test]
fn no_value_of_an_option_is_shown() {
    let secret = "'aws_secret_access_key' 'hunter2', 'own_option' 'hunter2'";
    let mut messages = vec![
        error_of_source("(a BIGINT)", &format!("{secret}, 'unknown' 'hunter2'")),
        error_of_source("(a BIGINT)", &format!("{secret}, 'aws_session_token' 'x' 'hunter2'")),
        error_of_source("(a BIGINT)", "'aws_secret_access_key' = hunter2 hunter2"),
        error_of_source("(a BIGINT)", "'aws_secret_access_key' 'hunter2"),
        error_of_source("(a BIGINT)", "'aws_secret_access_key', 'hunter2'"),
        error_of_source("(a BIGINT)", &format!("{secret}, 'event_time' 'a'")),
        error_of_source("(a NOTYPE)", secret),
        error_of("SET aws_secret_access_key = 'hunter2'"),
    ];
    let tables = format!("{}{OUT}", source("(a BIGINT)", secret));
    messages.extend(
        ["SELECT nope FROM t", "SELECT a FROM nope", "SELECT count(*) FROM t", "SELECT a + FROM t"]
            .map(|query| error_of(&format!("{tables} INSERT INTO out {query}"))),
    );
    for message in messages {
        assert!(!message.contains("hunter2"), "{message}");
    }
    let job = plan_sql(&format!("{tables} INSERT INTO out SELECT a FROM t WHERE a > 1"), &context()).unwrap();
    assert!(!format!("{job:?}{}", waterclock_core::plan::explain(&job.plan)).contains("hunter2"));
}

#[test]
fn columns_that_an_earlier_run_inferred_stay() {
    let text = format!("{}{OUT} INSERT INTO out SELECT late FROM t", source("", ""));
    assert_says(&error_of(&text), &["'late'", "t.a"]);
    let mut context = context();
    let known = crate::support::schema([("late", arrow::datatypes::DataType::Int64)]);
    context.known_schemas.insert(SourceId::from("t"), Arc::clone(&known));
    assert_eq!(plan_sql(&text, &context).unwrap().plan.sources[0].schema, known);
    // What is declared goes before what was known.
    let declared = format!("{}{OUT} INSERT INTO out SELECT late FROM t", source("(a BIGINT)", ""));
    assert_eq!(plan_sql(&declared, &context).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn a_call_that_no_signature_fits_names_the_function_and_the_types() {
    let tables = source("(k VARCHAR, v BIGINT, l BIGINT[])", "");
    let error = |select: &str| error_of(&format!("{tables}{UPDATED} INSERT INTO out SELECT {select} FROM t GROUP BY k"));
    let cases = [
        ("sum(k) AS x", &["sum(Utf8)", "there are: sum(", "CAST"][..]),
        ("avg(k) AS x", &["avg(Utf8)", "there are: avg("]),
        ("median(k) AS x", &["median(Utf8)", "there are: median("]),
        ("substr(k, 'x') AS x", &["substr(Utf8, Utf8)", "there are: substr("]),
        ("upper(k, k) AS x", &["upper(Utf8, Utf8)", "there are: upper(String)"]),
        ("stddev(k) AS x", &["stddev(Utf8)", "there are: stddev(Float64)"]),
        ("greatest(count(*), k, array_agg(v)) AS x", &["greatest(Int64, Utf8, List(", "common type"]),
        ("nth_value(v, 0) AS x", &["nth_value", "0 is invalid index"]),
    ];
    for (select, words) in cases {
        let message = error(select);
        assert_says(&message, words);
        for word in ["bug", "github", "Internal error", "Candidate", "Assertion", "UserDefined"] {
            assert!(!message.contains(word), "{message}");
        }
        assert!(message.len() < 300, "{message}");
    }
}

#[test]
fn a_lateral_subquery_that_has_rows_of_its_own() {
    let tables = source("(k VARCHAR, v BIGINT)", "");
    for select in ["max(t.v) AS n", "t.v AS n UNION ALL SELECT 1", "DISTINCT t.v AS n"] {
        let message = error_of(&format!("{tables}{OUT} INSERT INTO out SELECT k, x.n FROM t, LATERAL (SELECT {select}) x"));
        assert!(message.contains("not supported") && !message.contains("Subquery:"), "{message}");
    }
}

#[test]
fn constants_that_no_row_could_use() {
    let tables = source("(k VARCHAR, v BIGINT, l BIGINT[], ts TIMESTAMP)", "");
    let plan = |query: &str| {
        format!("{tables}CREATE EXTERNAL TABLE out STORED AS JSON LOCATION 'test://out' OPTIONS ('mode' 'update'); INSERT INTO out {query}")
    };
    let cases = [
        ("date_trunc('nosuch', ts)", "nosuch"),
        ("extract(nosuch FROM ts)", "nosuch"),
        ("encode(k, 'bas')", "bas"),
        ("regexp_replace(k, '(', 'x')", "regex"),
        ("to_timestamp(l)", "to_timestamp"),
    ];
    for (expression, word) in cases {
        for query in [
            format!("SELECT {expression} AS x FROM t"),
            format!("SELECT k FROM t WHERE {expression} IS NOT NULL"),
            format!("SELECT {expression} AS x, count(*) AS n FROM t GROUP BY {expression}"),
            format!("SELECT k, min({expression}) AS x FROM t GROUP BY k"),
        ] {
            assert_says(&error_of(&plan(&query)), &["out", word]);
        }
    }
    for good in [
        "v / 0",
        "now() - ts",
        "date_trunc('hour', ts)",
        "l[1]",
        "CASE WHEN k = 'x' THEN date_trunc('hour', ts) END",
        "CAST(k AS BIGINT)",
        "arrow_cast(k, 'Int8')",
        "make_date(v, v, v)",
        "array_max(l)",
        "window_start(tumble(ts, INTERVAL '1 hour'))",
    ] {
        plan_sql(&plan(&format!("SELECT {good} AS x FROM t WHERE {good} IS NOT NULL")), &context()).unwrap();
    }
}
