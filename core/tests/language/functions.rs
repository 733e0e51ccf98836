//! All of DataFusion's scalar functions can be called, and give what DataFusion gives.

use crate::support::{NoSink, assert_says, error, pipeline, rows, run, schema, timestamp};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ScalarUDF, Volatility, col, lit};
use datafusion_functions_nested::expr_fn::make_array;
use datafusion_functions_nested::map::map_udf;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::create_physical_expr;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const ROWS: &str = r#"{"i":3,"f":0.5,"s":"2024-02-29","ts":"2024-02-29T12:34:56.789012","flag":true,"list":[3,null,1],"words":["b","a"],"st":{"x":1,"y":"z"}}
{}
{"i":-1,"f":-2.25,"s":"äb c","ts":"1969-12-31T23:59:59","flag":false,"list":[],"words":["x",null],"st":{}}
"#;

/// The batch's clock: what they give is tested elsewhere.
const CLOCK: [&str; 5] = ["now", "current_timestamp", "current_date", "current_time", "today"];

/// What takes four arguments, or a UNION, which no SQL can make.
const UNTRIED: [&str; 3] = ["array_replace_n", "union_extract", "union_tag"];

fn columns() -> RecordBatch {
    let item = |kind| DataType::new_list(kind, true);
    let fields = vec![arrow::datatypes::Field::new("x", DataType::Int64, true), arrow::datatypes::Field::new("y", DataType::Utf8, true)];
    let schema = schema([
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
        ("ts", timestamp()),
        ("flag", DataType::Boolean),
        ("list", item(DataType::Int64)),
        ("words", item(DataType::Utf8)),
        ("st", DataType::Struct(fields.into())),
    ]);
    rows(&schema, ROWS)
}

/// Arguments, in SQL and as expressions.
fn arguments() -> Vec<(String, Expr)> {
    let columns = ["i", "s", "f", "ts", "list", "words", "flag", "st"].map(|name| (name.to_owned(), col(name)));
    let texts = ["day", "Int32", "ff", "sha256", "hex"].map(|text| (format!("'{text}'"), lit(text)));
    let day = ScalarValue::new_interval_mdn(0, 1, 0);
    let keys = make_array(vec![lit("k"), lit("l")]);
    let map = map_udf().call(vec![keys.clone(), make_array(vec![col("i"), lit(5_i64)])]);
    let others = [("2", lit(2_i64)), ("INTERVAL '1 day'", lit(day)), ("['k', 'l']", keys), ("map(['k', 'l'], [i, 5])", map)];
    let others = others.map(|(text, expression)| (text.to_owned(), expression));
    columns.into_iter().chain(texts).chain(others).collect()
}

/// All lists of that many arguments.
fn tuples(arity: usize, arguments: &[(String, Expr)]) -> Vec<Vec<&(String, Expr)>> {
    (0..arity).fold(vec![Vec::new()], |shorter, _| {
        shorter.iter().flat_map(|tuple| arguments.iter().map(move |argument| [tuple.as_slice(), &[argument]].concat())).collect()
    })
}

fn evaluate(call: Expr, rows: &RecordBatch) -> PlanResult<ArrayRef> {
    let schema = Arc::new(DFSchema::try_from(rows.schema())?);
    let context = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
    let simplifier = ExprSimplifier::new(context);
    let call = simplifier.simplify(simplifier.coerce(call, &schema)?)?;
    create_physical_expr(&call, &schema, &Default::default(), &Default::default())?.evaluate(rows)?.into_array(rows.num_rows())
}

/// What `SELECT name(arguments)` gives.
fn select(name: &str, arguments: &[&(String, Expr)], rows: &RecordBatch) -> ArrayRef {
    let arguments: Vec<&str> = arguments.iter().map(|(text, _)| text.as_str()).collect();
    let query = format!("SELECT \"{name}\"({}) AS result FROM t", arguments.join(", "));
    let mut pipeline = pipeline(&rows.schema());
    let stream = pipeline.sql(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
    pipeline.sink("out", Arc::new(NoSink), stream).unwrap();
    let job = pipeline.build().unwrap_or_else(|error| panic!("{query}: {error}"));
    let outputs = run(&job.plan, &[("t", rows.clone())].into()).unwrap_or_else(|error| panic!("{query}: {error}"));
    Arc::clone(outputs["out"].column(0))
}

/// Compares a few calls of a function; says how many.
fn compare(function: &Arc<ScalarUDF>, name: &str, rows: &RecordBatch) -> usize {
    let arguments = arguments();
    let mut compared = 0;
    for arity in 0..=3 {
        for tuple in tuples(arity, &arguments) {
            if compared >= 3 {
                return compared;
            }
            let call = function.call(tuple.iter().map(|(_, expression)| expression.clone()).collect());
            // Some of the library's functions panic on arguments out of range, for which the executor has a net.
            let Ok(Ok(expected)) = catch_unwind(AssertUnwindSafe(|| evaluate(call, rows))) else { continue };
            let texts: Vec<&str> = tuple.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(*select(name, &tuple, rows), *expected, "{name}({})", texts.join(", "));
            compared += 1;
        }
    }
    compared
}

fn library() -> Vec<Arc<ScalarUDF>> {
    let mut functions = datafusion_functions::all_default_functions();
    functions.extend(datafusion_functions_nested::all_default_nested_functions());
    functions
}

#[test]
fn each_function_gives_what_datafusion_gives() {
    let rows = columns();
    let mut untried = BTreeSet::new();
    for function in library() {
        let repeatable = function.signature().volatility != Volatility::Volatile;
        if repeatable && !CLOCK.contains(&function.name()) && compare(&function, function.name(), &rows) == 0 {
            untried.insert(function.name().to_owned());
        }
    }
    assert_eq!(untried, UNTRIED.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn each_name_and_each_alias_is_known() {
    for function in library() {
        for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
            let Err(error) = pipeline(&columns().schema()).sql(&format!("SELECT \"{name}\"() AS result FROM t")) else { continue };
            assert!(!error.to_string().contains("Invalid function"), "{error}");
        }
    }
}

#[test]
fn an_unknown_function_is_not_known() {
    assert_says(&error("INSERT INTO out SELECT regexp_mach(s, 'x') FROM t"), &["Invalid function", "'regexp_mach'", "'regexp_match'"]);
}
