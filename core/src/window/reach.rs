//! How far times and lengths may reach, so that no sum of a time and a window's lengths is beyond what 64 bits of microseconds hold.
//!
//! Lengths are checked when the query is planned, times when a row is put into its windows. Behind these checks, windows are computed with
//! plain arithmetic.

use crate::error::{Error, Result};
use crate::time::Timestamp;
use arrow::array::TimestampMicrosecondArray;
use arrow::compute::{max, min};

/// The longest that a length of a window may be: ten thousand years.
pub(super) const LONGEST: i64 = 3_652_425 * 86_400_000_000;
/// The greatest distance from 1970 of a time that is put into windows: a hundred thousand years. Six more lengths fit behind it.
const FARTHEST: i64 = 10 * LONGEST;

/// # Errors
/// `BadData` if one of the times is too distant to be put into windows.
pub(crate) fn check_times(times: &TimestampMicrosecondArray) -> Result<()> {
    let beyond = [min(times), max(times)].into_iter().flatten().find(|time| !(-FARTHEST..=FARTHEST).contains(time));
    match beyond {
        None => Ok(()),
        Some(time) => Err(Error::bad_data(format!(
            "the time {} can't be put into a window, for it is more than 100000 years from 1970; mend it, or leave such rows out with WHERE",
            Timestamp(time)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::window::WindowSpec;
    use proptest::prelude::*;

    fn lengths() -> impl Strategy<Value = i64> {
        prop_oneof![1..=LONGEST, LONGEST - 3..=LONGEST, 1..1_000_000i64]
    }

    fn offsets() -> impl Strategy<Value = i64> {
        prop_oneof![-LONGEST..=LONGEST, Just(-LONGEST), Just(LONGEST), Just(0)]
    }

    /// Any that is allowed, and the longest of each kind.
    fn specs() -> impl Strategy<Value = WindowSpec> {
        let cumulate =
            |(step, steps, offset): (i64, i64, i64)| WindowSpec::Cumulate { step: step / steps, size: step / steps * steps, offset };
        prop_oneof![
            (lengths(), offsets()).prop_map(|(size, offset)| WindowSpec::Tumble { size, offset }),
            (lengths(), lengths(), offsets()).prop_map(|(slide, size, offset)| WindowSpec::Hop { slide, size, offset }),
            (lengths(), 1i64..100, offsets()).prop_map(cumulate),
            lengths().prop_map(|gap| WindowSpec::Session { gap }),
        ]
        .prop_filter_map("allowed", |spec| spec.check().ok())
    }

    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![
            any::<i64>(),
            -FARTHEST..=FARTHEST,
            (0i64..10).prop_map(|less| i64::MAX - less),
            (0i64..10).prop_map(|more| i64::MIN + more),
            (-1i64..=1).prop_map(|around| FARTHEST + around),
            (-1i64..=1).prop_map(|around| -FARTHEST + around),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Arithmetic that overflows panics in tests.
        #[test]
        fn a_time_that_is_taken_has_windows_and_any_other_is_bad_data(spec in specs(), time in times()) {
            match check_times(&vec![Some(0), None, Some(time)].into()) {
                Ok(()) => {
                    let pane = spec.pane_of(time);
                    prop_assert!(pane <= time);
                    for window in spec.windows_of(pane) {
                        prop_assert!(window.start <= time && pane < window.end, "{:?}", window);
                    }
                }
                Err(error) => {
                    prop_assert!(time.unsigned_abs() > FARTHEST as u64);
                    prop_assert_eq!(error.kind(), ErrorKind::BadData);
                    prop_assert!(error.message().contains(&Timestamp(time).to_string()), "{}", error);
                }
            }
        }
    }

    #[test]
    fn only_times_that_are_there_count() {
        let times = TimestampMicrosecondArray::new(vec![i64::MAX, 0].into(), Some(vec![false, true].into()));
        assert!(check_times(&times).is_ok());
    }
}
