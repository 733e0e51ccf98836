//! How two fingerprints of an operator differ, in words: only the parts that do, before and now.
//!
//! A fingerprint is a JSON object of parts: lists of texts (keys, aggregates), objects of values by name (states), or single values. One that
//! is anything else differs as a whole.

use serde_json::{Map, Value};

/// The difference of two fingerprints that are not equal.
pub(super) fn difference(before: &str, now: &str) -> String {
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
    let parts = match (object(before), object(now)) {
        (Some(before), Some(now)) => of_objects(&before, &now),
        _ => Vec::new(),
    };
    if parts.is_empty() { became(before, now) } else { parts.join(", ") }
}

fn became(before: &str, now: &str) -> String {
    format!("'{before}' became '{now}'")
}

fn of_objects(before: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let added = now.keys().filter(|name| !before.contains_key(*name));
    let differs = before.keys().chain(added).filter(|name| before.get(*name) != now.get(*name));
    differs.map(|name| format!("{name}: {}", of_values(before.get(name), now.get(name)))).collect()
}

fn of_values(before: Option<&Value>, now: Option<&Value>) -> String {
    match (before, now) {
        (Some(Value::Array(before)), Some(Value::Array(now))) => of_lists(before, now),
        (Some(Value::Object(before)), Some(Value::Object(now))) => of_objects(before, now).join(", "),
        (Some(before), Some(now)) => became(&shown(before), &shown(now)),
        (Some(gone), None) => format!("'{}' is gone", shown(gone)),
        (None, Some(new)) => format!("'{}' is new", shown(new)),
        (None, None) => String::new(),
    }
}

/// What stands between the items that both lists begin and end with.
fn of_lists(before: &[Value], now: &[Value]) -> String {
    let begin = before.iter().zip(now).take_while(|(before, now)| before == now).count();
    let (before, now) = (&before[begin..], &now[begin..]);
    let end = before.iter().rev().zip(now.iter().rev()).take_while(|(before, now)| before == now).count();
    let listed = |items: &[Value]| items.iter().map(shown).collect::<Vec<_>>().join("', '");
    match (&before[..before.len() - end], &now[..now.len() - end]) {
        ([], new) => format!("'{}' is new", listed(new)),
        (gone, []) => format!("'{}' is gone", listed(gone)),
        (before, now) => became(&listed(before), &listed(now)),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn told(before: Value, now: Value) -> String {
        difference(&before.to_string(), &now.to_string())
    }

    #[test]
    fn only_what_differs_is_told() {
        let grouping = |keys: Value, calls: Value| json!({ "keys": keys, "time": "unbounded", "aggregates": calls, "emit": "Updated" });
        let before = grouping(json!(["t.a: Int64"]), json!(["count(1)", "sum(t.a)", "max(t.b)"]));
        assert_eq!(
            told(before.clone(), grouping(json!(["t.a: Int64"]), json!(["count(1)", "sum(t.b)", "max(t.b)"]))),
            "aggregates: 'sum(t.a)' became 'sum(t.b)'"
        );
        assert_eq!(
            told(before.clone(), grouping(json!(["t.b: Int64"]), json!(["count(1)", "sum(t.a)"]))),
            "aggregates: 'max(t.b)' is gone, keys: 't.a: Int64' became 't.b: Int64'"
        );
        assert_eq!(
            told(before, grouping(json!(["t.a: Int64", "t.c: Utf8"]), json!(["count(1)", "sum(t.a)", "max(t.b)"]))),
            "keys: 't.c: Utf8' is new"
        );
    }

    #[test]
    fn parts_within_parts_are_told_by_name() {
        let window = |window: &str| json!({ "time": { "window": window, "clock": "EventTime" } });
        assert_eq!(
            told(window("tumble(60s) of t.ts"), window("tumble(120s) of t.ts")),
            "time: window: 'tumble(60s) of t.ts' became 'tumble(120s) of t.ts'"
        );
        let states = |states: Value| json!({ "keys": ["t.a"], "states": states });
        assert_eq!(
            told(states(json!({ "seen": "map", "last": "value" })), states(json!({ "seen": "list", "first": "value" }))),
            "states: last: 'value' is gone, seen: 'map' became 'list', first: 'value' is new"
        );
        assert_eq!(told(json!({ "time": "unbounded" }), json!({ "time": { "key": 0 } })), "time: 'unbounded' became '{\"key\":0}'");
    }

    #[test]
    fn what_has_no_parts_differs_as_a_whole() {
        assert_eq!(difference("counts by v", "counts by w"), "'counts by v' became 'counts by w'");
        assert_eq!(difference("{\"a\": 1}", "{\"a\":1}"), "'{\"a\": 1}' became '{\"a\":1}'");
    }

    proptest! {
        /// Each item that is told of one list only is in the difference, and the two ends that are the same are not.
        #[test]
        fn of_lists_the_ends_that_are_the_same_are_left_out(
            begin in prop::collection::vec("[a-c]{3}", 0..4),
            before in prop::collection::vec("x[a-c]{3}", 0..4),
            now in prop::collection::vec("y[a-c]{3}", 0..4),
            end in prop::collection::vec("[a-c]{3}", 0..4),
        ) {
            prop_assume!(!before.is_empty() || !now.is_empty());
            let around = |middle: &[String]| json!({ "keys": ([&begin[..], middle, &end[..]].concat()) });
            let text = told(around(&before), around(&now));
            prop_assert!(before.iter().chain(&now).all(|item| text.contains(item.as_str())), "{}", text);
            let quoted = |item: &&String| text.contains(&format!("'{item}'"));
            prop_assert!(!begin.iter().chain(&end).any(|item| quoted(&item)), "{}", text);
        }
    }
}
