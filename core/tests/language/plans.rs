//! What is read of each source, and the plan as text.

use crate::support::{Outputs, job, lines, rows, run};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion_common::DFSchema;
use datafusion_physical_expr::create_physical_expr;
use std::collections::{BTreeMap, BTreeSet};
use waterclock_core::job::Job;
use waterclock_core::plan::{NodeKind, PlannedSource, explain};

fn source<'a>(job: &'a Job, name: &str) -> &'a PlannedSource {
    job.plan.sources.iter().find(|source| source.settings.id.as_str() == name).unwrap()
}

fn columns(source: &PlannedSource) -> Vec<&str> {
    source.scan.projection.iter().map(|&column| source.schema.field(column).name().as_str()).collect()
}

fn filters(job: &Job) -> Vec<String> {
    source(job, "t").scan.filters.iter().map(ToString::to_string).collect()
}

#[test]
fn a_source_is_read_once_whoever_reads_it() {
    let job =
        job("INSERT INTO out SELECT a FROM t UNION ALL SELECT b FROM t WHERE s = 'x'; INSERT INTO other SELECT a + b AS c FROM t").unwrap();
    let scans = job.plan.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Scan(_))).count();
    assert_eq!((scans, job.plan.sources.len(), job.sources.len(), job.plan.sinks.len()), (1, 1, 1, 2));
    assert_eq!(columns(source(&job, "t")), ["a", "b", "s", "ts"]);
}

#[test]
fn what_nobody_reads_is_no_source_of_the_job() {
    let job = job("INSERT INTO out SELECT b FROM u").unwrap();
    assert_eq!((job.sources.len(), columns(source(&job, "u"))), (1, vec!["b"]));
}

#[test]
fn the_event_time_is_always_read() {
    let time = |query: &str| source(&job(query).unwrap(), "t").scan.event_time;
    assert_eq!(columns(source(&job("INSERT INTO out SELECT 1 AS one FROM t").unwrap(), "t")), ["ts"]);
    assert_eq!((time("INSERT INTO out SELECT 1 AS one FROM t"), time("INSERT INTO out SELECT ts FROM t")), (Some(6), Some(6)));
    assert_eq!(source(&job("INSERT INTO out SELECT b FROM u").unwrap(), "u").scan.event_time, None);
    let for_the_watermark_alone = |query: &str| source(&job(query).unwrap(), "t").scan.watermark_only;
    assert!(for_the_watermark_alone("INSERT INTO out SELECT a FROM t"));
    assert!(!for_the_watermark_alone("INSERT INTO out SELECT a FROM t WHERE ts IS NOT NULL"));
    assert!(!for_the_watermark_alone("INSERT INTO out SELECT a FROM t; INSERT INTO other SELECT ts FROM t"));
    let never_null = "CREATE UNBOUNDED EXTERNAL TABLE v (a BIGINT, ts TIMESTAMP NOT NULL) STORED AS JSON LOCATION 'test://v'
             OPTIONS ('event_time' 'ts');
         INSERT INTO out SELECT a FROM v";
    assert!(!source(&job(never_null).unwrap(), "v").scan.watermark_only, "what is left out would be null");
}

#[test]
fn columns_that_a_condition_needs_are_read() {
    let job = job("INSERT INTO out SELECT a FROM t WHERE b > 1 AND length(s) > 2").unwrap();
    assert_eq!(columns(source(&job, "t")), ["a", "b", "s", "ts"]);
}

#[test]
fn a_condition_is_a_hint_only_where_all_consumers_have_one() {
    let of = |statements: &str| filters(&job(statements).unwrap());
    assert_eq!(of("INSERT INTO out SELECT a FROM t WHERE a > 1 AND b = 2"), ["a > Int64(1)", "b = Int64(2)"]);
    let either = ["a > Int64(1) OR b = Int64(2)"];
    assert_eq!(of("INSERT INTO out SELECT a FROM t WHERE a > 1; INSERT INTO other SELECT a FROM t WHERE b = 2"), either);
    assert_eq!(of("INSERT INTO out SELECT a FROM t WHERE a > 1 UNION ALL SELECT a FROM t WHERE b = 2"), either);
    let both = "a > Int64(1) AND b = Int64(2) OR s = Utf8(\"x\")";
    assert_eq!(of("INSERT INTO out SELECT a FROM t WHERE a > 1 AND b = 2; INSERT INTO other SELECT a FROM t WHERE s = 'x'"), [both]);
    let none: [&str; 0] = [];
    assert_eq!(of("INSERT INTO out SELECT a FROM t WHERE a > 1; INSERT INTO other SELECT a FROM t"), none);
    assert_eq!(of("INSERT INTO out SELECT a FROM t WHERE a > 1 UNION ALL SELECT b FROM t"), none);
    assert_eq!(of("INSERT INTO out SELECT x FROM (SELECT a + 1 AS x FROM t) y WHERE x > 5"), ["a + Int64(1) > Int64(5)"]);
}

