//! Lengths of time in the text of expressions, as users write them.

/// What stands before and behind the fields: in a literal of a logical plan, and in one of a physical plan.
const FORMS: [(&str, &str); 2] = [("IntervalMonthDayNano(\"IntervalMonthDayNano { ", " }\")"), ("IntervalMonthDayNano { ", " }")];

/// The text with `INTERVAL '5s'` for what the planner's library writes as the fields of a struct.
pub(crate) fn readable(text: &str) -> String {
    FORMS.into_iter().fold(text.to_owned(), |text, (begin, end)| replaced(&text, begin, end))
}

fn replaced(text: &str, begin: &str, end: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(begin) {
        made.push_str(before);
        match behind.split_once(end).and_then(|(fields, behind)| Some((interval(fields)?, behind))) {
            Some((interval, behind)) => {
                made.push_str(&interval);
                rest = behind;
            }
            None => {
                made.push_str(begin);
                rest = behind;
            }
        }
    }
    made.push_str(rest);
    made
}

/// From `months: 0, days: 1, nanoseconds: 0`.
fn interval(fields: &str) -> Option<String> {
    let mut values = fields.split(", ").map(|field| field.split_once(": ").and_then(|(_, value)| value.parse::<i64>().ok()));
    let (months, days, nanos) = (values.next()??, values.next()??, values.next()??);
    let time = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")].into_iter().find(|(unit, _)| nanos % unit == 0);
    let (unit, name) = time?;
    let parts = [(months, "mon"), (days, "d"), (nanos / unit, name)].into_iter().filter(|(count, _)| *count != 0);
    let parts: Vec<String> = parts.map(|(count, unit)| format!("{count}{unit}")).collect();
    Some(format!("INTERVAL '{}'", if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_common::ScalarValue;
    use datafusion_expr::lit;

    #[test]
    fn intervals_are_written_as_users_write_them() {
        let shown = |months, days, nanos| {
            let interval = arrow::datatypes::IntervalMonthDayNano::new(months, days, nanos);
            readable(&format!("f({}, x)", lit(ScalarValue::IntervalMonthDayNano(Some(interval)))))
        };
        assert_eq!(shown(0, 0, 5_000_000_000), "f(INTERVAL '5s', x)");
        assert_eq!(shown(1, -2, 1_500_000), "f(INTERVAL '1mon -2d 1500us', x)");
        assert_eq!(shown(0, 0, 0), "f(INTERVAL '0s', x)");
        assert_eq!(readable("ts + IntervalMonthDayNano { months: 0, days: 3, nanoseconds: 0 }"), "ts + INTERVAL '3d'");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["", "a + 1", FORMS[0].0, FORMS[1].0, "IntervalMonthDayNano(\"IntervalMonthDayNano { months: x }\")"] {
            assert_eq!(readable(text), text);
        }
    }
}
