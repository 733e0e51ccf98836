//! A sum that does not fit into its type is an error, whatever the type.

use crate::stateful::Running;
use crate::support::{assert_says, rows};
use waterclock_core::ErrorKind;
use waterclock_core::time::Watermark;

#[test]
fn a_sum_that_overflows_is_about_the_data() {
    let nines = "9".repeat(76);
    let large = [
        ("b".to_owned(), "Int64"),
        ("arrow_cast(b, 'Duration(Second)')".to_owned(), "Duration"),
        ("arrow_cast(b, 'Duration(Millisecond)')".to_owned(), "Duration"),
        ("arrow_cast(b, 'Duration(Microsecond)')".to_owned(), "Duration"),
        ("arrow_cast(b, 'Duration(Nanosecond)')".to_owned(), "Duration"),
        (format!("CASE WHEN b > 0 THEN CAST('{nines}' AS DECIMAL(76, 0)) END"), "Decimal256(76, 0)"),
    ];
    for (value, data_type) in large {
        let mut running =
            Running::new(&format!("INSERT INTO out SELECT sum({value}) AS s FROM t GROUP BY tumble(ts, INTERVAL '1 minute')"));
        let row = format!("{{\"b\":{},\"ts\":0}}\n", i64::MAX);
        running.batch(&rows(&running.schema(), &row), Watermark::Unknown).unwrap_or_else(|error| panic!("{value}: {error}"));
        let error = running.batch(&rows(&running.schema(), &row), Watermark::End).expect_err(&value);
        assert_eq!(error.kind(), ErrorKind::BadData, "{error}");
        assert_says(&error.to_string(), &["a sum does not fit into", data_type]);
    }
}