/// The rows that pass the hints of a source: what a reader that uses them all leaves.
fn passing(source: &PlannedSource, rows: &RecordBatch) -> RecordBatch {
    let schema = DFSchema::try_from(rows.schema()).unwrap();
    source.scan.filters.iter().fold(rows.clone(), |left, filter| {
        let filter = create_physical_expr(filter, &schema, &Default::default(), &Default::default()).unwrap();
        let mask = filter.evaluate(&left).unwrap().into_array(left.num_rows()).unwrap();
        filter_record_batch(&left, mask.as_boolean()).unwrap()
    })
}

#[test]
fn a_reader_that_heeds_the_hints_changes_nothing() {
    let branches = ["a FROM t WHERE a > 1", "b FROM t WHERE b < 0 OR s IS NULL", "a FROM t WHERE NOT flag AND a <= b", "b FROM t"];
    let mut lines_of_t = String::new();
    for row in 0..60 {
        let value = |column: &str, each: i64, shown: String| if row % each == 0 { String::new() } else { format!("\"{column}\":{shown},") };
        let (a, b) = (value("a", 5, (row % 7 - 3).to_string()), value("b", 6, (row % 4 - 2).to_string()));
        let (s, flag) = (value("s", 4, format!("\"{row}\"")), value("flag", 7, (row % 3 == 0).to_string()));
        lines_of_t.push_str(&format!("{{{a}{b}{s}{flag}\"f\":{row}}}\n"));
    }
    let mut hinted = 0;
    for (first, second) in branches.iter().flat_map(|first| branches.iter().map(move |second| (first, second))) {
        let job = job(&format!("INSERT INTO out SELECT {first}; INSERT INTO other SELECT f, {second}")).unwrap();
        let input = rows(&source(&job, "t").schema, &lines_of_t);
        let left = passing(source(&job, "t"), &input);
        hinted += usize::from(left.num_rows() < input.num_rows());
        let output = |rows: RecordBatch| -> Outputs { run(&job.plan, &[("t", rows)].into()).unwrap() };
        assert_eq!(output(left), output(input), "{first}; {second}");
    }
    assert!(hinted >= 9, "the hints left no row out in most of the cases: {hinted}");
}

#[test]
fn nodes_stand_behind_their_inputs_under_names_of_their_own() {
    let job =
        job("INSERT INTO out SELECT a FROM t WHERE a > 1 UNION ALL SELECT e FROM t, UNNEST(list) AS x(e) UNION ALL SELECT b FROM u; \
         INSERT INTO other SELECT upper(s) AS s FROM t WHERE a > 1")
        .unwrap();
    let names: BTreeSet<&str> = job.plan.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(names.len(), job.plan.nodes.len());
    for (index, node) in job.plan.nodes.iter().enumerate() {
        assert!(node.inputs.iter().all(|input| input.node.0 < index), "{} stands before its input", node.id);
    }
}

#[test]
fn an_empty_batch_gives_empty_outputs() {
    let job = job("INSERT INTO out SELECT upper(s) AS name, unnest(list) AS e FROM t WHERE a > 1 UNION ALL SELECT '1', b FROM u").unwrap();
    assert_eq!(lines(&run(&job.plan, &BTreeMap::new()).unwrap()["out"]), Vec::<String>::new());
}

#[test]
fn picking_and_renaming_columns_costs_one_step_at_the_sink() {
    let job = job("INSERT INTO out SELECT y AS z, x FROM (SELECT a AS x, b AS y FROM (SELECT * FROM t) p) q").unwrap();
    let steps: Vec<&str> = job.plan.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(steps, ["scan-t", "out-columns-1"]);
    let whole = crate::support::job("INSERT INTO out SELECT * FROM u").unwrap();
    assert_eq!(whole.plan.nodes.len(), 1, "all columns as they are need no step");
}

const GOLDEN: &str = include_str!("explain.txt");

