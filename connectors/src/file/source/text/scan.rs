//! The values of a JSON object or array as the text that they are: a number keeps its digits. Only for text that is known to be JSON.

use std::borrow::Cow;

/// The members of an object, the values without the spaces around them. Nothing of a text that is no object.
pub(super) fn members(object: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
    let mut rest = inside(object, b'{', b'}');
    std::iter::from_fn(move || {
        let (name, behind) = value(rest)?;
        let (member, behind) = value(behind.strip_prefix(b":")?)?;
        rest = behind.strip_prefix(b",").unwrap_or(&[]);
        Some((unescaped(name), member))
    })
}

/// The elements of an array, without the spaces around them. Nothing of a text that is no array.
pub(super) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = inside(array, b'[', b']');
    std::iter::from_fn(move || {
        let (element, behind) = value(rest)?;
        rest = behind.strip_prefix(b",").unwrap_or(&[]);
        Some(element)
    })
}

fn inside(text: &[u8], open: u8, close: u8) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_prefix(&[open]).and_then(|text| text.strip_suffix(&[close])).unwrap_or(&[])
}

/// The value that a text begins with, and what stands behind it.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at += string(&text[at..]),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' | b':' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    let found = text[..at].trim_ascii_end();
    (!found.is_empty()).then_some((found, &text[at..]))
}

/// Where the quote stands that closes the string which a text begins with.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn unescaped(name: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', name).is_some() {
        return Cow::Owned(serde_json::from_slice(name).unwrap_or_default());
    }
    String::from_utf8_lossy(name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn json() -> impl Strategy<Value = Value> {
        let text = "[ -~é\\\\\"\n]{0,6}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            let object = prop::collection::btree_map(text, inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Puts it together again from its parts.
    fn rebuilt(text: &[u8]) -> Value {
        match text.first() {
            Some(b'{') => Value::Object(members(text).map(|(name, value)| (name.into_owned(), rebuilt(value))).collect()),
            Some(b'[') => Value::Array(elements(text).map(rebuilt).collect()),
            _ => serde_json::from_slice(text).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_json_text_are_its_values(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            prop_assert_eq!(rebuilt(&text.unwrap()), value);
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let found: Vec<_> = members(br#" { "a" : 1.250e+1 , "b":"x" } "#).collect();
        assert_eq!(found, [(Cow::from("a"), &b"1.250e+1"[..]), (Cow::from("b"), &br#""x""#[..])]);
    }
}
