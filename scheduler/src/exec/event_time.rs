//! The event time of rows as they are read: the latest one, and rows whose event time can't be true.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{filter_record_batch, max, min};
use arrow::datatypes::TimestampMicrosecondType;
use waterclock_core::source::{BadRow, Morsel};
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

/// Moves rows with a null or absurd event time from the morsel's rows to its bad rows, and returns the latest event time of those that
/// stay. `column` is an index into the morsel's columns.
pub(super) fn check(morsel: &mut Morsel, column: usize, name: &str) -> Result<Option<Timestamp>> {
    let values = morsel.rows.column(column);
    if values.data_type() != &Timestamp::DATA_TYPE {
        return Err(Error::internal(format!("the event time '{name}' came as {}", values.data_type())));
    }
    let values = values.as_primitive::<TimestampMicrosecondType>().clone();
    let plausible = |value: Option<i64>| value.is_none_or(|value| Timestamp(value).is_plausible());
    let (least, most) = (min(&values), max(&values));
    if values.null_count() == 0 && plausible(least) && plausible(most) {
        return Ok(most.map(Timestamp));
    }
    let good: BooleanArray = values.iter().map(|value| Some(value.is_some_and(|value| Timestamp(value).is_plausible()))).collect();
    for row in (0..values.len()).filter(|&row| !good.value(row)) {
        let reason = if values.is_null(row) {
            format!("the event time '{name}' is null")
        } else {
            format!("the event time '{name}' is {}, outside the years 1900 to 2200", Timestamp(values.value(row)))
        };
        morsel.bad.push(BadRow { place: morsel.origin.place(row), reason, text: None });
    }
    morsel.rows = filter_record_batch(&morsel.rows, &good).or_error(ErrorKind::Internal, || "leaving out bad rows".into())?;
    Ok(max(morsel.rows.column(column).as_primitive::<TimestampMicrosecondType>()).map(Timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
    use std::sync::Arc;
    use waterclock_core::source::{Origin, Position, Positions, Skipped};

    fn morsel(times: Vec<Option<i64>>) -> Morsel {
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        let rows = RecordBatch::try_from_iter_with_nullable([("ts", column, true)]).unwrap();
        let origin = Origin { input: "a.json".into(), positions: Positions::Rows(1) };
        Morsel { rows, latest: None, origin, bad: Vec::new(), skipped: Skipped::default() }
    }

    #[test]
    fn the_latest_time_of_good_rows_counts() {
        let mut rows = morsel(vec![Some(5), None, Some(3), Some(i64::MAX)]);
        assert_eq!(check(&mut rows, 0, "ts").unwrap(), Some(Timestamp(5)));
        assert_eq!(rows.rows.num_rows(), 2);
        let places: Vec<Position> = rows.bad.iter().map(|bad| bad.place.position).collect();
        assert_eq!(places, [Position::Row(2), Position::Row(4)]);
        assert!(rows.bad[0].reason.contains("null") && rows.bad[1].reason.contains("1900"));
    }

    #[test]
    fn no_row_has_no_time() {
        assert_eq!(check(&mut morsel(vec![]), 0, "ts").unwrap(), None);
    }
}