#[test]
fn the_plan_as_text() {
    let job = job(
        "INSERT INTO out SELECT a, a * 2 AS double, now() AS at FROM t WHERE b > 5 UNION ALL SELECT a, b, ts FROM t WHERE s LIKE 'x%'; \
         INSERT INTO other SELECT e FROM t, UNNEST(list) AS x(e) WHERE b > 7",
    )
    .unwrap();
    let text = explain(&job.plan);
    assert_eq!(text, GOLDEN, "the plan is now:\n{text}");
}

const GROUPINGS: &str = include_str!("explain_groupings.txt");

#[test]
fn event_times_and_what_closes_each_grouping_are_told() {
    let job = job("INSERT INTO out SELECT window_end(w) AS closed, max(n) AS most FROM \
             (SELECT hop(late, INTERVAL '5 seconds', INTERVAL '10 seconds') AS w, a % 10 AS k, count(*) AS n \
              FROM (SELECT ts + INTERVAL '1 second' AS late, a FROM t) AS moved GROUP BY w, k) AS counts GROUP BY w; \
         INSERT INTO other SELECT CAST(ts AS DATE) AS day, session, count(DISTINCT b) AS bs FROM \
             (SELECT ts, b, upper(s) AS session FROM t) AS named GROUP BY CAST(ts AS DATE), session")
    .unwrap();
    let text = explain(&job.plan);
    assert_eq!(text, GROUPINGS, "the plan is now:\n{text}");
}

/// Windows of processing time, and what is grouped by them again, in whatever way: nothing of that is event time.
#[test]
fn what_goes_by_the_clock_is_told() {
    let window = "tumble(proc_time(), INTERVAL '1 second')";
    let counts = format!("(SELECT {window} AS w, a, count(*) AS n FROM t GROUP BY {window}, a)");
    for (query, closing, times) in [
        (format!("SELECT w, sum(n) AS n FROM {counts} GROUP BY w"), "the batch's time reaches the end of w", 3),
        (format!("SELECT e, sum(n) AS n FROM (SELECT window_end(w) AS e, n FROM {counts}) GROUP BY e"), "the batch's time passes e", 4),
        (
            format!(
                "SELECT tumble(at, INTERVAL '1 minute') AS m, sum(n) AS n FROM (SELECT window_time(w) AS at, n FROM {counts}) GROUP BY m"
            ),
            "the batch's time reaches the end of tumble(60s)",
            4,
        ),
        (format!("SELECT w, count(*) AS n FROM (SELECT {window} AS w FROM t) GROUP BY w"), "the batch's time reaches the end of w", 2),
    ] {
        let text = explain(&job(&format!("INSERT INTO out {query}")).unwrap().plan);
        assert!(text.contains(&format!("closing when {closing}")), "{query}\n{text}");
        let stages = text.split_once("Stages").unwrap().1.replace("event time ts delayed", "");
        assert!(!stages.contains("event time") && !stages.contains("watermark"), "{query}\n{text}");
        assert_eq!(stages.matches("processing time [").count(), times, "{query}\n{text}");
    }
    let mixed = explain(
        &job(&format!(
            "INSERT INTO out SELECT e, count(*) AS n FROM (SELECT window_end(w) AS e FROM {counts} UNION ALL SELECT ts FROM t) GROUP BY e"
        ))
        .unwrap()
        .plan,
    );
    assert!(mixed.contains("closing when the watermark passes e"), "the lesser of both\n{mixed}");
}

#[test]
fn what_never_closes_is_told() {
    let told = |query: &str| {
        let text = format!(
            "CREATE EXTERNAL TABLE changing STORED AS JSON LOCATION 'test://c' OPTIONS ('mode' 'update'); INSERT INTO changing {query}"
        );
        explain(&job(&text).unwrap().plan)
    };
    for (query, words) in [
        ("SELECT a, count(*) AS n FROM t GROUP BY a", "group by [a], never closing: no key is an event time"),
        (
            "SELECT tumble(to_timestamp_micros(a), INTERVAL '1 second') AS w, count(*) AS n FROM t GROUP BY 1",
            "the window's time is no event time",
        ),
        (
            "SELECT tumble(proc_time(), INTERVAL '1 second') AS w, count(*) AS n FROM t GROUP BY 1",
            "when the batch's time reaches the end of tumble(1s)",
        ),
        ("SELECT ts, count(*) AS n FROM t GROUP BY ts", "group by [ts], closing when the watermark passes ts"),
    ] {
        let text = told(query);
        assert!(text.contains(words), "{query}: {words}\n{text}");
    }
}
